//! `envoy.config.bootstrap.v3.Bootstrap`.

use super::address::read_address;
use super::ads::read_dynamic_resources;
use super::cluster::read_cluster;
use super::listener::read_listener;
use super::node::read_node;
use super::runtime::read_runtime;
use super::tracer::read_tracer;
use crate::context::{Context, Result, answers, refuse, report};
use crate::model::{Admin, AdsConfig, Bootstrap, Discovery};
use protos::envoy::envoy::config::bootstrap::v3 as pb;
use protos::envoy::envoy::config::trace::v3::Tracing as TracingProvider;
use std::sync::Arc;

/// Most static resources of one kind.
const LIMIT: usize = 10_000;

/// Reads a bootstrap.
pub fn read_bootstrap(cx: &mut Context, message: &pb::Bootstrap) -> Result<Bootstrap> {
    answers! { cx, message => pb::Bootstrap {
        act {
            node, static_resources, dynamic_resources, admin, layered_runtime, cluster_manager, tracing,
        }
        refuse "is not supported: the limits it sets would not hold" { overload_manager }
        refuse "is not supported: the headers are called x-envoy-..." { header_prefix }
        refuse "extensions are not supported: take it out" {
            bootstrap_extensions, xds_delegate_extension, default_socket_interface,
            certificate_provider_instances,
        }
        refuse "configuration comes from the ADS stream only" { config_sources, default_config_source }
        refuse "health discovery is not supported" { hds_config }
        report "is not supported: settings stand as they are written" {
            flags_path, node_context_params, listener_manager,
            inline_headers, xds_config_tracker_extension,
        }
        report "metrics are scraped from the admin server" {
            stats_sinks, deferred_stat_options, stats_config, stats_flush_interval, stats_flush,
            stats_eviction, enable_dispatcher_stats, stats_server_version_override,
        }
        report "the proxy watches itself" { watchdog, watchdogs, fatal_actions }
        report "the system's resolver decides" {
            use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config,
        }
        report "the log is set on the command line" { application_log_config }
        report "there is one engine, with RE2's meaning" { default_regex_engine }
        report "the proxy decides" {
            perf_tracing_file_path, grpc_async_client_manager_config, memory_allocator_manager,
            enable_worker_cpu_affinity,
        }
    } }
    let (node, identity) = read_node(cx, node)?;
    let ads = match dynamic_resources {
        Some(dynamic) => cx.field("dynamic_resources", |cx| read_dynamic_resources(cx, dynamic))?,
        None => None,
    };
    let absent = pb::bootstrap::StaticResources::default();
    let pb::bootstrap::StaticResources { listeners, clusters, secrets } =
        static_resources.as_ref().unwrap_or(&absent);
    let (listeners, clusters) = cx.field("static_resources", |cx| {
        refuse!(cx, "static secrets are not supported: write files or inline certificates"; secrets);
        let listeners = cx.list("listeners", listeners, LIMIT, read_static_listener)?;
        let clusters =
            cx.list("clusters", clusters, LIMIT, |cx, item| read_cluster(cx, item).map(Arc::new))?;
        Ok((listeners, clusters))
    })?;
    check_ads(cx, ads.as_ref(), &clusters)?;
    let tracer = match tracing {
        Some(TracingProvider { http: Some(http) }) => {
            Some(cx.field("tracing", |cx| cx.field("http", |cx| read_tracer(cx, http)))?)
        }
        _ => None,
    };
    Ok(Bootstrap {
        node,
        admin: read_admin(cx, admin)?,
        listeners,
        clusters,
        ads,
        identity,
        tracer,
        runtime: read_runtime(cx, layered_runtime)?,
        outlier_event_log: read_cluster_manager(cx, cluster_manager)?,
    })
}

/// A static listener may have no name: its address stands for it.
fn read_static_listener(
    cx: &mut Context,
    message: &protos::envoy::envoy::config::listener::v3::Listener,
) -> Result<Arc<crate::model::Listener>> {
    if !message.name.is_empty() {
        return read_listener(cx, message).map(Arc::new);
    }
    let address = match &message.address {
        Some(address) => cx.field("address", |cx| read_address(cx, address, false))?.to_string(),
        None => String::new(),
    };
    read_listener(
        cx,
        &protos::envoy::envoy::config::listener::v3::Listener { name: address, ..message.clone() },
    )
    .map(Arc::new)
}

fn check_ads(
    cx: &mut Context,
    ads: Option<&AdsConfig>,
    clusters: &[Arc<crate::model::Cluster>],
) -> Result<()> {
    let Some(ads) = ads else { return Ok(()) };
    let place = "dynamic_resources.ads_config.grpc_services";
    match clusters.iter().find(|cluster| cluster.name == ads.cluster).map(|cluster| &cluster.discovery) {
        None => {
            let reason = format!("the cluster {:?} is not among static_resources.clusters", ads.cluster);
            Err(cx.refused_field(place, reason))
        }
        Some(Discovery::Eds { .. }) => {
            Err(cx.refused_field(place, format!("the cluster {:?} cannot be of type EDS", ads.cluster)))
        }
        Some(_) => Ok(()),
    }
}

/// The file for events of outlier detection.
fn read_cluster_manager(cx: &mut Context, message: &Option<pb::ClusterManager>) -> Result<Option<Arc<str>>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("cluster_manager", |cx| {
        let pb::ClusterManager {
            local_cluster_name,
            outlier_detection,
            upstream_bind_config,
            load_stats_config,
            enable_deferred_cluster_creation,
        } = message;
        refuse!(cx, "upstream connections come from the system's choice of address"; upstream_bind_config);
        report!(cx, "zones do not steer calls yet"; local_cluster_name);
        report!(cx, "loads are not reported"; load_stats_config);
        report!(cx, "clusters are made when they come"; enable_deferred_cluster_creation);
        let Some(outliers) = outlier_detection else {
            cx.note("names no file for events");
            return Ok(None);
        };
        cx.field("outlier_detection", |cx| {
            let pb::cluster_manager::OutlierDetection { event_log_path, event_service } = outliers;
            report!(cx, "events go to event_log_path only"; event_service);
            if event_log_path.is_empty() {
                cx.note("names no file for events");
                return Ok(None);
            }
            Ok(Some(event_log_path.as_str().into()))
        })
    })
}

fn read_admin(cx: &mut Context, message: &Option<pb::Admin>) -> Result<Option<Admin>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("admin", |cx| {
        let pb::Admin {
            access_log,
            access_log_path,
            profile_path,
            address,
            socket_options,
            ignore_global_conn_limit,
            allow_paths,
        } = message;
        refuse!(cx, "is not supported: every page would be open"; allow_paths);
        refuse!(cx, "socket options are not supported"; socket_options);
        report!(cx, "calls of the admin server are not logged"; access_log, access_log_path);
        report!(cx, "no profiles are written"; profile_path);
        report!(cx, "there is no overload manager"; ignore_global_conn_limit);
        match address {
            None => Ok(None),
            Some(address) => {
                Ok(Some(Admin { address: cx.field("address", |cx| read_address(cx, address, false))? }))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::cluster::tests::eds;
    use crate::read::listener::tests::{listener, socket};
    use crate::read::load_assignment::tests::{assignment, endpoint};
    use protos::envoy::envoy::config::cluster::v3::Cluster;
    use protos::envoy::envoy::config::core::v3 as core;

    fn xds_cluster() -> Cluster {
        let load_assignment = Some(assignment("xds-grpc", vec![endpoint("127.0.0.1", 15012)]));
        let http2_protocol_options = Some(Default::default());
        Cluster { name: "xds-grpc".into(), load_assignment, http2_protocol_options, ..Default::default() }
    }

    fn bootstrap() -> pb::Bootstrap {
        let target = core::grpc_service::EnvoyGrpc { cluster_name: "xds-grpc".into(), ..Default::default() };
        let service = core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(target)),
            ..Default::default()
        };
        let ads = core::ApiConfigSource {
            api_type: 3,
            transport_api_version: 2,
            grpc_services: vec![service],
            ..Default::default()
        };
        let source = || {
            let specifier = Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default()));
            Some(core::ConfigSource { config_source_specifier: specifier, ..Default::default() })
        };
        let resources = pb::bootstrap::StaticResources {
            listeners: vec![listener()],
            clusters: vec![xds_cluster()],
            secrets: vec![],
        };
        pb::Bootstrap {
            node: Some(core::Node {
                id: "sidecar~127.1.0.1~a.b~b.svc.cluster.local".into(),
                ..Default::default()
            }),
            admin: Some(pb::Admin { address: Some(socket("127.0.0.1", 15000)), ..Default::default() }),
            static_resources: Some(resources),
            dynamic_resources: Some(pb::bootstrap::DynamicResources {
                lds_config: source(),
                cds_config: source(),
                ads_config: Some(ads),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn read(change: impl FnOnce(&mut pb::Bootstrap)) -> Result<crate::Read<Bootstrap>> {
        let mut message = bootstrap();
        change(&mut message);
        Context::read(|cx| read_bootstrap(cx, &message))
    }

    #[test]
    fn reads_a_bootstrap() {
        let read = read(|message| message.stats_flush_interval = Some(Default::default())).unwrap();
        let ads = read.value.ads.unwrap();
        assert_eq!((&*ads.cluster, ads.protocol), ("xds-grpc", crate::model::AdsProtocol::Delta));
        assert!(ads.listeners && ads.clusters);
        assert_eq!(read.value.admin.unwrap().address.to_string(), "127.0.0.1:15000");
        assert_eq!((read.value.listeners.len(), read.value.clusters.len()), (1, 1));
        assert_eq!(read.notes[0].path, "stats_flush_interval");
    }

    #[test]
    fn refuses_what_would_not_hold() {
        assert_eq!(
            read(|message| message.overload_manager = Some(Default::default())).unwrap_err().path,
            "overload_manager"
        );
        let gone = read(|message| message.static_resources = None).unwrap_err();
        assert_eq!(gone.path, "dynamic_resources.ads_config.grpc_services");
        let other = read(|message| {
            message.static_resources.as_mut().unwrap().clusters[0] =
                Cluster { name: "xds-grpc".into(), ..eds("xds-grpc") };
        });
        assert!(other.unwrap_err().reason.contains("EDS"));
        let paths = read(|message| message.admin.as_mut().unwrap().allow_paths = vec![Default::default()]);
        assert_eq!(paths.unwrap_err().path, "admin.allow_paths");
    }

    #[test]
    fn the_file_for_ejections_is_read_and_what_else_a_cluster_manager_says_is_not_silent() {
        let outlier_detection = Some(pb::cluster_manager::OutlierDetection {
            event_log_path: "/var/log/outliers".to_owned(),
            event_service: Some(Default::default()),
        });
        let manager = pb::ClusterManager {
            outlier_detection,
            local_cluster_name: "here".to_owned(),
            ..Default::default()
        };
        let read_one = read(|message| message.cluster_manager = Some(manager.clone())).unwrap();
        assert_eq!(read_one.value.outlier_event_log.as_deref(), Some("/var/log/outliers"));
        assert_eq!(read_one.notes.len(), 2);
        let bound = pb::ClusterManager { upstream_bind_config: Some(Default::default()), ..manager };
        let refused = read(|message| message.cluster_manager = Some(bound)).unwrap_err();
        assert_eq!(refused.path, "cluster_manager.upstream_bind_config");
    }

    #[test]
    fn an_unnamed_static_listener_is_called_after_its_address() {
        let read =
            read(|message| message.static_resources.as_mut().unwrap().listeners[0].name.clear()).unwrap();
        assert_eq!(&*read.value.listeners[0].name, "127.1.0.1:8080");
    }
}
