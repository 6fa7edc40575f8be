//! `envoy.config.route.v3.RouteAction`: where a request is sent, and how it is changed before.

use super::circuit_breakers::read_priority;
use super::http_connection_manager::read_upgrade;
use super::name::{header_name, required_name};
use super::retry_policy::read_retry_policy;
use super::string_matcher::read_substitution;
use super::weighted_cluster::read_weighted_clusters;
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::{
    ClusterSpecifier, ConnectToTcp, Forward, HostRewrite, MaxStreamDuration, PathRewrite, RetryPolicy,
    Upgrade,
};
use protos::envoy::envoy::config::route::v3 as pb;
use protos::envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use std::sync::Arc;
use std::time::Duration;

/// Envoy's default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Reads where a request is sent.
pub fn read_route_action(cx: &mut Context, message: &pb::RouteAction) -> Result<Forward> {
    let pb::RouteAction {
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = message;
    refuse!(cx, "subsets by metadata are not supported: use clusters"; metadata_match);
    refuse!(cx, "is not supported: use prefix_rewrite or regex_rewrite"; path_rewrite_policy, path_rewrite);
    refuse!(cx, "is not supported: use retry_policy"; retry_policy_typed_config);
    report!(cx, "requests are not hedged"; hedge_policy);
    report!(cx, "no policy of a cluster uses a hash yet"; hash_policy);
    report!(cx, "requests are not mirrored yet"; request_mirror_policies);
    report!(cx, "redirects are left to the client";
        internal_redirect_policy, internal_redirect_action, max_internal_redirects);
    report!(cx, "the idle timeout stands"; flush_timeout);
    report!(cx, "early data is not accepted"; early_data_policy);
    report!(cx, "there is no filter that reads it"; rate_limits, cors);
    cx.report_set(
        "include_vh_rate_limits",
        &flag(include_vh_rate_limits, false),
        "there is no filter that reads it",
    );
    use pb::route_action::ClusterNotFoundResponseCode as NotFound;
    let cluster_not_found_status =
        match cx.enumeration("cluster_not_found_response_code", *cluster_not_found_response_code)? {
            NotFound::ServiceUnavailable => 503,
            NotFound::NotFound => 404,
            NotFound::InternalServerError => 500,
        };
    let (upgrades, connect_to_tcp) = read_upgrades(cx, upgrade_configs)?;
    Ok(Forward {
        cluster: read_cluster_specifier(cx, cluster_specifier)?,
        cluster_not_found_status,
        path_rewrite: read_path_rewrite(cx, prefix_rewrite, regex_rewrite)?,
        host_rewrite: read_host_rewrite(cx, host_rewrite_specifier)?,
        append_x_forwarded_host: *append_x_forwarded_host,
        timeout: cx.limit("timeout", timeout, Some(TIMEOUT))?,
        idle_timeout: cx
            .duration("idle_timeout", idle_timeout)?
            .map(|limit| Some(limit).filter(|limit| !limit.is_zero())),
        max_stream_duration: read_max_stream_duration(cx, max_stream_duration)?,
        max_grpc_timeout: cx.duration("max_grpc_timeout", max_grpc_timeout)?,
        grpc_timeout_offset: cx.duration("grpc_timeout_offset", grpc_timeout_offset)?,
        retry: read_retry(cx, retry_policy)?,
        request_body_buffer_limit: None,
        upgrades,
        connect_to_tcp,
        priority: read_priority(cx, "priority", *priority)?,
    })
}

/// The retry policy of a route or a virtual host.
pub fn read_retry(cx: &mut Context, message: &Option<pb::RetryPolicy>) -> Result<Option<Arc<RetryPolicy>>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("retry_policy", |cx| read_retry_policy(cx, message)).map(|policy| Some(Arc::new(policy)))
}

fn read_max_stream_duration(
    cx: &mut Context,
    message: &Option<pb::route_action::MaxStreamDuration>,
) -> Result<Option<MaxStreamDuration>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("max_stream_duration", |cx| {
        let pb::route_action::MaxStreamDuration {
            max_stream_duration,
            grpc_timeout_header_max,
            grpc_timeout_header_offset,
        } = message;
        Ok(Some(MaxStreamDuration {
            duration: cx.duration("max_stream_duration", max_stream_duration)?,
            grpc_header_max: cx.duration("grpc_timeout_header_max", grpc_timeout_header_max)?,
            grpc_header_offset: cx.duration("grpc_timeout_header_offset", grpc_timeout_header_offset)?,
        }))
    })
}

fn read_cluster_specifier(
    cx: &mut Context,
    message: &Option<pb::route_action::ClusterSpecifier>,
) -> Result<ClusterSpecifier> {
    use pb::route_action::ClusterSpecifier as Specifier;
    match message {
        Some(Specifier::Cluster(cluster)) => {
            Ok(ClusterSpecifier::Cluster(required_name(cx, "cluster", cluster)?))
        }
        Some(Specifier::ClusterHeader(header)) => {
            Ok(ClusterSpecifier::Header(header_name(cx, "cluster_header", header, true)?))
        }
        Some(Specifier::WeightedClusters(weighted)) => Ok(ClusterSpecifier::Weighted(
            cx.field("weighted_clusters", |cx| read_weighted_clusters(cx, weighted))?,
        )),
        Some(Specifier::ClusterSpecifierPlugin(plugin)) => {
            Err(cx
                .refused_field("cluster_specifier_plugin", format!("the plugin {plugin:?} is not supported")))
        }
        Some(Specifier::InlineClusterSpecifierPlugin(_)) => {
            Err(cx.refused_field("inline_cluster_specifier_plugin", "plugins are not supported"))
        }
        None => Err(cx.refused_field("cluster_specifier", "is missing, or of a kind that is not known")),
    }
}

/// A rewrite of the path; only one of the two may be set.
pub fn read_path_rewrite(
    cx: &mut Context,
    prefix_rewrite: &str,
    regex_rewrite: &Option<RegexMatchAndSubstitute>,
) -> Result<PathRewrite> {
    match (prefix_rewrite, regex_rewrite) {
        ("", None) => Ok(PathRewrite::Keep),
        (prefix, None) => {
            check_path(cx, "prefix_rewrite", prefix)?;
            Ok(PathRewrite::Prefix(prefix.into()))
        }
        ("", Some(rewrite)) => {
            let (pattern, substitution) = cx.field("regex_rewrite", |cx| read_substitution(cx, rewrite))?;
            Ok(PathRewrite::Regex { pattern, substitution })
        }
        _ => Err(cx.refused_field("regex_rewrite", "stands beside prefix_rewrite")),
    }
}

/// What is written into a request line or a location has no spaces and no control characters.
pub fn check_path(cx: &mut Context, field: &str, path: &str) -> Result<()> {
    if path.len() > 8192 || path.bytes().any(|byte| byte <= 0x20 || byte >= 0x7f) {
        return Err(cx.refused_field(
            field,
            "is longer than 8192 bytes or has a space, control or non-ASCII character",
        ));
    }
    Ok(())
}

fn read_host_rewrite(
    cx: &mut Context,
    message: &Option<pb::route_action::HostRewriteSpecifier>,
) -> Result<HostRewrite> {
    use pb::route_action::HostRewriteSpecifier as Specifier;
    Ok(match message {
        None => HostRewrite::Keep,
        Some(Specifier::HostRewriteLiteral(host)) => {
            HostRewrite::Literal(read_host(cx, "host_rewrite_literal", host)?)
        }
        Some(Specifier::AutoHostRewrite(auto)) if auto.value => HostRewrite::Auto,
        Some(Specifier::AutoHostRewrite(_)) => HostRewrite::Keep,
        Some(Specifier::HostRewriteHeader(header)) => {
            HostRewrite::Header(header_name(cx, "host_rewrite_header", header, false)?)
        }
        Some(Specifier::HostRewritePathRegex(rewrite)) => {
            let (pattern, substitution) =
                cx.field("host_rewrite_path_regex", |cx| read_substitution(cx, rewrite))?;
            HostRewrite::PathRegex { pattern, substitution }
        }
        Some(Specifier::HostRewrite(_)) => {
            return Err(cx.refused_field("host_rewrite", "is not supported: use host_rewrite_literal"));
        }
    })
}

/// A host that is written into a request.
pub fn read_host(cx: &mut Context, field: &str, host: &str) -> Result<Arc<str>> {
    if host.is_empty()
        || host.len() > 512
        || host.bytes().any(|byte| byte <= 0x20 || byte >= 0x7f || b"/?#@".contains(&byte))
    {
        let shown: String = host.chars().take(64).collect();
        return Err(cx.refused_field(field, format!("{shown:?} is not a host")));
    }
    Ok(host.into())
}

/// The upgrades of a route, and what becomes of its CONNECT requests when they end here.
fn read_upgrades(
    cx: &mut Context,
    upgrades: &[pb::route_action::UpgradeConfig],
) -> Result<(Vec<Upgrade>, Option<ConnectToTcp>)> {
    let mut connect_to_tcp = None;
    let mut seen: Vec<Arc<str>> = Vec::new();
    let upgrades = cx.list("upgrade_configs", upgrades, 16, |cx, message| {
        let pb::route_action::UpgradeConfig { upgrade_type, enabled, connect_config } = message;
        let upgrade = read_upgrade(cx, upgrade_type, flag(enabled, true))?;
        if seen.contains(&upgrade.kind) {
            let reason = format!("{:?} stands in the list already", upgrade.kind);
            return Err(cx.refused_field("upgrade_type", reason));
        }
        seen.push(upgrade.kind.clone());
        if let Some(config) = connect_config {
            connect_to_tcp = Some(cx.field("connect_config", |cx| read_connect(cx, &upgrade.kind, config))?);
        }
        Ok(upgrade)
    })?;
    Ok((upgrades, connect_to_tcp))
}

fn read_connect(
    cx: &mut Context,
    kind: &str,
    message: &pb::route_action::upgrade_config::ConnectConfig,
) -> Result<ConnectToTcp> {
    let pb::route_action::upgrade_config::ConnectConfig { proxy_protocol_config, allow_post } = message;
    if kind != "connect" {
        return Err(cx.refused(format!(
            "stands at an upgrade to {kind:?}: only CONNECT has one, and UDP is not proxied"
        )));
    }
    refuse!(cx, "PROXY protocol is not supported"; proxy_protocol_config);
    Ok(ConnectToTcp { allow_post: *allow_post })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::Duration as PbDuration;

    fn read(change: impl FnOnce(&mut pb::RouteAction)) -> Result<crate::Read<Forward>> {
        let cluster = pb::route_action::ClusterSpecifier::Cluster("outbound|8080||payment".into());
        let mut message = pb::RouteAction { cluster_specifier: Some(cluster), ..Default::default() };
        change(&mut message);
        Context::read(|cx| read_route_action(cx, &message))
    }

    #[test]
    fn timeouts_have_envoys_meaning() {
        let timeout = |seconds| {
            read(|message| message.timeout = Some(PbDuration { seconds, nanos: 0 })).unwrap().value.timeout
        };
        assert_eq!(read(|_| ()).unwrap().value.timeout, Some(TIMEOUT));
        assert_eq!((timeout(0), timeout(3)), (None, Some(Duration::from_secs(3))));
        let idle =
            read(|message| message.idle_timeout = Some(Default::default())).unwrap().value.idle_timeout;
        assert_eq!(idle, Some(None));
    }

    #[test]
    fn reads_retries_and_reports_hashes() {
        let read = read(|message| {
            message.retry_policy = Some(Default::default());
            message.hash_policy = vec![Default::default()];
        });
        let read = read.unwrap();
        assert!(read.value.retry.is_some());
        let paths: Vec<_> = read.notes.into_iter().map(|note| note.path).collect();
        assert_eq!(paths, ["hash_policy"]);
    }

    #[test]
    fn connect_ends_here_or_goes_on() {
        use pb::route_action::{UpgradeConfig, upgrade_config::ConnectConfig};
        let with = |kind: &str, config: Option<ConnectConfig>| {
            let upgrade_type = kind.to_owned();
            let upgrade = UpgradeConfig { upgrade_type, enabled: None, connect_config: config };
            read(|message| message.upgrade_configs = vec![upgrade])
        };
        assert_eq!(with("CONNECT", None).unwrap().value.connect_to_tcp, None);
        for allow_post in [false, true] {
            let config = ConnectConfig { allow_post, proxy_protocol_config: None };
            let read = with("CONNECT", Some(config)).unwrap();
            assert_eq!(read.value.connect_to_tcp, Some(ConnectToTcp { allow_post }));
            assert_eq!((&*read.value.upgrades[0].kind, read.notes.len()), ("connect", 0));
        }
        let proxied = ConnectConfig { allow_post: false, proxy_protocol_config: Some(Default::default()) };
        let refused = with("CONNECT", Some(proxied)).unwrap_err();
        assert_eq!(refused.path, "upgrade_configs[0].connect_config.proxy_protocol_config");
        for kind in ["websocket", "CONNECT-UDP"] {
            let refused = with(kind, Some(ConnectConfig::default())).unwrap_err();
            assert_eq!(refused.path, "upgrade_configs[0].connect_config", "{kind}");
        }
        let twice = read(|message| {
            let upgrade_type = "websocket".to_owned();
            message.upgrade_configs = vec![UpgradeConfig { upgrade_type, ..Default::default() }; 2];
        });
        assert_eq!(twice.unwrap_err().path, "upgrade_configs[1].upgrade_type");
    }

    #[test]
    fn refuses_what_would_go_elsewhere() {
        assert_eq!(
            read(|message| message.metadata_match = Some(Default::default())).unwrap_err().path,
            "metadata_match"
        );
        assert_eq!(read(|message| message.cluster_specifier = None).unwrap_err().path, "cluster_specifier");
        assert_eq!(
            read(|message| message.prefix_rewrite = "/a b".into()).unwrap_err().path,
            "prefix_rewrite"
        );
        let host = pb::route_action::HostRewriteSpecifier::HostRewriteLiteral("a\r\nb".into());
        assert_eq!(
            read(|message| message.host_rewrite_specifier = Some(host)).unwrap_err().path,
            "host_rewrite_literal"
        );
    }
}
