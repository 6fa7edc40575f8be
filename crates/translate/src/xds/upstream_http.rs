//! Which HTTP a cluster's connections speak.

use api::MeshConfig;
use api::kinds::destination_rule::{ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, OutlierDetection};
use protos::envoy::envoy::config::common::matcher::v3::{
    HttpHeadersMatch, MatchPredicate,
    match_predicate::{MatchSet, Rule},
};
use protos::envoy::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, KeepaliveSettings,
};
use protos::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use protos::envoy::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, OutlierDetection as OutlierErrors, UpstreamProtocolOptions,
        UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
    },
};
use protos::envoy::google::protobuf::Any;

use crate::kinds::service::Protocol;
use crate::values;

/// Streams on one connection when nobody limits them, as in Istio: the server's own limit decides.
const MOST_STREAMS: u32 = 1 << 30;

/// What is spoken to the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the caller speaks.
    AsDownstream,
}

/// What is spoken to a Service port: what it declares, unless a policy upgrades it or keeps the caller's protocol.
pub fn upstream(protocol: Protocol, pool: Option<&ConnectionPoolSettings>, mesh: &MeshConfig) -> Upstream {
    let http = pool.and_then(|pool| pool.http.as_ref());
    if http.is_some_and(|http| http.use_client_protocol) {
        return Upstream::AsDownstream;
    }
    let written = http.map(|http| http.h2_upgrade_policy).unwrap_or_default();
    match (protocol, written, mesh.h2_upgrade_policy) {
        (Protocol::Http, H2UpgradePolicy::Upgrade, _)
        | (Protocol::Http, H2UpgradePolicy::Default, H2UpgradePolicy::Upgrade) => Upstream::Http2,
        _ => to_app(protocol),
    }
}

/// What is spoken to the app: what its port declares, whatever callers and policies do.
pub fn to_app(protocol: Protocol) -> Upstream {
    match protocol {
        Protocol::Http2 => Upstream::Http2,
        Protocol::Unknown => Upstream::AsDownstream,
        Protocol::Http | Protocol::Tcp | Protocol::Datagram => Upstream::Http1,
    }
}

/// The key and the value that say so in a cluster.
pub fn options(
    upstream: Upstream,
    common: CommonOptions,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
) -> (String, Any) {
    let http1 = Http1ProtocolOptions::default();
    let http2 = || http2(pool.and_then(|pool| pool.http.as_ref()));
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
    };
    let spoken = match upstream {
        Upstream::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
        Upstream::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2())),
        Upstream::AsDownstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(http1),
                http2_protocol_options: Some(http2()),
                ..Default::default()
            })
        }
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(common),
        upstream_protocol_options: Some(spoken),
        outlier_detection: outlier.and_then(errors),
        ..Default::default()
    };
    ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), protos::any::pack(&options))
}

/// The statuses that count as errors, where a rule names them: in place of those from 500 on.
fn errors(settings: &OutlierDetection) -> Option<OutlierErrors> {
    let rule = |code: &u32| {
        let status = HeaderMatchSpecifier::StringMatch(values::exact(code.to_string()));
        let header = HeaderMatcher {
            name: ":status".to_owned(),
            header_match_specifier: Some(status),
            ..Default::default()
        };
        Rule::HttpResponseHeadersMatch(HttpHeadersMatch { headers: vec![header] })
    };
    let mut codes = settings.outlier_detection_http_error_codes.clone();
    codes.sort_unstable();
    codes.dedup();
    let rule = match &codes[..] {
        [] => return None,
        [code] => rule(code),
        // Envoy wants at least two here.
        codes => {
            let rules = codes.iter().map(|code| MatchPredicate { rule: Some(rule(code)) });
            Rule::OrMatch(MatchSet { rules: rules.collect() })
        }
    };
    Some(OutlierErrors { error_matcher: Some(MatchPredicate { rule: Some(rule) }) })
}

fn http2(settings: Option<&HttpSettings>) -> Http2ProtocolOptions {
    let streams = settings.and_then(|it| u32::try_from(it.max_concurrent_streams).ok()).filter(|it| *it > 0);
    let pings = settings.and_then(|it| it.http2_keep_alive.as_ref());
    let pings = pings.and_then(|it| it.interval.zip(it.timeout));
    Http2ProtocolOptions {
        max_concurrent_streams: values::number(streams.unwrap_or(MOST_STREAMS)),
        connection_keepalive: pings.map(|(interval, timeout)| KeepaliveSettings {
            interval: Some(values::duration(interval)),
            timeout: Some(values::duration(timeout)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_decides_unless_a_policy_does() {
        let pool = |policy, use_client_protocol| ConnectionPoolSettings {
            tcp: None,
            http: Some(HttpSettings { h2_upgrade_policy: policy, use_client_protocol, ..Default::default() }),
        };
        let mesh = |policy| MeshConfig { h2_upgrade_policy: policy, ..Default::default() };
        let (plain, upgrading) = (mesh(H2UpgradePolicy::Default), mesh(H2UpgradePolicy::Upgrade));
        assert_eq!(upstream(Protocol::Http, None, &plain), Upstream::Http1);
        assert_eq!(upstream(Protocol::Http2, None, &plain), Upstream::Http2);
        assert_eq!(upstream(Protocol::Unknown, None, &plain), Upstream::AsDownstream);
        assert_eq!(upstream(Protocol::Http, None, &upgrading), Upstream::Http2);
        let never = pool(H2UpgradePolicy::DoNotUpgrade, false);
        assert_eq!(upstream(Protocol::Http, Some(&never), &upgrading), Upstream::Http1);
        let always = pool(H2UpgradePolicy::Upgrade, false);
        assert_eq!(upstream(Protocol::Http, Some(&always), &plain), Upstream::Http2);
        let kept = pool(H2UpgradePolicy::Upgrade, true);
        assert_eq!(upstream(Protocol::Http, Some(&kept), &upgrading), Upstream::AsDownstream);
    }

    #[test]
    fn streams_and_pings_are_those_that_are_written() {
        let settings = HttpSettings {
            max_concurrent_streams: 7,
            http2_keep_alive: Some(api::kinds::destination_rule::Http2KeepAlive {
                interval: Some(api::Duration::from_secs(3)),
                timeout: Some(api::Duration::from_secs(1)),
            }),
            ..Default::default()
        };
        let written = http2(Some(&settings));
        assert_eq!(written.max_concurrent_streams.unwrap().value, 7);
        assert_eq!(written.connection_keepalive.unwrap().interval.unwrap().seconds, 3);
        assert_eq!(http2(None).max_concurrent_streams.unwrap().value, MOST_STREAMS);
    }
}
