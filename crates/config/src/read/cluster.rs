//! `envoy.config.cluster.v3.Cluster`.

use super::circuit_breakers::read_circuit_breakers;
use super::cluster_balancing::{read_common_lb, read_lb_policy};
use super::cluster_discovery::read_discovery;
use super::metadata::read_metadata;
use super::name::required_name;
use super::outlier_detection::read_outlier_detection;
use super::transport_socket::read_upstream_socket;
use super::upstream_http::{Deprecated, read_upstream_http};
use super::value::read_struct;
use crate::context::{Context, Result, answers, number, refuse, report};
use crate::model::{Cluster, HttpProtocol, TcpKeepalive, TransportSocket, TransportSocketMatch, Value};
use protos::envoy::envoy::config::cluster::v3 as pb;
use protos::envoy::envoy::config::core::v3 as core;
use std::time::Duration;

/// Envoy's default of `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(5);

/// Reads a cluster.
pub fn read_cluster(cx: &mut Context, message: &pb::Cluster) -> Result<Cluster> {
    answers! { cx, message => pb::Cluster {
        act {
            transport_socket_matches, name, eds_cluster_config, connect_timeout, lb_policy, load_assignment,
            max_requests_per_connection, upstream_http_protocol_options, common_http_protocol_options,
            http_protocol_options, http2_protocol_options, typed_extension_protocol_options,
            dns_refresh_rate, common_lb_config, transport_socket, metadata, upstream_connection_options,
            cluster_discovery_type, lb_config, circuit_breakers, outlier_detection,
        }
        refuse "is not supported: use transport_socket_matches" { transport_socket_matcher }
        refuse "the system's resolver is the only one" {
            dns_resolvers, dns_resolution_config, typed_dns_resolver_config,
        }
        refuse "the source address cannot be chosen yet" { upstream_bind_config }
        refuse "subsets by metadata are not supported: write one cluster for each subset" { lb_subset_config }
        refuse "upstream extensions are not supported" { filters, upstream_config }
        refuse "is not supported: use lb_policy" { load_balancing_policy }
        refuse "connections are shared between clients" { connection_pool_per_downstream_connection }
        report "health is what the control plane says" {
            health_checks, close_connections_on_host_health_failure, ignore_health_on_host_removal,
        }
        report "metrics are named after the cluster" {
            alt_stat_name, stats_matcher, track_cluster_stats, track_timeout_budgets,
        }
        report "buffers are bounded by themselves" {
            per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
        }
        report "the system's resolver decides" {
            dns_jitter, dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family,
            use_tcp_for_dns_lookups,
        }
        report "a cluster serves as soon as its endpoints are known" { wait_for_warm_on_init }
        report "there is nothing to clean up" { cleanup_interval }
        report "the protocol of the options is spoken" { protocol_selection }
        report "load is not reported" { lrs_server, lrs_report_endpoint_metrics }
        report "connections are opened when they are needed" { preconnect_policy, queuing_policies }
    } }
    let old = Deprecated {
        common: common_http_protocol_options,
        upstream: upstream_http_protocol_options,
        http1: http_protocol_options,
        http2: http2_protocol_options,
    };
    let mut http = read_upstream_http(cx, typed_extension_protocol_options, &old)?;
    if let Some(count) = number(max_requests_per_connection).filter(|count| *count > 0) {
        http.max_requests_per_connection.get_or_insert(count);
    }
    let connect_timeout = cx.duration("connect_timeout", connect_timeout)?.unwrap_or(CONNECT);
    if connect_timeout.is_zero() {
        return Err(cx.refused_field("connect_timeout", "is 0: no connection could be made"));
    }
    let discovery =
        read_discovery(cx, cluster_discovery_type, eds_cluster_config, load_assignment, dns_refresh_rate)?;
    let transport_socket = read_upstream_socket(cx, transport_socket)?;
    let matches = cx.list("transport_socket_matches", transport_socket_matches, 64, read_match)?;
    if http.protocol == HttpProtocol::Auto {
        check_alpn(cx, &transport_socket, &matches)?;
    }
    Ok(Cluster {
        name: required_name(cx, "name", name)?,
        circuit_breakers: read_circuit_breakers(cx, circuit_breakers)?,
        discovery,
        lb_policy: read_lb_policy(cx, *lb_policy, lb_config)?,
        connect_timeout,
        transport_socket,
        transport_socket_matches: matches,
        http,
        outlier_detection: match outlier_detection {
            Some(message) => Some(cx.field("outlier_detection", |cx| read_outlier_detection(cx, message))?),
            None => None,
        },
        healthy_panic_threshold: read_common_lb(cx, common_lb_config)?,
        tcp_keepalive: read_connection_options(cx, upstream_connection_options)?,
        metadata: read_metadata(cx, metadata, &["istio", "tulle"])?,
    })
}

/// Where ALPN chooses the protocol every transport socket must have it.
fn check_alpn(cx: &Context, socket: &TransportSocket, matches: &[TransportSocketMatch]) -> Result<()> {
    let mut sockets = matches.iter().map(|one| &one.socket).chain([socket]);
    if sockets.any(|socket| matches!(socket, TransportSocket::RawBuffer)) {
        let reason =
            "auto_config chooses by ALPN, and a transport socket is not TLS: use explicit_http_config";
        return Err(cx.refused(reason));
    }
    Ok(())
}

fn read_match(cx: &mut Context, message: &pb::cluster::TransportSocketMatch) -> Result<TransportSocketMatch> {
    let pb::cluster::TransportSocketMatch { name, r#match: labels, transport_socket } = message;
    let name = required_name(cx, "name", name)?;
    let mut read = std::collections::BTreeMap::new();
    if let Some(labels) = labels {
        cx.field("match", |cx| {
            for (key, value) in read_struct(cx, labels)? {
                match value {
                    Value::String(text) => read.insert(key, text),
                    // Left out, the match would take endpoints that it does not mean.
                    _ => {
                        return Err(
                            cx.entry("fields", &key, |cx| cx.refused("only text values are supported"))
                        );
                    }
                };
            }
            Ok(())
        })?;
    }
    cx.required("transport_socket", transport_socket)?;
    Ok(TransportSocketMatch { name, labels: read, socket: read_upstream_socket(cx, transport_socket)? })
}

fn read_connection_options(
    cx: &mut Context,
    message: &Option<pb::UpstreamConnectionOptions>,
) -> Result<Option<TcpKeepalive>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("upstream_connection_options", |cx| {
        let pb::UpstreamConnectionOptions {
            tcp_keepalive,
            set_local_interface_name_on_upstream_connections,
            happy_eyeballs_config,
        } = message;
        report!(cx, "nothing reads it"; set_local_interface_name_on_upstream_connections);
        report!(cx, "addresses are tried in order"; happy_eyeballs_config);
        let Some(core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval }) = tcp_keepalive
        else {
            return Ok(None);
        };
        let seconds =
            |value: &Option<_>| number(value).filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
        let probes = number(keepalive_probes).filter(|probes| *probes > 0);
        Ok(Some(TcpKeepalive {
            probes,
            time: seconds(keepalive_time),
            interval: seconds(keepalive_interval),
        }))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{Discovery, LbPolicy};
    use protos::envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
    use protos::envoy::google::protobuf::{Struct, Value as PbValue, value::Kind};

    /// An EDS cluster.
    pub fn eds(name: &str) -> pb::Cluster {
        let specifier = Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default()));
        let source = core::ConfigSource { config_source_specifier: specifier, ..Default::default() };
        pb::Cluster {
            name: name.into(),
            lb_policy: 1,
            cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(3)),
            eds_cluster_config: Some(pb::cluster::EdsClusterConfig {
                eds_config: Some(source),
                service_name: name.into(),
            }),
            ..Default::default()
        }
    }

    fn read(change: impl FnOnce(&mut pb::Cluster)) -> Result<crate::Read<Cluster>> {
        let mut message = eds("outbound|8080|stable|payment");
        change(&mut message);
        Context::read(|cx| read_cluster(cx, &message))
    }

    fn tls_match() -> pb::cluster::TransportSocketMatch {
        let context = UpstreamTlsContext {
            common_tls_context: Some(crate::read::downstream_tls::tests::mesh()),
            ..Default::default()
        };
        let config = core::transport_socket::ConfigType::TypedConfig(protos::any::pack(&context));
        let socket =
            core::TransportSocket { name: "envoy.transport_sockets.tls".into(), config_type: Some(config) };
        let istio = PbValue { kind: Some(Kind::StringValue("istio".into())) };
        pb::cluster::TransportSocketMatch {
            name: "tlsMode-istio".into(),
            r#match: Some(Struct { fields: [("tlsMode".to_owned(), istio)].into() }),
            transport_socket: Some(socket),
        }
    }

    #[test]
    fn reads_an_eds_cluster_with_matches() {
        let read = read(|message| message.transport_socket_matches = vec![tls_match()]).unwrap().value;
        assert_eq!(read.discovery, Discovery::Eds { service_name: "outbound|8080|stable|payment".into() });
        assert_eq!(read.lb_policy, LbPolicy::LeastRequest { choices: 2 });
        assert_eq!(read.connect_timeout, CONNECT);
        let mesh = [("tlsMode".into(), "istio".into())].into();
        assert!(matches!(read.transport_socket_for(&mesh), TransportSocket::Tls(_)));
        assert_eq!(*read.transport_socket_for(&Default::default()), TransportSocket::RawBuffer);
    }

    #[test]
    fn reads_ejection() {
        let read = read(|message| {
            message.outlier_detection = Some(Default::default());
        });
        let paths: Vec<_> = read.unwrap().notes.into_iter().map(|note| note.path).collect();
        assert!(paths.is_empty(), "{paths:?}");
    }

    #[test]
    fn refuses_what_would_go_elsewhere() {
        assert_eq!(read(|message| message.lb_policy = 2).unwrap_err().path, "lb_policy");
        assert_eq!(read(|message| message.eds_cluster_config = None).unwrap_err().path, "eds_cluster_config");
        let subset = read(|message| message.lb_subset_config = Some(Default::default()));
        assert_eq!(subset.unwrap_err().path, "lb_subset_config");
        let number = read(|message| {
            let mut odd = tls_match();
            let value = PbValue { kind: Some(Kind::NumberValue(1.0)) };
            odd.r#match = Some(Struct { fields: [("tlsMode".to_owned(), value)].into() });
            message.transport_socket_matches = vec![odd];
        });
        assert_eq!(number.unwrap_err().path, "transport_socket_matches[0].match.fields[\"tlsMode\"]");
    }

    #[test]
    fn the_protocol_is_written_or_negotiated_by_tls() {
        use http::http_protocol_options::{
            AutoHttpConfig, UpstreamProtocolOptions as Options, UseDownstreamHttpConfig,
        };
        use protos::envoy::envoy::extensions::upstreams::http::v3 as http;
        let http2 = read(|message| message.http2_protocol_options = Some(Default::default()));
        assert_eq!(http2.unwrap().value.http.protocol, HttpProtocol::Http2);
        let with = |options: Options, tls: bool| {
            read(|message| {
                let options = http::HttpProtocolOptions {
                    upstream_protocol_options: Some(options),
                    ..Default::default()
                };
                let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
                message.typed_extension_protocol_options.insert(key, protos::any::pack(&options));
                message.transport_socket = tls_match().transport_socket.filter(|_| tls);
            })
            .map(|read| read.value.http.protocol)
        };
        let downstream = Options::UseDownstreamProtocolConfig(UseDownstreamHttpConfig::default());
        assert_eq!(with(downstream, false).unwrap(), HttpProtocol::Downstream);
        let auto = || Options::AutoConfig(AutoHttpConfig::default());
        assert_eq!(with(auto(), true).unwrap(), HttpProtocol::Auto);
        assert!(with(auto(), false).unwrap_err().reason.contains("ALPN"));
    }
}
