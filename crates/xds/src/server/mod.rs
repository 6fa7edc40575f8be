//! The server side of ADS.
//!
//! [`Session`] is one stream as a state machine without IO; [`service`] carries it over tonic. What the resources are
//! is told by a [`Source`], one [`Proxy`] per stream.

pub mod service;
pub mod session;
pub mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod type_state;

pub use service::AdsService;
pub use session::{Reply, Session};
pub use status::{Nack, TypeStatus};

use crate::resource::Resource;
use protos::envoy::envoy::config::core::v3::Node;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a client may ask of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names per type that one stream may subscribe to, or claim to know.
    pub names: usize,
    /// Types per stream.
    pub types: usize,
    /// Bytes of a node id, of a type URL, and of the name or version of a resource.
    pub id_bytes: usize,
    /// Bytes of a request message.
    pub request_bytes: usize,
    /// Bytes that are kept of the text of a NACK.
    pub nack_bytes: usize,
    /// How long the first request of a stream may take.
    pub first_request: Duration,
    /// How long routes wait for the client to accept the clusters and endpoints that they may point at.
    pub make_before_break: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            names: 16_384,
            types: 32,
            id_bytes: 1024,
            request_bytes: 4 * 1024 * 1024,
            nack_bytes: 4096,
            first_request: Duration::from_secs(10),
            make_before_break: Duration::from_secs(5),
        }
    }
}

/// Which resources are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All that the proxy should have.
    All,
    /// These, as far as they exist.
    Names(&'a BTreeSet<String>),
}

/// What a source answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These resources exist, of those asked for.
    Resources(Vec<Arc<Resource>>),
    /// The source cannot tell yet. Nothing is sent; it is asked again after its next change.
    NotReady,
    /// The source has no such type. The client gets an empty answer.
    UnknownType,
}

/// Answers for one stream. Dropped when the stream ends.
pub trait Proxy: Send + 'static {
    /// Takes the newest state. Until the next call every answer comes from that state, so that clusters and the
    /// routes that point at them belong together.
    fn refresh(&mut self);

    /// Resources of a type, from the state of the last [`Proxy::refresh`].
    fn resources(&mut self, type_url: &str, wanted: Wanted<'_>) -> Answer;

    /// Something happened on the stream; `status` is the state of that type afterwards.
    fn event(&mut self, event: &Event, status: &TypeStatus);

    /// The client has answered everything that the last [`Proxy::refresh`] had for it. May be called more than once.
    fn settled(&mut self);
}

/// Where resources come from.
pub trait Source: Send + Sync + 'static {
    /// One stream's view of it.
    type Proxy: Proxy;

    /// Admits a stream, after its first request.
    ///
    /// # Errors
    /// The status that ends the stream, when the caller may not have what the node asks for.
    #[allow(clippy::result_large_err, reason = "the type is tonic's")]
    fn open(&self, node: &Node, caller: &Caller) -> Result<Self::Proxy, tonic::Status>;

    /// A number that changes whenever the answers of [`Proxy::resources`] may have changed. The stream ends when its
    /// sender is gone.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// Who opened a stream, as the transport knows it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The dialect of the stream.
    pub dialect: crate::wire::Dialect,
    /// Remote address, when the transport tells it.
    pub address: Option<SocketAddr>,
    /// What the transport attached to the request, such as the peer's identity.
    pub extensions: tonic::Extensions,
}

/// What happened on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A response went out.
    Pushed {
        /// Type of the response.
        type_url: String,
        /// Resources in it.
        resources: usize,
        /// Removed names in it.
        removed: usize,
    },
    /// The client accepted a response.
    Acked {
        /// Type of the response.
        type_url: String,
        /// Time since it was sent.
        after: Duration,
    },
    /// The client refused a response.
    Nacked {
        /// Type of the response.
        type_url: String,
        /// Its reason.
        nack: Nack,
    },
}

impl Event {
    /// The type that it is about.
    pub fn type_url(&self) -> &str {
        match self {
            Event::Pushed { type_url, .. }
            | Event::Acked { type_url, .. }
            | Event::Nacked { type_url, .. } => type_url,
        }
    }
}
