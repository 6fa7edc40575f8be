//! A differential case: one small data file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::bootstrap::LOG;
use super::{enough, http2, tcp, text};

/// One case. `docs/testing-notation.md` explains the fields to whoever writes one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The folder of `cases/` and `observed/`.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Area and file name, such as `routing/prefix`.
    #[serde(skip)]
    pub name: String,
    /// Checksum of everything that an observation depends on.
    #[serde(skip)]
    pub checksum: String,
    /// Which behaviour this is about, in one line.
    pub about: String,
    /// Routes of the one virtual host `*`.
    #[serde(default)]
    pub routes: Vec<Value>,
    /// Virtual hosts, when one does not do.
    #[serde(default)]
    pub virtual_hosts: Vec<Value>,
    /// Merged into the `RouteConfiguration`.
    #[serde(default)]
    pub route_config: Value,
    /// Merged into the `HttpConnectionManager`.
    #[serde(default)]
    pub hcm: Value,
    /// Merged into the listener.
    #[serde(default)]
    pub listener: Value,
    /// Filter chains, when one does not do: each is merged into the usual one; `tls: {…}` in it gives it TLS,
    /// `hcm: {…}` is merged into its `HttpConnectionManager`.
    #[serde(default)]
    pub chains: Vec<Value>,
    /// More pairs `name=%OPERATOR%` for the access log.
    #[serde(default)]
    pub log: String,
    /// The filter of the access log.
    #[serde(default)]
    pub log_filter: Value,
    /// The format of the access log instead of the pairs, as `SubstitutionFormatString` has it.
    #[serde(default)]
    pub log_format: Value,
    /// The listener speaks TLS; merged into its `DownstreamTlsContext`.
    #[serde(default)]
    pub tls: Option<Value>,
    /// Network filters instead of the `HttpConnectionManager`.
    #[serde(default)]
    pub network_filters: Vec<Value>,
    /// HTTP filters before the router.
    #[serde(default)]
    pub http_filters: Vec<Value>,
    /// Merged into the cluster of that name. `endpoints: [upstream, …]` names its upstreams; without it, the cluster
    /// has the upstream of its own name. `tls: {…}` is merged into its `UpstreamTlsContext`.
    #[serde(default)]
    pub clusters: BTreeMap<String, Value>,
    /// What the upstreams do. `app` is always there.
    #[serde(default)]
    pub upstreams: BTreeMap<String, Upstream>,
    /// What the client does, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Many equal requests whose answers must be distributed as told.
    #[serde(default)]
    pub distribution: Option<Distribution>,
    /// Names of statistics (Envoy's text form) to compare.
    #[serde(default)]
    pub stats: Vec<String>,
    /// We refuse what Envoy takes; then every step must be refused by us and taken by Envoy.
    #[serde(default)]
    pub stricter: Option<Stricter>,
    /// Single values that are not compared, because timing decides what is there.
    #[serde(default)]
    pub unsteady: Vec<Unsteady>,
    /// What upstreams received and the access log are compared without their order, because requests run beside each other.
    #[serde(default)]
    pub unordered: bool,
    /// Differences that are meant.
    #[serde(default)]
    pub differs: Vec<Differs>,
}

/// Differences that are meant, for one reason: documented, held to what is told here, and an error when they are not there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differs {
    /// Why.
    pub because: String,
    /// What ours does at each place, as the failure prints both; null where it has nothing.
    pub ours: serde_json::Map<String, Value>,
}

/// A refusal where Envoy takes what comes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stricter {
    /// Why.
    pub because: String,
    /// The status of every refusal.
    pub status: u16,
}

/// A single value that is not compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsteady {
    /// The place, as a failure prints it.
    pub at: String,
    /// Why it cannot be the same each time.
    pub because: String,
}

/// Shares of a distribution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The request in short form.
    pub request: String,
    /// How many of them.
    pub repeat: u32,
    /// Body of the answer (by default the upstream's name) and its expected share.
    pub shares: BTreeMap<String, f64>,
}

/// The script of an upstream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// What it answers to the first, second, … request; the last one repeats. Default: 200 with its name.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// It speaks TLS with this SPIFFE id (`stranger:…`: signed by nobody known) and asks for a certificate.
    #[serde(default)]
    pub identity: Option<String>,
    /// What it does with connections.
    #[serde(default)]
    pub accept: Accept,
    /// Protocols that it takes by ALPN, in its order.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// `NAME=VALUE …`: its settings where it is spoken to in HTTP/2.
    #[serde(default)]
    pub settings: String,
    /// A script of what it does with the bytes of every connection, instead of HTTP.
    #[serde(default)]
    pub tcp: Vec<String>,
}

/// What an upstream does with a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Serves it.
    #[default]
    Serve,
    /// Nobody listens.
    Refuse,
    /// Resets it at once.
    Reset,
}

/// One answer of an upstream.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Raw bytes when it begins with `HTTP/`, else the short form `200 body | header: value`.
    Text(String),
    /// With more to say.
    Full(Box<FullAnswer>),
}

/// An answer with everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FullAnswer {
    /// As the text form; nothing is sent when it is missing.
    pub send: Option<String>,
    /// What is done instead on an HTTP/2 connection, one action a line.
    pub frames: Vec<String>,
    /// Answers after the head of the request, before its body.
    pub early: bool,
    /// How long it takes to answer, such as `0.2s`.
    pub delay: Option<String>,
    /// What is done with the bytes of the connection after the answer: a TCP script.
    pub tcp: Vec<String>,
    /// What happens to the connection afterwards.
    pub then: After,
}

/// What happens to a connection after an answer or a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It stays.
    #[default]
    Keep,
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
    /// Nothing is sent any more; it stays until the peer closes it.
    Silent,
    /// The writing half is closed.
    HalfClose,
}

impl Answer {
    /// The answer with everything.
    pub fn full(&self) -> FullAnswer {
        match self {
            Answer::Text(send) => FullAnswer { send: Some(send.clone()), ..FullAnswer::default() },
            Answer::Full(full) => (**full).clone(),
        }
    }
}

impl FullAnswer {
    /// What is sent to an HTTP/1 client.
    pub fn bytes(&self, upstream: &str) -> Vec<u8> {
        match &self.send {
            Some(raw) if raw.starts_with("HTTP/") => text::bytes(raw),
            Some(short) => text::answer(short, upstream),
            None => Vec::new(),
        }
    }

    /// How long it takes to answer.
    pub fn delay(&self) -> Option<Duration> {
        self.delay.as_deref().map(|text| duration(text).expect("a delay is `0.2s`"))
    }
}

/// A duration such as `0.2s`.
pub fn duration(text: &str) -> Option<Duration> {
    text.strip_suffix('s')?.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// One step of the client.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// Short form of a request: `GET /path | header: value`.
    Text(String),
    /// With more to say.
    Full(Box<FullStep>),
}

/// A step with everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FullStep {
    /// Short form of a request.
    pub request: String,
    /// More headers.
    pub headers: Vec<String>,
    /// Body.
    pub body: Option<String>,
    /// Raw bytes instead.
    pub send: Option<String>,
    /// What is done on an HTTP/2 connection instead, one action a line.
    pub http2: Vec<String>,
    /// What is done with the bytes of the connection (after the request, if there is one): a TCP script.
    pub tcp: Vec<String>,
    /// `/path` or `POST /path`: asks the admin server instead.
    pub admin: String,
    /// Beginnings of the lines of the admin server's answer, or the parts of what an HTTP/2 step saw (`connection`,
    /// `goaway`, …), that are compared; all when there are none.
    pub only: Vec<String>,
    /// TLS although the listener itself does not speak it.
    pub tls: bool,
    /// Protocols that the client offers by ALPN.
    pub alpn: Vec<String>,
    /// The server name that the client asks for, instead of `server.shop`.
    pub server_name: Option<String>,
    /// Name of the connection; steps with the same name share it. A step without one has its own.
    pub connection: Option<String>,
    /// Source address.
    pub from: Option<String>,
    /// SPIFFE id of the certificate that the client shows, on a listener with TLS; `stranger:…`: signed by nobody known.
    pub certificate: Option<String>,
    /// Plaintext in spite of the listener's TLS.
    pub plaintext: bool,
    /// What is waited for.
    pub read: Read,
    /// How many responses are waited for; 1 by default.
    pub responses: Option<usize>,
    /// What the client does with the connection before it reads (`half_close`) or afterwards (`close`, `reset`).
    pub then: After,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// Whole responses.
    #[default]
    Response,
    /// Responses, and then the end of the connection.
    Close,
    /// One head, which may be an interim one (1xx).
    Interim,
    /// Nothing.
    Nothing,
}

impl Case {
    /// Whether its listener speaks TLS.
    pub fn listens_with_tls(&self) -> bool {
        self.tls.is_some() || self.chains.iter().any(|chain| chain.get("tls").is_some())
    }

    /// Whether anybody in it speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        let client = self.steps.iter().any(|step| step.full().tls);
        client
            || self.listens_with_tls()
            || self.upstreams.values().any(|upstream| upstream.identity.is_some())
    }
}

impl Step {
    /// The step with everything.
    pub fn full(&self) -> FullStep {
        match self {
            Step::Text(request) => FullStep { request: request.clone(), ..FullStep::default() },
            Step::Full(full) => (**full).clone(),
        }
    }
}

impl FullStep {
    /// What is sent.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.send {
            Some(raw) => text::bytes(raw),
            None => text::request(&self.request, &self.headers, self.body.as_deref()),
        }
    }

    /// What a reader is shown of it.
    pub fn title(&self) -> String {
        if !self.admin.is_empty() {
            return format!("admin {}", self.admin);
        }
        let script = self.http2.iter().chain(&self.tcp).next().unwrap_or(&self.request);
        let text =
            self.send.as_deref().unwrap_or(if self.request.is_empty() { script } else { &self.request });
        text.split("\r\n").next().unwrap_or_default().chars().take(90).collect()
    }
}

/// Reads a case file.
///
/// # Errors
/// The file with what is wrong in it.
pub fn read(file: &Path, name: &str) -> Result<Case, String> {
    let source = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut case: Case = serde_saphyr::from_str(&source).map_err(|error| fault(&error))?;
    let mut value: Value = serde_saphyr::from_str(&source).map_err(|error| fault(&error))?;
    for comment in ["about", "stricter", "differs", "unsteady"] {
        value.as_object_mut().map(|object| object.remove(comment));
    }
    case.name = name.to_owned();
    case.checksum = format!("{:016x}", text::checksum(format!("{value}{LOG}").as_bytes()));
    check(&case).map_err(|error| fault(&error))?;
    enough::check(&case).map_err(|error| fault(&error))?;
    if case.steps.is_empty() && case.distribution.is_none() {
        return Err(fault(&"has neither steps nor a distribution: it would observe nothing"));
    }
    case.upstreams.entry("app".to_owned()).or_default();
    Ok(case)
}

/// Whether its scripts can be read.
fn check(case: &Case) -> Result<(), String> {
    for step in &case.steps {
        let step = step.full();
        http2::notation::parse(&step.http2)?;
        tcp::parse(&step.tcp)?;
    }
    for upstream in case.upstreams.values() {
        http2::frame::settings(&upstream.settings).ok_or("settings are NAME=VALUE …")?;
        tcp::parse(&upstream.tcp)?;
        for answer in &upstream.answers {
            http2::server::check(answer)?;
            tcp::parse(&answer.full().tcp)?;
        }
    }
    Ok(())
}
