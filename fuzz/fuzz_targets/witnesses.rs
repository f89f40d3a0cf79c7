#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| epsweep::fuzzing::witnesses(bytes));
