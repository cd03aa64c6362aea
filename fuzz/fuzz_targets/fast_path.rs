//! libFuzzer's side of the target `fast_path` of `testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::fuzz::run("fast_path", data));
