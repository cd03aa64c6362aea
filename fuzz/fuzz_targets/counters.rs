//! libFuzzer's side of the target `counters` of `testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::fuzz::run("counters", data));
