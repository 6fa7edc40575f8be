//! The answer of `tulle explain`: every decision with its reason and the place where its author wrote it.

use serde::Serialize;

use super::source::Source;

/// What happens with a request.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The caller, `namespace/workload`.
    pub from: String,
    /// The host that is called.
    pub to: String,
    /// Method, path and headers.
    pub request: String,
    /// The caller's listener that takes it.
    pub listener: String,
    /// The route that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteTaken>,
    /// Where it may go, by share.
    pub destinations: Vec<Destination>,
    /// Path and query as the caller's proxy sees them, made canonical.
    pub canonical: String,
    /// What comes out.
    pub outcome: Outcome,
    /// Where a directory says otherwise than what runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// The route that takes a request.
#[derive(Debug, Clone, Serialize)]
pub struct RouteTaken {
    /// Virtual host.
    pub virtual_host: String,
    /// Position in it, from 0.
    pub position: usize,
    /// Conditions under which it takes a request, in words.
    pub conditions: Vec<String>,
    /// What it does.
    pub action: String,
    /// Limit of the whole exchange; none: no limit.
    pub timeout: String,
    /// What is tried again.
    pub retries: String,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Host and path as they are sent on, where the route changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
    /// What the route answers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answered>,
}

/// The answer of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Where a redirect leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// One cluster that the route may pick.
#[derive(Debug, Clone, Serialize)]
pub struct Destination {
    /// The cluster's name.
    pub cluster: String,
    /// Share of requests in percent.
    pub share: f64,
    /// How an endpoint is picked.
    pub balancing: String,
    /// Limits of connections and requests, and when an endpoint is ejected.
    pub limits: Vec<String>,
    /// The DestinationRules that made it what it is.
    pub rules: Vec<Source>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint with what its own proxy says to the request.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoint {
    /// Address and port.
    pub address: String,
    /// `namespace/workload`; empty when no resource has the address.
    pub workload: String,
    /// `mutual TLS`, `TLS` or `plaintext`.
    pub transport: &'static str,
    /// What its proxy demands: `STRICT`, `PERMISSIVE`, `DISABLE`; empty when it has none.
    pub mode: &'static str,
    /// `healthy`, `ejected` and the like, where the proxy that runs was asked; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub health: String,
    /// The policies' verdict.
    pub verdict: Verdict,
}

/// Whether the called workload takes the request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether it does.
    pub allowed: bool,
    /// Why, in words.
    pub reason: String,
    /// The deciding rule; where no rule allowed it, the policies that might have.
    pub sources: Vec<Source>,
}

/// What comes out of it all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Whether every destination that may be picked takes the request.
    pub ok: bool,
    /// The stable reason code where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The status that the caller gets, where all destinations agree: 200 stands for whatever the program answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// In words.
    pub text: String,
}
