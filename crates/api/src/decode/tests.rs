//! Unknown fields, wrong types, nulls.

use std::collections::BTreeMap;

use super::*;
use crate::tree::documents;
use serde::Deserialize;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sample {
    name: String,
    weight: i32,
    share: f64,
    on: bool,
    timeout: Option<crate::Duration>,
    mode: Option<crate::kinds::peer_authentication::MutualTlsMode>,
    ports: BTreeMap<u32, String>,
    parts: Vec<Sample>,
}

fn read(text: &str, null: Null) -> Result<Sample, Vec<Finding>> {
    let mut node = None;
    documents(text, |next| {
        node = Some(next.expect("valid YAML"));
        true
    });
    decode(&node.expect("a document"), "spec", null)
}

fn found(text: &str) -> Vec<String> {
    let findings = read(text, Null::Absent).expect_err("findings");
    let show = |finding: Finding| {
        let Finding { field, at: (line, column), message, suggestion } = finding;
        format!("{line}:{column} {field}: {message}; {}", suggestion.unwrap_or_default())
    };
    findings.into_iter().map(show).collect()
}

#[test]
fn everything_wrong_is_found_at_once() {
    let text = "nmae: x\nweight: heavy\nparts:\n- weight: 3000000000\n- {on: yes, share: \"1\"}\n- [1]\n- mode: strict\n- timeout: 30\n";
    assert_eq!(
        found(text),
        [
            "1:1 spec.nmae: unknown field \"nmae\"; did you mean \"name\"?",
            "2:9 spec.weight: expected a whole number, found the text \"heavy\"; ",
            "4:11 spec.parts[0].weight: 3000000000 is not between -2147483648 and 2147483647; ",
            "5:8 spec.parts[1].on: expected true or false, found the text \"yes\"; ",
            "5:20 spec.parts[1].share: expected a number, found the text \"1\"; remove the quotes",
            "6:3 spec.parts[2]: expected a map, found a list; ",
            "7:9 spec.parts[3].mode: unknown value \"strict\"; expected \"UNSET\", \"DISABLE\", \"PERMISSIVE\" or \"STRICT\"; did you mean \"STRICT\"?",
            "8:12 spec.parts[4].timeout: expected a string such as \"30s\" or \"1m30s\", found the number \"30\"; put it in quotes: \"30\"",
        ]
    );
}

#[test]
fn numbers_are_no_text_and_keys_may_be_numbers() {
    assert_eq!(
        found("name: 1.10\nports: {http: x}\n"),
        [
            "1:7 spec.name: expected a string, found the number \"1.10\"; put it in quotes: \"1.10\"",
            "2:9 spec.ports.http: expected a whole number as the key, found \"http\"; ",
        ]
    );
    let sample = read("ports: {8080: a}\nname: 10.0.0.1\nshare: 5\n", Null::Absent).expect("valid");
    assert_eq!(sample.ports.get(&8080).map(String::as_str), Some("a"));
    assert_eq!((sample.name.as_str(), sample.share), ("10.0.0.1", 5.0));
}

#[test]
fn null_is_absent_unless_refused() {
    assert_eq!(read("parts:\nname: a\n", Null::Absent).map(|s| s.name), Ok("a".into()));
    let findings = read("parts:\nname: a\n", Null::Refused).expect_err("refused");
    assert_eq!((findings[0].field.as_str(), findings[0].at), ("spec.parts", (1, 1)));
    assert_eq!(found("parts: [~]\n"), ["1:9 spec.parts[0]: expected a map, found nothing (null); "]);
}
