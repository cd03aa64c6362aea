//! libFuzzer's side of the target `claim` of `testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::fuzz::run("claim", data));
