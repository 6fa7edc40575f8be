use std::cell::RefCell;

use runtime::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::http::h1::server::{Ended, RequestRules, ServerOptions, serve_or_switch};
use crate::http::h2_server;
use crate::http::handler::{Handler, Informational, LocalBoxFuture};
use crate::http::head::{BodyLength, ResponseHead};
use crate::http::{Body, RequestHead};

/// Answers every request with 200 and remembers it.
#[derive(Default)]
struct Recorder(RefCell<Vec<String>>);

impl Handler for Recorder {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        _: Body,
        _: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        let host = String::from_utf8_lossy(&head.authority).into_owned();
        let target = String::from_utf8_lossy(&head.target).into_owned();
        let names: Vec<_> =
            head.headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        let seen = format!("{} {host}{target} {} {}", head.method, head.version.as_str(), names.join(","));
        self.0.borrow_mut().push(seen);
        Box::pin(async { (ResponseHead::new(200, BodyLength::Known(2)), Body::full("ok")) })
    }
}

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `http2-settings` of a client with a window of 65,535.
const SETTINGS: &str = "AAQAAP__";

fn offer(fields: &str) -> String {
    format!("GET /a?b HTTP/1.1\r\nHost: up\r\nX-Mine: 1\r\n{fields}\r\n")
}

fn whole() -> String {
    offer(&format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {SETTINGS}\r\n"))
}

/// What the handler saw, and what the client read, when it says this in HTTP/1.1, and this if it is told 101.
async fn talk(first: &str, then: &[u8], h2c: bool) -> (Vec<String>, Vec<u8>) {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(64 * 1024);
    let (_drain, watch) = Drain::new();
    let options =
        ServerOptions { rules: RequestRules { h2c, ..RequestRules::default() }, ..Default::default() };
    let serving = async {
        match serve_or_switch(server, &recorder, &options, &watch).await {
            Ok(Ended::Http2(switched)) => {
                let options = h2_server::ServerOptions::default();
                let _ =
                    h2_server::serve_upgraded(switched.io, switched.first, &recorder, &options, &watch).await;
            }
            Ok(Ended::Closed(_)) | Err(_) => {}
        }
    };
    let mut read = Vec::new();
    let talking = async {
        client.write_all(first.as_bytes()).await.unwrap();
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(client.read_buf(&mut read).await.unwrap() > 0);
        }
        if read.starts_with(b"HTTP/1.1 101") {
            client.write_all(then).await.unwrap();
            // The answer on stream 1 has the end of a stream on its DATA.
            while !read.windows(9).any(|frame| frame == [0, 0, 2, 0, 1, 0, 0, 0, 1]) {
                if client.read_buf(&mut read).await.unwrap() == 0 {
                    break;
                }
            }
        }
        drop(client);
    };
    tokio::join!(serving, talking);
    (recorder.0.into_inner(), read)
}

#[tokio::test]
async fn the_request_becomes_stream_1_and_is_seen_once() {
    // A window of its own and a GET behind it.
    let rest =
        b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0\0\0\x0a\x01\x05\0\0\0\x03\x82\x86\x04\x02/c\x41\x02up";
    let (seen, read) = talk(&whole(), &[PREFACE, rest].concat(), true).await;
    assert!(read.starts_with(ACCEPT), "{}", read.escape_ascii());
    assert_eq!(seen[0], "GET up/a?b HTTP/2 x-mine");
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[1], "GET up/c HTTP/2 ");
    // One acknowledgement of settings.
    let acks = read.windows(9).filter(|frame| *frame == [0, 0, 0, 4, 1, 0, 0, 0, 0]).count();
    assert_eq!(acks, 1);
}

#[tokio::test]
async fn what_is_no_whole_offer_is_answered_in_http_1() {
    let settings = format!("HTTP2-Settings: {SETTINGS}\r\n");
    let both = "Connection: Upgrade, HTTP2-Settings\r\n";
    for (fields, h2c, why) in [
        (format!("{both}Upgrade: h2c\r\n{settings}"), false, "nobody speaks HTTP/2"),
        (format!("{both}Upgrade: h2c\r\n"), true, "no settings"),
        (format!("{both}Upgrade: h2c\r\n{settings}{settings}"), true, "settings twice"),
        (format!("{both}Upgrade: websocket\r\n{settings}"), true, "another protocol"),
        (format!("{both}Upgrade: h2c\r\nUpgrade: h2c\r\n{settings}"), true, "two offers"),
        (
            format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{settings}"),
            true,
            "settings that are not nominated",
        ),
        (format!("Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}"), true, "no connection: upgrade"),
        (format!("{both}Upgrade: h2c\r\nHTTP2-Settings: AAQAAP//\r\n"), true, "the other alphabet"),
        (format!("{both}Upgrade: h2c\r\nHTTP2-Settings: AAQAAP\r\n"), true, "half a setting"),
        (format!("{both}Upgrade: h2c\r\nHTTP2-Settings: AAT_____\r\n"), true, "a window of 2^32 - 1"),
        (format!("{both}Upgrade: h2c\r\n{settings}Content-Length: 2\r\n"), true, "a body"),
    ] {
        let text = offer(&fields) + if why == "a body" { "hi" } else { "" };
        let (seen, read) = talk(&text, b"", h2c).await;
        assert!(read.starts_with(b"HTTP/1.1 200"), "{why}: {}", read.escape_ascii());
        assert_eq!(seen.len(), 1, "{why}");
        assert!(!seen[0].contains("upgrade") && !seen[0].to_lowercase().contains("http2-settings"), "{why}");
    }
}

#[tokio::test]
async fn a_client_that_goes_on_with_something_else_asks_for_nothing() {
    for rest in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\0",
    ] {
        let (seen, _) = talk(&whole(), rest, true).await;
        assert_eq!(seen, Vec::<String>::new());
    }
}
