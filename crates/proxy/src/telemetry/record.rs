//! What is known about one request while it runs: filled in by the request path, read once at its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base::{Blame, Reason};
use bytes::Bytes;

use super::attempts::Attempts;
use super::flags::ResponseFlags;

/// Facts of the downstream connection that logs can name. Shared by all requests of the connection.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The address of the connection's other end.
    pub remote: SocketAddr,
    /// SNI; empty without.
    pub server_name: Arc<str>,
    /// URI SANs of the peer's verified certificate, comma-separated; empty without.
    pub peer_uri_sans: Arc<str>,
    /// Subject of the peer's verified certificate; empty without.
    pub peer_subject: Arc<str>,
    /// URI SAN of our own certificate; empty on a plaintext connection.
    pub local_uri_sans: Arc<str>,
    /// `TLSv1.3`; empty on a plaintext connection.
    pub tls_version: &'static str,
}

/// Values that an access log took from a head, by position in the compiled log.
pub type Captured = Vec<Option<Bytes>>;

/// Where a failure happened, as the proxy there said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The workload whose proxy noticed it, as `namespace/name`.
    pub hop: Box<str>,
    /// With whom that proxy spoke; empty where that is not known.
    pub peer: Box<str>,
}

/// One request's story.
#[derive(Debug)]
pub struct RequestRecord {
    /// When the request came, for people.
    pub start_time: SystemTime,
    /// When the request came, for durations.
    pub begun: Instant,
    /// When the last byte of the request was read.
    pub request_end: Option<Instant>,
    /// When the last try was sent to an upstream.
    pub sent: Option<Instant>,
    /// When the upstream's response head came.
    pub response_begin: Option<Instant>,
    /// When the last byte of the response was handed to the client, or the request was given up.
    pub end: Option<Instant>,
    /// `HTTP/1.1`.
    pub protocol: &'static str,
    /// Status sent to the client; 0 when none was sent.
    pub status: u16,
    /// The outcome of a gRPC call: what the response says, else what stands for its status (gRPC's own table). `None`
    /// for other requests, and for a call that was not answered.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Why it ended other than well.
    pub reason: Option<Reason>,
    /// What another proxy of the mesh said about the failure; `None`: this one noticed it.
    pub told: Option<Box<Told>>,
    /// Why the proxy answered so, Envoy's words.
    pub details: Cow<'static, str>,
    /// Why the connection to the upstream could not be made.
    pub transport_failure: Cow<'static, str>,
    /// Why the handshake with the client failed.
    pub downstream_failure: Cow<'static, str>,
    /// Why this proxy closed the connection (RBAC on L4), Envoy's words.
    pub termination: Cow<'static, str>,
    /// Bytes of the request's body.
    pub request_body_bytes: u64,
    /// Bytes of the response's body.
    pub response_body_bytes: u64,
    /// Bytes of the request's head.
    pub request_head_bytes: u64,
    /// Bytes of the response's head.
    pub response_head_bytes: u64,
    /// The chosen host.
    pub upstream_host: Option<Arc<str>>,
    /// The chosen cluster.
    pub upstream_cluster: Option<Arc<str>>,
    /// Our address of the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// The route.
    pub route_name: Option<Arc<str>>,
    /// The user's resource that the route comes from.
    pub route_origin: Option<Arc<str>>,
    /// The virtual host.
    pub virtual_host: Option<Arc<str>>,
    /// The client's address where `x-forwarded-for` is trusted.
    pub client_address: Option<SocketAddr>,
    /// Tries made upstream.
    pub attempts: u32,
    /// Where the time of each try went.
    pub timeline: Attempts,
    /// Values taken from the request's head.
    pub request_values: Captured,
    /// Values taken from the response's head.
    pub response_values: Captured,
    /// Values taken from the response's trailers.
    pub trailer_values: Captured,
}

impl RequestRecord {
    /// The record of a request that came at `begun`.
    pub fn new(start_time: SystemTime, begun: Instant, protocol: &'static str) -> Self {
        Self {
            start_time,
            begun,
            request_end: None,
            sent: None,
            response_begin: None,
            end: None,
            protocol,
            status: 0,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            reason: None,
            told: None,
            details: Cow::Borrowed(""),
            transport_failure: Cow::Borrowed(""),
            downstream_failure: Cow::Borrowed(""),
            termination: Cow::Borrowed(""),
            request_body_bytes: 0,
            response_body_bytes: 0,
            request_head_bytes: 0,
            response_head_bytes: 0,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local: None,
            route_name: None,
            route_origin: None,
            virtual_host: None,
            client_address: None,
            attempts: 0,
            timeline: Attempts::default(),
            request_values: Captured::new(),
            response_values: Captured::new(),
            trailer_values: Captured::new(),
        }
    }

    /// It ended for that reason, which has a flag of its own.
    pub fn fail(&mut self, reason: Reason) {
        self.reason = Some(reason);
        self.flags.set(ResponseFlags::of(reason));
    }

    /// With whom the failing proxy spoke: what it said itself, else our host or our client, whoever is to blame.
    pub fn failing_peer(&self, connection: &ConnectionFacts) -> Option<Cow<'_, str>> {
        let reason = self.reason?;
        if let Some(told) = &self.told {
            return Some(Cow::Borrowed(&*told.peer)).filter(|peer| !peer.is_empty());
        }
        match (reason.blame(), &self.upstream_host) {
            (Blame::Downstream, _) if connection.peer_uri_sans.is_empty() => {
                Some(Cow::Owned(self.client_address.unwrap_or(connection.remote).to_string()))
            }
            (Blame::Downstream, _) => Some(Cow::Owned(connection.peer_uri_sans.to_string())),
            (_, host) => host.as_deref().map(Cow::Borrowed),
        }
    }
}
