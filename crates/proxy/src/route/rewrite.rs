//! Changes of path and host before a request is sent, and the target of a redirect: `decide`'s, on heads.

use bytes::Bytes;
use config::model::{HostRewrite, Redirect, RouteMatch};
pub use decide::rewrite::{split_port, target};

use super::view::HeadView;
use crate::http::{RequestHead, Scheme};

/// The host that the request gets; `None` when it stays.
pub fn host(rewrite: &HostRewrite, head: &RequestHead) -> Option<Bytes> {
    decide::rewrite::host(rewrite, &HeadView(head)).map(Bytes::from)
}

/// `location` of a redirect.
pub fn location(redirect: &Redirect, matcher: &RouteMatch, head: &RequestHead, scheme: Scheme) -> Vec<u8> {
    decide::rewrite::location(redirect, matcher, &HeadView(head), scheme.as_str())
}
