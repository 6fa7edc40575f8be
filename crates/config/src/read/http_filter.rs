//! The list of HTTP filters of a connection manager.

use super::name::required_name;
use super::rbac::read_http_rbac;
use super::stats::read_stats;
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::{HttpFilter, HttpFilterKind, PeerMetadataFilter, RouterFilter};
use protos::envoy::envoy::extensions::filters::http::rbac::v3::Rbac;
use protos::envoy::envoy::extensions::filters::http::router::v3::Router;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use protos::istio::{DiscoveryMethod, PeerMetadataConfig, PropagationMethod, StatsConfig};
use protos::{Any, any::type_url};
use std::sync::Arc;

/// Most filters of one connection manager.
const LIMIT: usize = 64;

/// Reads the filters; the router must be the last one.
pub fn read_http_filters(cx: &mut Context, filters: &[hcm::HttpFilter]) -> Result<Vec<HttpFilter>> {
    let read = cx.list("http_filters", filters, LIMIT, read_http_filter)?;
    let read: Vec<HttpFilter> = read.into_iter().flatten().collect();
    let is_router = |filter: &HttpFilter| matches!(filter.kind, HttpFilterKind::Router(_));
    match read.split_last() {
        Some((last, others)) if is_router(last) && !others.iter().any(is_router) => Ok(read),
        _ => Err(cx.refused_field(
            "http_filters",
            "envoy.filters.http.router must be the last filter, and be there once",
        )),
    }
}

fn read_http_filter(cx: &mut Context, message: &hcm::HttpFilter) -> Result<Option<HttpFilter>> {
    let hcm::HttpFilter { name, is_optional, disabled, config_type } = message;
    let name = required_name(cx, "name", name)?;
    // A disabled filter acts only where a route enables it, and routes cannot do that yet.
    if *disabled {
        cx.field("disabled", |cx| cx.note("the filter is left out; routes cannot enable it"));
        return Ok(None);
    }
    let any = match config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(any)) => any,
        Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(cx.refused_field("config_discovery", "filter configuration by ECDS is not supported"));
        }
        None => return Err(cx.refused_field("typed_config", format!("is missing (filter {name:?})"))),
    };
    match cx.field("typed_config", |cx| read_kind(cx, any))? {
        Some(kind) => Ok(Some(HttpFilter { name, kind })),
        None if *is_optional => {
            cx.note(format!("the optional filter {name:?} ({}) is not known", any.type_url));
            Ok(None)
        }
        None => {
            let reason = format!("the HTTP filter {name:?} ({}) is not supported: take it out", any.type_url);
            Err(cx.refused_field("typed_config", reason))
        }
    }
}

fn read_kind(cx: &mut Context, any: &Any) -> Result<Option<HttpFilterKind>> {
    let url = any.type_url.as_str();
    Ok(Some(if url == type_url::<Rbac>() {
        let message: Rbac = cx.open(any)?;
        HttpFilterKind::Rbac(Arc::new(read_http_rbac(cx, &message)?))
    } else if url == type_url::<Router>() {
        let message: Router = cx.open(any)?;
        HttpFilterKind::Router(read_router(cx, &message)?)
    } else if url == type_url::<PeerMetadataConfig>() {
        let message: PeerMetadataConfig = cx.open(any)?;
        HttpFilterKind::PeerMetadata(read_peer_metadata(cx, &message))
    } else if url == type_url::<StatsConfig>() {
        let message: StatsConfig = cx.open(any)?;
        HttpFilterKind::Stats(read_stats(cx, &message)?)
    } else {
        return Ok(None);
    }))
}

fn read_router(cx: &mut Context, message: &Router) -> Result<RouterFilter> {
    let Router {
        dynamic_stats,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = message;
    let off = !flag(dynamic_stats, true);
    cx.report_set("dynamic_stats", &off, "the router has no dynamic statistics");
    report!(cx, "no spans are made"; start_child_span);
    report!(cx, "attempts are logged with their request"; upstream_log, upstream_log_options);
    refuse!(cx, "is not supported"; strict_check_headers, upstream_http_filters);
    report!(cx, "the header x-envoy-expected-rq-timeout-ms is not read"; respect_expected_rq_timeout);
    report!(cx, "the router has no such statistics"; suppress_grpc_request_failure_code_stats);
    let early = flag(reject_connect_request_early_data, false);
    cx.report_set("reject_connect_request_early_data", &early, "CONNECT is always refused");
    Ok(RouterFilter { suppress_envoy_headers: *suppress_envoy_headers })
}

fn read_peer_metadata(cx: &mut Context, message: &PeerMetadataConfig) -> PeerMetadataFilter {
    let PeerMetadataConfig {
        downstream_discovery,
        upstream_discovery,
        downstream_propagation,
        upstream_propagation,
        shared_with_upstream,
    } = message;
    report!(cx, "peers are known to the request only"; shared_with_upstream);
    let mut skip_external_clusters = false;
    let discovers = |cx: &mut Context, name: &str, methods: &[DiscoveryMethod]| {
        cx.field(name, |cx| {
            methods.iter().enumerate().fold(false, |found, (index, DiscoveryMethod { istio_headers })| {
                cx.index(index, |cx| match istio_headers {
                    None => cx.note("only istio_headers is known"),
                    Some(headers) => cx.field("istio_headers", |cx| {
                        let reason = "acts on propagation only";
                        cx.report_set("skip_external_clusters", &headers.skip_external_clusters, reason);
                    }),
                });
                found | istio_headers.is_some()
            })
        })
    };
    let downstream_discovery = discovers(cx, "downstream_discovery", downstream_discovery);
    let upstream_discovery = discovers(cx, "upstream_discovery", upstream_discovery);
    let mut propagates = |cx: &mut Context, name: &str, methods: &[PropagationMethod]| {
        cx.field(name, |cx| {
            methods.iter().enumerate().fold(false, |found, (index, PropagationMethod { istio_headers })| {
                match istio_headers {
                    Some(headers) => skip_external_clusters |= headers.skip_external_clusters,
                    None => cx.index(index, |cx| cx.note("only istio_headers is known")),
                }
                found | istio_headers.is_some()
            })
        })
    };
    let downstream_propagation = propagates(cx, "downstream_propagation", downstream_propagation);
    let upstream_propagation = propagates(cx, "upstream_propagation", upstream_propagation);
    PeerMetadataFilter {
        downstream_discovery,
        upstream_discovery,
        downstream_propagation,
        upstream_propagation,
        skip_external_clusters,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use protos::istio::IstioHeaders;

    /// A filter with that configuration.
    pub fn filter<M: protos::Message + prost::Name>(name: &str, config: &M) -> hcm::HttpFilter {
        let config_type = Some(hcm::http_filter::ConfigType::TypedConfig(protos::any::pack(config)));
        hcm::HttpFilter { name: name.into(), config_type, ..Default::default() }
    }

    fn unknown(is_optional: bool) -> hcm::HttpFilter {
        let any = Any { type_url: "type.googleapis.com/x.Y".into(), value: Vec::new() };
        let config_type = Some(hcm::http_filter::ConfigType::TypedConfig(any));
        hcm::HttpFilter { name: "x".into(), is_optional, config_type, ..Default::default() }
    }

    fn read(filters: &[hcm::HttpFilter]) -> Result<crate::Read<Vec<HttpFilter>>> {
        Context::read(|cx| read_http_filters(cx, filters))
    }

    #[test]
    fn reads_our_filters() {
        let method = PropagationMethod { istio_headers: Some(IstioHeaders { skip_external_clusters: true }) };
        let metadata = PeerMetadataConfig { upstream_propagation: vec![method], ..Default::default() };
        let filters = [
            filter("istio.metadata_exchange", &metadata),
            filter("envoy.filters.http.rbac", &Rbac::default()),
            filter("istio.stats", &StatsConfig::default()),
            filter("envoy.filters.http.router", &Router { start_child_span: true, ..Default::default() }),
        ];
        let read = read(&filters).unwrap();
        let HttpFilterKind::PeerMetadata(metadata) = &read.value[0].kind else {
            panic!("{:?}", read.value[0])
        };
        assert!(
            metadata.upstream_propagation && metadata.skip_external_clusters && !metadata.upstream_discovery
        );
        assert_eq!(read.value.len(), 4);
        assert_eq!(read.notes[0].path, "http_filters[3].typed_config.start_child_span");
    }

    #[test]
    fn refuses_unknown_filters_unless_optional() {
        let router = filter("envoy.filters.http.router", &Router::default());
        let refused = read(&[unknown(false), router.clone()]).unwrap_err();
        assert_eq!(refused.path, "http_filters[0].typed_config");
        assert!(refused.reason.contains("x.Y"));
        let read = read(&[unknown(true), router]).unwrap();
        assert_eq!((read.value.len(), read.notes[0].path.as_str()), (1, "http_filters[0]"));
    }

    #[test]
    fn refuses_a_list_without_router_at_the_end() {
        assert_eq!(read(&[]).unwrap_err().path, "http_filters");
        let router = filter("r", &Router::default());
        assert!(read(&[router.clone(), filter("a", &Rbac::default())]).is_err());
        assert!(read(&[router.clone(), router]).is_err());
    }
}
