//! Counting, ejecting, returning: with Envoy's arithmetic, over threads, and across pushes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::upstream::cluster::{ClusterSet, Environment};
use crate::upstream::outlier_events::{Action, MAX_EVENTS, OutlierEvents};
use crate::upstream::outlier_sweep::{settle, sweep};
use crate::upstream::testing::{assignment, cluster, endpoint, environment, outlier_detection};
use config::model::{self, Consecutive, Health};

/// No host.
const NONE: [usize; 0] = [];

/// Five of 5xx in a row, or three gateway errors; half of the hosts.
fn rules() -> OutlierDetection {
    let consecutive_gateway_failure = Consecutive { threshold: 3, enforcing: 100 };
    OutlierDetection { consecutive_gateway_failure, ..outlier_detection() }
}

struct Bench {
    environment: Environment,
    set: ClusterSet,
    random: Random,
}

impl Bench {
    fn new(hosts: usize, rules: OutlierDetection) -> Self {
        let mut bench =
            Bench { environment: environment(), set: ClusterSet::default(), random: Random::seeded(1) };
        bench.push(hosts, Some(rules));
        bench
    }

    fn push(&mut self, hosts: usize, rules: Option<OutlierDetection>) {
        let addresses = (1..=hosts).map(|port| endpoint(&format!("127.0.0.1:{port}"), 1)).collect();
        self.push_endpoints(addresses, rules);
    }

    fn push_endpoints(&mut self, endpoints: Vec<Arc<model::Endpoint>>, rules: Option<OutlierDetection>) {
        let mut config = cluster("c");
        config.outlier_detection = rules;
        config.healthy_panic_threshold = 0;
        let assignments = BTreeMap::from([(Arc::from("c"), assignment("c", endpoints))]);
        let configs = [Arc::new(config)];
        self.set = ClusterSet::build(&self.set, &configs, &assignments, &self.environment).0;
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.set.get("c").unwrap().clone()
    }

    fn host(&self, index: usize) -> Arc<Host> {
        self.cluster().hosts().all[index].1.clone()
    }

    fn report(&self, index: usize, outcome: Outcome, times: usize) {
        for _ in 0..times {
            report(&self.cluster(), &self.host(index), outcome, &self.random);
        }
    }

    fn ejected(&self) -> Vec<usize> {
        let hosts = self.cluster().hosts();
        let ejected = |(index, (_, host)): (usize, &(u32, Arc<Host>))| {
            host.runtime.monitor.is_ejected().then_some(index)
        };
        hosts.all.iter().enumerate().filter_map(ejected).collect()
    }

    /// Lets the time of all ejections be over.
    fn pass_time(&self) {
        for (_, host) in &self.cluster().hosts().all {
            let over = |until: u64| (until != 0).then_some(1);
            let monitor = &host.runtime.monitor;
            let _ = monitor.ejected_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, over);
        }
    }

    fn sweep(&self) {
        let cluster = self.cluster();
        let rules = cluster.config.outlier_detection.clone().unwrap();
        // So that the first millisecond is over.
        while cluster.identity.outliers.now() == 0 {
            std::thread::yield_now();
        }
        sweep(&cluster, &rules, &self.environment.events, &self.random);
        settle(&cluster, &self.environment.events);
    }

    fn metric(&self, name: &str) -> i128 {
        let all = self.environment.registry.merged_simple();
        let name = format!("envoy_cluster_outlier_detection_{name}");
        all.iter().find(|(family, _, _)| family.name == name).map_or(-1, |(_, _, value)| *value)
    }
}

#[test]
fn exactly_the_fifth_failure_in_a_row_ejects() {
    let bench = Bench::new(2, rules());
    bench.report(0, Outcome::Status(500), 4);
    bench.report(0, Outcome::Status(200), 1);
    bench.report(0, Outcome::Status(500), 4);
    assert_eq!(bench.ejected(), NONE);
    bench.report(0, Outcome::Status(500), 1);
    assert_eq!(bench.ejected(), [0]);
    assert_eq!(bench.metric("ejections_enforced_consecutive_5xx"), 1);
    assert_eq!(bench.metric("ejections_active"), 1);
}

#[test]
fn gateway_failures_are_a_row_of_their_own_that_another_5xx_ends() {
    let bench = Bench::new(2, rules());
    for status in [502, 503, 501, 504, 503] {
        bench.report(0, Outcome::Status(status), 1);
        if status == 504 {
            assert_eq!(bench.ejected(), NONE, "501 ended the row of gateway failures");
        }
    }
    assert_eq!(bench.ejected(), [0], "five of 5xx");
    assert_eq!(bench.metric("ejections_enforced_consecutive_gateway_failure"), 0);
    let bench = Bench::new(2, rules());
    bench.report(1, Outcome::Status(502), 3);
    assert_eq!(bench.ejected(), [1]);
    assert_eq!(bench.metric("ejections_enforced_consecutive_gateway_failure"), 1);
}

#[test]
fn what_is_not_enforced_is_only_counted() {
    let mut counted = rules();
    counted.consecutive_gateway_failure.enforcing = 0;
    counted.consecutive_5xx.threshold = 0;
    let bench = Bench::new(2, counted);
    bench.report(0, Outcome::Status(503), 7);
    assert_eq!(bench.ejected(), NONE);
    assert_eq!(bench.metric("ejections_detected_consecutive_gateway_failure"), 2);
    assert_eq!(bench.metric("ejections_enforced_total"), 0);
    assert_eq!(bench.metric("ejections_active"), 0);
}

#[test]
fn failures_of_our_side_count_as_gateway_errors_or_apart() {
    let bench = Bench::new(2, rules());
    bench.report(0, Outcome::Failed, 2);
    bench.report(0, Outcome::TimedOut, 1);
    assert_eq!(bench.ejected(), [0]);
    let split = OutlierDetection { split_local_origin: true, ..rules() };
    let bench = Bench::new(2, split);
    bench.report(0, Outcome::Failed, 4);
    bench.report(0, Outcome::Connected, 1);
    bench.report(0, Outcome::Failed, 4);
    assert_eq!(bench.ejected(), NONE);
    bench.report(0, Outcome::TimedOut, 1);
    assert_eq!(bench.ejected(), [0]);
    assert_eq!(bench.metric("ejections_enforced_consecutive_local_origin_failure"), 1);
}

#[test]
fn at_most_the_share_is_ejected_and_never_the_last_unless_asked() {
    let eject_all = |rules: OutlierDetection, hosts: usize| {
        let bench = Bench::new(hosts, rules);
        (0..hosts).for_each(|index| bench.report(index, Outcome::Status(503), 3));
        let ejected = bench.ejected().len();
        assert_eq!(bench.metric("ejections_overflow"), (hosts - ejected) as i128);
        ejected
    };
    let percent = |percent, always| OutlierDetection {
        max_ejection_percent: percent,
        always_eject_one_host: always,
        ..rules()
    };
    assert_eq!(eject_all(percent(50, false), 5), 2);
    assert_eq!(eject_all(percent(50, false), 1), 0);
    assert_eq!(eject_all(percent(10, false), 9), 0, "Envoy's default needs ten hosts");
    assert_eq!(eject_all(percent(10, false), 10), 1);
    assert_eq!(eject_all(percent(10, true), 9), 1);
    assert_eq!(eject_all(percent(99, false), 4), 3);
    assert_eq!(eject_all(percent(100, false), 4), 4, "asked for");
    assert_eq!(eject_all(percent(0, true), 1), 1, "asked for");
}

#[test]
fn the_last_host_that_the_control_plane_calls_healthy_stays() {
    let mut bench = Bench::new(1, rules());
    let mut unhealthy = model::Endpoint::clone(&endpoint("127.0.0.1:2", 1));
    unhealthy.health = Health::Unhealthy;
    bench.push_endpoints(vec![endpoint("127.0.0.1:1", 1), Arc::new(unhealthy)], Some(rules()));
    bench.report(0, Outcome::Status(503), 3);
    assert_eq!(bench.ejected(), NONE, "Envoy ejects it: half of the hosts");
}

#[test]
fn a_host_returns_at_the_sweep_after_its_time_and_is_out_twice_as_long_then() {
    let bench = Bench::new(2, rules());
    let remaining = || bench.host(0).runtime.monitor.remaining().map(|time| time.as_secs_f64().round());
    bench.report(0, Outcome::Status(503), 3);
    assert_eq!(remaining(), Some(30.0));
    bench.sweep();
    assert_eq!(bench.ejected(), [0], "its time is not over");
    assert_eq!(bench.cluster().hosts().usable().len(), 1);
    bench.pass_time();
    bench.sweep();
    assert_eq!(bench.ejected(), NONE);
    assert_eq!(bench.cluster().hosts().usable().len(), 2);
    bench.report(0, Outcome::Status(503), 3);
    assert_eq!(remaining(), Some(60.0));
    bench.pass_time();
    bench.sweep();
    // Two sweeps without an ejection: the past has faded.
    bench.sweep();
    bench.sweep();
    bench.report(0, Outcome::Status(503), 3);
    assert_eq!(remaining(), Some(30.0));
    let told: Vec<_> = bench.environment.events.last().into_iter().map(|event| event.action).collect();
    assert!(matches!(told[0], Action::Ejected { cause: Cause::ConsecutiveGatewayFailure, .. }), "{told:?}");
    assert_eq!(told[1], Action::Returned);
    assert_eq!(told.len(), 4, "the last one is told at the next sweep");
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let bench = Bench::new(2, OutlierDetection { max_ejection_time: Duration::from_secs(70), ..rules() });
    let mut times = Vec::new();
    for _ in 0..5 {
        bench.report(0, Outcome::Status(503), 3);
        times.push(bench.host(0).runtime.monitor.remaining().unwrap().as_secs_f64().round());
        bench.pass_time();
        bench.sweep();
    }
    assert_eq!(times, [30.0, 60.0, 70.0, 70.0, 70.0]);
}

#[test]
fn an_ejection_survives_pushes_and_ends_with_its_host_or_its_rules() {
    let mut bench = Bench::new(4, rules());
    bench.report(0, Outcome::Status(503), 3);
    bench.report(3, Outcome::Status(503), 3);
    bench.push(4, Some(OutlierDetection { interval: Duration::from_secs(1), ..rules() }));
    assert_eq!(bench.ejected(), [0, 3]);
    assert_eq!(bench.cluster().hosts().usable().len(), 2);
    bench.push(3, Some(rules()));
    assert_eq!((bench.ejected(), bench.metric("ejections_active")), (vec![0], 1));
    bench.report(1, Outcome::Status(503), 3);
    assert_eq!(bench.ejected(), [0], "half of three is one");
    bench.push(3, None);
    assert_eq!((bench.ejected(), bench.metric("ejections_active")), (vec![], 0));
}

#[test]
fn rates_are_judged_at_the_sweep() {
    let mut judged = rules();
    judged.consecutive_5xx.threshold = 0;
    judged.consecutive_gateway_failure.threshold = 0;
    let mut by_rate = judged.clone();
    by_rate.success_rate.enforcing = 100;
    let run = |rules: OutlierDetection, requests: usize| {
        let bench = Bench::new(5, rules);
        (0..4).for_each(|index| bench.report(index, Outcome::Status(200), requests));
        bench.report(4, Outcome::Status(200), requests / 10);
        bench.report(4, Outcome::Status(503), requests - requests / 10);
        assert_eq!(bench.ejected(), NONE);
        bench.sweep();
        bench.ejected()
    };
    assert_eq!(run(by_rate.clone(), 100), [4]);
    assert_eq!(run(by_rate, 99), NONE, "too few requests");
    let mut by_share = judged.clone();
    by_share.failure_percentage.enforcing = 100;
    assert_eq!(run(by_share.clone(), 50), [4]);
    by_share.failure_percentage.threshold = 91;
    assert_eq!(run(by_share, 50), NONE);
    assert_eq!(run(judged, 100), NONE);
}

#[test]
fn rows_are_exact_over_threads() {
    let counter = AtomicU32::new(0);
    let full = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    if one_more(&counter, 7) {
                        full.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(full.load(Ordering::Relaxed), 40_000 / 7);
    assert_eq!(counter.load(Ordering::Relaxed), 40_000 % 7);
}

#[test]
fn never_more_than_allowed_are_ejected_over_threads() {
    for round in 0..50 {
        let bench = Bench::new(6, rules());
        let cluster = bench.cluster();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let cluster = &cluster;
                scope.spawn(move || {
                    let random = Random::seeded(thread + round);
                    for _ in 0..40 {
                        let host = &cluster.hosts().all[random.below(6) as usize].1;
                        report(cluster, host, Outcome::Status(503), &random);
                    }
                });
            }
        });
        let ejected = bench.ejected().len();
        assert!(ejected <= 3, "{ejected}");
        assert_eq!(cluster.identity.outliers.active(), ejected as u64);
    }
}

#[test]
fn the_last_events_are_kept() {
    let events = OutlierEvents::default();
    let bench = Bench::new(2, rules());
    bench.sweep();
    for _ in 0..MAX_EVENTS {
        bench.report(0, Outcome::Status(503), 3);
        settle(&bench.cluster(), &events);
        bench.pass_time();
        sweep(&bench.cluster(), &rules(), &events, &bench.random);
    }
    assert_eq!(events.last().len(), MAX_EVENTS);
}
