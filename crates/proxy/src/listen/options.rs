//! From a connection manager's settings to the codec's.

use std::time::Duration;

use bytes::Bytes;
use config::model::{Codec, HeadersWithUnderscores, HttpConnectionManager};

use crate::http::Scheme;
use crate::http::h1::Limits;
use crate::http::h1::server::{RequestRules, ServerOptions, Underscores};
use crate::http::h2_server::{self, FloodLimits};

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
            upgrades: true,
            // Where HTTP/2 is taken by its preface, without TLS.
            h2c: !tls && manager.codec == Codec::Auto,
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
        max_duration: manager.max_connection_duration,
    }
}

/// The HTTP/2 codec's options; where the configuration says nothing, the codec's defaults stand.
pub fn http2_options(manager: &HttpConnectionManager) -> h2_server::ServerOptions {
    let shared = server_options(manager, false);
    let defaults = h2_server::ServerOptions::default();
    let (http2, flood) = (&manager.http2, defaults.flood);
    h2_server::ServerOptions {
        limits: shared.limits,
        underscores: shared.rules.underscores,
        header_timeout: shared.header_timeout,
        idle_timeout: shared.idle_timeout,
        stall_timeout: shared.stall_timeout,
        max_requests: shared.max_requests,
        max_duration: manager.max_connection_duration,
        max_concurrent_streams: http2.max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams),
        stream_window: http2.initial_stream_window_size.unwrap_or(defaults.stream_window),
        connection_window: http2.initial_connection_window_size.unwrap_or(defaults.connection_window),
        header_table_size: http2.hpack_table_size.unwrap_or(defaults.header_table_size),
        allow_connect: http2.allow_connect,
        flood: FloodLimits {
            reset_burst: http2.stream_reset_burst.unwrap_or(flood.reset_burst),
            reset_rate: http2.stream_reset_rate.unwrap_or(flood.reset_rate),
            empty_frames: http2.max_empty_frames.unwrap_or(flood.empty_frames),
            priority_frames: http2.max_priority_frames.map_or(flood.priority_frames, u64::from),
            window_updates: http2.max_window_updates.map_or(flood.window_updates, u64::from),
        },
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
    fn http2_has_the_configurations_limits_and_the_codecs_defaults() {
        let mut config = manager();
        config.http2.max_concurrent_streams = Some(7);
        config.http2.stream_reset_burst = Some(9);
        config.max_connection_duration = Some(Duration::from_secs(3));
        let (options, defaults) = (http2_options(&config), h2_server::ServerOptions::default());
        assert_eq!((options.max_concurrent_streams, options.flood.reset_burst), (7, 9));
        assert_eq!(options.max_duration, Some(Duration::from_secs(3)));
        assert_eq!(options.stream_window, defaults.stream_window);
        assert_eq!(options.flood.priority_frames, defaults.flood.priority_frames);
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
