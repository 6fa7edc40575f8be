//! Properties of `proxy::state::fuzzing::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::state::fuzzing::snapshot(data));
