//! The connection manager against scripted upstreams.

use std::sync::Arc;
use std::time::Duration;

use config::model::{
    ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, HeadersWithUnderscores, Http1Options,
    HttpConnectionManager, RouteConfiguration, RouteSource, ServerHeader, StripPort,
};

/// A connection manager with Envoy's defaults and no filters.
pub fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "test".into(),
        codec: Codec::Auto,
        route: RouteSource::Inline(Arc::new(RouteConfiguration {
            name: "none".into(),
            virtual_hosts: vec![],
            domains: Default::default(),
            request_headers: Default::default(),
            response_headers: Default::default(),
            most_specific_header_mutations_wins: false,
            ignore_port_in_host_matching: false,
            ignore_path_parameters: false,
            internal_only_headers: vec![],
        })),
        http_filters: vec![],
        access_log: vec![],
        request_headers_timeout: None,
        request_timeout: None,
        stream_idle_timeout: None,
        idle_timeout: None,
        max_connection_duration: None,
        max_stream_duration: None,
        drain_timeout: Duration::from_secs(5),
        delayed_close_timeout: None,
        max_request_headers_bytes: 60 * 1024,
        max_headers_count: 100,
        max_requests_per_connection: None,
        headers_with_underscores: HeadersWithUnderscores::Allow,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        strip_port: StripPort::Keep,
        strip_trailing_host_dot: false,
        forward_client_cert: ForwardClientCert::Sanitize,
        client_cert_details: ClientCertDetails::default(),
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        via: "".into(),
        server_name: "envoy".into(),
        server_header: ServerHeader::Overwrite,
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        proxy_100_continue: false,
        upgrades: vec![],
        http1: Http1Options::default(),
    }
}
