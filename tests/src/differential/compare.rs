//! Differences of two observations, and how they are told.

use serde_json::Value;

use super::case::{Case, Distribution};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, such as `steps[0].responses[0].head`.
    pub at: String,
    /// What Envoy did.
    pub envoy: String,
    /// What ours did.
    pub ours: String,
}

/// All differences of two observations.
pub fn differences(envoy: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", envoy, ours, &mut found);
    found
}

fn walk(at: &str, envoy: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (envoy, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let more = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(more) {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                walk(&place, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if at.ends_with(".head") || at.ends_with(".lines") => {
            heads(at, a, b, found)
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(index).unwrap_or(&Value::Null), b.get(index).unwrap_or(&Value::Null));
                walk(&format!("{at}[{index}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference { at: at.to_owned(), envoy: shown(a), ours: shown(b) }),
    }
}

/// Heads line by line: what only one side has, field by field.
fn heads(at: &str, envoy: &[Value], ours: &[Value], found: &mut Vec<Difference>) {
    let mut only_ours = ours.to_vec();
    let mut only_envoys = Vec::new();
    for line in envoy {
        match only_ours.iter().position(|own| own == line) {
            Some(index) => drop(only_ours.remove(index)),
            None => only_envoys.push(line.clone()),
        }
    }
    let field = |line: &Value| match line.as_str().unwrap_or_default().split_once(": ") {
        Some((name, _)) => name.to_owned(),
        None => "first line".to_owned(),
    };
    let mut names: Vec<String> = only_envoys.iter().chain(&only_ours).map(field).collect();
    names.sort();
    names.dedup();
    for name in names {
        let of = |lines: &[Value]| {
            let lines: Vec<String> = lines.iter().filter(|line| field(line) == name).map(shown).collect();
            if lines.is_empty() { "nothing".to_owned() } else { lines.join(", ") }
        };
        found.push(Difference { at: format!("{at}.{name}"), envoy: of(&only_envoys), ours: of(&only_ours) });
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// Whether counts lie within five standard deviations of what the case expects. Says what does not.
pub fn outside(distribution: &Distribution, picks: &Value) -> Option<String> {
    let total = f64::from(distribution.repeat);
    let mut counted = 0.0;
    for (name, share) in &distribution.shares {
        let count = picks[name].as_f64().unwrap_or(0.0);
        counted += count;
        let bound = 5.0 * (total * share * (1.0 - share)).sqrt();
        if (count - total * share).abs() > bound {
            return Some(format!("{name}: {count} of {total}, expected {:.0} ± {bound:.0}", total * share));
        }
    }
    (counted < total).then(|| format!("only {counted} of {total} answers were expected ones: {picks}"))
}

/// What is wrong with our observation, in a form that names the case, the place and both behaviours.
pub fn verdict(case: &Case, envoy: &Value, ours: &Value) -> Vec<String> {
    if case.stricter.is_some() {
        return stricter(envoy, ours);
    }
    let mut faults = Vec::new();
    let mut found = differences(&without_picks(envoy), &without_picks(ours));
    found.retain(|difference| !unsteady(case, difference));
    for meant in &case.differs {
        let before = found.len();
        found.retain(|difference| !within(&difference.at, &meant.at));
        if found.len() == before {
            faults.push(format!("{}: does not differ any more, take it out of `differs`", meant.at));
        }
    }
    if let Some(distribution) = &case.distribution {
        let sides = [("Envoy", envoy), ("ours", ours)];
        let wrong =
            sides.iter().filter_map(|(side, seen)| Some((side, outside(distribution, &seen["picks"])?)));
        faults.extend(wrong.map(|(side, reason)| format!("picks of {side}: {reason}")));
    }
    faults.extend(found.iter().map(|difference| {
        let step = step_title(envoy, &difference.at);
        format!(
            "{}{step}\n      Envoy: {}\n      ours:  {}",
            difference.at, difference.envoy, difference.ours
        )
    }));
    faults
}

/// Whether timing decides what is at a place.
pub fn unsteady(case: &Case, difference: &Difference) -> bool {
    case.unsteady.iter().any(|place| within(&difference.at, place))
}

/// Whether a place lies under one that is meant to differ, in which `*` stands for any index.
fn within(at: &str, meant: &str) -> bool {
    let mut rest = at;
    for (number, part) in meant.split('*').enumerate() {
        if number > 0 {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty() || rest.starts_with(['.', '['])
}

fn without_picks(seen: &Value) -> Value {
    let mut seen = seen.clone();
    if let Some(object) = seen.as_object_mut() {
        object.remove("picks");
    }
    seen
}

fn step_title(seen: &Value, at: &str) -> String {
    let index = at.strip_prefix("steps[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    match index.and_then(|index| seen["steps"][index]["step"].as_str()) {
        Some(title) => format!("  ({title})"),
        None => String::new(),
    }
}

/// Every step must be taken by Envoy and refused by us, and nothing of it may reach an upstream of ours.
fn stricter(envoy: &Value, ours: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let none = Vec::new();
    let (theirs, own) =
        (envoy["steps"].as_array().unwrap_or(&none), ours["steps"].as_array().unwrap_or(&none));
    for (index, (theirs, own)) in theirs.iter().zip(own).enumerate() {
        let title = theirs["step"].as_str().unwrap_or_default();
        if refused(theirs) {
            faults.push(format!(
                "steps[{index}]  ({title})\n      Envoy refuses it too: {}",
                theirs["responses"]
            ));
        }
        if !refused(own) {
            faults.push(format!("steps[{index}]  ({title})\n      ours takes it: {}", own["responses"]));
        }
    }
    for (name, records) in ours["upstreams"].as_object().into_iter().flatten() {
        if records.as_array().is_some_and(|records| !records.is_empty()) {
            faults.push(format!("upstreams.{name}\n      ours passed on: {records}"));
        }
    }
    faults
}

fn refused(step: &Value) -> bool {
    let line = step["responses"][0]["head"][0].as_str().unwrap_or_default();
    let status = line.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
    step["connection"] == "closed" && status.is_none_or(|status| (400..=501).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn equal_observations_have_no_difference_and_unequal_ones_are_named() {
        let a = json!({ "steps": [{ "responses": [{ "head": ["HTTP/1.1 200 OK", "a: 1", "b: 2"] }] }] });
        assert!(differences(&a, &a).is_empty());
        let b = json!({ "steps": [{ "responses": [{ "head": ["HTTP/1.1 200 OK", "b: 2", "a: 3"] }] }] });
        let found = differences(&a, &b);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, "steps[0].responses[0].head.a");
        assert_eq!((found[0].envoy.as_str(), found[0].ours.as_str()), ("\"a: 1\"", "\"a: 3\""));
        assert_eq!(differences(&json!({ "log": ["x"] }), &json!({ "log": [] }))[0].ours, "nothing");
    }

    #[test]
    fn a_place_that_is_meant_names_itself_and_what_is_below() {
        assert!(within("steps[12].responses[0].body", "steps[*].responses[*].body"));
        assert!(within("steps[1].responses[0].head.via", "steps[1]"));
        assert!(!within("steps[12].connection", "steps[1]") && !within("log[0]", "log[1]"));
        assert!(!within("stepsx", "steps"));
    }

    #[test]
    fn a_wrong_distribution_is_seen() {
        let shares = BTreeMap::from([("a".to_owned(), 0.95), ("b".to_owned(), 0.05)]);
        let distribution = Distribution { request: String::new(), repeat: 1000, shares };
        assert_eq!(outside(&distribution, &json!({ "a": 948, "b": 52 })), None);
        assert!(outside(&distribution, &json!({ "a": 500, "b": 500 })).unwrap().starts_with("a: 500"));
        assert!(outside(&distribution, &json!({ "a": 948, "b": 50, "": 2 })).is_some());
    }

    #[test]
    fn stricter_needs_a_refusal_on_our_side_only() {
        let taken =
            json!({ "steps": [{ "connection": "open", "responses": [{ "head": ["HTTP/1.1 200 OK"] }] }] });
        let refused = json!({ "steps": [{ "connection": "closed", "responses": [{ "head": ["HTTP/1.1 400 Bad Request"] }] }],
            "upstreams": { "app": [] } });
        assert!(stricter(&taken, &refused).is_empty());
        assert_eq!(stricter(&refused, &taken).len(), 2);
    }
}
