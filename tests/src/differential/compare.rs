//! Differences of two observations, and how they are told.

use serde_json::Value;

use super::align::{self, Pair};
use super::case::{Case, Distribution};

/// One difference. Null stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, such as `steps[0].responses[0].head.server`; `log[2]` is Envoy's third line, `log[+2]` our third one, to which
    /// none of Envoy's belongs.
    pub at: String,
    /// What Envoy did.
    pub envoy: Value,
    /// What ours did.
    pub ours: Value,
}

/// How much was compared: single values (a status line, a field, a body, a flag), not counting what the case itself says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Equal on both sides.
    pub equal: usize,
    /// Different, each as the case says.
    pub meant: usize,
    /// Not compared.
    pub unsteady: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.equal += other.equal;
        self.meant += other.meant;
        self.unsteady += other.unsteady;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { equal, meant, unsteady } = self;
        write!(f, "{equal} values equal, {meant} different as told, {unsteady} left to timing")
    }
}

/// All differences of two observations.
pub fn differences(envoy: &Value, ours: &Value) -> Vec<Difference> {
    Walk::of(envoy, ours).found
}

/// What a walk over two observations finds.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) found: Vec<Difference>,
    equal: usize,
}

impl Walk {
    pub(super) fn of(envoy: &Value, ours: &Value) -> Walk {
        let mut walk = Walk::default();
        walk.step("", envoy, ours);
        walk
    }

    fn step(&mut self, at: &str, envoy: &Value, ours: &Value) {
        match (envoy, ours) {
            (Value::Object(a), Value::Object(b)) => {
                let more = b.keys().filter(|key| !a.contains_key(*key));
                for key in a.keys().chain(more) {
                    let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    self.step(&place, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(a), Value::Array(b)) if is_head(at) => self.heads(at, a, b),
            (Value::Array(a), Value::Array(b)) => {
                // That an upstream received nothing is something.
                self.equal += usize::from(a.is_empty() && b.is_empty());
                for pair in align::pairs(a, b) {
                    let (place, a, b) = match pair {
                        Pair::Both(index, own) => (index.to_string(), &a[index], &b[own]),
                        Pair::Envoy(index) => (index.to_string(), &a[index], &Value::Null),
                        Pair::Ours(own) => (format!("+{own}"), &Value::Null, &b[own]),
                    };
                    self.step(&format!("{at}[{place}]"), a, b);
                }
            }
            // The title of a step is the case's own word.
            (a, b) if a == b => self.equal += usize::from(!is_title(at)),
            (a, b) => self.found.push(Difference { at: at.to_owned(), envoy: a.clone(), ours: b.clone() }),
        }
    }

    /// Heads line by line: what only one side has, field by field.
    fn heads(&mut self, at: &str, envoy: &[Value], ours: &[Value]) {
        let mut only_ours = ours.to_vec();
        let mut only_envoys = Vec::new();
        for line in envoy {
            match only_ours.iter().position(|own| own == line) {
                Some(index) => {
                    only_ours.remove(index);
                    self.equal += 1;
                }
                None => only_envoys.push(line.clone()),
            }
        }
        let field = |line: &Value| match line.as_str().unwrap_or_default().split_once(": ") {
            Some((name, _)) => name.to_owned(),
            None => FIRST_LINE.to_owned(),
        };
        let mut names: Vec<String> = only_envoys.iter().chain(&only_ours).map(field).collect();
        names.sort();
        names.dedup();
        for name in names {
            let of = |lines: &[Value]| {
                let mut lines: Vec<Value> =
                    lines.iter().filter(|line| field(line) == name).cloned().collect();
                match lines.len() {
                    0 => Value::Null,
                    1 => lines.remove(0),
                    _ => Value::Array(lines),
                }
            };
            let difference =
                Difference { at: format!("{at}.{name}"), envoy: of(&only_envoys), ours: of(&only_ours) };
            self.found.push(difference);
        }
    }
}

/// Where a head names its request or status line.
pub const FIRST_LINE: &str = "first line";

/// Whether the lines of a place are compared as a set of fields.
fn is_head(at: &str) -> bool {
    at.ends_with(".head") || at.ends_with(".lines")
}

fn is_title(at: &str) -> bool {
    at.starts_with("steps[") && at.ends_with("].step")
}

/// How many single values something has.
pub fn leaves(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(fields) => fields.values().map(leaves).sum(),
        _ => 1,
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

/// What is wrong with our observation, in a form that names the case, the place and both behaviours, and how much was
/// compared.
pub fn verdict(case: &Case, envoy: &Value, ours: &Value) -> (Vec<String>, Tally) {
    if let Some(meant) = &case.stricter {
        return stricter(meant.status, envoy, ours);
    }
    let mut faults = Vec::new();
    let walk = Walk::of(&without_picks(envoy), &without_picks(ours));
    let mut tally = Tally { equal: walk.equal, ..Tally::default() };
    let mut found = walk.found;
    found.retain(|difference| {
        let kept = !is_unsteady(case, difference);
        tally.unsteady += usize::from(!kept);
        kept
    });
    for (at, told) in case.differs.iter().flat_map(|meant| &meant.ours) {
        match found.iter().position(|difference| difference.at == *at) {
            Some(index) if found[index].ours == *told => {
                let difference = found.remove(index);
                tally.meant += leaves(&difference.ours).max(leaves(&difference.envoy));
            }
            Some(_) => {}
            None => faults.push(format!("{at}: does not differ any more, take it out of `differs`")),
        }
    }
    if let Some(distribution) = &case.distribution {
        tally.equal += distribution.shares.len();
        let sides = [("Envoy", envoy), ("ours", ours)];
        let wrong =
            sides.iter().filter_map(|(side, seen)| Some((side, outside(distribution, &seen["picks"])?)));
        faults.extend(wrong.map(|(side, reason)| format!("picks of {side}: {reason}")));
    }
    let meant = |at: &str| case.differs.iter().find_map(|meant| meant.ours.get(at));
    faults.extend(found.iter().map(|difference| {
        let Difference { at, envoy: theirs, ours } = difference;
        let step = step_title(envoy, at);
        let told = meant(at).map_or(String::new(), |told| format!("\n      the case tells of ours: {told}"));
        format!("{at}{step}\n      Envoy: {theirs}\n      ours:  {ours}{told}")
    }));
    (faults, tally)
}

/// Whether timing decides what is at a place.
pub fn is_unsteady(case: &Case, difference: &Difference) -> bool {
    case.unsteady.iter().any(|place| place.at == difference.at)
}

/// An observation without the counts of picks, which are compared as a distribution.
pub fn without_picks(seen: &Value) -> Value {
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

/// Every step must be taken by Envoy and refused by us with that status, and nothing of it may reach an upstream of ours.
fn stricter(status: u16, envoy: &Value, ours: &Value) -> (Vec<String>, Tally) {
    let mut faults = Vec::new();
    let mut tally = Tally::default();
    let none = Vec::new();
    let (theirs, own) =
        (envoy["steps"].as_array().unwrap_or(&none), ours["steps"].as_array().unwrap_or(&none));
    for (index, (theirs, own)) in theirs.iter().zip(own).enumerate() {
        tally.meant += 2;
        let title = theirs["step"].as_str().unwrap_or_default();
        if refused(theirs).is_some() {
            faults.push(format!(
                "steps[{index}]  ({title})\n      Envoy refuses it too: {}",
                theirs["responses"]
            ));
        }
        if refused(own) != Some(status) {
            faults.push(format!(
                "steps[{index}]  ({title})\n      ours does not refuse it with {status}: {}",
                own["responses"]
            ));
        }
    }
    for (name, records) in ours["upstreams"].as_object().into_iter().flatten() {
        if records.as_array().is_some_and(|records| !records.is_empty()) {
            faults.push(format!("upstreams.{name}\n      ours passed on: {records}"));
        }
        tally.meant += 1;
    }
    (faults, tally)
}

/// The status of a refusal, after which the connection ended; 0 for none.
fn refused(step: &Value) -> Option<u16> {
    let line = step["responses"][0]["head"][0].as_str().unwrap_or_default();
    let status = line.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok()).unwrap_or(0);
    (step["connection"] == "closed" && (status == 0 || (400..=501).contains(&status))).then_some(status)
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
        assert_eq!((&found[0].envoy, &found[0].ours), (&json!("a: 1"), &json!("a: 3")));
        assert_eq!(differences(&json!({ "log": ["x"] }), &json!({ "log": [] }))[0].ours, Value::Null);
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
        assert_eq!(stricter(400, &taken, &refused), (Vec::new(), Tally { meant: 3, ..Tally::default() }));
        assert_eq!(stricter(431, &taken, &refused).0.len(), 1);
        assert_eq!(stricter(400, &refused, &taken).0.len(), 2);
    }
}
