//! The labels of Istio's HTTP metrics (metrics reference of Istio; `reporter` tells which side counted).

use std::borrow::Cow;

use config::model::Direction;

use super::flags::ResponseFlags;
use super::intern::Interned;
use super::series::Labels;

/// What a metric says about a workload, the caller's or the called one's. A missing value is `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Name of the workload (Deployment, or the name of the joined process).
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, `app`, the workload's name.
    pub canonical_service: String,
    /// `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, `version`, `latest`.
    pub canonical_revision: String,
    /// Name of the cluster (of machines) it runs in.
    pub cluster: String,
}

impl Workload {
    /// A workload of which every field is `text`.
    pub fn all(text: &str) -> Self {
        let text = || text.to_owned();
        Self {
            workload: text(),
            namespace: text(),
            app: text(),
            version: text(),
            canonical_service: text(),
            canonical_revision: text(),
            cluster: text(),
        }
    }
}

impl Workload {
    /// A workload of which nothing is known: Istio writes `latest` for a missing revision.
    pub fn unknown() -> Self {
        Self { canonical_revision: "latest".to_owned(), ..Self::all("unknown") }
    }
}

/// The service that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Full host name.
    pub host: String,
    /// Short name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

impl Service {
    /// A service of which every field is `text`.
    pub fn all(text: &str) -> Self {
        Self { host: text.to_owned(), name: text.to_owned(), namespace: text.to_owned() }
    }
}

/// Which side of the call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The caller's sidecar.
    Source,
    /// The called one's sidecar.
    Destination,
}

impl Reporter {
    /// The side of the proxy of a listener with that direction.
    pub const fn of(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Reporter::Destination,
            Direction::Outbound | Direction::Unspecified => Reporter::Source,
        }
    }

    /// The label's text.
    pub const fn text(self) -> &'static str {
        match self {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        }
    }
}

/// What was spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// Bytes.
    Tcp,
    /// gRPC, by its content type; with its status when the response had one.
    Grpc(Option<u8>),
}

/// How the caller reached the reporting side; known only to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionSecurity {
    /// Reported by the source, which always says `unknown`.
    Unknown,
    /// Plaintext, or TLS without a verified peer.
    None,
    /// TLS with both sides verified.
    MutualTls,
}

impl ConnectionSecurity {
    /// The label's text.
    pub const fn text(self) -> &'static str {
        match self {
            ConnectionSecurity::Unknown => "unknown",
            ConnectionSecurity::None => "none",
            ConnectionSecurity::MutualTls => "mutual_tls",
        }
    }
}

/// The labels of one request, borrowed from what the connection, the configuration and the host already hold.
#[derive(Debug, Clone, Copy)]
pub struct RequestLabels<'a> {
    /// Which side counts.
    pub reporter: Reporter,
    /// The caller.
    pub source: &'a Interned<Workload>,
    /// The caller's SPIFFE id.
    pub source_principal: &'a Interned<str>,
    /// The called workload.
    pub destination: &'a Interned<Workload>,
    /// Its SPIFFE id.
    pub destination_principal: &'a Interned<str>,
    /// The service asked for.
    pub service: &'a Interned<Service>,
    /// What was spoken.
    pub protocol: Protocol,
    /// Status of the response; 0 when there was none.
    pub code: u16,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// How the caller reached the reporting side.
    pub security: ConnectionSecurity,
}

/// Finds a series: numbers only, so that looking it up copies and formats nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    ids: [u64; 6],
    flags: ResponseFlags,
    shape: u32,
    code: u16,
    reporter: Reporter,
    protocol: Protocol,
    security: ConnectionSecurity,
}

impl RequestLabels<'_> {
    /// The key of the series these labels belong to, in a shape of that number with values of that number.
    pub fn key(&self, shape: u32, values: u64) -> SeriesKey {
        SeriesKey {
            ids: [
                self.source.id(),
                self.source_principal.id(),
                self.destination.id(),
                self.destination_principal.id(),
                self.service.id(),
                values,
            ],
            flags: self.flags,
            shape,
            code: self.code,
            reporter: self.reporter,
            protocol: self.protocol,
            security: self.security,
        }
    }

    /// Names and values in the order of [`LABEL_NAMES`]. Made once per series.
    pub fn pairs(&self) -> Labels {
        let (protocol, grpc_status) = match self.protocol {
            Protocol::Http => ("http", String::new()),
            Protocol::Tcp => ("tcp", String::new()),
            Protocol::Grpc(status) => ("grpc", status.map(|n| n.to_string()).unwrap_or_default()),
        };
        let (source, destination, service) = (&**self.source, &**self.destination, &**self.service);
        let (code, flags) = (self.code.to_string(), self.flags.to_string());
        let values: [&str; LABEL_NAMES.len()] = [
            self.reporter.text(),
            &source.workload,
            &source.canonical_service,
            &source.canonical_revision,
            &source.namespace,
            self.source_principal,
            &source.app,
            &source.version,
            &source.cluster,
            &destination.workload,
            &destination.namespace,
            self.destination_principal,
            &destination.app,
            &destination.version,
            &service.host,
            &destination.canonical_service,
            &destination.canonical_revision,
            &service.name,
            &service.namespace,
            &destination.cluster,
            protocol,
            &code,
            &grpc_status,
            &flags,
            self.security.text(),
        ];
        let all = LABEL_NAMES.into_iter().zip(values);
        let all = all.filter(|(name, _)| self.protocol != Protocol::Tcp || !OF_REQUESTS.contains(name));
        all.map(|(name, value)| (Cow::Borrowed(name), Box::from(value))).collect()
    }
}

/// Labels that a connection has no values for.
pub const OF_REQUESTS: [&str; 2] = ["response_code", "grpc_response_status"];

/// The labels in the order of Istio's reference.
pub const LABEL_NAMES: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

#[cfg(test)]
impl SeriesKey {
    /// A key like no other.
    pub fn of_test(n: u64) -> Self {
        SeriesKey {
            ids: [n; 6],
            flags: ResponseFlags::NONE,
            shape: 0,
            code: 200,
            reporter: Reporter::Source,
            protocol: Protocol::Http,
            security: ConnectionSecurity::None,
        }
    }
}
