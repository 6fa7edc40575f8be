//! The order of a request's hops, from the hops themselves: whose connection a call came in on, and which calls a
//! workload made while it answered one. Clocks are only compared where one proxy wrote both times.

use std::collections::{BTreeMap, BTreeSet};

use protos::observe::Story;

/// A story with the proxy that told it.
pub type Told = (String, Story);

/// The place of one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its position in what was told.
    pub index: usize,
    /// How many hops lead to it.
    pub depth: usize,
    /// The try of the hop before it to which it belongs, from 1; 0: nothing leads to it.
    pub attempt: usize,
}

/// The hop, and the try of it, that leads to another hop.
type Parent = (usize, usize);

/// The order of a request's way. What nothing leads to begins a way of its own; those stand in the order of their
/// machines' clocks, which is all that is left.
pub fn order(told: &[Told]) -> Vec<Place> {
    let parents = parents(told);
    let mut children: BTreeMap<usize, Vec<(usize, u64, usize)>> = BTreeMap::new();
    for (child, (parent, attempt)) in &parents {
        children.entry(*parent).or_default().push((*attempt, told[*child].1.began, *child));
    }
    let began = |index: &usize| (told[*index].1.began, told[*index].1.direction == "inbound");
    let mut roots: Vec<usize> = (0..told.len()).filter(|index| !parents.contains_key(index)).collect();
    // What says that it follows from itself begins somewhere all the same.
    let mut rest: Vec<usize> = (0..told.len()).filter(|index| parents.contains_key(index)).collect();
    roots.sort_by_key(began);
    rest.sort_by_key(began);
    let (mut placed, mut seen) = (Vec::new(), BTreeSet::new());
    for root in roots.into_iter().chain(rest) {
        let mut stack = vec![Place { index: root, depth: 0, attempt: 0 }];
        while let Some(place) = stack.pop() {
            if !seen.insert(place.index) {
                continue;
            }
            placed.push(place);
            let mut next = children.get(&place.index).cloned().unwrap_or_default();
            next.sort_unstable();
            let places = next.into_iter().rev().map(|(attempt, _, index)| Place {
                index,
                depth: place.depth + 1,
                attempt: attempt + 1,
            });
            stack.extend(places);
        }
    }
    placed
}

fn parents(told: &[Told]) -> BTreeMap<usize, Parent> {
    let mut parents = by_connection(told);
    for (index, (proxy, story)) in told.iter().enumerate().filter(|(_, it)| it.1.direction == "outbound") {
        let during = |other: &&(usize, &Told)| {
            let (of, inbound) = other.1;
            of == proxy
                && inbound.direction == "inbound"
                && inbound.began <= story.began
                && story.began <= inbound.began + inbound.ended
        };
        let around: Vec<_> = told.iter().enumerate().collect();
        let latest = around.iter().filter(during).max_by_key(|(_, (_, inbound))| inbound.began);
        if let Some((inbound, _)) = latest {
            parents.insert(index, (*inbound, 0));
        }
    }
    parents
}

/// Calls that came in on a connection which a try of another hop was sent on. Where a connection carried several of
/// them, both of its ends saw them in the same order.
fn by_connection(told: &[Told]) -> BTreeMap<usize, Parent> {
    let mut sent: BTreeMap<&str, Vec<(u64, Parent)>> = BTreeMap::new();
    let mut hosts: BTreeMap<&str, Vec<(u64, Parent)>> = BTreeMap::new();
    for (index, (_, story)) in told.iter().enumerate().filter(|(_, it)| it.1.direction == "outbound") {
        for (number, one) in story.tries.iter().enumerate().filter(|(_, one)| !one.local.is_empty()) {
            let at = (story.began + one.began, (index, number));
            sent.entry(&one.local).or_default().push(at);
            hosts.entry(&one.host).or_default().push(at);
        }
    }
    let mut came: Vec<usize> =
        (0..told.len()).filter(|index| told[*index].1.direction == "inbound").collect();
    came.sort_by_key(|index| told[*index].1.began);
    let (mut parents, mut taken) = (BTreeMap::new(), BTreeSet::new());
    // An address that was translated on the way is no help: then the called address has to do.
    let by_peer: fn(&Story) -> &str = |story| &story.peer_address;
    let by_host: fn(&Story) -> &str = |story| &story.local_address;
    for (tries, key) in [(&mut sent, by_peer), (&mut hosts, by_host)] {
        tries.values_mut().for_each(|all| all.sort_unstable());
        for index in &came {
            if parents.contains_key(index) {
                continue;
            }
            let all = tries.get(key(&told[*index].1)).map(Vec::as_slice).unwrap_or_default();
            if let Some((_, parent)) = all.iter().find(|(_, parent)| !taken.contains(parent)) {
                taken.insert(*parent);
                parents.insert(*index, *parent);
            }
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::observe::Try;

    fn inbound(proxy: &str, began: u64, peer: &str, local: &str) -> Told {
        let story = Story {
            began,
            ended: 1_000,
            direction: "inbound".to_owned(),
            peer_address: peer.to_owned(),
            local_address: local.to_owned(),
            ..Story::default()
        };
        (proxy.to_owned(), story)
    }

    fn outbound(proxy: &str, began: u64, tries: &[(&str, &str)]) -> Told {
        let tries = (0..).zip(tries).map(|(number, (local, host))| Try {
            local: (*local).to_owned(),
            host: (*host).to_owned(),
            began: number,
            ..Try::default()
        });
        let story = Story {
            began,
            ended: 900,
            direction: "outbound".to_owned(),
            tries: tries.collect(),
            ..Story::default()
        };
        (proxy.to_owned(), story)
    }

    fn shown(told: &[Told]) -> Vec<String> {
        let place = |place: Place| {
            let (proxy, story) = &told[place.index];
            format!("{} {proxy} {} {}", place.depth, &story.direction[..2], place.attempt)
        };
        order(told).into_iter().map(place).collect()
    }

    #[test]
    fn a_chain_stands_in_order_though_every_clock_is_wrong() {
        let told = [
            inbound("c", 5, "b:7", "c:80"),
            outbound("b", 90_100, &[("b:7", "c:80")]),
            inbound("b", 90_000, "a:5", "b:80"),
            outbound("a", 1_000_000, &[("a:5", "b:80")]),
        ];
        assert_eq!(shown(&told), ["0 a ou 0", "1 b in 1", "2 b ou 1", "3 c in 1"]);
    }

    #[test]
    fn retries_and_several_calls_branch() {
        let told = [
            inbound("c2", 1, "a:6", "c2:80"),
            inbound("c1", 9, "a:5", "c1:80"),
            outbound("a", 50, &[("a:5", "c1:80"), ("a:6", "c2:80")]),
        ];
        assert_eq!(shown(&told), ["0 a ou 0", "1 c1 in 1", "1 c2 in 2"]);
        // Two calls of one request on one connection: each end knows their order.
        let told = [
            inbound("b", 70, "a:5", "b:80"),
            inbound("b", 60, "a:5", "b:80"),
            outbound("a", 500, &[("a:5", "b:80")]),
            outbound("a", 400, &[("a:5", "b:80")]),
        ];
        let places = order(&told);
        assert_eq!(places.iter().map(|it| it.index).collect::<Vec<_>>(), [3, 1, 2, 0]);
    }

    #[test]
    fn behind_translated_addresses_the_called_address_leads() {
        let told = [inbound("b", 1, "nat:9", "b:80"), outbound("a", 500, &[("a:5", "b:80")])];
        assert_eq!(shown(&told), ["0 a ou 0", "1 b in 1"]);
        let told = [inbound("b", 1, "nat:9", "b:80"), outbound("a", 500, &[("a:5", "nat:80")])];
        assert_eq!(shown(&told), ["0 b in 0", "0 a ou 0"], "nothing leads from one to the other");
    }

    #[test]
    fn what_follows_from_itself_ends() {
        let told = [inbound("a", 5, "a:5", "a:80"), outbound("a", 5, &[("a:5", "a:80")])];
        assert_eq!(order(&told).len(), 2);
    }
}
