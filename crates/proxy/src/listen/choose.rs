//! Which filter chain takes a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::model::{CidrRange, FilterChainMatch, SourceType};

use super::chain::{ActiveListener, Chain};
use super::inspect::Seen;

/// What is known about a connection before its chain is chosen.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
    /// What its first bytes say.
    pub seen: &'a Seen,
}

/// The chain for a connection, by Envoy's rules: one criterion after the other, the most specific match of each is
/// kept and the others are forgotten, without coming back (`FilterChainMatch`, "The following order applies").
pub fn filter_chain<'a>(listener: &'a ActiveListener, asked: &Asked<'_>) -> Option<&'a Arc<Chain>> {
    let mut candidates: Vec<&Arc<Chain>> = listener.chains.iter().collect();
    let criteria: [fn(&FilterChainMatch, &Asked<'_>) -> Option<usize>; 9] = [
        |m, asked| one_of(m.destination_port.as_slice(), &asked.local.port()),
        |m, asked| within(&m.prefix_ranges, asked.local.ip()),
        |m, asked| server_name(&m.server_names, asked.seen.sni.as_deref()),
        |m, asked| text(&m.transport_protocol, if asked.seen.tls { "tls" } else { "raw_buffer" }),
        |m, asked| protocol(&m.application_protocols, &asked.seen.alpn),
        |m, asked| within(&m.direct_source_prefix_ranges, asked.remote.ip()),
        |m, asked| source_type(m.source_type, asked),
        |m, asked| within(&m.source_prefix_ranges, asked.remote.ip()),
        |m, asked| one_of(&m.source_ports, &asked.remote.port()),
    ];
    for criterion in criteria {
        let best = candidates.iter().filter_map(|chain| criterion(&chain.config.matcher, asked)).max();
        candidates.retain(|chain| best.is_some() && criterion(&chain.config.matcher, asked) == best);
    }
    candidates.first().copied().or(listener.default.as_ref())
}

// Each answers how specific the match is; 0: no condition; `None`: no match.

fn one_of<T: PartialEq>(allowed: &[T], value: &T) -> Option<usize> {
    if allowed.is_empty() { Some(0) } else { allowed.contains(value).then_some(1) }
}

fn text(wanted: &str, value: &str) -> Option<usize> {
    if wanted.is_empty() { Some(0) } else { (wanted == value).then_some(1) }
}

fn within(ranges: &[CidrRange], address: IpAddr) -> Option<usize> {
    if ranges.is_empty() {
        return Some(0);
    }
    ranges
        .iter()
        .filter(|range| range.contains(&address))
        .map(|range| usize::from(range.prefix_len()) + 1)
        .max()
}

fn server_name(wanted: &[Arc<str>], name: Option<&str>) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let name = name?;
    wanted
        .iter()
        .filter_map(|wanted| match wanted.strip_prefix('*') {
            Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len()),
            None => (name == &**wanted).then_some(usize::MAX),
        })
        .max()
}

fn protocol(wanted: &[Arc<str>], offered: &[String]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    offered.iter().any(|name| wanted.iter().any(|wanted| **wanted == **name)).then_some(1)
}

fn source_type(wanted: SourceType, asked: &Asked<'_>) -> Option<usize> {
    let near = asked.remote.ip().is_loopback() || asked.remote.ip() == asked.local.ip();
    match wanted {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => near.then_some(1),
        SourceType::External => (!near).then_some(1),
    }
}
