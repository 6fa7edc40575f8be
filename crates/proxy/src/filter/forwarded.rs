//! `x-forwarded-for`, `x-forwarded-proto` and Envoy's internal headers: what the client may say about itself.
//!
//! As Envoy: with `use_remote_address` the connection is the truth (edge); without it the peer is one of ours and has
//! written these headers. `x-envoy-internal` is never believed nor set; an internal address may force a trace, no more.

use std::net::{IpAddr, SocketAddr};

use config::model::HttpConnectionManager;

use crate::http::Headers;
use crate::telemetry::trace::sampling::FORCE_TRACE;

/// Headers by which a client could steer this proxy or its neighbours: removed from every request.
const STEERING: [&str; 19] = [
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "x-envoy-original-url",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-attempt-count",
    "x-envoy-is-timeout-retry",
];

/// Removed at the edge only: inside the mesh they come from a sidecar.
const AT_THE_EDGE: [&str; 6] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
];

/// What the headers and the connection say about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address, where the headers give one that is trusted; port 0 means that it came from a header.
    pub address: SocketAddr,
    /// The request comes from outside the mesh.
    pub from_outside: bool,
}

/// Rewrites the headers as the connection manager's configuration says. `tls`: the downstream connection is encrypted.
pub fn apply(headers: &mut Headers, config: &HttpConnectionManager, remote: SocketAddr, tls: bool) -> Client {
    let from_outside = config.use_remote_address;
    // One pass finds nearly always that there is nothing to remove.
    if headers.iter().any(|(name, _)| has_prefix(name, b"x-envoy-")) {
        let may_force = is_internal(headers, config, remote);
        headers.retain(|name, _| {
            let named = |list: &[&str]| list.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
            let forces = may_force && name.eq_ignore_ascii_case(FORCE_TRACE.as_bytes());
            forces || !(named(&STEERING) || (from_outside && named(&AT_THE_EDGE)))
        });
    }
    let scheme = if tls { "https" } else { "http" };
    let hops = config.xff_num_trusted_hops as usize;
    if !config.use_remote_address {
        if !headers.contains("x-forwarded-proto") {
            headers.append_known("x-forwarded-proto", scheme);
        }
        let address = address_from_right(headers, hops).map_or(remote, |ip| SocketAddr::new(ip, 0));
        return Client { address, from_outside };
    }
    let trusted = if hops == 0 { None } else { address_from_right(headers, hops - 1) };
    let address = trusted.map_or(remote, |ip| SocketAddr::new(ip, 0));
    if !config.skip_xff_append {
        append_address(headers, remote.ip());
    }
    if hops == 0 || !headers.contains("x-forwarded-proto") {
        headers.set_known("x-forwarded-proto", scheme);
    }
    headers.set_known("x-envoy-external-address", address.ip().to_string());
    Client { address, from_outside }
}

/// Whether the client may force a trace: it has one address, and that is internal.
fn is_internal(headers: &Headers, config: &HttpConnectionManager, remote: SocketAddr) -> bool {
    let ranges = &config.internal_addresses;
    if ranges.is_empty() {
        return false;
    }
    let address = match (config.use_remote_address, headers.contains("x-forwarded-for")) {
        (true, false) => Some(remote.ip()),
        (false, true) if address_from_right(headers, 1).is_none() => address_from_right(headers, 0),
        _ => None,
    };
    address.is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The address at that position from the right of all `x-forwarded-for` lines; `None` when it is no address.
fn address_from_right(headers: &Headers, position: usize) -> Option<IpAddr> {
    let mut seen = 0;
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").collect();
    for line in lines.into_iter().rev() {
        for part in line.rsplit(|byte| *byte == b',') {
            if seen == position {
                return std::str::from_utf8(part).ok()?.trim().parse().ok();
            }
            seen += 1;
        }
    }
    None
}

/// Appends to the last line, as Envoy does, so that the order of all addresses stays.
fn append_address(headers: &mut Headers, address: IpAddr) {
    let all: Vec<&[u8]> = headers.get_all("x-forwarded-for").collect();
    if all.is_empty() {
        headers.append_known("x-forwarded-for", address.to_string());
        return;
    }
    let mut joined = all.join(&b","[..]);
    joined.push(b',');
    joined.extend_from_slice(address.to_string().as_bytes());
    headers.set_known("x-forwarded-for", joined);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::manager;

    fn remote() -> SocketAddr {
        "10.0.0.9:4000".parse().unwrap()
    }

    fn run(
        fields: &[(&'static str, &'static str)],
        edit: impl FnOnce(&mut HttpConnectionManager),
    ) -> (Headers, Client) {
        let mut headers: Headers = fields.iter().copied().collect();
        let mut config = manager();
        edit(&mut config);
        let client = apply(&mut headers, &config, remote(), false);
        (headers, client)
    }

    #[test]
    fn inside_the_mesh_the_peers_headers_stay() {
        let (headers, client) = run(
            &[
                ("X-Forwarded-For", "1.1.1.1, 2.2.2.2"),
                ("x-forwarded-proto", "https"),
                ("x-envoy-decorator-operation", "a"),
            ],
            |_| {},
        );
        assert_eq!(headers.get_str("x-forwarded-for"), Some("1.1.1.1, 2.2.2.2"));
        assert_eq!(headers.get_str("x-forwarded-proto"), Some("https"));
        assert_eq!(headers.get_str("x-envoy-decorator-operation"), Some("a"));
        assert_eq!(client.address, "2.2.2.2:0".parse().unwrap());
        let (headers, client) = run(&[("x-forwarded-for", "not an address")], |_| {});
        assert_eq!((headers.get_str("x-forwarded-proto"), client.address), (Some("http"), remote()));
    }

    #[test]
    fn at_the_edge_the_connection_is_the_truth() {
        let (headers, client) = run(
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-proto", "https"),
                ("x-envoy-peer-metadata", "forged"),
            ],
            |config| config.use_remote_address = true,
        );
        assert_eq!(headers.get_str("x-forwarded-for"), Some("6.6.6.6,10.0.0.9"));
        assert_eq!(headers.get_str("x-forwarded-proto"), Some("http"));
        assert_eq!(headers.get_str("x-envoy-external-address"), Some("10.0.0.9"));
        assert!(!headers.contains("x-envoy-peer-metadata"));
        assert_eq!(client, Client { address: remote(), from_outside: true });
    }

    #[test]
    fn trusted_hops_are_counted_from_the_right() {
        let (headers, client) =
            run(&[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2")], |config| {
                config.use_remote_address = true;
                config.xff_num_trusted_hops = 2;
            });
        assert_eq!(client.address, "1.1.1.1:0".parse().unwrap());
        assert_eq!(headers.get_str("x-forwarded-for"), Some("6.6.6.6, 1.1.1.1,2.2.2.2,10.0.0.9"));
    }

    #[test]
    fn one_internal_address_may_force_a_trace() {
        let forced = |fields: &[(&'static str, &'static str)], at_the_edge: bool| {
            let mut all = vec![(FORCE_TRACE, "1"), ("x-envoy-retry-on", "5xx")];
            all.extend(fields);
            let (headers, _) = run(&all, |config| {
                config.internal_addresses = vec!["10.0.0.0/8".parse().unwrap()];
                config.use_remote_address = at_the_edge;
            });
            assert!(!headers.contains("x-envoy-retry-on"));
            headers.contains(FORCE_TRACE)
        };
        assert!(forced(&[("x-forwarded-for", "10.1.1.1")], false) && forced(&[], true));
        assert!(!forced(&[], false) && !forced(&[("x-forwarded-for", "11.1.1.1")], false));
        assert!(!forced(&[("x-forwarded-for", "10.1.1.1, 10.1.1.2")], false));
        assert!(!forced(&[("x-forwarded-for", "10.1.1.1")], true));
        let (headers, _) = run(&[(FORCE_TRACE, "1"), ("x-forwarded-for", "10.1.1.1")], |_| {});
        assert!(!headers.contains(FORCE_TRACE), "no address is internal unless somebody says so");
    }

    #[test]
    fn steering_headers_never_pass() {
        for name in STEERING {
            let (headers, _) = run(&[(name, "1"), ("x-envoyage", "kept")], |_| {});
            assert!(!headers.contains(name), "{name}");
            assert!(headers.contains("x-envoyage"));
        }
    }
}
