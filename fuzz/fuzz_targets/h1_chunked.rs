//! Properties of `proxy::http::fuzzing::chunked`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::http::fuzzing::chunked(data));
