//! Any bytes as a file of resources: problems, never a panic, and not more of them than lines ask for.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let parsed = api::parse("fuzz.yaml", data, "default");
    for problem in &parsed.problems {
        assert!(!problem.message.is_empty());
    }
});
