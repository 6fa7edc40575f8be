//! Validation of connection pools and outlier detection (DestinationRule and MeshConfig).

use super::shared;
use crate::kinds::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, OutlierDetection, TcpSettings,
};
use crate::path;
use crate::report::Report;

/// Limits of connections and requests.
pub fn connection_pool(pool: &ConnectionPoolSettings, field: &str, report: &mut Report<'_>) {
    if pool.tcp.is_none() && pool.http.is_none() {
        report.error(field, "the block is empty: give tcp or http, or remove it");
    }
    if let Some(settings) = &pool.tcp {
        tcp(settings, &path::key(field, "tcp"), report);
    }
    if let Some(settings) = &pool.http {
        http(settings, &path::key(field, "http"), report);
    }
}

fn tcp(settings: &TcpSettings, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    shared::not_negative(report, &at("maxConnections"), settings.max_connections);
    shared::duration(report, &at("connectTimeout"), settings.connect_timeout);
    shared::duration(report, &at("maxConnectionDuration"), settings.max_connection_duration);
    shared::duration_or_off(report, &at("idleTimeout"), settings.idle_timeout);
    if let Some(keepalive) = &settings.tcp_keepalive {
        let field = at("tcpKeepalive");
        shared::duration(report, &path::key(&field, "time"), keepalive.time);
        shared::duration(report, &path::key(&field, "interval"), keepalive.interval);
    }
}

fn http(settings: &HttpSettings, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    for (name, value) in [
        ("http1MaxPendingRequests", settings.http1_max_pending_requests),
        ("http2MaxRequests", settings.http2_max_requests),
        ("maxRequestsPerConnection", settings.max_requests_per_connection),
        ("maxRetries", settings.max_retries),
        ("maxConcurrentStreams", settings.max_concurrent_streams),
    ] {
        shared::not_negative(report, &at(name), value);
    }
    shared::duration(report, &at("idleTimeout"), settings.idle_timeout);
    if settings.h2_upgrade_policy == H2UpgradePolicy::Upgrade && settings.use_client_protocol {
        report.error(
            &at("useClientProtocol"),
            "the client's protocol cannot be kept when h2UpgradePolicy is UPGRADE",
        );
    }
    if let Some(ping) = &settings.http2_keep_alive {
        let field = at("http2KeepAlive");
        for (name, value) in [("interval", ping.interval), ("timeout", ping.timeout)] {
            match value {
                None => report.error(&path::key(&field, name), format!("{name} is missing: both are needed")),
                some => shared::duration(report, &path::key(&field, name), some),
            }
        }
    }
}

/// Ejection of failing endpoints.
pub fn outlier_detection(outlier: &OutlierDetection, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    shared::duration(report, &at("interval"), outlier.interval);
    shared::duration(report, &at("baseEjectionTime"), outlier.base_ejection_time);
    shared::percent(report, &at("maxEjectionPercent"), f64::from(outlier.max_ejection_percent));
    shared::percent(report, &at("minHealthPercent"), f64::from(outlier.min_health_percent));
    if outlier.consecutive_errors != 0 {
        report.warning(&at("consecutiveErrors"), "the field is out of use: write consecutive5xxErrors");
    }
    if outlier.consecutive_local_origin_failures.is_some_and(|count| count > 0)
        && !outlier.split_external_local_origin_errors
    {
        let message = "local failures are counted apart only with splitExternalLocalOriginErrors: true";
        report.error(&at("consecutiveLocalOriginFailures"), message);
    }
    for (index, code) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(code) {
            let field = path::index(&at("outlierDetectionHttpErrorCodes"), index);
            report.error(&field, format!("{code} is not a status: it must be between 100 and 599"));
        }
    }
}
