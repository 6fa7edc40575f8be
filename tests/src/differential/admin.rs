//! What an admin server answers, as a shape: names and types, not the numbers of the day.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::exchange;

/// Keys whose values say what a thing is.
const TELLING: [&str; 3] = ["@type", "name", "state"];

/// Asks `[POST ]/path` and writes down status, type of the content and shape. Of the shape only lines that begin with one
/// of `only` are kept, if there is any.
pub fn ask(admin: SocketAddr, path: &str, only: &[String]) -> Value {
    let (method, path) = path.split_once(' ').unwrap_or(("GET", path));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let answer = exchange(admin, request.as_bytes()).unwrap_or_default();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    let mut head = head.split("\r\n");
    let status = head.next().unwrap_or_default().to_owned();
    let content = head.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-type").then(|| value.to_owned())
    });
    let mut lines = BTreeSet::new();
    match serde_json::from_str::<Value>(&body) {
        Ok(value) if value.is_object() || value.is_array() => outline("", &value, &mut lines),
        _ => lines.extend(body.lines().map(masked)),
    }
    let kept = |line: &&String| only.is_empty() || only.iter().any(|start| line.starts_with(start.as_str()));
    json!({ "status": status, "content-type": content, "lines": lines.iter().filter(kept).collect::<Vec<_>>() })
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(piece) = after.get(..size).filter(|piece| !piece.is_empty()) else { break };
        whole.push_str(piece);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Every place of a JSON value with its type; places in a list are one.
fn outline(at: &str, value: &Value, lines: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if TELLING.contains(&key.as_str()) => {
                        lines.insert(format!("{at}.{key}: {text}"));
                    }
                    value => outline(&format!("{at}.{key}"), value, lines),
                }
            }
            return;
        }
        Value::Array(values) => {
            values.iter().for_each(|value| outline(&format!("{at}[]"), value, lines));
            return;
        }
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
    };
    lines.insert(format!("{at}: {kind}"));
}

/// A line whose value, when it is a number, is masked.
fn masked(line: &str) -> String {
    let number = |text: &str| !text.is_empty() && text.parse::<f64>().is_ok();
    for separator in ["::", ": "] {
        if let Some((name, value)) = line.rsplit_once(separator).filter(|(_, value)| number(value)) {
            return format!(
                "{name}{separator}{}",
                if value.contains('.') { "<fraction>" } else { "<number>" }
            );
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_names_and_types() {
        let mut lines = BTreeSet::new();
        outline("", &json!({ "a": [{ "name": "x", "b": 1 }, { "b": 2 }], "c": null }), &mut lines);
        let lines: Vec<String> = lines.into_iter().collect();
        assert_eq!(lines, [".a[].b: number", ".a[].name: x", ".c: null"]);
        assert_eq!(
            masked("app::default_priority::max_connections::1024"),
            "app::default_priority::max_connections::<number>"
        );
        assert_eq!(masked("x::hostname::"), "x::hostname::");
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
