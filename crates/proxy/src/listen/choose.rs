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

/// The chain of a listener for a connection.
pub fn filter_chain<'a>(listener: &'a ActiveListener, asked: &Asked<'_>) -> Option<&'a Arc<Chain>> {
    let matchers: Vec<&FilterChainMatch> =
        listener.chains.iter().map(|chain| &chain.config.matcher).collect();
    pick(&matchers, asked).and_then(|index| listener.chains.get(index)).or(listener.default.as_ref())
}

/// The position of the match that takes a connection, by Envoy's rules: one criterion after the other, the most specific match of each is
/// kept and the others are forgotten, without coming back (`FilterChainMatch`, "The following order applies").
fn pick(matchers: &[&FilterChainMatch], asked: &Asked<'_>) -> Option<usize> {
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
    let mut candidates: Vec<(usize, &FilterChainMatch)> = matchers.iter().copied().enumerate().collect();
    for criterion in criteria {
        let best = candidates.iter().filter_map(|(_, matcher)| criterion(matcher, asked)).max()?;
        candidates.retain(|(_, matcher)| criterion(matcher, asked) == Some(best));
    }
    candidates.first().map(|(index, _)| *index)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(matchers: &[FilterChainMatch], seen: &Seen) -> Option<usize> {
        let (local, remote) = ("10.0.0.1:8080".parse().unwrap(), "10.0.0.9:40000".parse().unwrap());
        let all: Vec<&FilterChainMatch> = matchers.iter().collect();
        pick(&all, &Asked { local, remote, seen })
    }

    fn tls(alpn: &[&str]) -> FilterChainMatch {
        FilterChainMatch {
            transport_protocol: "tls".into(),
            application_protocols: alpn.iter().map(|name| (*name).into()).collect(),
            ..FilterChainMatch::default()
        }
    }

    #[test]
    fn permissive_tells_mesh_tls_from_other_tls_from_plaintext() {
        let raw = FilterChainMatch { transport_protocol: "raw_buffer".into(), ..FilterChainMatch::default() };
        let matchers = [tls(&["istio", "istio-http/1.1"]), tls(&[]), raw];
        let hello = |alpn: &str| Seen { tls: true, sni: None, alpn: vec![alpn.to_owned()] };
        assert_eq!(chosen(&matchers, &hello("istio")), Some(0));
        assert_eq!(chosen(&matchers, &hello("http/1.1")), Some(1));
        assert_eq!(chosen(&matchers, &Seen::default()), Some(2));
        assert_eq!(chosen(&matchers[..2], &Seen::default()), None, "STRICT takes no plaintext");
    }

    #[test]
    fn the_most_specific_wins_and_there_is_no_way_back() {
        let name =
            |name: &str| FilterChainMatch { server_names: vec![name.into()], ..FilterChainMatch::default() };
        let matchers = [name("*.example.com"), name("a.example.com"), FilterChainMatch::default()];
        let hello = |sni: &str| Seen { tls: true, sni: Some(sni.to_owned()), alpn: Vec::new() };
        assert_eq!(chosen(&matchers, &hello("a.example.com")), Some(1));
        assert_eq!(chosen(&matchers, &hello("b.example.com")), Some(0));
        assert_eq!(chosen(&matchers, &hello("example.com")), Some(2));

        let port = FilterChainMatch { destination_port: Some(8080), ..tls(&[]) };
        let any = FilterChainMatch::default();
        assert_eq!(
            chosen(&[port, any], &Seen::default()),
            None,
            "the port was more specific, its protocol fails"
        );
        let network = |range: &str| FilterChainMatch {
            prefix_ranges: vec![range.parse().unwrap()],
            ..FilterChainMatch::default()
        };
        assert_eq!(chosen(&[network("10.0.0.0/8"), network("10.0.0.1/32")], &Seen::default()), Some(1));
        assert_eq!(chosen(&[network("192.168.0.0/16")], &Seen::default()), None);
    }
}
