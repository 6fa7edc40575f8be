//! Which side speaks first, and what the other one is told.

use std::sync::Arc;
use std::time::Duration;

use config::model::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, NetworkFilter, RbacAction, TlsInspector,
    TransportSocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::testing::*;

const MYSQL: &[u8] = b"\x4a\x00\x00\x00\x0a8.4.0\x00";
const MAIL: &[u8] = b"220 mail.example ESMTP\r\n";

fn forward(cluster: &str) -> NetworkFilter {
    NetworkFilter::Tcp(Arc::new(proxy_to(cluster)))
}

/// PERMISSIVE as Istio writes it: mutual TLS, or plaintext.
fn permissive(bench: &Bench, cluster: &str) -> Listener {
    let chains =
        vec![mutual(speaking("tls"), forward(cluster)), chain(speaking("raw_buffer"), forward(cluster))];
    inspected(listening(bench.address, chains))
}

fn inspected(listener: Listener) -> Listener {
    let tls = ListenerFilter::TlsInspector(TlsInspector::default());
    Listener {
        listener_filters: vec![tls, ListenerFilter::HttpInspector],
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: true,
        ..listener
    }
}

/// An outbound port of which nothing is declared: HTTP goes to `a`, everything else to `cluster`.
fn undeclared(bench: &Bench, cluster: &str) -> Listener {
    let versions = ["http/1.0", "http/1.1", "h2c"].map(Into::into).to_vec();
    let http = FilterChainMatch { application_protocols: versions, ..speaking("raw_buffer") };
    let other: FilterChain = chain(FilterChainMatch::default(), forward(cluster));
    inspected(Listener {
        default_filter_chain: Some(Arc::new(other)),
        ..listening(bench.address, vec![chain(http, forward("a"))])
    })
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_where_plaintext_is_allowed() {
    on_local(async {
        for (greeting, undeclared_port) in [(MYSQL, false), (MAIL, false), (MYSQL, true), (MAIL, true)] {
            let mut bench = Bench::new(100).await;
            let (at, accepted) = greeter(greeting).await;
            bench.cluster("greeter", at, TransportSocket::RawBuffer);
            let wanted =
                if undeclared_port { undeclared(&bench, "greeter") } else { permissive(&bench, "greeter") };
            bench.apply(Some(Arc::new(wanted)));
            let mut client = bench.connect().await;
            assert_eq!(read(&mut client, greeting.len()).await, greeting);
            assert_eq!(ask(&mut client).await.unwrap(), b'!');
            assert_eq!(*accepted.borrow(), 1, "the connection that was made early is the one that is used");
        }
    })
    .await;
}

/// Servers of gRPC send their settings at once; their clients may take more than a few milliseconds for the preface.
#[tokio::test]
async fn the_settings_of_an_http2_server_are_no_greeting() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let (at, accepted) = greeter(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64").await;
        bench.cluster("greeter", at, TransportSocket::RawBuffer);
        bench.apply(Some(Arc::new(undeclared(&bench, "greeter"))));
        let mut client = bench.connect().await;
        while *accepted.borrow() == 0 {
            tokio::task::yield_now().await;
        }
        // Many times what a stranger has for its first byte.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut client, 24).await, [b'a'; 24], "routed as HTTP");
    })
    .await;
}

#[tokio::test]
async fn strict_calls_nobody_and_says_nothing_before_the_handshake() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let (at, accepted) = greeter(MYSQL).await;
        bench.cluster("greeter", at, TransportSocket::RawBuffer);
        let mut strict = permissive(&bench, "greeter");
        strict.filter_chains.truncate(1);
        strict.listener_filters_timeout = Some(Duration::from_millis(300));
        bench.apply(Some(Arc::new(strict)));
        let mut client = bench.connect().await;
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert_eq!((&bytes[..], *accepted.borrow()), (&b""[..], 0));
        // The other half of the claim: with a certificate the greeting comes.
        let tcp = bench.connect().await;
        let (mut stream, _) = bench.caller().connect(tcp, "payment", None).await.unwrap();
        let mut greeting = vec![0; MYSQL.len()];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!((&greeting[..], *accepted.borrow()), (MYSQL, 1));
    })
    .await;
}

#[tokio::test]
async fn whom_a_policy_denies_causes_no_connection() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let (at, accepted) = greeter(MYSQL).await;
        bench.cluster("greeter", at, TransportSocket::RawBuffer);
        let mut denied = permissive(&bench, "greeter");
        denied.listener_filters_timeout = Some(Duration::from_millis(300));
        denied.filter_chains[1]
            .filters
            .insert(0, super::tests::rbac(RbacAction::Deny, config::model::Permission::Any));
        bench.apply(Some(Arc::new(denied)));
        let mut bytes = Vec::new();
        bench.connect().await.read_to_end(&mut bytes).await.unwrap();
        assert_eq!((&bytes[..], *accepted.borrow()), (&b""[..], 0));
    })
    .await;
}

#[tokio::test]
async fn a_peer_of_the_mesh_is_waited_for_although_the_server_has_spoken() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let (at, accepted) = greeter(MYSQL).await;
        bench.cluster("greeter", at, TransportSocket::RawBuffer);
        // The peer's address is one of a workload that is called with mutual TLS.
        bench.cluster("peer", at, TransportSocket::Tls(Arc::new(to_payment())));
        bench.apply(Some(Arc::new(permissive(&bench, "greeter"))));
        let tcp = bench.connect().await;
        while *accepted.borrow() == 0 {
            tokio::task::yield_now().await;
        }
        // More than a stranger would get.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (mut stream, _) = bench.caller().connect(tcp, "payment", None).await.unwrap();
        let mut greeting = vec![0; MYSQL.len()];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!((&greeting[..], *accepted.borrow()), (MYSQL, 1), "held, then sent through TLS");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_speaks_first_goes_where_its_bytes_say() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let (at, _) = greeter(MAIL).await;
        bench.cluster("greeter", at, TransportSocket::RawBuffer);
        bench.apply(Some(Arc::new(undeclared(&bench, "b"))));
        for (bytes, answer) in
            [(&b"GET / HTTP/1.1\r\n"[..], b'a'), (b"\x00\x01", b'b'), (b"EHLO x\r\n", b'b')]
        {
            let mut client = bench.connect().await;
            client.write_all(bytes).await.unwrap();
            assert_eq!(read(&mut client, bytes.len()).await, vec![answer; bytes.len()]);
        }
        // A first line that does not end is forwarded after a while.
        let mut client = bench.connect().await;
        client.write_all(b"GE").await.unwrap();
        assert_eq!(read(&mut client, 2).await, b"bb");
    })
    .await;
}

#[tokio::test]
async fn tls_is_passed_on_by_the_name_it_asks_for() {
    on_local(async {
        let mut bench = Bench::new(100).await;
        let named = |name: &str| FilterChainMatch { server_names: vec![name.into()], ..speaking("tls") };
        let chains = vec![chain(named("payment"), forward("a")), chain(named("*.example"), forward("b"))];
        bench.apply(Some(Arc::new(inspected(listening(bench.address, chains)))));
        for (name, answer) in [("payment", b'a'), ("Other.Example", b'b')] {
            let mut client = bench.connect().await;
            let bytes = hello(name);
            // The ClientHello reaches the upstream as it is, byte for byte.
            client.write_all(&bytes).await.unwrap();
            assert_eq!(read(&mut client, bytes.len()).await, vec![answer; bytes.len()]);
        }
        let mut unknown = bench.connect().await;
        unknown.write_all(&hello("nobody")).await.unwrap();
        assert_eq!(unknown.read(&mut [0]).await.unwrap_or(0), 0);
        // Plaintext has no place here.
        let mut client = bench.connect().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
    })
    .await;
}
