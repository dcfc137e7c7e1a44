#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| taskmq_fuzz::query(data));
