//! Words that mark unfinished work, and names that a linter cannot see.

use std::path::{Path, PathBuf};

use super::Faults;

/// A word, where it is allowed, and why it is not elsewhere. Written in two halves so that this file is clean.
const WORDS: &[(&[&str], &str, &str)] = &[
    (&["to", "do!("], "", "unfinished work"),
    (&["un", "implemented!("], "", "unfinished work"),
    (&["FIX", "ME"], "", "unfinished work; the issue tracker is the place for it"),
    (&["not yet ", "implemented"], "", "unfinished work"),
    (
        &["uns", "afe {"],
        "crates/proxy/src/allocator.rs",
        "unsafe code belongs in one named module: proxy::allocator",
    ),
    (&["tokio::", "spawn("], "crates/runtime/", "one supervisor owns every task: runtime::Tasks"),
    (&["thread::", "spawn("], "crates/runtime/", "runtime owns the threads: runtime::thread"),
];

/// Reads every Rust file outside of this one.
pub fn check(root: &Path, files: &[PathBuf]) -> Faults {
    let mut faults = Vec::new();
    let rust = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "rs");
    for file in files.iter().filter(rust).filter(|file| !file.starts_with("tests")) {
        let text = std::fs::read_to_string(root.join(file))?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (parts, allowed, why) in WORDS {
            if !allowed.is_empty() && file.starts_with(allowed) {
                continue;
            }
            let word = parts.concat();
            for (number, line) in code.lines().enumerate() {
                let own = line.contains("runtime::thread::");
                if line.contains(&word) && !own && !line.trim_start().starts_with("//") {
                    faults.push(format!("{}:{}: \"{word}\": {why}", file.display(), number + 1));
                }
            }
        }
    }
    Ok(faults)
}
