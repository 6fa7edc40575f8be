//! The client side of ADS.
//!
//! [`Client`] is the state machine without IO: what is wanted, what is known, what must be said. It outlives streams:
//! a new stream begins with what is still known, so that a reconnect brings only what changed. [`run`] drives it over
//! tonic and tells a [`Handler`].

mod backoff;
mod driver;
mod machine;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use driver::{Config, ConnectError, run};
pub use machine::{Client, Missing};

use crate::resource::Resource;
use std::time::Duration;

/// What a client takes from a server, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one response.
    pub response_bytes: usize,
    /// Bytes of the text of a NACK.
    pub nack_bytes: usize,
    /// How long a resource may stay unanswered before [`Handler::missing`] tells so (Envoy's initial fetch timeout).
    pub initial_fetch: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { response_bytes: 64 * 1024 * 1024, nack_bytes: 4096, initial_fetch: Duration::from_secs(15) }
    }
}

/// A change of what is wanted of one type. The name `*` stands for everything that the server has for this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The type.
    pub type_url: String,
    /// Names to add.
    pub add: Vec<String>,
    /// Names to drop.
    pub remove: Vec<String>,
}

impl Subscribe {
    /// Wants everything of a type.
    pub fn all(type_url: &str) -> Self {
        Subscribe::to(type_url, [crate::wire::WILDCARD])
    }

    /// Wants these names of a type.
    pub fn to<N: Into<String>>(type_url: &str, names: impl IntoIterator<Item = N>) -> Self {
        Subscribe {
            type_url: type_url.to_owned(),
            add: names.into_iter().map(Into::into).collect(),
            remove: Vec::new(),
        }
    }

    /// No longer wants these names of a type.
    pub fn from<N: Into<String>>(type_url: &str, names: impl IntoIterator<Item = N>) -> Self {
        Subscribe {
            type_url: type_url.to_owned(),
            add: Vec::new(),
            remove: names.into_iter().map(Into::into).collect(),
        }
    }
}

/// New state of one type, to be answered with a [`Verdict`].
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The type.
    pub type_url: String,
    /// New and changed resources.
    pub added: Vec<Resource>,
    /// Names that do not exist, any more or at all.
    pub removed: Vec<String>,
    /// The server's version of the whole set.
    pub version: String,
    pub(crate) nonce: String,
}

/// The consumer's answer to an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is in use.
    Ack,
    /// Some or all of it was refused; what was known before stays known for the names in `rejected`.
    Nack {
        /// Which field of which resource, and why. The server's users read it.
        detail: String,
        /// Names that were refused. Empty: the whole update, removals included.
        rejected: Vec<String>,
    },
}

/// Whoever uses the resources. All calls come from one task, in order.
pub trait Handler {
    /// Takes an update. What is added to `subscriptions` is asked for before the answer is sent, so that the server
    /// knows of dependencies (the endpoints of a new cluster) before it goes on.
    fn update(&mut self, update: &Update, subscriptions: &mut Vec<Subscribe>) -> Verdict;

    /// A resource was asked for, and the server said nothing about it for [`Limits::initial_fetch`]. It may still come.
    fn missing(&mut self, missing: &Missing, subscriptions: &mut Vec<Subscribe>);

    /// The stream came up or broke.
    fn connection(&mut self, connection: &Connection);
}

/// State of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// A stream is open.
    Up,
    /// No stream; what is known stays in use.
    Down {
        /// Why it broke or could not be opened.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
    },
}
