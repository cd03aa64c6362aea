//! libFuzzer's side of the target `entries` of `testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::fuzz::run("entries", data));
