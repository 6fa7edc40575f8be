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
    /// Hosts ejected now. Label `envoy_cluster_name`.
    OUTLIER_EJECTIONS_ACTIVE: "gauge" "envoy_cluster_outlier_detection_ejections_active", "Hosts ejected now.";
    /// Ejections. Label `envoy_cluster_name`.
    OUTLIER_EJECTIONS_ENFORCED: "counter" "envoy_cluster_outlier_detection_ejections_enforced_total", "Hosts ejected.";
    /// Ejections that the limit forbade. Label `envoy_cluster_name`.
    OUTLIER_EJECTIONS_OVERFLOW: "counter" "envoy_cluster_outlier_detection_ejections_overflow", "Ejections that the limit of the cluster forbade.";
    /// Outliers found by answers of 5xx in a row. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_CONSECUTIVE_5XX: "counter" "envoy_cluster_outlier_detection_ejections_detected_consecutive_5xx", "Outliers found by answers of 5xx in a row.";
    /// Hosts ejected for answers of 5xx in a row. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_CONSECUTIVE_5XX: "counter" "envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx", "Hosts ejected for answers of 5xx in a row.";
    /// Outliers found by gateway errors in a row. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_CONSECUTIVE_GATEWAY_FAILURE: "counter" "envoy_cluster_outlier_detection_ejections_detected_consecutive_gateway_failure", "Outliers found by gateway errors in a row.";
    /// Hosts ejected for gateway errors in a row. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure", "Hosts ejected for gateway errors in a row.";
    /// Outliers found by failed connections in a row. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE: "counter" "envoy_cluster_outlier_detection_ejections_detected_consecutive_local_origin_failure", "Outliers found by failed connections in a row.";
    /// Hosts ejected for failed connections in a row. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure", "Hosts ejected for failed connections in a row.";
    /// Outliers found by their rate of success. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_SUCCESS_RATE: "counter" "envoy_cluster_outlier_detection_ejections_detected_success_rate", "Outliers found by their rate of success.";
    /// Hosts ejected for their rate of success. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_SUCCESS_RATE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_success_rate", "Hosts ejected for their rate of success.";
    /// Outliers found by their rate of connections. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE: "counter" "envoy_cluster_outlier_detection_ejections_detected_local_origin_success_rate", "Outliers found by their rate of connections.";
    /// Hosts ejected for their rate of connections. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_local_origin_success_rate", "Hosts ejected for their rate of connections.";
    /// Outliers found by their rate of failure. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_FAILURE_PERCENTAGE: "counter" "envoy_cluster_outlier_detection_ejections_detected_failure_percentage", "Outliers found by their rate of failure.";
    /// Hosts ejected for their rate of failure. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_FAILURE_PERCENTAGE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_failure_percentage", "Hosts ejected for their rate of failure.";
    /// Outliers found by their rate of failed connections. Label `envoy_cluster_name`.
    OUTLIER_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE: "counter" "envoy_cluster_outlier_detection_ejections_detected_local_origin_failure_percentage", "Outliers found by their rate of failed connections.";
    /// Hosts ejected for their rate of failed connections. Label `envoy_cluster_name`.
    OUTLIER_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE: "counter" "envoy_cluster_outlier_detection_ejections_enforced_local_origin_failure_percentage", "Hosts ejected for their rate of failed connections.";
    /// Retries after which no further one was wanted. Label `envoy_cluster_name`.
    CLUSTER_RETRY_SUCCESSES: "counter" "envoy_cluster_upstream_rq_retry_success", "Requests that a retry saved.";
    /// Retries that the budget or the circuit breaker forbade. Label `envoy_cluster_name`.
    CLUSTER_RETRY_OVERFLOW: "counter" "envoy_cluster_upstream_rq_retry_overflow", "Retries that the budget or the circuit breaker forbade.";
    /// Requests that used up their retries. Label `envoy_cluster_name`.
    CLUSTER_RETRY_LIMIT_EXCEEDED: "counter" "envoy_cluster_upstream_rq_retry_limit_exceeded", "Requests that used up their retries.";
    /// Tries that took too long. Label `envoy_cluster_name`.
    CLUSTER_PER_TRY_TIMEOUTS: "counter" "envoy_cluster_upstream_rq_per_try_timeout", "Tries that took longer than the per-try timeout.";
    /// Tries that were silent for too long. Label `envoy_cluster_name`.
    CLUSTER_PER_TRY_IDLE_TIMEOUTS: "counter" "envoy_cluster_upstream_rq_per_try_idle_timeout", "Tries that were silent for longer than the per-try idle timeout.";
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
    /// Hosts of a cluster. Label `envoy_cluster_name`.
    CLUSTER_MEMBERSHIP_TOTAL: "gauge" "envoy_cluster_membership_total", "Hosts of the cluster.";
    /// Hosts of a cluster that are healthy. Label `envoy_cluster_name`.
    CLUSTER_MEMBERSHIP_HEALTHY: "gauge" "envoy_cluster_membership_healthy", "Hosts of the cluster that are healthy.";
    /// Hosts of a cluster that are degraded. Label `envoy_cluster_name`.
    CLUSTER_MEMBERSHIP_DEGRADED: "gauge" "envoy_cluster_membership_degraded", "Hosts of the cluster that are degraded.";
    /// Clusters in use.
    CLUSTERS_ACTIVE: "gauge" "envoy_cluster_manager_active_clusters", "Clusters in use.";
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
    /// Expressions of access log filters that had no value.
    ACCESS_LOG_FILTER_ERRORS: "counter" "tulle_access_log_filter_errors_total", "Requests for which the expression of an access log filter had no value: they were not logged.";
    /// Records of access logs that collectors took.
    OPENTELEMETRY_LOGS_SENT: "counter" "envoy_access_logs_open_telemetry_access_log_logs_written_total", "Records of access logs that collectors took.";
    /// Records of access logs that were not sent.
    OPENTELEMETRY_LOGS_DROPPED: "counter" "envoy_access_logs_open_telemetry_access_log_logs_dropped_total", "Records of access logs that found no place in the queue, or that no collector took.";
    /// Spans sent by OTLP. Envoy's `tracing.opentelemetry.spans_sent`.
    OPENTELEMETRY_SPANS_SENT: "counter" "envoy_tracing_opentelemetry_spans_sent", "Spans sent by OTLP.";
    /// Spans that were not sent by OTLP. Envoy's `tracing.opentelemetry.spans_dropped`.
    OPENTELEMETRY_SPANS_DROPPED: "counter" "envoy_tracing_opentelemetry_spans_dropped", "Spans dropped because the collector was slow, or did not take them.";
    /// Messages sent because their time had come. Envoy's `tracing.opentelemetry.timer_flushed`.
    OPENTELEMETRY_TIMER_FLUSHED: "counter" "envoy_tracing_opentelemetry_timer_flushed", "Messages sent before they were full.";
    /// Spans sent to Zipkin. Envoy's `tracing.zipkin.spans_sent`.
    ZIPKIN_SPANS_SENT: "counter" "envoy_tracing_zipkin_spans_sent", "Spans sent to Zipkin.";
    /// Spans that were not sent to Zipkin; Envoy counts messages only.
    ZIPKIN_SPANS_DROPPED: "counter" "envoy_tracing_zipkin_spans_dropped", "Spans dropped because the collector was slow, or did not take them.";
    /// Messages sent because their time had come. Envoy's `tracing.zipkin.timer_flushed`.
    ZIPKIN_TIMER_FLUSHED: "counter" "envoy_tracing_zipkin_timer_flushed", "Messages sent before they were full.";
    /// Messages that Zipkin took. Envoy's `tracing.zipkin.reports_sent`.
    ZIPKIN_REPORTS_SENT: "counter" "envoy_tracing_zipkin_reports_sent", "Messages that the collector took.";
    /// Messages that Zipkin refused. Envoy's `tracing.zipkin.reports_dropped`.
    ZIPKIN_REPORTS_DROPPED: "counter" "envoy_tracing_zipkin_reports_dropped", "Messages that the collector refused.";
    /// Messages without an answer. Envoy's `tracing.zipkin.reports_failed`.
    ZIPKIN_REPORTS_FAILED: "counter" "envoy_tracing_zipkin_reports_failed", "Messages that the collector did not answer.";
    /// Messages for a cluster that is not there. Envoy's `tracing.zipkin.reports_skipped_no_cluster`.
    ZIPKIN_REPORTS_WITHOUT_CLUSTER: "counter" "envoy_tracing_zipkin_reports_skipped_no_cluster", "Messages for a cluster that is not there.";
    /// Requests traced because the client asked. Label `envoy_http_conn_manager_prefix`.
    TRACING_CLIENT_ENABLED: "counter" "envoy_http_tracing_client_enabled", "Requests traced because the client asked.";
    /// Requests traced because a program asked. Label `envoy_http_conn_manager_prefix`.
    TRACING_SERVICE_FORCED: "counter" "envoy_http_tracing_service_forced", "Requests traced because a program of the mesh asked.";
    /// Requests traced by chance. Label `envoy_http_conn_manager_prefix`.
    TRACING_RANDOM_SAMPLING: "counter" "envoy_http_tracing_random_sampling", "Requests traced by chance.";
    /// Requests that are not traced. Label `envoy_http_conn_manager_prefix`.
    TRACING_NOT_TRACEABLE: "counter" "envoy_http_tracing_not_traceable", "Requests that are not traced.";
}
