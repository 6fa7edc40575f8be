//! Every way in which a request or a connection can end other than well: the only table of reasons.
//!
//! `docs/reasons.md` is made from it (`cargo xtask reasons`).

use std::fmt;

/// Who caused a failure (Pingora's split: it decides what is logged, counted and retried).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer that called us.
    Downstream,
    /// The peer that we called.
    Upstream,
    /// This proxy.
    Local,
    /// What somebody has configured.
    Configuration,
}

impl Blame {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Downstream => "downstream",
            Blame::Upstream => "upstream",
            Blame::Local => "mesh",
            Blame::Configuration => "configuration",
        }
    }
}

/// Whether the caller may send the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The program has not seen it: nothing can be done twice.
    Safe,
    /// The program may have acted on it: only where doing it twice is as good as once.
    IfIdempotent,
    /// The same would come of it again.
    Useless,
}

impl Retry {
    /// The words that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Retry::Safe => "safe",
            Retry::IfIdempotent => "if idempotent",
            Retry::Useless => "useless",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stable text form: logs, headers and `tulle why` use it.
    pub code: &'static str,
    /// Who usually caused it.
    pub blame: Blame,
    /// Envoy's short response flag for the access log; `-` where Envoy sets none.
    pub flag: &'static str,
    /// The usual HTTP status of the answer; `None`: a connection ends without one.
    pub http: Option<u16>,
    /// Whether the caller may send the same again.
    pub retry: Retry,
    /// What happened, as a part of a sentence.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// What happened and what to do about it, in one sentence.
    pub sentence: &'static str,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $code:literal, $blame:ident, $flag:literal, $http:expr, $retry:ident,
        $what:literal, $remedy:literal;)*) => {
        /// Why a proxy ended a request or a connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// Its row.
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Reason::$name => &Row {
                        code: $code,
                        blame: Blame::$blame,
                        flag: $flag,
                        http: $http,
                        retry: Retry::$retry,
                        what: $what,
                        remedy: $remedy,
                        sentence: concat!($what, "; ", $remedy),
                    },)*
                }
            }
        }
    };
}

// Name: code, blame, Envoy's flag, HTTP status, whether a retry is safe, what happened, remedy.
reasons! {
    // The request itself.
    /// The request could not be parsed, or broke a rule of its protocol.
    BadRequest: "bad-request", Downstream, "DPE", Some(400), Useless,
        "the client broke a rule of its protocol", "look at what it sends";
    /// The request's headers are larger than the limit.
    HeadersTooLarge: "headers-too-large", Downstream, "DPE", Some(431), Useless,
        "the request's headers are larger than the limit", "send fewer, or raise the limit";
    /// The request's head did not come in time.
    HeadTimeout: "request-head-timeout", Downstream, "-", Some(408), Safe,
        "the request's head did not come in time", "look at the client's network";
    /// The request is well formed, and nothing here can do it.
    Unsupported: "unsupported-request", Downstream, "DPE", Some(501), Useless,
        "the request asks for something that this proxy does not do", "look at its transfer-encoding and version";
    /// HTTP/1.0 or older where only HTTP/1.1 is spoken.
    OldHttp: "old-http", Downstream, "DPE", Some(426), Useless,
        "the client speaks HTTP/1.0 or older, and this listener does not", "let the client speak HTTP/1.1, or set accept_http_10";
    /// The path is not served as it was sent.
    PathNotCanonical: "path-not-canonical", Downstream, "-", Some(400), Useless,
        "the path has no canonical form that policies could be held to", "look at its escapes and slashes, or at pathNormalization";
    /// The protocol that the client offers is not allowed.
    UpgradeRefused: "upgrade-refused", Configuration, "-", Some(403), Useless,
        "the route allows no such upgrade", "look at the upgrade that the client offers";
    // Routes and answers that the configuration gives.
    /// No route matches the request.
    NoRoute: "no-route", Configuration, "NR", Some(404), Useless,
        "no route takes this host and path", "look at the VirtualService's hosts and matches";
    /// The route names a cluster that is not there.
    NoCluster: "no-cluster", Configuration, "NC", Some(503), Safe,
        "the route leads to a destination that is not there", "look at its host, port and subset";
    /// The route's configuration is the answer.
    DirectResponse: "direct-response", Configuration, "-", Some(200), Useless,
        "the route answers by itself", "look at the VirtualService's directResponse, or at outboundTrafficPolicy";
    /// The route's configuration redirects.
    Redirect: "redirect", Configuration, "-", Some(301), Useless,
        "the route redirects", "let the client follow the location";
    // Finding an endpoint.
    /// The destination's name has no address.
    NameNotResolved: "name-not-resolved", Configuration, "UH", Some(503), Safe,
        "DNS knows no address of the destination", "look at the ServiceEntry's hosts and endpoints, and at the resolver";
    /// The cluster has no endpoint at all.
    NoEndpoint: "no-endpoint", Configuration, "UH", Some(503), Safe,
        "the destination has no endpoint", "look at its selector, its subset's labels and whether its pods run";
    /// The cluster has endpoints, and none that can be used.
    NoHealthyUpstream: "no-healthy-upstream", Upstream, "UH", Some(503), Safe,
        "the destination has endpoints, and none of them is healthy", "look at its pods and their readiness";
    /// Every endpoint of the cluster is ejected.
    Ejected: "ejected", Upstream, "UH", Some(503), Safe,
        "outlier detection has ejected every endpoint of the destination", "look at the failures before, at the DestinationRule's outlierDetection and its maxEjectionPercent";
    /// A limit of the cluster's circuit breaker is reached.
    Overflow: "upstream-overflow", Configuration, "UO", Some(503), Safe,
        "a limit of the DestinationRule's connectionPool is reached", "look at the load, or raise the limit";
    // Connecting.
    /// The endpoint refused the connection.
    ConnectRefused: "connection-refused", Upstream, "UF", Some(503), Safe,
        "nothing listens at the endpoint's port", "look whether the program runs, and on which port and address";
    /// The connection was not made within the connect timeout.
    ConnectTimeout: "connect-timeout", Upstream, "UF", Some(503), Safe,
        "the endpoint did not take the connection in time", "look at its machine, network policies and the connectTimeout";
    /// The connection to the upstream could not be made.
    ConnectFailed: "connect-failed", Upstream, "UF", Some(503), Safe,
        "the connection to the endpoint could not be made", "look at the network between both";
    /// The TLS handshake with the upstream failed.
    UpstreamTls: "upstream-tls", Upstream, "UF", Some(503), Safe,
        "the TLS handshake with the endpoint failed", "look at both certificates and modes";
    /// The upstream's certificate carries another name than the one expected.
    UpstreamTlsName: "upstream-tls-name", Upstream, "UF", Some(503), Safe,
        "the endpoint proved another identity than the one expected", "look at its service account, and at the DestinationRule's subjectAltNames";
    /// The upstream's certificate is out of date.
    UpstreamCertificateExpired: "upstream-certificate-expired", Upstream, "UF", Some(503), Safe,
        "the endpoint's certificate is out of date by this machine's clock", "look at both clocks, and at the renewal of its certificate";
    // Waiting for the answer.
    /// The upstream closed or reset the connection before it answered.
    UpstreamReset: "upstream-reset", Upstream, "UC", Some(503), IfIdempotent,
        "the endpoint closed the connection before it answered", "look at the program's log";
    /// The upstream broke off in the middle of its answer.
    UpstreamResetBody: "upstream-reset-in-body", Upstream, "UC", Some(503), IfIdempotent,
        "the endpoint broke its answer off in the middle", "look at the program's log";
    /// The upstream closed its connection before its answer had the length that its head gives.
    UpstreamCutBody: "upstream-cut-in-body", Upstream, "UPE", Some(502), IfIdempotent,
        "the endpoint closed the connection before the end of its answer", "look at the program's log: it died, or gave a wrong content-length";
    /// The upstream reset the request's stream.
    UpstreamResetStream: "upstream-reset-stream", Upstream, "UR", Some(503), IfIdempotent,
        "the endpoint reset the request", "look at the program's log";
    /// The upstream refused the request's stream and did nothing (HTTP/2).
    UpstreamRefusedStream: "upstream-refused-stream", Upstream, "UR", Some(503), Safe,
        "the endpoint refused the request and did nothing", "look at its limits, or at a shutdown";
    /// The upstream's answer broke HTTP.
    UpstreamProtocol: "upstream-protocol", Upstream, "UPE", Some(502), IfIdempotent,
        "the endpoint's answer broke HTTP", "look at the program";
    // Times.
    /// The upstream took longer than the route's timeout.
    Timeout: "timeout", Upstream, "UT", Some(504), IfIdempotent,
        "no answer came within the route's timeout", "look at the program, or raise the timeout";
    /// One try took longer than it may.
    PerTryTimeout: "per-try-timeout", Upstream, "UT", Some(504), IfIdempotent,
        "no answer came within the time of one try", "look at the program, or raise the perTryTimeout";
    /// The request did not come whole within the connection manager's request timeout.
    RequestTimeout: "request-timeout", Downstream, "-", Some(408), IfIdempotent,
        "the request did not come whole in its time", "look at the client";
    /// Nothing moved for the stream's idle timeout.
    StreamIdle: "stream-idle-timeout", Upstream, "SI", Some(504), IfIdempotent,
        "nothing moved for the stream's idle timeout", "look at the side that was silent";
    /// The client sent nothing for the stream's idle timeout.
    SlowClient: "slow-client", Downstream, "SI", Some(408), IfIdempotent,
        "the client sent or took nothing for the stream's idle timeout", "look at the client";
    /// The longest duration of a stream or connection passed.
    MaxDuration: "max-duration", Configuration, "DT", Some(504), IfIdempotent,
        "the longest duration of a stream or connection passed", "raise the limit, or make the work shorter";
    // Policies.
    /// A policy denied the request.
    PolicyDenied: "policy-denied", Downstream, "-", Some(403), Useless,
        "an AuthorizationPolicy does not let this caller do this", "look at its rules and at the caller's identity";
    /// A policy denied the connection.
    ConnectionDenied: "connection-denied", Downstream, "-", None, Useless,
        "an AuthorizationPolicy does not let this caller connect", "look at its rules and at the caller's identity";
    // The client.
    /// The client went away.
    DownstreamReset: "downstream-reset", Downstream, "DC", None, IfIdempotent,
        "the client went away before the answer was whole", "look at its timeout";
    /// The client reset the request's stream.
    DownstreamResetStream: "downstream-reset-stream", Downstream, "DR", None, IfIdempotent,
        "the client reset the request before the answer was whole", "look at its timeout";
    // Connections.
    /// No filter chain takes the connection.
    NoFilterChain: "no-filter-chain", Configuration, "NR", None, Useless,
        "nothing at this address takes such a connection", "look at the port's protocol, and at the SNI";
    /// Plaintext where TLS is required.
    PlaintextRefused: "plaintext-refused", Downstream, "-", None, Useless,
        "plaintext came where mutual TLS is required", "give the caller a sidecar, or make the PeerAuthentication PERMISSIVE";
    /// The TLS handshake with the client failed.
    DownstreamTls: "downstream-tls", Downstream, "-", None, Useless,
        "the TLS handshake with the caller failed", "look at both certificates and modes";
    /// The client's certificate is out of date.
    DownstreamCertificateExpired: "downstream-certificate-expired", Downstream, "-", None, Useless,
        "the caller's certificate is out of date by this machine's clock", "look at both clocks, and at the renewal of its certificate";
    /// The client refused the certificate that this proxy shows, because it is out of date.
    OwnCertificateExpired: "own-certificate-expired", Local, "-", None, Useless,
        "the caller refused this side's certificate, which is out of date", "look at the renewal: `tulle status`, and the log of this proxy";
    /// The connection ended before its protocol was known.
    Undetected: "undetected", Downstream, "-", None, Safe,
        "the client closed, or was silent, before it said which protocol it speaks", "look at the client";
    /// The process has too many connections.
    ConnectionLimit: "connection-limit", Local, "UO", None, Safe,
        "the proxy has as many connections as it may", "raise `ulimit -n`";
    /// The client flooded the connection.
    Flood: "flood", Downstream, "-", None, Useless,
        "the client sent too many frames that cost work and carry nothing", "look at the client";
    /// Nothing moved on the connection for its idle timeout.
    IdleTimeout: "idle-timeout", Configuration, "-", None, Safe,
        "nothing moved on the connection for its idle timeout", "send keep-alives, or raise the idle timeout";
    // This proxy.
    /// The proxy is shutting down.
    Draining: "draining", Local, "-", Some(503), Safe,
        "the proxy was shutting down", "try again";
    /// An edit took away what served the connection.
    ConfigurationChanged: "configuration-changed", Configuration, "-", None, Safe,
        "an edit took away what served this connection", "connect again";
}

impl Reason {
    /// The stable text form.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The reason with that code.
    pub fn of_code(code: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Envoy's short response flag for the access log; `-` where Envoy sets none.
    pub const fn flag(self) -> &'static str {
        self.row().flag
    }

    /// The reason that is meant most often by one of Envoy's short response flags.
    pub fn of_flag(flag: &str) -> Option<Reason> {
        match flag {
            "-" => None,
            "UH" => Some(Reason::NoHealthyUpstream),
            "UF" => Some(Reason::ConnectFailed),
            flag => Reason::ALL.iter().copied().find(|reason| reason.flag() == flag),
        }
    }

    /// The usual HTTP status of the answer; `None`: a connection ends without one.
    pub const fn http_status(self) -> Option<u16> {
        self.row().http
    }

    /// The usual gRPC status: gRPC's own table of what stands for an HTTP status, and its own code for a deadline.
    pub const fn grpc_status(self) -> Option<u8> {
        match (self, self.row().http) {
            (_, None) => None,
            (Reason::MaxDuration, _) => Some(4),
            (_, Some(status)) => Some(grpc_of_http(status)),
        }
    }

    /// What happened and what to do about it, in one sentence.
    pub const fn sentence(self) -> &'static str {
        self.row().sentence
    }

    /// Who usually caused it.
    pub const fn blame(self) -> Blame {
        self.row().blame
    }

    /// Whether the caller may send the same again.
    pub const fn retry(self) -> Retry {
        self.row().retry
    }
}

/// The gRPC status that stands for an HTTP status (gRPC's own table, as Envoy applies it).
pub const fn grpc_of_http(status: u16) -> u8 {
    match status {
        200..=299 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The page `docs/reasons.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\nEvery request or connection that ends other than well has exactly one of these reasons. It stands \
         in the access logs of both sides\n(`%TULLE_REASON%`), in the header between proxies of the mesh \
         (`x-tulle-failure`, stripped at the mesh's edge) and in `tulle why`.\n\n\
         This page is made from `crates/base/src/reason.rs` by `cargo xtask reasons`.\n\n\
         | reason | blame | flag | HTTP | gRPC | retry | what happened; remedy |\n|---|---|---|---|---|---|---|\n",
    );
    let number = |it: Option<u16>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    for reason in Reason::ALL {
        let row = reason.row();
        let (http, grpc) = (number(row.http), number(reason.grpc_status().map(u16::from)));
        let (blame, retry) = (row.blame.as_str(), row.retry.as_str());
        let Row { code, flag, sentence, .. } = row;
        page.push_str(&format!("| `{code}` | {blame} | {flag} | {http} | {grpc} | {retry} | {sentence} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_and_each_stands_for_one_reason() {
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code}");
            assert_eq!(Reason::of_code(code), Some(*reason), "{code} stands for two");
            assert!(!reason.sentence().contains('|') && !reason.sentence().ends_with('.'), "{code}");
        }
        assert_eq!(Reason::of_code("nonsense"), None);
    }

    #[test]
    fn a_flag_leads_to_the_reason_that_is_meant_most_often() {
        for (flag, reason) in [
            ("UH", Some(Reason::NoHealthyUpstream)),
            ("UF", Some(Reason::ConnectFailed)),
            ("UC", Some(Reason::UpstreamReset)),
            ("NR", Some(Reason::NoRoute)),
            ("-", None),
            ("ZZ", None),
        ] {
            assert_eq!(Reason::of_flag(flag), reason, "{flag}");
        }
    }

    #[test]
    fn a_grpc_client_gets_the_status_of_grpcs_own_table() {
        assert_eq!(Reason::PolicyDenied.grpc_status(), Some(7));
        assert_eq!(Reason::NoRoute.grpc_status(), Some(12));
        assert_eq!(Reason::Timeout.grpc_status(), Some(14));
        assert_eq!(Reason::MaxDuration.grpc_status(), Some(4));
        assert_eq!(Reason::NoFilterChain.grpc_status(), None);
    }

    #[test]
    fn the_page_has_a_row_for_each() {
        let page = page();
        for reason in Reason::ALL {
            assert_eq!(page.matches(&format!("| `{reason}` |")).count(), 1, "{reason}");
        }
    }
}
