//! Where a directory and what runs say otherwise.

use std::collections::BTreeSet;

use super::report::{Explanation, RouteTaken};

/// One part of a route, as text.
type Part = fn(&RouteTaken) -> String;

/// What differs, in words: what runs first.
pub fn between(live: &Explanation, written: &Explanation) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |what: &str, live: String, written: String| {
        if live != written {
            all.push(format!("{what}: {live} runs, the directory says {written}"));
        }
    };
    let route = |it: &Explanation, part: Part| it.route.as_ref().map_or_else(|| "none".to_owned(), part);
    let parts: [(&str, Part); 6] = [
        ("route", |it| {
            it.source.as_ref().map_or_else(|| "the mesh's own".to_owned(), |it| it.resource.clone())
        }),
        ("condition of the route", |it| it.conditions.join(", ")),
        ("what the route does", |it| it.action.clone()),
        ("timeout", |it| it.timeout.clone()),
        ("retries", |it| it.retries.clone()),
        ("host and path", |it| it.rewritten.clone().unwrap_or_else(|| "unchanged".to_owned())),
    ];
    for (what, part) in parts {
        compare(what, route(live, part), route(written, part));
    }
    let shares = |it: &Explanation| {
        let all: Vec<String> =
            it.destinations.iter().map(|it| format!("{:.2} % {}", it.share, it.cluster)).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    compare("destinations", shares(live), shares(written));
    for here in &live.destinations {
        let Some(there) = written.destinations.iter().find(|it| it.cluster == here.cluster) else { continue };
        compare(&format!("limits of {}", here.cluster), here.limits.join("; "), there.limits.join("; "));
        let addresses = |it: &super::Destination| -> BTreeSet<String> {
            it.endpoints.iter().map(|it| it.address.clone()).collect()
        };
        let joined = |all: BTreeSet<String>| {
            if all.is_empty() { "none".to_owned() } else { Vec::from_iter(all).join(", ") }
        };
        compare(&format!("endpoints of {}", here.cluster), joined(addresses(here)), joined(addresses(there)));
        for endpoint in &here.endpoints {
            let Some(other) = there.endpoints.iter().find(|it| it.address == endpoint.address) else {
                continue;
            };
            let verdict = |it: &super::Endpoint| {
                format!(
                    "{} {} ({})",
                    it.mode,
                    if it.verdict.allowed { "allowed" } else { "denied" },
                    it.verdict.reason
                )
            };
            compare(&format!("endpoint {}", endpoint.address), verdict(endpoint), verdict(other));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::report::{Destination, Endpoint, Outcome, Verdict};

    fn explanation(address: &str, allowed: bool) -> Explanation {
        let verdict = Verdict { allowed, reason: "r".to_owned(), sources: Vec::new() };
        let endpoint = Endpoint {
            address: address.to_owned(),
            workload: String::new(),
            transport: "mutual TLS",
            mode: "STRICT",
            health: String::new(),
            verdict,
        };
        Explanation {
            from: String::new(),
            to: String::new(),
            request: String::new(),
            listener: String::new(),
            route: None,
            destinations: vec![Destination {
                cluster: "c".to_owned(),
                share: 100.0,
                balancing: String::new(),
                limits: Vec::new(),
                rules: Vec::new(),
                endpoints: vec![endpoint],
            }],
            canonical: String::new(),
            outcome: Outcome { ok: true, reason: None, status: None, text: String::new() },
            differences: Vec::new(),
        }
    }

    #[test]
    fn equal_ones_have_none_and_others_are_named() {
        let one = explanation("a:1", true);
        assert_eq!(between(&one, &one), Vec::<String>::new());
        assert_eq!(
            between(&one, &explanation("b:1", true)),
            ["endpoints of c: a:1 runs, the directory says b:1"]
        );
        let said = between(&one, &explanation("a:1", false));
        assert_eq!(said, ["endpoint a:1: STRICT allowed (r) runs, the directory says STRICT denied (r)"]);
    }
}
