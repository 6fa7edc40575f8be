//! Limits under many hands.

use std::sync::atomic::AtomicU32;

use super::*;

fn limits(change: impl FnOnce(&mut Thresholds)) -> (Arc<Limits>, Rc<WorkerLimits>) {
    let mut config = CircuitBreakers::default();
    change(&mut config.default);
    let limits = Limits::new(&"c".into(), &config);
    let local = WorkerLimits::new(&limits);
    (limits, local)
}

#[test]
fn five_requests_never_become_six_on_many_threads() {
    let (limits, _) = limits(|default| default.max_requests = 5);
    let (running, most, refused) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let local = WorkerLimits::new(&limits);
                for _ in 0..2_000 {
                    match local.reserve(Priority::Default, Kind::Requests) {
                        Some(guard) => {
                            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            running.fetch_sub(1, Ordering::SeqCst);
                            drop(guard);
                        }
                        None => drop(refused.fetch_add(1, Ordering::SeqCst)),
                    }
                }
            });
        }
    });
    assert!((1..=5).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(limits.default.requests.used(), 0);
}

#[test]
fn a_reached_limit_refuses_until_one_ends_and_priorities_do_not_share() {
    let (_, local) = limits(|default| default.max_requests = 1);
    let take = |priority| local.reserve(priority, Kind::Requests);
    let first = take(Priority::Default).unwrap();
    assert!(take(Priority::Default).is_none());
    assert!(take(Priority::High).is_some());
    drop(first);
    assert!(take(Priority::Default).is_some());
}

#[test]
fn without_a_limit_nothing_shared_is_written() {
    let (limits, local) = limits(|default| default.max_requests = NO_LIMIT);
    let _guard = local.reserve(Priority::Default, Kind::Requests).unwrap();
    assert_eq!(limits.default.requests.used(), 0);
}

#[test]
fn a_push_changes_limits_under_what_runs() {
    let (limits, local) = limits(|default| default.max_pending_requests = 2);
    let take = || local.reserve(Priority::Default, Kind::Pending);
    let two = [take().unwrap(), take().unwrap()];
    assert!(take().is_none());
    let mut config = CircuitBreakers::default();
    config.default.max_pending_requests = 3;
    limits.update(&config);
    let third = take().unwrap();
    config.default.max_pending_requests = 1;
    limits.update(&config);
    drop((two, take()));
    assert!(take().is_none(), "one of three is left, and one is allowed");
    drop(third);
    assert!(take().is_some());
}

#[test]
fn a_limit_that_comes_while_requests_run_on_every_worker_counts_them() {
    let (limits, first) = limits(|default| default.max_requests = NO_LIMIT);
    let second = WorkerLimits::new(&limits);
    let take = |worker: &Rc<WorkerLimits>| worker.reserve(Priority::Default, Kind::Requests);
    let running: Vec<_> = (0..8).map(|at| take([&first, &second][at % 2]).unwrap()).collect();
    let mut config = CircuitBreakers::default();
    config.default.max_requests = 5;
    limits.update(&config);
    assert!(take(&first).is_none() && take(&second).is_none(), "eight run, five are allowed");
    let mut running = running.into_iter();
    drop((running.next(), running.next(), running.next()));
    assert!(take(&second).is_none(), "five run");
    drop(running.next());
    let fifth = take(&second).unwrap();
    assert!(take(&first).is_none());
    drop((fifth, running));
    let five: Vec<_> = (0..5).map(|_| take(&first).unwrap()).collect();
    assert!(take(&second).is_none());
    assert!(
        !limits.catching_up.load(Ordering::Relaxed),
        "and the workers' own counts are not looked at any more"
    );
    drop(five);
    assert_eq!(limits.default.requests.used(), 0);
}

#[test]
fn a_budget_is_a_share_of_what_runs_and_at_least_its_minimum() {
    let budget = RetryBudget { percent: 20.0, min_concurrency: 3 };
    let (limits, local) = limits(|default| {
        default.max_requests = NO_LIMIT;
        default.retry_budget = Some(budget);
    });
    assert_eq!(limits.of(Priority::Default).retry_limit(), 3);
    let running: Vec<_> =
        (0..50).map(|_| local.reserve(Priority::Default, Kind::Requests).unwrap()).collect();
    assert_eq!(limits.of(Priority::Default).retry_limit(), 10);
    let retries: Vec<_> = std::iter::from_fn(|| local.reserve(Priority::Default, Kind::Retries)).collect();
    assert_eq!(retries.len(), 10);
    drop(running);
    assert!(local.reserve(Priority::Default, Kind::Retries).is_none());
}

#[test]
fn gauges_say_which_breaker_is_open_and_what_is_left() {
    let (limits, local) = limits(|default| {
        default.max_requests = 2;
        default.track_remaining = true;
    });
    let read = |name: &str| {
        let mut found = None;
        limits.values(&mut |family, labels, value| {
            assert_eq!(labels, [("envoy_cluster_name", "c".to_owned())]);
            if family.name == format!("envoy_cluster_circuit_breakers_{name}") {
                found = Some(value);
            }
        });
        found
    };
    assert_eq!((read("default_rq_open"), read("default_remaining_rq")), (Some(0), Some(2)));
    assert_eq!((read("high_rq_open"), read("high_remaining_rq")), (Some(0), None), "not tracked");
    let _two: Vec<_> = (0..2).map(|_| local.reserve(Priority::Default, Kind::Requests).unwrap()).collect();
    assert_eq!((read("default_rq_open"), read("default_remaining_rq")), (Some(1), Some(0)));
    assert_eq!(read("default_cx_open"), Some(0));
}
