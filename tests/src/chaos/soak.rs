//! How long and how hard: short for every change, long in `cargo xtask soak`, with the same assertions.

use serde_json::Value;

/// Set by `cargo xtask soak`.
const LONG: &str = "TULLE_SOAK";

/// `short` in the tests of every change, `long` in the soak.
pub fn either<T>(short: T, long: T) -> T {
    if std::env::var_os(LONG).is_some() { long } else { short }
}

/// Tells what was measured; the soak gathers these lines.
pub fn measured(test: &str, numbers: &Value) {
    println!("measured {test} {numbers}");
}
