//! DestinationRules: the policy of a cluster in Envoy's form, and what a user must be told.

use api::Resource;
use api::kinds::destination_rule::{
    ConnectionPoolSettings, DestinationRule, OutlierDetection, RetryBudget, TrafficPolicy,
};
use api::kinds::load_balancer::{LoadBalancerSettings, SimpleLb};
use protos::envoy::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection as EnvoyOutlierDetection, UpstreamConnectionOptions,
    circuit_breakers::{Thresholds, thresholds::RetryBudget as EnvoyRetryBudget},
    cluster::{CommonLbConfig, LbPolicy},
};
use protos::envoy::envoy::config::core::v3::{HttpProtocolOptions, TcpKeepalive};
use protos::envoy::envoy::r#type::v3::Percent;

use crate::host;
use crate::limits::PoolLimits;
use crate::merge::{self, ClusterPolicy};
use crate::note::{About, Note};
use crate::scope::Scope;
use crate::values;
use crate::world::World;
use crate::xds::transport_socket;

/// Istio's defaults of a retry budget: percent of the active requests, and what is always allowed.
const BUDGET: f64 = 20.0;
const CONCURRENT_RETRIES: u32 = 3;

/// Writes the blocks of a policy into a cluster, apart from TLS.
pub fn apply(policy: &ClusterPolicy<'_>, scope: &Scope<'_>, cluster: &mut Cluster) {
    cluster.lb_policy = balancer(policy.load_balancer) as i32;
    let mesh = scope.world.mesh();
    let pool = policy.connection_pool;
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let timeout = tcp.and_then(|tcp| tcp.connect_timeout).unwrap_or_else(|| mesh.connect_timeout());
    cluster.connect_timeout = Some(values::duration(timeout));
    cluster.circuit_breakers = Some(circuit_breakers(pool, policy.retry_budget));
    if let Some(keepalive) = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).or(mesh.tcp_keepalive.as_ref()) {
        let seconds = |value: Option<api::Duration>| value.and_then(|it| u32::try_from(it.seconds()).ok());
        let keepalive = TcpKeepalive {
            keepalive_probes: (keepalive.probes > 0).then_some(keepalive.probes).and_then(values::number),
            keepalive_time: seconds(keepalive.time).and_then(values::number),
            keepalive_interval: seconds(keepalive.interval).and_then(values::number),
        };
        let options = UpstreamConnectionOptions { tcp_keepalive: Some(keepalive), ..Default::default() };
        cluster.upstream_connection_options = Some(options);
    }
    if let Some(outlier) = policy.outlier_detection {
        cluster.outlier_detection = Some(outlier_detection(outlier));
        // Envoy's own default of 50 is taken back, as in Istio.
        let threshold = Some(Percent { value: f64::from(outlier.min_health_percent.max(0)) });
        cluster.common_lb_config =
            Some(CommonLbConfig { healthy_panic_threshold: threshold, ..Default::default() });
    }
}

/// Idle time, age and number of requests of upstream connections.
pub fn http_options(pool: Option<&ConnectionPoolSettings>) -> Option<HttpProtocolOptions> {
    let pool = pool?;
    let http = pool.http.as_ref();
    let tcp = pool.tcp.as_ref();
    let idle = http.and_then(|http| http.idle_timeout).or_else(|| tcp.and_then(|tcp| tcp.idle_timeout));
    let requests = http.and_then(|http| positive(http.max_requests_per_connection));
    let options = HttpProtocolOptions {
        idle_timeout: idle.map(values::duration),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).map(values::duration),
        max_requests_per_connection: requests.and_then(values::number),
        ..Default::default()
    };
    (options != HttpProtocolOptions::default()).then_some(options)
}

fn positive(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0)
}

fn balancer(settings: Option<&LoadBalancerSettings>) -> LbPolicy {
    match settings.and_then(|settings| settings.simple) {
        Some(SimpleLb::RoundRobin) => LbPolicy::RoundRobin,
        Some(SimpleLb::Random) => LbPolicy::Random,
        Some(
            SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest | SimpleLb::Passthrough,
        )
        | None => LbPolicy::LeastRequest,
    }
}

/// The limits that are written; of a gRPC library only `max_requests` acts.
pub fn pool_limits(pool: Option<&ConnectionPoolSettings>) -> PoolLimits {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    PoolLimits {
        max_connections: tcp.and_then(|tcp| positive(tcp.max_connections)),
        max_pending_requests: http.and_then(|http| positive(http.http1_max_pending_requests)),
        max_requests: http.and_then(|http| positive(http.http2_max_requests)),
        max_retries: http.and_then(|http| positive(http.max_retries)),
    }
}

/// Limits of a cluster; Envoy's own defaults (1024) are lifted, as in Istio.
pub fn circuit_breakers(
    pool: Option<&ConnectionPoolSettings>,
    budget: Option<&RetryBudget>,
) -> CircuitBreakers {
    let limits = pool_limits(pool);
    let limit = |value: Option<u32>| values::number(value.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(limits.max_connections),
        max_pending_requests: limit(limits.max_pending_requests),
        max_requests: limit(limits.max_requests),
        max_retries: limit(limits.max_retries),
        retry_budget: budget.map(|budget| EnvoyRetryBudget {
            budget_percent: Some(Percent { value: budget.percent.unwrap_or(BUDGET) }),
            min_retry_concurrency: Some(budget.min_retry_concurrency)
                .filter(|count| *count > 0)
                .or(Some(CONCURRENT_RETRIES))
                .and_then(values::number),
            ..Default::default()
        }),
        track_remaining: true,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn outlier_detection(settings: &OutlierDetection) -> EnvoyOutlierDetection {
    let mut out = EnvoyOutlierDetection {
        // Only what is configured ejects; ejection by success rate is never asked for.
        enforcing_success_rate: values::number(0),
        interval: settings.interval.map(values::duration),
        base_ejection_time: settings.base_ejection_time.map(values::duration),
        max_ejection_percent: positive(settings.max_ejection_percent).and_then(values::number),
        split_external_local_origin_errors: settings.split_external_local_origin_errors,
        ..Default::default()
    };
    let enforce = |count: u32| values::number(if count > 0 { 100 } else { 0 });
    if let Some(count) = settings.consecutive_5xx_errors.or(positive(settings.consecutive_errors)) {
        out.consecutive_5xx = values::number(count);
        out.enforcing_consecutive_5xx = enforce(count);
    }
    if let Some(count) = settings.consecutive_gateway_errors {
        out.consecutive_gateway_failure = values::number(count);
        out.enforcing_consecutive_gateway_failure = enforce(count);
    }
    if settings.split_external_local_origin_errors {
        if let Some(count) = settings.consecutive_local_origin_failures {
            out.consecutive_local_origin_failure = values::number(count);
            out.enforcing_consecutive_local_origin_failure = enforce(count);
        }
        out.enforcing_local_origin_success_rate = values::number(0);
    }
    out
}

/// What a user must be told about a DestinationRule.
pub fn verdict(world: &World, rule: &Resource<DestinationRule>, notes: &mut Vec<Note>) {
    let mut about = About::new("DestinationRule", &rule.meta.namespace, &rule.meta.name, notes);
    let namespace = rule.meta.namespace.as_str();
    let host = host::expand(&rule.spec.host, namespace);
    if host::split_service_fqdn(&host).is_some() && !host.contains('*') && world.service(&host).is_none() {
        about.warning("spec.host", format!("no Service is named {host}"));
    } else if let Some((service, rest)) =
        host.split_once('.').filter(|(_, rest)| world.namespace(rest).is_some())
    {
        let full = host::service_fqdn(service, rest);
        about.warning(
            "spec.host",
            format!("a host with a dot is taken as it is and names no Service; write {full}"),
        );
    }
    merge_verdict(world, rule, &host, &mut about);
    if let Some(policy) = &rule.spec.traffic_policy {
        policy_verdict(policy, "spec.trafficPolicy", &mut about);
    }
    for (i, subset) in rule.spec.subsets.iter().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            policy_verdict(policy, &format!("spec.subsets[{i}].trafficPolicy"), &mut about);
        }
    }
}

/// Says what an older rule of the same host takes away.
fn merge_verdict(world: &World, rule: &Resource<DestinationRule>, host: &str, about: &mut About<'_>) {
    let Some(objects) = world.namespace(&rule.meta.namespace) else { return };
    let same_host =
        objects.rules_by_host.iter().find(|(pattern, _)| *pattern == host).map(|(_, group)| group);
    let older = same_host.unwrap_or_default().iter().take_while(|it| it.meta.name != rule.meta.name);
    let older: Vec<_> = older.filter(|it| it.spec.workload_selector == rule.spec.workload_selector).collect();
    if let Some(first) = older.first().filter(|first| !merge::merges_into(rule, first)) {
        let reason = format!(
            "DestinationRule {} comes first with another exportTo, so the two are not merged: \
             clients that see both have that one",
            first.meta.name
        );
        about.warning("spec.exportTo", reason);
        return;
    }
    for older in older {
        if older.spec.traffic_policy.is_some() && rule.spec.traffic_policy.is_some() {
            let reason =
                format!("DestinationRule {} comes first; its policy counts for {host}", older.meta.name);
            about.warning("spec.trafficPolicy", reason);
        }
        for (i, subset) in rule.spec.subsets.iter().enumerate() {
            if older.spec.subsets.iter().any(|known| known.name == subset.name) {
                let reason =
                    format!("DestinationRule {} comes first and has a subset of this name", older.meta.name);
                about.warning(format!("spec.subsets[{i}]"), reason);
            }
        }
    }
}

fn policy_verdict(policy: &TrafficPolicy, field: &str, about: &mut About<'_>) {
    if policy.tunnel.is_some() {
        about.info(format!("{field}.tunnel"), "tunnels are not made yet; calls go directly");
    }
    if policy.proxy_protocol.is_some() {
        about.info(format!("{field}.proxyProtocol"), "the PROXY protocol is not sent yet");
    }
    if policy.retry_budget.as_ref().is_some_and(|budget| budget.budget_interval.is_some()) {
        let reason = "the budget is a share of the requests that run now";
        about.info(format!("{field}.retryBudget.budgetInterval"), reason);
    }
    block_verdict(&merge::cluster_policy(Some(policy), None, 0), field, about);
    for (i, level) in policy.port_level_settings.iter().enumerate() {
        let port = level.port.and_then(|selector| u16::try_from(selector.number).ok()).unwrap_or_default();
        let policy = merge::cluster_policy(Some(policy), None, port);
        block_verdict(&policy, &format!("{field}.portLevelSettings[{i}]"), about);
    }
}

fn block_verdict(policy: &ClusterPolicy<'_>, field: &str, about: &mut About<'_>) {
    if let Some(balancer) = policy.load_balancer {
        let field = format!("{field}.loadBalancer");
        if balancer.simple == Some(SimpleLb::Passthrough) {
            let reason = "PASSTHROUGH needs redirected traffic; LEAST_REQUEST is used";
            about.warning(format!("{field}.simple"), reason);
        }
        if balancer.consistent_hash.is_some() {
            let reason = "consistent hashing does not act yet; LEAST_REQUEST is used";
            about.warning(format!("{field}.consistentHash"), reason);
        }
        if balancer.locality_lb_setting.is_some() {
            about.info(format!("{field}.localityLbSetting"), "localities do not steer calls yet");
        }
        if balancer.zone_aware_lb_setting.is_some() {
            about.info(format!("{field}.zoneAwareLbSetting"), "zones do not steer calls yet");
        }
        if balancer.warmup.is_some() || balancer.warmup_duration_secs.is_some() {
            about.info(
                format!("{field}.warmup"),
                "new endpoints get their full share at once: warm-up does not act yet",
            );
        }
    }
    if policy.outlier_detection.is_some_and(|outlier| !outlier.outlier_detection_http_error_codes.is_empty())
    {
        let field = format!("{field}.outlierDetection.outlierDetectionHttpErrorCodes");
        about.info(field, "all 5xx codes count; the list does not act yet");
    }
    let defect = policy.tls.and_then(|tls| transport_socket::explicit_defect(tls, true));
    if let Some((part, reason)) = defect {
        about.warning(format!("{field}.tls.{part}"), format!("{reason}; until then calls are answered 503"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds::destination_rule::{HttpSettings, TcpSettings};

    #[test]
    fn limits_that_nobody_wrote_are_lifted() {
        let lifted = circuit_breakers(None, None);
        assert_eq!(lifted.thresholds[0].max_connections.unwrap().value, u32::MAX);
        let pool = ConnectionPoolSettings {
            tcp: Some(TcpSettings { max_connections: 100, ..Default::default() }),
            http: Some(HttpSettings { http2_max_requests: 1000, ..Default::default() }),
        };
        let written = circuit_breakers(Some(&pool), None);
        assert_eq!(written.thresholds[0].max_connections.unwrap().value, 100);
        assert_eq!(written.thresholds[0].max_requests.unwrap().value, 1000);
        assert_eq!(written.thresholds[0].max_pending_requests.unwrap().value, u32::MAX);
    }

    #[test]
    fn a_retry_budget_has_istios_defaults() {
        let of = |budget: &RetryBudget| {
            let budget = circuit_breakers(None, Some(budget)).thresholds[0].retry_budget.unwrap();
            (budget.budget_percent.unwrap().value, budget.min_retry_concurrency.unwrap().value)
        };
        assert_eq!(of(&RetryBudget::default()), (20.0, 3));
        assert_eq!(
            of(&RetryBudget { percent: Some(50.0), min_retry_concurrency: 9, ..Default::default() }),
            (50.0, 9)
        );
        assert_eq!(circuit_breakers(None, None).thresholds[0].retry_budget, None);
    }

    #[test]
    fn a_count_of_zero_switches_an_ejection_off() {
        let settings = OutlierDetection {
            consecutive_5xx_errors: Some(0),
            consecutive_gateway_errors: Some(5),
            ..Default::default()
        };
        let out = outlier_detection(&settings);
        assert_eq!(out.enforcing_consecutive_5xx.unwrap().value, 0);
        assert_eq!(out.enforcing_consecutive_gateway_failure.unwrap().value, 100);
        assert_eq!(outlier_detection(&OutlierDetection::default()).consecutive_5xx, None);
    }

    #[test]
    fn the_idle_timeout_of_http_beats_that_of_tcp() {
        let pool = |http: Option<u64>| ConnectionPoolSettings {
            tcp: Some(TcpSettings { idle_timeout: Some(api::Duration::from_secs(7)), ..Default::default() }),
            http: Some(HttpSettings {
                idle_timeout: http.map(api::Duration::from_secs),
                ..Default::default()
            }),
        };
        let idle =
            |pool: &ConnectionPoolSettings| http_options(Some(pool)).unwrap().idle_timeout.unwrap().seconds;
        assert_eq!(idle(&pool(Some(3))), 3);
        assert_eq!(idle(&pool(None)), 7);
        assert_eq!(http_options(Some(&ConnectionPoolSettings::default())), None);
    }
}
