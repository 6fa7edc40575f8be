//! Files below 600 lines, functions below 80, paths at most five deep.

use std::path::{Path, PathBuf};

use super::Faults;

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 80;
const MAX_DEPTH: usize = 6;

/// Checks every Rust file; functions are found by rustfmt's indentation.
pub fn check(root: &Path, files: &[PathBuf]) -> Faults {
    let mut faults = Vec::new();
    for file in files {
        let depth = file.components().count();
        let shown = file.display();
        if depth > MAX_DEPTH {
            faults.push(format!("{shown}: {depth} parts deep; at most {MAX_DEPTH}"));
        }
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file))?;
        let lines = text.lines().count();
        if lines > MAX_FILE {
            faults.push(format!("{shown}: {lines} lines; below {MAX_FILE}, one duty a file"));
        }
        // A test reads top to bottom; its length is no sign of two duties.
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with("tests") || name.starts_with("tests") || name.ends_with("_tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        faults.extend(
            long_functions(code).into_iter().map(|(line, size)| {
                format!("{shown}:{line}: a function of {size} lines; below {MAX_FUNCTION}")
            }),
        );
    }
    Ok(faults)
}

/// First line and size of every function that is too long.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match open {
            None => {
                let words = line.trim_start();
                let head = words.split('(').next().unwrap_or_default();
                if head.split_whitespace().any(|word| word == "fn")
                    && !words.starts_with("//")
                    && !words.ends_with(';')
                    && !words.ends_with('}')
                {
                    open = Some((number, indent));
                }
            }
            Some((start, depth))
                if indent == depth
                    && (line.trim_end() == format!("{}}}", " ".repeat(depth))
                        || line.trim_end().ends_with(';')) =>
            {
                if number - start + 1 > MAX_FUNCTION {
                    found.push((start + 1, number - start + 1));
                }
                open = None;
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let long =
            format!("impl A {{\n    pub fn long(&self) {{\n{}    }}\n}}\n", "        f();\n".repeat(90));
        assert_eq!(long_functions(&long), [(2, 92)]);
        let short =
            format!("fn a() {{\n{}}}\nfn b() {{\n{}}}\n", "    f();\n".repeat(50), "    f();\n".repeat(50));
        assert!(long_functions(&short).is_empty());
        let declared = format!("trait A {{\n    fn a(&self);\n}}\n{}", "fn b() {}\n".repeat(100));
        assert!(long_functions(&declared).is_empty());
    }
}
