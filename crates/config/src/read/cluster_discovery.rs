//! Where the endpoints of a cluster come from.

use super::config_source::read_ads_source;
use super::load_assignment::read_load_assignment;
use super::name::name;
use crate::context::{Context, Result};
use crate::model::{Address, Discovery};
use protos::envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::google::protobuf::Duration as PbDuration;
use std::sync::Arc;
use std::time::Duration;

/// Envoy's default of `dns_refresh_rate`.
const REFRESH: Duration = Duration::from_secs(5);

/// Reads the discovery type with the fields that belong to it; fields of another type are refused.
pub fn read_discovery(
    cx: &mut Context,
    kind: &Option<ClusterDiscoveryType>,
    eds: &Option<EdsClusterConfig>,
    assignment: &Option<ClusterLoadAssignment>,
    refresh: &Option<PbDuration>,
) -> Result<Discovery> {
    let kind = match kind {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => cx.enumeration("type", *kind)?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let reason = format!("the cluster type {:?} is not supported", custom.name);
            return Err(cx.refused_field("cluster_type", reason));
        }
    };
    if kind != DiscoveryType::Eds {
        cx.refuse_set("eds_cluster_config", eds, "stands beside a type that is not EDS")?;
    } else {
        cx.refuse_set("load_assignment", assignment, "stands beside the type EDS")?;
    }
    if kind != DiscoveryType::StrictDns {
        cx.report_set("dns_refresh_rate", refresh, "the cluster has no DNS names");
    }
    match kind {
        DiscoveryType::Static | DiscoveryType::StrictDns => {
            let names = kind == DiscoveryType::StrictDns;
            let message = cx.required("load_assignment", assignment)?;
            let read = cx.field("load_assignment", |cx| read_load_assignment(cx, message, names))?;
            if names {
                let refresh = cx
                    .duration("dns_refresh_rate", refresh)?
                    .unwrap_or(REFRESH)
                    .max(Duration::from_millis(1));
                return Ok(Discovery::StrictDns { assignment: Arc::new(read), refresh });
            }
            debug_assert!(read.endpoints().all(|endpoint| !matches!(endpoint.address, Address::Name { .. })));
            Ok(Discovery::Static(Arc::new(read)))
        }
        DiscoveryType::Eds => {
            let EdsClusterConfig { eds_config, service_name } = cx.required("eds_cluster_config", eds)?;
            cx.field("eds_cluster_config", |cx| {
                read_ads_source(cx, "eds_config", eds_config)?;
                Ok(Discovery::Eds { service_name: name(cx, "service_name", service_name)? })
            })
        }
        DiscoveryType::OriginalDst => Err(cx.refused_field(
            "type",
            "ORIGINAL_DST is not supported yet: traffic is not captured by redirection",
        )),
        DiscoveryType::LogicalDns => {
            Err(cx.refused_field("type", "LOGICAL_DNS is not supported: use STRICT_DNS"))
        }
    }
}
