//! Upgrades end to end: a server codec in front, the HTTP/1 client behind, and raw bytes between them.

use std::cell::RefCell;
use std::future::{Future, poll_fn};

use bytes::Bytes;
use runtime::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::h1_client::{ClientOptions, Connection};
use super::handler::LocalBoxFuture;
use super::{Body, Handler, Informational, RequestHead, ResponseHead, h1_server, h2_server};

/// Sends its one request to the upstream.
struct Forward(RefCell<Option<DuplexStream>>);

impl Handler for Forward {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(async move {
            let upstream = Connection::new(self.0.take().unwrap(), ClientOptions::default());
            upstream.send(&head, body, &sink, Box::new(|_| ())).await.unwrap()
        })
    }
}

async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: up\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[tokio::test]
async fn raw_bytes_go_both_ways_and_half_closes_pass() {
    let (mut client, front) = duplex(1024);
    let (back, mut upstream) = duplex(1024);
    let (_drain, watch) = Drain::new();
    let handler = Forward(RefCell::new(Some(back)));
    let mut options = h1_server::ServerOptions::default();
    options.rules.upgrades = true;
    let serving = h1_server::serve(front, &handler, &options, &watch);
    let talking = async {
        // The client is too eager: what it sends must not reach the upstream before the upstream accepts.
        client.write_all(format!("{OFFER}GET /smuggled HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let seen = read_until(&mut upstream, "\r\n\r\n").await;
        assert!(
            seen.starts_with("GET /chat HTTP/1.1\r\n") && seen.contains("upgrade: websocket\r\n"),
            "{seen}"
        );
        assert!(seen.contains("connection: Upgrade\r\n") && !seen.contains("transfer-encoding"), "{seen}");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), upstream.read_u8()).await;
        assert!(early.is_err(), "a byte behind the offer came before its acceptance");
        upstream.write_all(format!("{ACCEPT}hello").as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: upgrade\r\n"), "{answer}");
        assert!(answer.to_lowercase().contains("upgrade: websocket\r\n"), "{answer}");
        assert!(!answer.contains("close") && !answer.contains("length"), "{answer}");
        assert_eq!(read_until(&mut upstream, "\r\n\r\n").await, "GET /smuggled HTTP/1.1\r\n\r\n");
        client.write_all(b"more").await.unwrap();
        assert_eq!(read_until(&mut upstream, "more").await, "more");
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        upstream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "", "the client's half close passes");
        upstream.write_all(b"the last word").await.unwrap();
        drop(upstream);
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "the last word");
    };
    let (closed, ()) = tokio::join!(serving, talking);
    assert_eq!(closed.unwrap(), h1_server::Closed::AfterResponse);
}

#[tokio::test]
async fn an_offer_that_the_upstream_ignores_is_an_ordinary_request() {
    let (mut client, front) = duplex(1024);
    let (back, mut upstream) = duplex(1024);
    let (drain, watch) = Drain::new();
    let handler = Forward(RefCell::new(Some(back)));
    let mut options = h1_server::ServerOptions::default();
    options.rules.upgrades = true;
    let serving = h1_server::serve(front, &handler, &options, &watch);
    let talking = async {
        client.write_all(OFFER.as_bytes()).await.unwrap();
        read_until(&mut upstream, "\r\n\r\n").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let answer = read_until(&mut client, "ok").await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        // The connection is at its next request: HTTP, not a tunnel.
        client.write_all(b"nonsense\r\n\r\n").await.unwrap();
        let refused = read_until(&mut client, "\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
        drop((client, drain));
    };
    let (closed, ()) = tokio::join!(serving, talking);
    assert!(matches!(closed.unwrap(), h1_server::Closed::Refused(_)));
}

#[tokio::test]
async fn an_extended_connect_becomes_an_upgrade_of_the_upstream() {
    let (client, front) = duplex(64 * 1024);
    let (back, mut upstream) = duplex(1024);
    let (_drain, watch) = Drain::new();
    let handler = Forward(RefCell::new(Some(back)));
    let options = h2_server::ServerOptions { allow_connect: true, ..Default::default() };
    let serving = h2_server::serve(front, &handler, &options, &watch);
    let talking = async {
        let (send, connection) = h2::client::handshake(client).await.unwrap();
        let talking = async move {
            let mut send = send.ready().await.unwrap();
            while !send.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
            let mut wire = http::Request::builder().method("CONNECT").uri("http://up/chat").body(()).unwrap();
            wire.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (answer, mut up) = send.send_request(wire, false).unwrap();
            let seen = read_until(&mut upstream, "\r\n\r\n").await;
            assert!(
                seen.starts_with("GET /chat HTTP/1.1\r\n") && seen.contains("upgrade: websocket"),
                "{seen}"
            );
            upstream.write_all(format!("{ACCEPT}hello").as_bytes()).await.unwrap();
            let response = answer.await.unwrap();
            assert_eq!((response.status().as_u16(), response.headers().len()), (200, 0));
            let mut down = response.into_body();
            assert_eq!(down.data().await.unwrap().unwrap(), "hello");
            up.send_data(Bytes::from_static(b"bytes"), true).unwrap();
            let mut rest = String::new();
            upstream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "bytes");
            drop(upstream);
            while let Some(data) = down.data().await {
                assert!(data.unwrap().is_empty());
            }
        };
        let (mut talking, mut connection) = (Box::pin(talking), Box::pin(connection));
        let mut connected = true;
        poll_fn(|cx| {
            connected = connected && connection.as_mut().poll(cx).is_pending();
            talking.as_mut().poll(cx)
        })
        .await;
        drop(talking);
    };
    let (closed, ()) = tokio::join!(serving, talking);
    assert!(closed.is_ok());
}
