//! libFuzzer's side of the target `snapshot` of `testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::fuzz::run("snapshot", data));
