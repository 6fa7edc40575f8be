//! Stable reasons for a failed request, and whom to blame for it.

use std::fmt;

/// Who caused a failure (Pingora's split: it decides what is logged, counted and retried).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer that called us.
    Downstream,
    /// The peer that we called.
    Upstream,
    /// This proxy, or its configuration.
    Local,
}

impl Blame {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Downstream => "downstream",
            Blame::Upstream => "upstream",
            Blame::Local => "mesh",
        }
    }
}

/// Why a proxy answered a request itself. The text form is stable: logs, headers and `tulle why` use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request could not be parsed, or broke a rule of its protocol.
    BadRequest,
    /// The request's headers are larger than the limit.
    HeadersTooLarge,
    /// No route matches the request.
    NoRoute,
    /// The route names a cluster that is not there.
    NoCluster,
    /// The cluster has no endpoint that can be used.
    NoHealthyUpstream,
    /// The connection to the upstream could not be made.
    ConnectFailed,
    /// The TLS handshake with the upstream failed.
    UpstreamTls,
    /// The upstream closed or reset the connection before it answered.
    UpstreamReset,
    /// The upstream reset the request's stream.
    UpstreamResetStream,
    /// The upstream refused the request's stream and did nothing (HTTP/2).
    UpstreamRefusedStream,
    /// A limit of the cluster's circuit breaker is reached.
    Overflow,
    /// The upstream's answer broke HTTP.
    UpstreamProtocol,
    /// The upstream took longer than the route's timeout.
    Timeout,
    /// A policy denied the request.
    PolicyDenied,
    /// The client went away.
    DownstreamReset,
    /// The proxy is shutting down.
    Draining,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 16] = [
        Reason::BadRequest,
        Reason::HeadersTooLarge,
        Reason::NoRoute,
        Reason::NoCluster,
        Reason::NoHealthyUpstream,
        Reason::ConnectFailed,
        Reason::UpstreamTls,
        Reason::UpstreamReset,
        Reason::UpstreamResetStream,
        Reason::UpstreamRefusedStream,
        Reason::Overflow,
        Reason::UpstreamProtocol,
        Reason::Timeout,
        Reason::PolicyDenied,
        Reason::DownstreamReset,
        Reason::Draining,
    ];

    /// The stable text form.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::BadRequest => "bad-request",
            Reason::HeadersTooLarge => "headers-too-large",
            Reason::NoRoute => "no-route",
            Reason::NoCluster => "no-cluster",
            Reason::NoHealthyUpstream => "no-healthy-upstream",
            Reason::ConnectFailed => "connect-failed",
            Reason::UpstreamTls => "upstream-tls",
            Reason::UpstreamReset => "upstream-reset",
            Reason::UpstreamResetStream => "upstream-reset-stream",
            Reason::UpstreamRefusedStream => "upstream-refused-stream",
            Reason::Overflow => "upstream-overflow",
            Reason::UpstreamProtocol => "upstream-protocol",
            Reason::Timeout => "timeout",
            Reason::PolicyDenied => "policy-denied",
            Reason::DownstreamReset => "downstream-reset",
            Reason::Draining => "draining",
        }
    }

    /// Envoy's short response flag for the access log; `-` where Envoy sets none.
    pub const fn flag(self) -> &'static str {
        match self {
            Reason::BadRequest => "DPE",
            Reason::NoRoute => "NR",
            Reason::NoCluster => "NC",
            Reason::NoHealthyUpstream => "UH",
            Reason::ConnectFailed | Reason::UpstreamTls => "UF",
            Reason::UpstreamReset => "UC",
            Reason::UpstreamResetStream | Reason::UpstreamRefusedStream => "UR",
            Reason::Overflow => "UO",
            Reason::UpstreamProtocol => "UPE",
            Reason::Timeout => "UT",
            Reason::DownstreamReset => "DC",
            Reason::HeadersTooLarge | Reason::PolicyDenied | Reason::Draining => "-",
        }
    }

    /// The reason behind one of Envoy's short response flags.
    pub fn of_flag(flag: &str) -> Option<Reason> {
        let found = Reason::ALL.iter().copied().find(|reason| reason.flag() == flag);
        found.filter(|_| flag != "-")
    }

    /// What happened and what to do about it, in one sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Reason::BadRequest => "the client broke a rule of its protocol; look at what it sends",
            Reason::HeadersTooLarge => {
                "the request's headers are larger than the limit; send fewer, or raise the limit"
            }
            Reason::NoRoute => {
                "no route takes this host and path; look at the VirtualService's hosts and matches"
            }
            Reason::NoCluster => {
                "the route leads to a destination that is not there; look at its host, port and subset"
            }
            Reason::NoHealthyUpstream => {
                "the destination has no usable endpoint; look at its selector, its pods and their health"
            }
            Reason::ConnectFailed => {
                "the connection to the endpoint could not be made; look whether the program listens there"
            }
            Reason::UpstreamTls => {
                "the TLS handshake with the endpoint failed; look at both certificates and modes"
            }
            Reason::UpstreamReset => {
                "the endpoint closed the connection before it answered; look at the program's log"
            }
            Reason::UpstreamResetStream => "the endpoint reset the request; look at the program's log",
            Reason::UpstreamRefusedStream => {
                "the endpoint refused the request and did nothing; look at its limits, or at a shutdown"
            }
            Reason::Overflow => {
                "a limit of the DestinationRule's connectionPool is reached; look at the load, or raise the limit"
            }
            Reason::UpstreamProtocol => "the endpoint's answer broke HTTP; look at the program",
            Reason::Timeout => {
                "no answer came within the route's timeout; look at the program, or raise the timeout"
            }
            Reason::PolicyDenied => "an AuthorizationPolicy does not let this caller do this",
            Reason::DownstreamReset => {
                "the client went away before the answer was whole; look at its timeout"
            }
            Reason::Draining => "the proxy was shutting down; try again",
        }
    }

    /// Who caused it.
    pub const fn blame(self) -> Blame {
        match self {
            Reason::BadRequest | Reason::HeadersTooLarge | Reason::DownstreamReset | Reason::PolicyDenied => {
                Blame::Downstream
            }
            Reason::NoRoute | Reason::NoCluster | Reason::Overflow | Reason::Draining => Blame::Local,
            Reason::NoHealthyUpstream
            | Reason::ConnectFailed
            | Reason::UpstreamTls
            | Reason::UpstreamReset
            | Reason::UpstreamResetStream
            | Reason::UpstreamRefusedStream
            | Reason::UpstreamProtocol
            | Reason::Timeout => Blame::Upstream,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
