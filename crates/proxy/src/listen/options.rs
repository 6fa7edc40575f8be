//! From a connection manager's settings to the codec's.

use std::time::Duration;

use bytes::Bytes;
use config::model::{HeadersWithUnderscores, HttpConnectionManager};

use crate::http::Scheme;
use crate::http::h1::Limits;
use crate::http::h1::server::{RequestRules, ServerOptions, Underscores};

/// The HTTP/1 codec's options. The codec writes "off" as zero.
pub fn server_options(manager: &HttpConnectionManager, tls: bool) -> ServerOptions {
    let limit = |limit: Option<Duration>| limit.unwrap_or(Duration::ZERO);
    let defaults = ServerOptions::default();
    let host = &manager.http1.default_host_for_http_10;
    ServerOptions {
        limits: Limits {
            max_headers_bytes: manager.max_request_headers_bytes,
            max_headers_count: manager.max_headers_count,
        },
        rules: RequestRules {
            scheme: if tls { Scheme::Https } else { Scheme::Http },
            default_host_for_http_10: (!host.is_empty()).then(|| Bytes::copy_from_slice(host.as_bytes())),
            accept_http_10: manager.http1.accept_http_10,
            underscores: match manager.headers_with_underscores {
                HeadersWithUnderscores::Allow => Underscores::Allow,
                HeadersWithUnderscores::RejectRequest => Underscores::Reject,
                HeadersWithUnderscores::DropHeader => Underscores::Drop,
            },
            ..defaults.rules
        },
        // Envoy has no limit by default; a head that never ends would hold a connection for ever.
        header_timeout: manager.request_headers_timeout.unwrap_or(defaults.header_timeout),
        idle_timeout: limit(manager.idle_timeout),
        // Off means that a stream may be silent for ever, not that a client may owe bytes for ever.
        stall_timeout: manager.stream_idle_timeout.unwrap_or(defaults.stall_timeout),
        max_requests: manager.max_requests_per_connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::manager;

    #[test]
    fn a_client_that_owes_bytes_is_let_go_also_where_streams_may_be_silent() {
        let mut config = manager();
        config.stream_idle_timeout = None;
        assert_eq!(server_options(&config, false).stall_timeout, ServerOptions::default().stall_timeout);
        config.stream_idle_timeout = Some(Duration::from_secs(7));
        assert_eq!(server_options(&config, false).stall_timeout, Duration::from_secs(7));
    }

    #[test]
    fn the_rules_are_the_configurations() {
        let mut config = manager();
        assert!(!server_options(&config, false).rules.accept_http_10, "Envoy's default");
        config.http1.accept_http_10 = true;
        config.headers_with_underscores = HeadersWithUnderscores::DropHeader;
        config.max_requests_per_connection = Some(2);
        let options = server_options(&config, true);
        assert_eq!((options.rules.accept_http_10, options.rules.underscores), (true, Underscores::Drop));
        assert_eq!((options.max_requests, options.rules.scheme), (Some(2), Scheme::Https));
    }
}
