//! Limits, lines and idle limits of pools, against servers on loopback.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use config::model::{CircuitBreakers, Direction, HttpProtocol};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::filter::testing::*;
use crate::http::{Body, BodyLength, RequestHead};
use crate::upstream::testing::{assignment, cluster, endpoint, environment};
use crate::upstream::{ClusterSet, Environment};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads one request without a body; whether one came.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut end = [0; 4];
    loop {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return false;
        }
        end.rotate_left(1);
        end[3] = byte[0];
        if &end == b"\r\n\r\n" {
            return true;
        }
    }
}

/// A server that answers when it is told to.
struct Held {
    address: std::net::SocketAddr,
    connections: Rc<Cell<usize>>,
    waiting: Rc<Cell<usize>>,
    release: Rc<tokio::sync::Semaphore>,
}

impl Held {
    async fn start() -> Held {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let held = Held {
            address: listener.local_addr().unwrap(),
            connections: Rc::default(),
            waiting: Rc::default(),
            release: Rc::new(tokio::sync::Semaphore::new(0)),
        };
        let (connections, waiting, release) =
            (held.connections.clone(), held.waiting.clone(), held.release.clone());
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let (waiting, release) = (waiting.clone(), release.clone());
                tokio::task::spawn_local(async move {
                    while read_request(&mut stream).await {
                        waiting.set(waiting.get() + 1);
                        release.acquire().await.unwrap().forget();
                        waiting.set(waiting.get() - 1);
                        stream.write_all(OK).await.unwrap();
                    }
                });
            }
        });
        held
    }
}

async fn until(state: impl Fn() -> bool) {
    let wait = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the state came");
}

fn breakers(change: impl FnOnce(&mut config::model::Thresholds)) -> CircuitBreakers {
    let mut breakers = CircuitBreakers::default();
    change(&mut breakers.default);
    breakers
}

fn push(proxy: &Proxy, address: std::net::SocketAddr, change: impl FnOnce(&mut config::model::Cluster)) {
    let mut config = cluster("a");
    change(&mut config);
    proxy.push_cluster(config, assignment("a", vec![endpoint(&address.to_string(), 1)]));
    proxy.push_routes(routes(vec![route("", to("a"))]));
}

fn count(proxy: &Proxy, metric: &str) -> String {
    let name = format!("envoy_cluster_{metric}");
    proxy.metric(&name, &["envoy_cluster_name=\"a\""]).unwrap_or_default()
}

#[tokio::test]
async fn one_runs_one_waits_and_the_third_overflows_at_once() {
    local(async {
        let (proxy, held) = (Proxy::new(sidecar(vec![]), Direction::Outbound), Held::start().await);
        push(&proxy, held.address, |config| {
            config.circuit_breakers = breakers(|default| {
                default.max_connections = 1;
                default.max_pending_requests = 1;
            });
        });
        let connection = proxy.connection(None);
        let first = call(&connection, get("/", &[]), Body::empty());
        let second = async {
            // Before, the first waits for its connection, and takes the one place in line.
            until(|| held.waiting.get() == 1).await;
            call(&connection, get("/", &[]), Body::empty()).await
        };
        let third = async {
            until(|| held.waiting.get() == 1 && count(&proxy, "upstream_rq_pending_active") == "1").await;
            assert_eq!(count(&proxy, "circuit_breakers_default_cx_open"), "1");
            assert_eq!(count(&proxy, "circuit_breakers_default_rq_pending_open"), "1");
            let answer = proxy.get("/", &[]).await;
            assert_eq!((answer.status, answer.headers.get_str("x-envoy-overloaded")), (503, Some("true")));
            assert!(answer.body.ends_with(b"reset reason: overflow"), "{:?}", answer.body);
            assert_eq!(held.waiting.get(), 1, "nobody had to be answered for it");
            held.release.add_permits(2);
        };
        let (first, second, ()) = tokio::join!(first, second, third);
        assert_eq!((first.status, second.status, held.connections.get()), (200, 200, 1));
        assert_eq!(count(&proxy, "upstream_rq_pending_overflow"), "1");
        assert_eq!(count(&proxy, "upstream_cx_overflow"), "1");
        let flags = proxy.metric("istio_requests_total", &["response_flags=\"UO\""]);
        assert_eq!(flags.as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_the_limit_overflow_and_a_push_lifts_it() {
    local(async {
        let (proxy, held) = (Proxy::new(sidecar(vec![]), Direction::Outbound), Held::start().await);
        push(&proxy, held.address, |config| {
            config.circuit_breakers = breakers(|default| default.max_requests = 1);
        });
        let connection = proxy.connection(None);
        let first = call(&connection, get("/", &[]), Body::empty());
        let others = async {
            until(|| held.waiting.get() == 1).await;
            assert_eq!(proxy.get("/", &[]).await.status, 503);
            assert_eq!(count(&proxy, "upstream_rq_active_overflow"), "1");
            push(&proxy, held.address, |config| {
                config.circuit_breakers = breakers(|default| default.max_requests = 2);
            });
            let second = proxy.get("/", &[]);
            let release = async {
                until(|| held.waiting.get() == 2).await;
                held.release.add_permits(2);
            };
            assert_eq!(tokio::join!(second, release).0.status, 200);
        };
        assert_eq!(tokio::join!(first, others).0.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_the_line_and_the_next_one_is_served() {
    local(async {
        let (proxy, held) = (Proxy::new(sidecar(vec![]), Direction::Outbound), Held::start().await);
        push(&proxy, held.address, |config| {
            config.circuit_breakers = breakers(|default| {
                default.max_connections = 1;
                default.max_pending_requests = 1;
            });
        });
        let connection = proxy.connection(None);
        let first = call(&connection, get("/", &[]), Body::empty());
        let rest = async {
            until(|| held.waiting.get() == 1).await;
            {
                let gone = call(&connection, get("/", &[]), Body::empty());
                let waits = until(|| count(&proxy, "upstream_rq_pending_active") == "1");
                tokio::select! { _ = gone => panic!("nobody answers it"), () = waits => {} }
            }
            assert_eq!(count(&proxy, "upstream_rq_pending_active"), "0");
            let next = call(&connection, get("/", &[]), Body::empty());
            let release = async {
                until(|| count(&proxy, "upstream_rq_pending_active") == "1").await;
                held.release.add_permits(2);
            };
            tokio::join!(next, release).0
        };
        let (first, next) = tokio::join!(first, rest);
        assert_eq!((first.status, next.status, held.connections.get()), (200, 200, 1));
    })
    .await;
}

/// A worker of its own over shared clusters.
fn worker(environment: &Environment) -> Rc<UpstreamWorker> {
    let worker = Rc::new(UpstreamWorker::new(environment.registry.clone()));
    let upkeep = worker.clone();
    tokio::task::spawn_local(async move { upkeep.maintain().await });
    worker
}

fn head() -> RequestHead {
    get("/", &[])
}

/// One request over a worker's pool of the first host.
async fn ask(worker: &UpstreamWorker, cluster: &Arc<Cluster>) -> Result<u16, String> {
    let host = cluster.hosts().usable()[0].clone();
    ask_host(worker, cluster, &host).await
}

async fn ask_host(worker: &UpstreamWorker, cluster: &Arc<Cluster>, host: &Arc<Host>) -> Result<u16, String> {
    let state = worker.cluster(cluster);
    let priority = Priority::Default;
    let (now, timeline) = (Instant::now(), &RefCell::default());
    let version = Version::Http11;
    let wanted =
        Wanted { worker, state: &state, cluster, host, priority, version, fresh: false, now, timeline };
    let pool = worker.pool(host, &state);
    let checkout = pool.acquire(&wanted).await.map_err(|error| error.to_string())?;
    let sent = checkout.send(&head(), Body::empty(), &Informational::none(), || {}).await;
    let (response, body) = sent.map_err(|error| error.to_string())?;
    body.collect(1 << 20).await.map_err(|error| error.to_string())?;
    Ok(response.status)
}

use crate::http::Informational;

fn set(
    environment: &Environment,
    addresses: &[String],
    change: impl FnOnce(&mut config::model::Cluster),
) -> ClusterSet {
    let mut config = cluster("c");
    change(&mut config);
    let endpoints = addresses.iter().map(|address| endpoint(address, 1)).collect();
    let assignments = std::collections::BTreeMap::from([(Arc::from("c"), assignment("c", endpoints))]);
    let (set, problems) =
        ClusterSet::build(&ClusterSet::default(), &[Arc::new(config)], &assignments, environment);
    assert_eq!(problems, []);
    set
}

#[test]
fn five_connections_over_four_workers_never_become_six() {
    let (open, most, served) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (now, highest) = (open, most.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = runtime::thread::worker("server", move || async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let now = now.clone();
                tokio::task::spawn_local(async move {
                    while read_request(&mut stream).await {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        stream.write_all(OK).await.unwrap();
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        tokio::select! { () = accept => {}, _ = stopped => {} }
    })
    .unwrap();
    let environment = environment();
    let clusters = set(&environment, &[address], |config| {
        config.circuit_breakers = breakers(|default| default.max_connections = 5);
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let run = async {
                    let worker = worker(&environment);
                    let cluster = clusters.get("c").unwrap();
                    let loads = (0..6).map(|_| async {
                        for _ in 0..25 {
                            assert_eq!(ask(&worker, cluster).await, Ok(200));
                            let limits = cluster.identity.limits(&CircuitBreakers::default());
                            assert!(limits.of(Priority::Default).connections.resource().used() <= 5);
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                    futures_util::future::join_all(loads).await;
                };
                runtime::thread::block_on_local(run).unwrap();
            });
        }
    });
    assert_eq!(served.load(Ordering::SeqCst), 600, "no worker starved");
    drop(stop);
    server.join().unwrap().unwrap();
    // The server may see a close only after the connection that took its place: so its own count is a bound on a bound.
    assert!((2..=10).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn an_idle_connection_makes_place_for_another_host_and_another_worker() {
    local(async {
        let environment = environment();
        let (one, two) = (Held::start().await, Held::start().await);
        let addresses = [one.address.to_string(), two.address.to_string()];
        let clusters = set(&environment, &addresses, |config| {
            config.circuit_breakers = breakers(|default| default.max_connections = 1);
        });
        one.release.add_permits(100);
        two.release.add_permits(100);
        let cluster = clusters.get("c").unwrap();
        let hosts = cluster.hosts();
        let (first, second) = (worker(&environment), worker(&environment));
        for _ in 0..3 {
            assert_eq!(ask_host(&first, cluster, &hosts.all[0].1).await, Ok(200));
            assert_eq!(ask_host(&first, cluster, &hosts.all[1].1).await, Ok(200), "another host");
            assert_eq!(ask_host(&second, cluster, &hosts.all[1].1).await, Ok(200), "another worker");
        }
        assert_eq!(first.idle_connections() + second.idle_connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_host_has_its_own_limit() {
    local(async {
        let environment = environment();
        let (one, two) = (Held::start().await, Held::start().await);
        let addresses = [one.address.to_string(), two.address.to_string()];
        let clusters = set(&environment, &addresses, |config| {
            config.circuit_breakers.max_connections_per_host = Some(1);
        });
        let cluster = clusters.get("c").unwrap();
        let hosts = cluster.hosts();
        let worker = worker(&environment);
        let both = |number: usize| {
            let (worker, hosts) = (worker.clone(), hosts.clone());
            async move {
                let host = &hosts.all[number].1;
                tokio::join!(ask_host(&worker, cluster, host), ask_host(&worker, cluster, host))
            }
        };
        let release = async {
            until(|| one.waiting.get() == 1 && two.waiting.get() == 1).await;
            one.release.add_permits(2);
            two.release.add_permits(2);
        };
        let (first, second, ()) = tokio::join!(both(0), both(1), release);
        assert_eq!((first, second), ((Ok(200), Ok(200)), (Ok(200), Ok(200))));
        assert_eq!((one.connections.get(), two.connections.get()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_fails_all_that_wait_for_it() {
    local(async {
        let environment = environment();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let clusters = set(&environment, &[nobody.to_string()], |config| {
            config.circuit_breakers = breakers(|default| default.max_connections = 2);
        });
        let cluster = clusters.get("c").unwrap();
        let worker = worker(&environment);
        let all = futures_util::future::join_all((0..10).map(|_| ask(&worker, cluster))).await;
        for one in all {
            assert!(one.unwrap_err().contains("Connection refused"));
        }
        let limits = cluster.identity.limits(&CircuitBreakers::default());
        assert_eq!(limits.of(Priority::Default).connections.resource().used(), 0);
    })
    .await;
}

/// Closes connections that are idle for so long.
async fn closes_after(idle: Duration) -> (std::net::SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let executed = Rc::new(Cell::new(0));
    let counted = executed.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::task::spawn_local(async move {
                while let Ok(true) = tokio::time::timeout(idle, read_request(&mut stream)).await {
                    counted.set(counted.get() + 1);
                    if stream.write_all(OK).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, executed)
}

#[tokio::test]
async fn once_the_hosts_idle_limit_is_learned_no_post_is_lost_to_it() {
    local(async {
        let idle = Duration::from_millis(400);
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let (address, executed) = closes_after(idle).await;
        push(&proxy, address, |_| {});
        let upkeep = proxy.worker.clone();
        tokio::task::spawn_local(async move { upkeep.maintain().await });
        assert_eq!(proxy.get("/", &[]).await.status, 200);
        let host = proxy.shared.routing.clusters()[0].hosts().usable()[0].clone();
        let learned = || host.runtime.idle_limit.learned();
        until(|| learned().is_some()).await;
        assert!(learned().unwrap() >= idle, "{:?}", learned());
        assert_eq!(proxy.worker.upstream.idle_connections(), 0, "closed by the host, gone at once");

        let mut post = head();
        post.method = Method::POST;
        post.length = BodyLength::None;
        // Ages around what the host allows, on the safe side and beyond it.
        for step in [1, 3, 5, 7, 8, 9, 10, 11, 12, 10, 9, 8] {
            let before = executed.get();
            let answer = call(&proxy.connection(None), post.clone(), Body::empty()).await;
            assert_eq!((answer.status, executed.get() - before), (200, 1), "after {step} steps");
            tokio::time::sleep(idle * step / 10).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_host_says_of_its_idle_limit_is_believed() {
    local(async {
        let answer = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=7\r\ncontent-length: 0\r\n\r\n";
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let upstream = Upstream::start(move |_| Script::Answer(answer.to_owned())).await;
        push(&proxy, upstream.address, |_| {});
        assert_eq!(proxy.get("/", &[]).await.status, 200);
        let host = proxy.shared.routing.clusters()[0].hosts().usable()[0].clone();
        assert_eq!(host.runtime.idle_limit.learned(), Some(Duration::from_secs(7)));
    })
    .await;
}

/// An HTTP/2 server that answers requests when it is told to; counts connections and the most streams at once.
struct Multiplexed {
    address: std::net::SocketAddr,
    connections: Rc<Cell<usize>>,
    streams: Rc<Cell<usize>>,
    release: Rc<tokio::sync::Semaphore>,
    goaway: Rc<tokio::sync::Notify>,
}

impl Multiplexed {
    async fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Multiplexed {
            address: listener.local_addr().unwrap(),
            connections: Rc::default(),
            streams: Rc::default(),
            release: Rc::new(tokio::sync::Semaphore::new(0)),
            goaway: Rc::default(),
        };
        let (connections, streams, release, goaway) = (
            server.connections.clone(),
            server.streams.clone(),
            server.release.clone(),
            server.goaway.clone(),
        );
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let (streams, release, goaway) = (streams.clone(), release.clone(), goaway.clone());
                tokio::task::spawn_local(async move {
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(max_streams);
                    let mut server = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
                    loop {
                        let accepted = tokio::select! {
                            accepted = server.accept() => accepted,
                            () = goaway.notified() => {
                                server.graceful_shutdown();
                                continue;
                            }
                        };
                        let Some(Ok((_, mut respond))) = accepted else { return };
                        let (streams, release) = (streams.clone(), release.clone());
                        streams.set(streams.get() + 1);
                        tokio::task::spawn_local(async move {
                            release.acquire().await.unwrap().forget();
                            streams.set(streams.get() - 1);
                            let _ = respond.send_response(http::Response::new(()), true);
                        });
                    }
                });
            }
        });
        server
    }
}

#[tokio::test]
async fn http2_requests_share_connections_up_to_both_sides_limits() {
    local(async {
        for (theirs, own, connections) in [(100, 100, 1), (2, 100, 3), (100, 3, 2)] {
            let environment = environment();
            let server = Multiplexed::start(theirs).await;
            let clusters = set(&environment, &[server.address.to_string()], |config| {
                config.http.protocol = HttpProtocol::Http2;
                config.http.http2.max_concurrent_streams = own;
            });
            let cluster = clusters.get("c").unwrap();
            let worker = worker(&environment);
            let release = async {
                until(|| server.streams.get() == 6).await;
                server.release.add_permits(6);
            };
            let all = futures_util::future::join_all((0..6).map(|_| ask(&worker, cluster)));
            let (all, ()) = tokio::join!(all, release);
            assert_eq!(all, vec![Ok(200); 6]);
            assert_eq!(server.connections.get(), connections, "{theirs} of theirs, {own} own");
        }
    })
    .await;
}

#[tokio::test]
async fn http2_connections_obey_the_limits_of_requests_and_connections() {
    local(async {
        let environment = environment();
        let server = Multiplexed::start(2).await;
        let clusters = set(&environment, &[server.address.to_string()], |config| {
            config.http.protocol = HttpProtocol::Http2;
            config.http.max_requests_per_connection = Some(3);
            config.circuit_breakers = breakers(|default| default.max_connections = 1);
        });
        let cluster = clusters.get("c").unwrap();
        let worker = worker(&environment);
        server.release.add_permits(7);
        let all = futures_util::future::join_all((0..7).map(|_| ask(&worker, cluster))).await;
        assert_eq!(all, vec![Ok(200); 7]);
        assert_eq!(server.connections.get(), 3, "three, three, and one");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_says_goaway_is_replaced_and_finishes_what_it_began() {
    local(async {
        let environment = environment();
        let server = Multiplexed::start(100).await;
        let clusters = set(&environment, &[server.address.to_string()], |config| {
            config.http.protocol = HttpProtocol::Http2;
        });
        let cluster = clusters.get("c").unwrap();
        let worker = worker(&environment);
        let later = async {
            until(|| server.streams.get() == 1).await;
            server.goaway.notify_one();
            until(|| worker.idle_connections() == 1).await;
            worker.sweep();
            until(|| {
                worker.sweep();
                worker.idle_connections() == 0
            })
            .await;
            let second = ask(&worker, cluster);
            let release = async {
                until(|| server.streams.get() == 2).await;
                server.release.add_permits(2);
            };
            tokio::join!(second, release).0
        };
        let (first, second) = tokio::join!(ask(&worker, cluster), later);
        assert_eq!((first, second, server.connections.get()), (Ok(200), Ok(200), 2));
    })
    .await;
}

#[tokio::test]
async fn each_client_is_served_in_its_own_protocol_where_the_cluster_says_so() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let server = Multiplexed::start(100).await;
        server.release.add_permits(10);
        push(&proxy, server.address, |config| config.http.protocol = HttpProtocol::Downstream);
        let mut request = head();
        request.version = Version::Http2;
        assert_eq!(call(&proxy.connection(None), request, Body::empty()).await.status, 200);
        assert_eq!(count(&proxy, "upstream_cx_http2_total"), "1");

        let http1 = Upstream::start(|_| ok("x")).await;
        push(&proxy, http1.address, |config| config.http.protocol = HttpProtocol::Downstream);
        assert_eq!(proxy.get("/", &[]).await.status, 200);
        assert_eq!(count(&proxy, "upstream_cx_http1_total"), "1");
    })
    .await;
}
