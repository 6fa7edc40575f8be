//! Envoy's names for the counters that existing tools read.

use super::registry::Family;

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident: $kind:literal $text:literal, $help:literal;)*) => {
        $($(#[$doc])* pub const $name: Family = Family { name: $text, help: $help, kind: $kind };)*
    };
}

families! {
    /// Requests sent to a cluster. Label `envoy_cluster_name`.
    CLUSTER_REQUESTS: "counter" "envoy_cluster_upstream_rq_total", "Requests sent to the cluster.";
    /// Requests to a cluster that timed out. Label `envoy_cluster_name`.
    CLUSTER_REQUEST_TIMEOUTS: "counter" "envoy_cluster_upstream_rq_timeout", "Requests that the route's timeout ended.";
    /// Requests to a cluster that were tried again. Label `envoy_cluster_name`.
    CLUSTER_REQUEST_RETRIES: "counter" "envoy_cluster_upstream_rq_retry", "Requests that were tried again.";
    /// Connections opened to a cluster. Label `envoy_cluster_name`.
    CLUSTER_CONNECTIONS: "counter" "envoy_cluster_upstream_cx_total", "Connections opened to the cluster.";
    /// Connections open to a cluster. Label `envoy_cluster_name`.
    CLUSTER_CONNECTIONS_ACTIVE: "gauge" "envoy_cluster_upstream_cx_active", "Connections open to the cluster.";
    /// Connections to a cluster that could not be made. Label `envoy_cluster_name`.
    CLUSTER_CONNECT_FAILURES: "counter" "envoy_cluster_upstream_cx_connect_fail", "Connections that could not be made.";
    /// Requests beyond `max_pending_requests`. Label `envoy_cluster_name`.
    CLUSTER_PENDING_OVERFLOW: "counter" "envoy_cluster_upstream_rq_pending_overflow", "Requests that found no place in line for a connection.";
    /// Requests beyond `max_requests`. Label `envoy_cluster_name`.
    CLUSTER_ACTIVE_OVERFLOW: "counter" "envoy_cluster_upstream_rq_active_overflow", "Requests beyond those that may run.";
    /// Requests that had to wait for a connection. Label `envoy_cluster_name`.
    CLUSTER_PENDING_TOTAL: "counter" "envoy_cluster_upstream_rq_pending_total", "Requests that had to wait for a connection.";
    /// Requests that wait for a connection now. Label `envoy_cluster_name`.
    CLUSTER_PENDING_ACTIVE: "gauge" "envoy_cluster_upstream_rq_pending_active", "Requests that wait for a connection.";
    /// Connections that the circuit breaker held back. Label `envoy_cluster_name`.
    CLUSTER_CONNECTION_OVERFLOW: "counter" "envoy_cluster_upstream_cx_overflow", "Connections that the circuit breaker held back.";
    /// Connections opened that speak HTTP/1. Label `envoy_cluster_name`.
    CLUSTER_HTTP1_CONNECTIONS: "counter" "envoy_cluster_upstream_cx_http1_total", "HTTP/1 connections opened.";
    /// Connections opened that speak HTTP/2. Label `envoy_cluster_name`.
    CLUSTER_HTTP2_CONNECTIONS: "counter" "envoy_cluster_upstream_cx_http2_total", "HTTP/2 connections opened.";
    /// Connections that were not made in time. Label `envoy_cluster_name`.
    CLUSTER_CONNECT_TIMEOUTS: "counter" "envoy_cluster_upstream_cx_connect_timeout", "Connections that were not made in time.";
    /// Connections closed because nobody used them. Label `envoy_cluster_name`.
    CLUSTER_IDLE_TIMEOUTS: "counter" "envoy_cluster_upstream_cx_idle_timeout", "Connections closed because they were idle.";
    /// Connections closed at their longest duration. Label `envoy_cluster_name`.
    CLUSTER_MAX_DURATION: "counter" "envoy_cluster_upstream_cx_max_duration_reached", "Connections closed at max_connection_duration.";
    /// Connections closed after their last request. Label `envoy_cluster_name`.
    CLUSTER_MAX_REQUESTS: "counter" "envoy_cluster_upstream_cx_max_requests", "Connections closed at max_requests_per_connection.";
    /// Connections accepted by a listener. Label `envoy_listener_address`.
    LISTENER_CONNECTIONS: "counter" "envoy_listener_downstream_cx_total", "Connections accepted.";
    /// Connections open on a listener. Label `envoy_listener_address`.
    LISTENER_CONNECTIONS_ACTIVE: "gauge" "envoy_listener_downstream_cx_active", "Accepted connections open now.";
    /// Requests by class of status. Labels `envoy_http_conn_manager_prefix`, `envoy_response_code_class`.
    HTTP_REQUESTS_BY_CLASS: "counter" "envoy_http_downstream_rq_xx", "Requests by the class of their status.";
    /// Requests received. Label `envoy_http_conn_manager_prefix`.
    HTTP_REQUESTS: "counter" "envoy_http_downstream_rq_total", "Requests received.";
    /// Requests that a policy denied. Label `envoy_http_conn_manager_prefix`.
    RBAC_DENIED: "counter" "envoy_http_rbac_denied", "Requests denied by the RBAC filter.";
    /// Requests that a policy allowed. Label `envoy_http_conn_manager_prefix`.
    RBAC_ALLOWED: "counter" "envoy_http_rbac_allowed", "Requests allowed by the RBAC filter.";
    /// Connections that began. Labels as `istio_requests_total`, without those of answers.
    TCP_OPENED: "counter" "istio_tcp_connections_opened_total", "TCP connections that began.";
    /// Connections that ended. Labels as above.
    TCP_CLOSED: "counter" "istio_tcp_connections_closed_total", "TCP connections that ended.";
    /// Bytes of the called side. Labels as above.
    TCP_SENT_BYTES: "counter" "istio_tcp_sent_bytes_total", "Bytes that came from the called side.";
    /// Bytes of the caller. Labels as above.
    TCP_RECEIVED_BYTES: "counter" "istio_tcp_received_bytes_total", "Bytes that came from the caller.";
    /// Access log lines that were not written. Label `path`.
    ACCESS_LOG_DROPPED: "counter" "tulle_access_log_dropped_total", "Access log lines dropped because the sink was too slow.";
}
