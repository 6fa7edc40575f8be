//! The resource types whose order on the wire matters, and that order.
//!
//! Make before break: clusters go first, then their endpoints, then what points at them.

/// Type URL of certificates and trust bundles.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Type URL of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of endpoints.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type URL of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type URL of route configurations.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Place in the push order: smaller goes first. Types that nothing here knows go last.
pub fn rank(type_url: &str) -> u8 {
    match type_url {
        SECRET => 0,
        CLUSTER => 1,
        ENDPOINT => 2,
        LISTENER => 3,
        ROUTE => 4,
        _ => 5,
    }
}

/// Key that sorts types in push order.
pub type TypeKey = (u8, String);

/// The key of a type.
pub fn key(type_url: &str) -> TypeKey {
    (rank(type_url), type_url.to_owned())
}

/// Whether a state-of-the-world response of this type is the full set, so that absence means removal, and whether an
/// empty first subscription means "everything" (xDS protocol: Listener and Cluster only).
pub fn is_full_set(type_url: &str) -> bool {
    matches!(type_url, LISTENER | CLUSTER)
}

/// Short lower-case name of a type for metrics and logs: `cds`, `eds`, `lds`, `rds`, `sds`; `other` for the rest.
pub fn short_name(type_url: &str) -> &'static str {
    match type_url {
        SECRET => "sds",
        CLUSTER => "cds",
        ENDPOINT => "eds",
        LISTENER => "lds",
        ROUTE => "rds",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_at_goes_before_what_points() {
        let mut types = [ROUTE, "type.googleapis.com/x.Y", LISTENER, ENDPOINT, CLUSTER].map(key);
        types.sort();
        let order: Vec<_> = types.iter().map(|(_, url)| short_name(url)).collect();
        assert_eq!(order, ["cds", "eds", "lds", "rds", "other"]);
    }

    #[test]
    fn urls_are_those_of_the_messages() {
        use protos::envoy::envoy as pb;
        assert_eq!(CLUSTER, protos::any::type_url::<pb::config::cluster::v3::Cluster>());
        assert_eq!(ENDPOINT, protos::any::type_url::<pb::config::endpoint::v3::ClusterLoadAssignment>());
        assert_eq!(LISTENER, protos::any::type_url::<pb::config::listener::v3::Listener>());
        assert_eq!(ROUTE, protos::any::type_url::<pb::config::route::v3::RouteConfiguration>());
        assert_eq!(SECRET, protos::any::type_url::<pb::extensions::transport_sockets::tls::v3::Secret>());
    }
}
