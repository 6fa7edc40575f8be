//! Whether a case compares enough to say anything, and a proof that what is compared is held.

use serde_json::{Value, json};

use super::case::Case;
use super::compare::{self, FIRST_LINE, Tally, leaves};

/// Values that say what happened: how a message begins, what it carries, how it ends. No timing decides these.
const TELLING: [&str; 7] = [FIRST_LINE, "body", "status", "flags", "received", "connection", "ended"];

/// Of a hundred values, how many timing may decide.
const UNSTEADY_OF_100: usize = 5;

/// How many wrong values are planted in an observation of ours, spread over it.
const PLANTED: usize = 12;

/// What is wrong with a case as it is written.
///
/// # Errors
/// The place that is not a single one, or has no reason.
pub fn check(case: &Case) -> Result<(), String> {
    let meant = case.differs.iter().flat_map(|meant| meant.ours.keys().map(|at| (at, &meant.because)));
    for (at, because) in meant.chain(case.unsteady.iter().map(|place| (&place.at, &place.because))) {
        if at.contains('*') || !at.contains(['[', '.']) {
            return Err(format!("{at}: names no single place; write each one, with its own value"));
        }
        if because.split_whitespace().count() < 3 {
            return Err(format!("{at}: {because:?} is no reason"));
        }
    }
    for place in &case.unsteady {
        let last = place.at.rsplit(['.', ']']).next().unwrap_or_default();
        // Of an upstream, `connection` is a number.
        let number = last == "connection" && place.at.starts_with("upstreams");
        if TELLING.contains(&last) && !number {
            return Err(format!(
                "{}: a case whose `{last}` is left to timing proves nothing; make it wait for a state, such as an answer's head",
                place.at
            ));
        }
    }
    Ok(())
}

/// Why a case that was run says too little. Empty for a case that says enough.
pub fn faults(case: &Case, envoy: &Value, ours: &Value, tally: &Tally) -> Vec<String> {
    let mut faults = Vec::new();
    if case.stricter.is_some() {
        return faults;
    }
    for place in &case.unsteady {
        let single = |seen: &Value| at(seen, &place.at).is_none_or(|value| leaves(value) <= 1);
        if !single(envoy) || !single(ours) {
            faults.push(format!("{}: is more than one value; name each one that timing decides", place.at));
        }
    }
    if tally.unsteady * 100 > (tally.equal + tally.meant) * UNSTEADY_OF_100 {
        faults.push(format!("compares too little: timing decides {} values, {tally}", tally.unsteady));
    }
    // Of every step that reads at least two values: how it ended and what came of it.
    let telling = |seen: &Value| {
        let steps = seen["steps"].as_array().into_iter().flatten();
        steps.filter(|step| leaves(step) > 1).count()
    };
    let steps = telling(envoy).max(telling(ours));
    if tally.equal + tally.meant < (2 * steps).max(2) || (steps == 0 && case.distribution.is_none()) {
        faults.push(format!("compares too little: {steps} steps saw something, {tally}"));
    }
    if case.distribution.is_none() {
        for whole in ["steps", "upstreams", "log"] {
            if envoy[whole].is_null() || ours[whole].is_null() {
                faults.push(format!("compares too little: nothing was observed of `{whole}`"));
            }
        }
    }
    if faults.is_empty() {
        faults.extend(blind(case, envoy, ours));
    }
    faults
}

/// Plants wrong values in our observation, one at a time, and names those that the comparison does not see.
fn blind(case: &Case, envoy: &Value, ours: &Value) -> Vec<String> {
    let mut places = Vec::new();
    pointers(ours, String::new(), &mut places);
    let step = places.len().div_ceil(PLANTED).max(1);
    let mut unseen = Vec::new();
    for place in places.iter().step_by(step) {
        let mut wrong = ours.clone();
        if let Some(value) = wrong.pointer_mut(place) {
            *value = planted(value);
        }
        let excused = |difference| compare::is_unsteady(case, difference);
        if compare::differences(ours, &wrong).iter().all(excused) {
            continue;
        }
        if compare::verdict(case, envoy, &wrong).0.is_empty() {
            unseen.push(format!("{place}: a wrong value here is not seen"));
        }
    }
    unseen
}

/// A value that is not the one that is there.
fn planted(value: &Value) -> Value {
    match value.as_str().and_then(|text| text.split_once(": ")) {
        Some((name, text)) => json!(format!("{name}: {text}planted")),
        None => json!(format!("planted {value}")),
    }
}

/// Places of all single values, but for titles of steps and counts, which are compared as a distribution.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{at}/{escaped}"), found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), found);
            }
        }
        Value::Null => {}
        _ if at.starts_with("/picks") || (at.starts_with("/steps/") && at.ends_with("/step")) => {}
        _ => found.push(at),
    }
}

/// `steps[0].streams.1` as a JSON pointer; nothing for a field of a head, which has none.
fn pointer_of(at: &str) -> Option<String> {
    let pointer = format!("/{}", at.replace('[', "/").replace(']', "").replace('.', "/"));
    (!pointer.contains("/head/")).then_some(pointer)
}

fn at<'a>(seen: &'a Value, place: &str) -> Option<&'a Value> {
    seen.pointer(&pointer_of(place)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::case;

    fn read(text: &str) -> Result<Case, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("case.yaml");
        std::fs::write(&file, format!("about: a case\nsteps: [GET /]\n{text}")).unwrap();
        case::read(&file, "area/case")
    }

    fn seen(status: &str, body: &str) -> Value {
        let step = json!({ "step": "GET /", "connection": "open",
            "responses": [{ "head": [status, "server: envoy"], "body": body }] });
        json!({ "steps": [step], "upstreams": { "app": [] }, "log": [{ "status": "200", "sent": "3" }] })
    }

    #[test]
    fn a_case_that_excuses_whole_places_is_refused() {
        for text in [
            "differs: [{because: it is meant so, ours: {'log[*].status': '400'}}]",
            "differs: [{because: it is meant so, ours: {log: []}}]",
            "differs: [{because: so, ours: {'log[0].status': '400'}}]",
            "unsteady: [{at: upstreams, because: timing decides it}]",
            "unsteady: [{at: 'steps[*].goaway[0]', because: timing decides it}]",
            "unsteady: [{at: 'steps[0].responses[0].head.first line', because: timing decides it}]",
            "unsteady: [{at: 'upstreams.app[0].body', because: timing decides it}]",
            "unsteady: [{at: 'log[0].sent', because: ''}]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        read("unsteady: [{at: 'log[0].sent', because: the text has a time in it}]").unwrap();
        read("differs: [{because: the rule is named, ours: {'steps[0].responses[0].body': a rule}}]")
            .unwrap();
    }

    #[test]
    fn a_case_that_compares_nothing_is_refused() {
        let case = read("").unwrap();
        let nothing = json!({ "steps": [{ "step": "GET /" }], "upstreams": { "app": [] }, "log": [] });
        let (found, tally) = compare::verdict(&case, &nothing, &nothing);
        assert_eq!(found, Vec::<String>::new());
        assert!(faults(&case, &nothing, &nothing, &tally)[0].contains("compares too little"));
        let enough = seen("HTTP/1.1 200 OK", "app");
        let (_, tally) = compare::verdict(&case, &enough, &enough);
        assert_eq!(faults(&case, &enough, &enough, &tally), Vec::<String>::new());
    }

    #[test]
    fn a_place_of_many_values_is_not_left_to_timing() {
        let case = read("unsteady: [{at: 'upstreams.app[0]', because: timing decides it}]").unwrap();
        let mut many = seen("HTTP/1.1 200 OK", "app");
        many["upstreams"]["app"] = json!([{ "connection": 0, "head": ["GET / HTTP/1.1", "host: a"] }]);
        let (_, tally) = compare::verdict(&case, &many, &many);
        let found = faults(&case, &many, &many, &tally);
        assert!(found[0].contains("more than one value"), "{found:?}");
    }

    #[test]
    fn a_planted_value_is_seen_wherever_it_is_and_also_where_ours_differs() {
        let meant = "differs: [{because: the rule is named, ours: {'steps[0].responses[0].body': a rule}}]";
        let case = read(meant).unwrap();
        let (envoy, ours) = (seen("HTTP/1.1 200 OK", "app"), seen("HTTP/1.1 200 OK", "a rule"));
        assert_eq!(compare::verdict(&case, &envoy, &ours).0, Vec::<String>::new());
        let mut places = Vec::new();
        pointers(&ours, String::new(), &mut places);
        assert_eq!(places.len(), 6);
        for place in places {
            let mut wrong = ours.clone();
            let value = wrong.pointer_mut(&place).unwrap();
            *value = planted(value);
            assert_eq!(compare::verdict(&case, &envoy, &wrong).0.len(), 1, "{place}");
        }
        assert_eq!(blind(&case, &envoy, &ours), Vec::<String>::new());
        // A comparison that forgives a place by name does not see it.
        let case = Case {
            unsteady: vec![case::Unsteady { at: "log[0].sent".to_owned(), because: String::new() }],
            ..case
        };
        let mut wrong = ours.clone();
        wrong["log"][0]["sent"] = json!("planted");
        assert_eq!(compare::verdict(&case, &envoy, &wrong).0, Vec::<String>::new());
    }
}
