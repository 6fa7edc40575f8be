//! The corpus through server and client to an upstream that reads with another parser: hyper sees exactly the requests
//! that our handler saw, no more and no fewer.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod corpus;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use corpus::Case;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy::http::h1::client::{ClientOptions, Connection, Ended};
use proxy::http::h1::server::{ServerOptions, serve};
use proxy::http::{Body, BodyLength, Handler, Informational, LocalBoxFuture, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Sends everything on over one connection, as a proxy does.
struct Forwarder {
    connection: Rc<RefCell<Option<Box<Connection<DuplexStream>>>>>,
}

impl Handler for Forwarder {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(async move {
            let failed = (ResponseHead::new(502, BodyLength::Known(0)), Body::empty());
            let Some(connection) = self.connection.take() else { return failed };
            let home = self.connection.clone();
            let on_end = Box::new(move |ended| {
                if let Ended::Reusable(connection) = ended {
                    home.replace(Some(connection));
                }
            });
            connection.send(&head, body, &sink, on_end).await.unwrap_or(failed)
        })
    }
}

/// What hyper read to its end.
async fn run(case: &Case) -> Vec<String> {
    let (client, server) = duplex(1 << 20);
    let (near, far) = duplex(1 << 20);
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: hyper::Request<Incoming>| {
        let (head, body) = request.into_parts();
        if let Ok(body) = body.collect().await {
            let hosts: Vec<_> = head.headers.get_all("host").iter().collect();
            assert_eq!(hosts.len(), 1, "{}", case.name);
            let host = String::from_utf8_lossy(hosts[0].as_bytes()).into_owned();
            let line = format!("{} {host} {} {}", head.method, head.uri, body.to_bytes().len());
            seen.borrow_mut().push(line);
        }
        Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from_static(b"ok"))))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let upstream = builder.max_headers(200).serve_connection(TokioIo::new(far), service);
    let (_drain, watch) = runtime::Drain::new();
    let connection = Connection::new(near, ClientOptions::default());
    let forwarder = Forwarder { connection: Rc::new(RefCell::new(Some(connection))) };
    let options = ServerOptions::default();
    let (mut read, mut write) = tokio::io::split(client);
    let talking = async {
        if case.ends == "waiting" {
            // The rest never comes; the server ends by itself.
            let _ = write.write_all(&case.bytes).await;
            let _ = write.shutdown().await;
            return std::future::pending().await;
        }
        let sending = async { write.write_all(&case.bytes).await };
        let mut answers = 0;
        let receiving = async {
            // The client leaves once it has as many answers as requests can have reached the upstream.
            let mut output = Vec::new();
            let mut buffer = [0; 4096];
            let wanted = case.reaches.len() + usize::from(case.ends != "open");
            while answers < wanted {
                match read.read(&mut buffer).await {
                    Ok(got @ 1..) => output.extend_from_slice(&buffer[..got]),
                    _ => break,
                }
                answers = output.windows(7).filter(|window| *window == b"HTTP/1.").count();
            }
        };
        let _ = tokio::join!(sending, receiving);
    };
    let serving = async {
        tokio::select! {
            _ = serve(server, &forwarder, &options, &watch) => {}
            () = talking => {}
        }
        drop(forwarder);
    };
    let (_, ()) = tokio::join!(upstream, serving);
    seen.into_inner()
}

#[tokio::test]
async fn another_parser_sees_the_same_requests() {
    let mut failures = Vec::new();
    for case in corpus::load() {
        let seen = run(&case).await;
        if seen != case.reaches {
            failures.push(format!("{}: hyper saw {seen:?}, expected {:?}", case.name, case.reaches));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
