//! Validation of load balancers and locality (DestinationRule and MeshConfig).

use super::shared;
use crate::kinds::load_balancer::{
    ConsistentHashLb, LoadBalancerSettings, LocalityLbSetting, SimpleLb, WarmupConfiguration,
};
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Choice of the endpoint. `ejects`: the same policy has outlier detection.
pub fn load_balancer(balancer: &LoadBalancerSettings, field: &str, ejects: bool, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        report.error(&at("consistentHash"), "a balancer is either simple or consistentHash, not both");
    }
    if let Some(hash) = &balancer.consistent_hash {
        consistent_hash(hash, &at("consistentHash"), report);
    }
    let warms = matches!(
        balancer.simple,
        None | Some(
            SimpleLb::Unspecified | SimpleLb::RoundRobin | SimpleLb::LeastRequest | SimpleLb::LeastConn
        )
    ) && balancer.consistent_hash.is_none();
    for (name, given) in [
        ("warmup", balancer.warmup.is_some()),
        ("warmupDurationSecs", balancer.warmup_duration_secs.is_some()),
    ] {
        if given && !warms {
            report.error(&at(name), "only ROUND_ROBIN and LEAST_REQUEST warm endpoints up");
        }
    }
    if balancer.warmup.is_some() && balancer.warmup_duration_secs.is_some() {
        report.error(&at("warmupDurationSecs"), "warmup.duration is given too: remove this older spelling");
    }
    shared::duration(report, &at("warmupDurationSecs"), balancer.warmup_duration_secs);
    if let Some(warmup) = &balancer.warmup {
        warm_up(warmup, &at("warmup"), report);
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        report.error(&at("zoneAwareLbSetting"), "either localityLbSetting or zoneAwareLbSetting, not both");
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        let field = at("localityLbSetting");
        locality_lb(locality, &field, report);
        let fails_over = !locality.failover.is_empty() || !locality.failover_priority.is_empty();
        if fails_over && !ejects {
            report.warning(&field, "failover happens only with outlierDetection in the same policy");
        }
    }
}

fn consistent_hash(hash: &ConsistentHashLb, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|given| **given).count() != 1 {
        let message =
            "exactly one key is needed: httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName";
        report.error(field, message);
    }
    for (name, value) in [
        ("httpHeaderName", &hash.http_header_name),
        ("httpQueryParameterName", &hash.http_query_parameter_name),
    ] {
        if value.as_ref().is_some_and(String::is_empty) {
            report.error(&at(name), "the name is empty");
        }
    }
    if let Some(cookie) = &hash.http_cookie
        && cookie.name.is_empty()
    {
        report.error(&path::key(&at("httpCookie"), "name"), "the cookie has no name");
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        report.error(&at("maglev"), "either ringHash or maglev, not both");
    }
    let size = hash.maglev.as_ref().map_or(0, |maglev| maglev.table_size);
    if size != 0 && (size > 5_000_011 || !is_prime(size)) {
        let message = format!("{size} is not a table size: it must be a prime of at most 5000011");
        report.error(&path::key(&at("maglev"), "tableSize"), message);
    }
}

/// By trial division; the numbers are at most about five million.
fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn warm_up(warmup: &WarmupConfiguration, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    match warmup.duration {
        None => report.error(&at("duration"), "the duration is missing"),
        some => shared::duration(report, &at("duration"), some),
    }
    if let Some(percent) = warmup.minimum_percent {
        shared::percent(report, &at("minimumPercent"), percent);
    }
    if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
        report.error(&at("aggression"), "it must be at least 1.0");
    }
}

/// Locality balancing.
pub fn locality_lb(locality: &LocalityLbSetting, field: &str, report: &mut Report<'_>) {
    let given: Vec<&str> = [
        ("distribute", !locality.distribute.is_empty()),
        ("failover", !locality.failover.is_empty()),
        ("failoverPriority", !locality.failover_priority.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    if let [first, second, ..] = given[..]
        && (first, second) != ("failover", "failoverPriority")
    {
        report.error(&path::key(field, second), format!("either {first} or {second}, not both"));
    }
    for (index, distribute) in locality.distribute.iter().enumerate() {
        let field = path::index(&path::key(field, "distribute"), index);
        let total: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
        if total != 100 {
            report
                .error(&path::key(&field, "to"), format!("the weights sum to {total}; they must sum to 100"));
        }
        for (to, weight) in &distribute.to {
            if *weight == 0 || *weight > 100 {
                let field = path::key(&path::key(&field, "to"), to);
                report.error(&field, format!("the weight {weight} is not between 1 and 100"));
            }
        }
    }
    for (index, failover) in locality.failover.iter().enumerate() {
        let field = path::index(&path::key(field, "failover"), index);
        if failover.from == failover.to {
            report.error(&field, format!("from and to are both {}", quote(&failover.from)));
        }
        for (name, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains('*') || region.contains('/') {
                report.error(&path::key(&field, name), format!("{} is not a region", quote(region)));
            }
        }
    }
}
