//! Properties of `proxy::listen::fuzzing::client_hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::listen::fuzzing::client_hello(data));
