//! Why a message was refused before anybody saw it.

use base::Reason;

/// A message that breaks the rules of its protocol, or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The head is larger than the limit.
    #[error("the head has {seen} bytes or more, the limit is {limit} bytes (raise max_headers_bytes)")]
    HeadTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// How many bytes had arrived when the limit was noticed.
        seen: usize,
    },
    /// The head has more fields than the limit.
    #[error("the head has {seen} fields or more, the limit is {limit} (raise max_headers_count)")]
    TooManyHeaders {
        /// The limit, in fields.
        limit: usize,
        /// How many fields had been counted when the limit was noticed.
        seen: usize,
    },
    /// A rule of the protocol is broken.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Well formed, but nothing here can do it.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// A head that did not arrive in time.
    #[error("the head was not complete after {seconds} s ({seen} bytes had arrived)")]
    HeadTimeout {
        /// The limit, in seconds.
        seconds: u64,
        /// How many bytes had arrived.
        seen: usize,
    },
}

impl Refusal {
    /// The status to answer with, when it is a request that was refused.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => 431,
            Refusal::Malformed(_) => 400,
            Refusal::Unsupported(_) => 501,
            Refusal::HeadTimeout { .. } => 408,
        }
    }

    /// The stable code, when it is a request that was refused.
    pub const fn reason(self) -> Reason {
        match self {
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => Reason::HeadersTooLarge,
            Refusal::Malformed(_) | Refusal::Unsupported(_) => Reason::BadRequest,
            Refusal::HeadTimeout { .. } => Reason::Timeout,
        }
    }
}
