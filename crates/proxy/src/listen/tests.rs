//! Sockets through changes of the configuration: forwarding to upstreams that say who they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use config::model::{
    Direction, Listener, NetworkFilter, Permission, Policy, Principal, RbacAction, RbacFilter, RbacRules,
    TcpProxy,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::testing::*;
use crate::filter;
use crate::tcp::{self, Forwarder, TcpChain};

#[tokio::test]
async fn an_equal_chain_keeps_its_connections_and_a_changed_one_serves_new_ones() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let address = bench.address;
        bench.apply(Some(listener(address, "a", 100)));
        let mut old = bench.connect().await;
        assert_eq!(ask(&mut old).await.unwrap(), b'a');
        let chain = |bench: &Bench| bench.manager.listening().list()[0].current().chains[0].clone();
        let before = chain(&bench);

        bench.apply(Some(listener(address, "a", 200)));
        assert!(Arc::ptr_eq(&before, &chain(&bench)), "an equal chain was rebuilt");
        bench.apply(Some(listener(address, "b", 200)));
        assert!(before.drain().is_draining() && !chain(&bench).drain().is_draining());
        let mut new = bench.connect().await;
        assert_eq!(ask(&mut new).await.unwrap(), b'b');
        assert_eq!(ask(&mut old).await.unwrap(), b'a', "the old connection was cut");
        assert_eq!(bench.manager.listening().list()[0].counts.open(), 2);
    })
    .await;
}

/// The same with an authorization filter in front.
fn guarded(address: SocketAddr, action: RbacAction, permission: Permission) -> Arc<Listener> {
    let mut listener = Listener::clone(&listener(address, "a", 100));
    listener.filter_chains[0].filters.insert(0, rbac(action, permission));
    Arc::new(listener)
}

/// An authorization filter of one policy about everybody.
pub fn rbac(action: RbacAction, permission: Permission) -> NetworkFilter {
    let policy = Policy { name: "p".into(), permissions: vec![permission], principals: vec![Principal::Any] };
    let rules = Some(RbacRules { action, policies: vec![policy] });
    NetworkFilter::Rbac(Arc::new(RbacFilter { rules }))
}

#[tokio::test]
async fn a_connection_that_a_policy_denies_is_closed() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let address = bench.address;
        for (action, permission, allowed) in [
            (RbacAction::Allow, Permission::DestinationPort(address.port()), true),
            (RbacAction::Allow, Permission::DestinationPort(1), false),
            (RbacAction::Deny, Permission::Any, false),
            (RbacAction::Deny, Permission::DestinationPort(1), true),
        ] {
            bench.apply(Some(guarded(address, action, permission)));
            let answer = ask(&mut bench.connect().await).await;
            assert_eq!(answer.is_ok(), allowed, "{action:?}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_removed_listener_gives_its_port_back() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        bench.apply(Some(listener(bench.address, "a", 100)));
        assert_eq!(ask(&mut bench.connect().await).await.unwrap(), b'a');
        bench.apply(None);
        assert!(bench.manager.listening().list().is_empty());
        let freed = async {
            while TcpStream::connect(bench.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, freed).await.unwrap();
        // New connections are refused at once; the socket is there until handshakes under way have ended.
        let wanted: BTreeMap<_, _> = [("in".into(), listener(bench.address, "b", 100))].into();
        let bound = async {
            while !bench.manager.reconcile(&wanted) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, bound).await.unwrap();
        assert_eq!(ask(&mut bench.connect().await).await.unwrap(), b'b');
    })
    .await;
}

#[tokio::test]
async fn a_taken_address_is_reported_and_tried_again() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let other = std::net::TcpListener::bind(bench.address).unwrap();
        let wanted: BTreeMap<_, _> = [("in".into(), listener(bench.address, "a", 100))].into();
        assert!(!bench.manager.reconcile(&wanted));
        let failures = bench.manager.listening().failures();
        assert!(failures["in"].contains(&bench.address.to_string()), "{failures:?}");
        drop(other);
        assert!(bench.manager.reconcile(&wanted));
        assert_eq!(ask(&mut bench.connect().await).await.unwrap(), b'a');
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    on_local(async {
        let mut bench = Bench::new(1).await;
        bench.apply(Some(listener(bench.address, "a", 100)));
        let mut first = bench.connect().await;
        assert_eq!(ask(&mut first).await.unwrap(), b'a');
        let mut second = bench.connect().await;
        assert!(ask(&mut second).await.is_err());
        let bound = bench.manager.listening().list()[0].clone();
        assert_eq!(bound.counts.overflow.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(ask(&mut first).await.unwrap(), b'a');
        assert!(!bench.shared.registry.merged_simple().is_empty());
    })
    .await;
}

#[tokio::test]
async fn forwarded_connections_are_counted_where_it_is_asked_for() {
    on_local(async {
        let mut bench = Bench::new(10).await;
        let filter = config::model::StatsFilter {
            disable_host_header_fallback: false,
            tcp_reporting_duration: LIMIT,
            metrics: Vec::new(),
        };
        let sent = |bench: &Bench| {
            let text = crate::telemetry::prometheus::render(
                &bench.shared.registry,
                crate::telemetry::prometheus::Format::Text,
            );
            let line = text.lines().find(|line| line.starts_with("istio_tcp_sent_bytes_total{"));
            line.map(str::to_owned)
        };
        bench.apply(Some(listener(bench.address, "a", 1)));
        assert_eq!(ask(&mut bench.connect().await).await.unwrap(), b'a');
        let mut counting = Listener::clone(&listener(bench.address, "a", 1));
        counting.filter_chains[0].filters.insert(0, NetworkFilter::Stats(filter));
        bench.apply(Some(Arc::new(counting)));
        for _ in 0..3 {
            assert_eq!(ask(&mut bench.connect().await).await.unwrap(), b'a');
        }
        let counted = async {
            loop {
                match sent(&bench) {
                    Some(line) if line.ends_with(" 3") => break line,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let line = tokio::time::timeout(LIMIT, counted).await.unwrap();
        for part in
            ["reporter=\"destination\"", "request_protocol=\"tcp\"", "connection_security_policy=\"none\""]
        {
            assert!(line.contains(part) && !line.contains("response_code"), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn why_a_connection_went_nowhere_stands_in_its_log() {
    on_local(async {
        let mut bench = Bench::new(10).await;
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        bench.cluster("refuses", free, config::model::TransportSocket::RawBuffer);
        let path = std::env::temp_dir().join(format!("tulle-nowhere-{}.log", std::process::id()));
        for cluster in ["refuses", "nowhere"] {
            let log = crate::filter::testing::log_to(path.to_str().unwrap());
            let proxy = TcpProxy { access_log: vec![log], max_connect_attempts: 2, ..proxy_to(cluster) };
            let last = NetworkFilter::Tcp(Arc::new(proxy));
            bench.apply(Some(Arc::new(listening(bench.address, vec![chain(Default::default(), last)]))));
            assert!(ask(&mut bench.connect().await).await.is_err());
        }
        bench.shared.sinks.flush(LIMIT);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::remove_file(&path).ok();
        let flags: Vec<_> = text.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect();
        assert_eq!(flags, ["UF,URX", "NC"], "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_connection_ends_at_its_longest_duration() {
    on_local(async {
        let mut bench = Bench::new(10).await;
        let duration = Some(std::time::Duration::from_millis(200));
        let proxy =
            TcpProxy { max_connection_duration: duration, duration_jitter_percent: 50.0, ..proxy_to("a") };
        let last = NetworkFilter::Tcp(Arc::new(proxy));
        bench.apply(Some(Arc::new(listening(bench.address, vec![chain(Default::default(), last)]))));
        let (mut client, begun) = (bench.connect().await, std::time::Instant::now());
        let busy = async { while ask(&mut client).await.is_ok() {} };
        tokio::time::timeout(LIMIT, busy).await.unwrap();
        assert!(begun.elapsed() >= std::time::Duration::from_millis(190));
    })
    .await;
}

/// Counts the lines that a log would get.
struct Lines(Arc<AtomicUsize>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_flood_of_connections_beyond_the_limit_is_no_flood_of_lines() {
    const FLOOD: u64 = 300;
    let lines = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Lines(lines.clone()));
    on_local(async {
        let mut bench = Bench::new(1).await;
        bench.apply(Some(listener(bench.address, "a", 100)));
        let mut first = bench.connect().await;
        assert_eq!(ask(&mut first).await.unwrap(), b'a');
        for _ in 0..FLOOD {
            assert!(ask(&mut bench.connect().await).await.is_err());
        }
        let bound = bench.manager.listening().list()[0].clone();
        assert_eq!(bound.counts.overflow.load(Ordering::Relaxed), FLOOD);
        let lines = lines.load(Ordering::Relaxed);
        assert!((1..FLOOD as usize / 2).contains(&lines), "{lines} lines");
    })
    .await;
}

#[tokio::test]
async fn a_forwarded_connection_that_is_cut_is_logged_with_what_went_through() {
    on_local(async {
        let bench = Bench::new(1).await;
        let path = std::env::temp_dir().join(format!("tulle-cut-{}.log", std::process::id()));
        let log = crate::filter::testing::log_to(path.to_str().unwrap());
        let proxy = Arc::new(TcpProxy { access_log: vec![log], ..proxy_to("a") });
        let forwarder = Forwarder::new(filter::Worker::new(&bench.shared));
        let (mut client, near) = tokio::io::duplex(64);
        let stats = config::model::StatsFilter {
            disable_host_header_fallback: false,
            tcp_reporting_duration: LIMIT,
            metrics: Vec::new(),
        };
        let chain = TcpChain::build(&proxy, Direction::Inbound, Some(&stats), &bench.shared).unwrap();
        let (local, remote) = (bench.address, bench.address);
        let downstream = filter::Downstream { local, remote, session: None, passed_server_name: None };
        let cut = std::cell::Cell::new(base::Reason::Draining);
        tokio::select! {
            _ = tcp::forward(&forwarder, &chain, near, &downstream, None, &cut) => panic!("it ended by itself"),
            answer = async {
                client.write_all(b"?").await.unwrap();
                client.read_u8().await
            } => assert_eq!(answer.unwrap(), b'a'),
        }
        bench.shared.sinks.flush(LIMIT);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::remove_file(&path).ok();
        // Bytes received and sent.
        assert!(text.contains(" 1 1 a 127.0.0.1:") && text.lines().count() == 1, "{text:?}");
    })
    .await;
}
