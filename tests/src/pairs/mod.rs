//! Generated pairs of configuration and request, and what three judges say of them: `tulle explain`, the data plane, and
//! the real Envoy under the same bootstrap.

// These threads play peers of the proxies; `runtime` has no part in them.
#![allow(clippy::disallowed_methods)]

pub mod bootstrap;
pub mod client;
pub mod generate;
pub mod program;

use std::collections::BTreeSet;

use cli::explain::{Explainer, Explanation, Question};
use generate::{Request, World};

/// What came out of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A program got it.
    Program {
        /// Which workload's.
        workload: usize,
        /// The host that it saw.
        host: String,
        /// Path and query that it saw.
        path: String,
    },
    /// A proxy answered.
    Proxy {
        /// Its status.
        status: u16,
        /// Where it sends the client.
        location: String,
    },
    /// The connection broke.
    Broken(String),
}

/// What `explain` says of a request.
///
/// # Panics
/// When it says nothing.
pub fn explanation(explainer: &Explainer<'_>, request: &Request) -> Explanation {
    let mut headers = vec![("host".to_owned(), request.host.clone())];
    headers.extend(request.headers.iter().cloned());
    let question = Question {
        from: "shop/caller".to_owned(),
        to: format!("{}.shop", generate::service(request.service)),
        method: request.method.to_owned(),
        path: request.path.clone(),
        headers,
    };
    explainer.explain(&question).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

/// What it says comes out: every answer that chance may pick.
pub fn explained(world: &World, explainer: &Explainer<'_>, request: &Request) -> BTreeSet<Answer> {
    let said = explanation(explainer, request);
    let proxy = |status| Answer::Proxy { status, location: String::new() };
    let Some(route) = &said.route else {
        return BTreeSet::from([proxy(said.outcome.status.unwrap_or_default())]);
    };
    if let Some(answers) = &route.answers {
        let location = answers.location.clone().unwrap_or_default();
        return BTreeSet::from([Answer::Proxy { status: answers.status, location }]);
    }
    let sent = route.rewritten.clone();
    let mut all = BTreeSet::new();
    for destination in &said.destinations {
        if destination.endpoints.is_empty() {
            all.insert(proxy(503));
        }
        for endpoint in &destination.endpoints {
            if !endpoint.verdict.allowed {
                all.insert(proxy(403));
                continue;
            }
            let line = sent.clone().unwrap_or_else(|| format!("{}{}", request.host, said.canonical));
            let slash = line.find('/').unwrap_or(line.len());
            let workload = world.workload_at(&endpoint.address);
            all.insert(Answer::Program {
                workload,
                host: line[..slash].to_owned(),
                path: line[slash..].to_owned(),
            });
        }
    }
    all
}
