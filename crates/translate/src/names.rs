//! Names of clusters and routes, as Istio writes them.

/// Name of an outbound cluster: `outbound|8080|stable|payment.production.svc.cluster.local`.
pub fn outbound_cluster(port: u32, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Name of the cluster that leads to the app: `inbound|8080||`.
pub fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// SNI under which a cluster is called: `outbound_.8080_.stable_.payment.production.svc.cluster.local`.
pub fn sni(port: u32, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Route configuration of the HTTP proxy listener.
pub const HTTP_PROXY_ROUTE: &str = "http_proxy";

/// Port, subset and host of an outbound cluster's name; `None` for any other name.
pub fn parse_outbound_cluster(name: &str) -> Option<(u16, &str, &str)> {
    let mut parts = name.split('|');
    let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if direction != "outbound" || parts.next().is_some() {
        return None;
    }
    Some((port.parse().ok()?, subset, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbound_names_are_read_back() {
        let name = outbound_cluster(8080, "stable", "a.b.svc.cluster.local");
        assert_eq!(parse_outbound_cluster(&name), Some((8080, "stable", "a.b.svc.cluster.local")));
        for other in ["inbound|8080||", "outbound|x||h", "outbound|1||h|more", "PassthroughCluster", ""] {
            assert_eq!(parse_outbound_cluster(other), None, "{other}");
        }
    }
}
