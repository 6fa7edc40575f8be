//! The table of reasons is whole, and nothing in it is dead: the page is made from it, and every row is named by a place
//! of the product that ends a request or a connection.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use base::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Sources of a folder without their tests.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            sources(&path, all);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !name.starts_with("testing") {
            let text = fs::read_to_string(&path).unwrap();
            all.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

/// Whether a source names the reason as a value; in a pattern it is only read.
fn names(sources: &str, reason: Reason) -> bool {
    let name = format!("Reason::{reason:?}");
    sources.match_indices(&name).any(|(at, _)| {
        let rest = sources[at + name.len()..].trim_start();
        !rest.starts_with(|it: char| it.is_alphanumeric())
            && !rest.starts_with("=>")
            && !rest.starts_with("| ")
    })
}

#[test]
fn every_row_is_named_by_a_place_that_ends_something() {
    let mut all = String::new();
    sources(&root().join("crates/proxy/src"), &mut all);
    sources(&root().join("crates/tls/src"), &mut all);
    let dead: Vec<_> = Reason::ALL.iter().filter(|reason| !names(&all, **reason)).collect();
    assert!(dead.is_empty(), "no place ends anything for these: {dead:?}");
    assert!(!names("match it { Reason::Timeout => 1 }", Reason::Timeout), "a pattern is no use");
    assert!(!names("Reason::TimeoutOther", Reason::Timeout));
}

#[test]
fn the_page_is_made_from_the_table() {
    let page = root().join("docs/reasons.md");
    let there = fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(there, base::reason::page(), "run `cargo xtask reasons`");
}
