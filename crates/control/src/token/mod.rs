//! Join tokens: how a machine or a process without Kubernetes proves, once, which workload it is.

pub mod create;
pub mod file;
pub mod store;
pub mod text;

pub use create::{NewToken, create};
pub use store::{Grant, TokenError, Tokens};
pub use text::Token;

use std::time::Duration;

/// How long a token is good when nothing else is asked: 1 hour.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
