//! Entry point for fuzzers of the HTTP/2 server: any bytes may follow the preface.
//!
//! * nothing panics, and the connection ends when the client closes it;
//! * a request that reaches the handler, written for an HTTP/1 upstream, is read there as that one request;
//! * however the bytes of a connection are cut, either side reads the same of them;
//! * fields that were read are written so that they are read again.

use bytes::BytesMut;
use runtime::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::body::Body;
use super::h1::Limits;
use super::h1_encode;
use super::h1_head_reader::HeadReader;
use super::h1_request::RequestRules;
use super::h2;
use super::h2::server::{ServerOptions, serve};
use super::handler::{Handler, Informational, LocalBoxFuture};
use super::head::{BodyLength, RequestHead, ResponseHead};

/// Most bytes of a body that are read.
const BODY: usize = 1 << 20;
/// Turns that the server gets before the client closes.
const TURNS: usize = 64;

struct Checked;

impl Handler for Checked {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        _: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(async move {
            one_request(&head);
            // A body that breaks off is an answer like any other here.
            let _ = body.collect(BODY).await;
            (ResponseHead::new(200, BodyLength::Known(2)), Body::full("ok"))
        })
    }
}

fn one_request(head: &RequestHead) {
    if head.method == http::Method::CONNECT {
        return;
    }
    let mut out = BytesMut::new();
    h1_encode::request_head(&mut out, head);
    let written = out.clone();
    let limits = Limits { max_headers_bytes: usize::MAX, max_headers_count: 1000 };
    let rules = RequestRules { allow_custom_methods: true, upgrades: true, ..RequestRules::default() };
    let again = HeadReader::default().read(&mut out, &limits, &rules);
    assert!(matches!(&again, Ok(Some(_))), "refused when it is sent on: {again:?}: {written:?}");
    let Ok(Some(again)) = again else { return };
    assert!(out.is_empty(), "one request became two: {written:?}");
    assert_eq!((&again.head.method, &again.head.target), (&head.method, &head.target));
    assert_eq!((&again.head.authority, &again.head.upgrade), (&head.authority, &head.upgrade));
}

/// Reads any frames as a server and as a client, whole and in pieces of the length that the first byte says, and any
/// header block.
pub fn heads(data: &[u8]) {
    let Some((cut, wire)) = data.split_first() else { return };
    h2::fuzzing::frames(usize::from(*cut).max(1), wire);
    h2::fuzzing::block(wire);
}

/// Serves bytes that follow the preface.
pub fn server(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(async {
        let (client, far) = duplex(64 * 1024);
        let (_drain, watch) = Drain::new();
        let options = ServerOptions { allow_connect: true, ..ServerOptions::default() };
        let (mut read, mut write) = tokio::io::split(client);
        let writing = async {
            let whole = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", data].concat();
            // The server closes when it has had enough.
            let _ = write.write_all(&whole).await;
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let _ = write.shutdown().await;
        };
        let mut answers = Vec::new();
        let _ended =
            tokio::join!(serve(far, &Checked, &options, &watch), writing, read.read_to_end(&mut answers));
    });
}
