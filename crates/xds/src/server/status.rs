//! What is known about one type on one stream, for status pages and metrics.

/// Why a client refused a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The client's reason, cut to the limit.
    pub text: String,
    /// Version of the refused response.
    pub version: String,
    /// Names of the resources that were new or changed in it.
    pub resources: Vec<String>,
}

/// The state of one type on one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Whether the client wants all resources of the type.
    pub wildcard: bool,
    /// How many names it asked for.
    pub names: usize,
    /// How many resources it has been sent and still has.
    pub resources: usize,
    /// Version of the set after the last response; empty before the first.
    pub sent: String,
    /// Version of the last set that it accepted; empty before the first.
    pub acked: String,
    /// Set when the last answered response was refused.
    pub nack: Option<Nack>,
    /// Responses sent.
    pub pushes: u64,
    /// Responses refused.
    pub nacks: u64,
    /// Whether a response is not answered yet.
    pub in_flight: bool,
}
