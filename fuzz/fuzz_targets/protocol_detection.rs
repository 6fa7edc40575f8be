//! Properties of `proxy::listen::fuzzing::protocol_detection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::listen::fuzzing::protocol_detection(data));
