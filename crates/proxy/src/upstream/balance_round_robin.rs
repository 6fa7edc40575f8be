//! `ROUND_ROBIN`: in turn; with different weights earliest deadline first, so that turns are spread evenly.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use super::host_set::{HostGroup, HostSet};
use crate::telemetry::Random;

/// Deadlines are whole numbers in this unit divided by the weight.
const UNIT: u64 = 1 << 32;

/// One worker's places in the turns of one cluster. Starts at a random host, so that workers and proxies do not march
/// in step.
#[derive(Debug, Default)]
pub struct Turns {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    of: Weak<HostSet>,
    groups: Vec<Place>,
}

/// The place in one group.
#[derive(Debug, Default)]
struct Place {
    next: usize,
    deadlines: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Turns {
    /// Position of a host in that group of the set.
    pub fn pick(&self, hosts: &Arc<HostSet>, group: usize, random: &Random) -> usize {
        let mut state = self.state.borrow_mut();
        if !std::ptr::eq(state.of.as_ptr(), Arc::as_ptr(hosts)) {
            state.of = Arc::downgrade(hosts);
            state.groups = hosts.groups.iter().map(|group| Place::new(group, random)).collect();
        }
        match (state.groups.get_mut(group), hosts.groups.get(group)) {
            (Some(place), Some(group)) => place.pick(group, random),
            _ => 0,
        }
    }
}

impl Place {
    fn new(group: &HostGroup, random: &Random) -> Self {
        let next = random.below(group.hosts.len() as u64) as usize;
        let mut deadlines = BinaryHeap::new();
        if group.total_weight().is_some() {
            for (position, host) in group.hosts.iter().enumerate() {
                deadlines.push(Reverse((random.below(UNIT / u64::from(host.weight())), position)));
            }
        }
        Place { next, deadlines }
    }

    fn pick(&mut self, group: &HostGroup, random: &Random) -> usize {
        if let Some(Reverse((deadline, position))) = self.deadlines.pop() {
            if deadline > u64::MAX / 2 {
                *self = Place::new(group, random);
                return position;
            }
            let weight = group.hosts.get(position).map_or(1, |host| u64::from(host.weight()));
            self.deadlines.push(Reverse((deadline.saturating_add(UNIT / weight), position)));
            return position;
        }
        let position = self.next % group.hosts.len().max(1);
        self.next = position + 1;
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::hosts;

    #[test]
    fn equal_hosts_take_turns() {
        let (hosts, random, turns) = (hosts(&[1, 1, 1]), Random::seeded(1), Turns::default());
        let picks: Vec<_> = (0..6).map(|_| turns.pick(&hosts, 0, &random)).collect();
        assert_eq!(picks[..3], picks[3..]);
        let mut once = picks[..3].to_vec();
        once.sort_unstable();
        assert_eq!(once, [0, 1, 2]);
    }

    #[test]
    fn weights_are_exact_over_a_round_and_spread() {
        let (hosts, random, turns) = (hosts(&[1, 4]), Random::seeded(1), Turns::default());
        let picks: Vec<_> = (0..500).map(|_| turns.pick(&hosts, 0, &random)).collect();
        let first = picks.iter().filter(|pick| **pick == 0).count();
        assert!((99..=101).contains(&first), "{first}");
        let longest = picks.split(|pick| *pick == 0).map(<[usize]>::len).max();
        assert!(longest <= Some(5), "the light host waits at most one round: {longest:?}");
    }

    #[test]
    fn a_new_set_of_hosts_starts_anew() {
        let (one, two, random, turns) = (hosts(&[1, 2, 3]), hosts(&[1]), Random::seeded(1), Turns::default());
        turns.pick(&one, 0, &random);
        assert_eq!(turns.pick(&two, 0, &random), 0);
    }
}
