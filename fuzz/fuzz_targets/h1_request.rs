//! Properties of `proxy::http::fuzzing::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::http::fuzzing::request(data));
