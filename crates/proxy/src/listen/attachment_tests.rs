//! What an edit of a listener means for connections that are open.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use config::model::{
    FilterChain, FilterChainMatch, HttpFilterKind, Listener, ListenerFilter, NetworkFilter, Permission,
    Policy, Principal, RbacAction, RbacFilter, RbacRules, RouteSource, RouterFilter, TlsInspector,
    TransportSocket,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::testing::*;
use crate::filter::testing::{Upstream, manager, ok, route, routes, to};

/// A connection manager that sends everything to `app`, behind that policy.
fn http(rules: Option<RbacRules>) -> NetworkFilter {
    let mut config = manager();
    config.route = RouteSource::Inline(Arc::new(routes(vec![route("all", to("app"))])));
    let rbac = rules.map(|rules| HttpFilterKind::Rbac(Arc::new(RbacFilter { rules: Some(rules) })));
    let kinds = rbac.into_iter().chain([HttpFilterKind::Router(RouterFilter::default())]);
    config.http_filters =
        kinds.map(|kind| config::model::HttpFilter { name: "filter".into(), kind }).collect();
    NetworkFilter::Http(Arc::new(config))
}

fn rules(action: RbacAction, principal: Principal) -> RbacRules {
    let policy = Policy { name: "p".into(), permissions: vec![Permission::Any], principals: vec![principal] };
    RbacRules { action, policies: vec![policy] }
}

fn inspected(listener: Listener) -> Arc<Listener> {
    let tls = ListenerFilter::TlsInspector(TlsInspector::default());
    Arc::new(Listener { listener_filters: vec![tls], ..listener })
}

fn one(bench: &Bench, chain: FilterChain) -> Arc<Listener> {
    Arc::new(listening(bench.address, vec![chain]))
}

/// Sends a request and reads the answer's head; `None`: the connection has ended.
async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: payment:8080\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tokio::time::timeout(LIMIT, stream.read_u8()).await.unwrap().ok()?);
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

fn status(head: Option<String>) -> String {
    head.map_or("closed".to_owned(), |head| head[9..12].to_owned())
}

async fn with_app() -> (Bench, Upstream) {
    let mut bench = Bench::new(100).await;
    let app = Upstream::start(|_| ok("app")).await;
    bench.cluster("app", app.address, TransportSocket::RawBuffer);
    (bench, app)
}

#[tokio::test]
async fn a_policy_acts_on_the_next_request_of_an_open_connection() {
    on_local(async {
        let (mut bench, _app) = with_app().await;
        let guarded = |bench: &Bench, rules| one(bench, chain(FilterChainMatch::default(), http(rules)));
        let first = guarded(&bench, None);
        bench.apply(Some(first));
        let mut client = bench.connect().await;
        assert_eq!(status(get(&mut client).await), "200");
        for (action, wanted) in
            [(RbacAction::Deny, "403"), (RbacAction::Allow, "200"), (RbacAction::Deny, "403")]
        {
            let next = guarded(&bench, Some(rules(action, Principal::Any)));
            bench.apply(Some(next));
            let head = get(&mut client).await;
            assert!(!head.as_deref().unwrap_or_default().contains("connection: close"), "{head:?}");
            assert_eq!(status(head), wanted, "{action:?}");
        }
        assert_eq!(
            bench.manager.listening().list()[0].counts.accepted.load(std::sync::atomic::Ordering::Relaxed),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn an_l4_policy_closes_the_connections_it_denies_and_no_other() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let address = bench.address;
        bench.apply(Some(listener(address, "a", 1)));
        let from = |ip: &'static str| async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
            socket.connect(address).await.unwrap()
        };
        let (mut kept, mut denied) = (from("127.0.0.7").await, from("127.0.0.8").await);
        assert_eq!((ask(&mut kept).await.unwrap(), ask(&mut denied).await.unwrap()), (b'a', b'a'));
        let mut next = Listener::clone(&listener(address, "b", 1));
        let rules = Some(rules(RbacAction::Deny, Principal::DirectRemoteIp("127.0.0.8/32".parse().unwrap())));
        next.filter_chains[0].filters.insert(0, NetworkFilter::Rbac(Arc::new(RbacFilter { rules })));
        bench.apply(Some(Arc::new(next)));
        assert_eq!(tokio::time::timeout(LIMIT, denied.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
        assert_eq!(ask(&mut kept).await.unwrap(), b'a', "it goes on where it went");
        assert_eq!(ask(&mut from("127.0.0.7").await).await.unwrap(), b'b');
    })
    .await;
}

#[tokio::test]
async fn a_switch_to_strict_under_load_loses_no_meshed_call_and_ends_plaintext() {
    const SWITCHES: usize = 12;
    on_local(async {
        let (mut bench, app) = with_app().await;
        // The chains of the two modes have different matches, as Istio's have.
        let meshed = FilterChainMatch { application_protocols: vec!["istio".into()], ..speaking("tls") };
        let both = vec![mutual(meshed, http(None)), chain(speaking("raw_buffer"), http(None))];
        let permissive = inspected(listening(bench.address, both));
        let strict = inspected(listening(bench.address, vec![mutual(speaking("tls"), http(None))]));
        bench.apply(Some(permissive.clone()));

        let (stop, calls) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let mut callers = Vec::new();
        for _ in 0..8 {
            let (tcp, client) = (bench.connect().await, bench.caller());
            let (stop, calls) = (stop.clone(), calls.clone());
            callers.push(tokio::task::spawn_local(async move {
                let (mut stream, _) = client.connect(tcp, "payment", None).await.unwrap();
                let mut own = 0;
                while !stop.get() {
                    let head = get(&mut stream).await;
                    assert!(!head.as_deref().unwrap_or_default().contains("connection: close"), "{head:?}");
                    assert_eq!(status(head), "200", "call {own} of a meshed connection");
                    own += 1;
                    calls.set(calls.get() + 1);
                }
                own
            }));
        }
        let more = async |count: usize| {
            let wanted = calls.get() + count;
            while calls.get() < wanted {
                tokio::task::yield_now().await;
            }
        };
        for _ in 0..SWITCHES {
            let mut open = bench.connect().await;
            assert_eq!(status(get(&mut open).await), "200", "PERMISSIVE takes plaintext");
            more(20).await;
            bench.apply(Some(strict.clone()));
            // The open plaintext connection gets its last call, a new one gets nothing.
            if let Some(head) = get(&mut open).await {
                assert!(head.contains("connection: close"), "{head}");
            }
            assert_eq!(status(get(&mut open).await), "closed");
            assert_eq!(status(get(&mut bench.connect().await).await), "closed", "STRICT takes no plaintext");
            more(20).await;
            bench.apply(Some(permissive.clone()));
        }
        stop.set(true);
        let mut counted = 0;
        for caller in callers {
            counted += caller.await.unwrap();
        }
        let plaintext = app.requests.borrow().len() - counted;
        assert!(
            counted >= SWITCHES * 40 && (SWITCHES..=2 * SWITCHES).contains(&plaintext),
            "{counted}, {plaintext}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_connection_below_what_the_new_chain_demands_gets_its_last_call() {
    on_local(async {
        let (mut bench, _app) = with_app().await;
        let plain = one(&bench, chain(FilterChainMatch::default(), http(None)));
        let tls = one(&bench, mutual(FilterChainMatch::default(), http(None)));
        let bytes =
            one(&bench, chain(FilterChainMatch::default(), NetworkFilter::Tcp(Arc::new(proxy_to("a")))));
        for next in [tls, bytes] {
            bench.apply(Some(plain.clone()));
            let mut client = bench.connect().await;
            assert_eq!(status(get(&mut client).await), "200");
            bench.apply(Some(next));
            if let Some(head) = get(&mut client).await {
                assert!(head.contains("connection: close"), "{head}");
            }
            assert_eq!(status(get(&mut client).await), "closed");
        }
    })
    .await;
}
