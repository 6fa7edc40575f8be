//! Properties of `proxy::http::h2_fuzzing::heads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::http::h2_fuzzing::heads(data));
