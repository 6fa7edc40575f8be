//! Tests of `h1_server`, over an in-memory stream.

use std::cell::RefCell;

use futures_util::FutureExt;
use runtime::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;

use super::*;
use crate::http::body::Frame;
use crate::http::handler::LocalBoxFuture;
use crate::http::head::RequestHead;
use crate::http::headers::Headers;

/// Answers by path and remembers what it saw.
#[derive(Default)]
struct Recorder {
    seen: RefCell<Vec<String>>,
    release: Notify,
    reached: Notify,
}

impl Handler for Recorder {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        mut body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(async move {
            let path = String::from_utf8_lossy(head.path()).into_owned();
            if path == "/early" {
                return (ResponseHead::new(413, BodyLength::Known(0)), Body::empty());
            }
            if path == "/hold" {
                self.reached.notify_one();
                self.release.notified().await;
            }
            if path == "/hints" {
                let mut hints = ResponseHead::new(103, BodyLength::None);
                hints.headers.append("Link", "</a>");
                sink.send(hints);
            }
            if path == "/echo" {
                return (ResponseHead::new(200, BodyLength::Unknown), body);
            }
            let (mut text, mut fields) = (Vec::new(), Headers::new());
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(Frame::Data(data)) => text.extend_from_slice(&data),
                    Ok(Frame::Trailers(trailers)) => fields = trailers,
                    Err(error) => {
                        self.seen.borrow_mut().push(format!("{path} broken {:?}", error.blame));
                        return (ResponseHead::new(400, BodyLength::Known(0)), Body::empty());
                    }
                }
            }
            let line = format!("{} {path} {} {}", head.method, String::from_utf8_lossy(&text), fields.len());
            self.seen.borrow_mut().push(line.trim_end_matches(" 0").trim_end().to_owned());
            (ResponseHead::new(200, BodyLength::Known(2)), Body::full("ok"))
        })
    }
}

fn options() -> ServerOptions {
    ServerOptions { header_timeout: Duration::from_secs(5), ..ServerOptions::default() }
}

/// Sends `input`, half-closes nothing, and returns all that comes back until the server closes, and why it did.
async fn talk(input: &str, recorder: &Recorder) -> (String, Result<Closed, ConnectionError>) {
    talk_with(options(), input, recorder).await
}

async fn talk_with(
    options: ServerOptions,
    input: &str,
    recorder: &Recorder,
) -> (String, Result<Closed, ConnectionError>) {
    let (client, server) = duplex(1 << 20);
    let (_drain, watch) = Drain::new();
    let serving = serve(server, recorder, &options, &watch);
    let talking = async move {
        let mut client = client;
        client.write_all(input.as_bytes()).await.unwrap();
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        output
    };
    let (closed, output) = tokio::join!(serving, talking);
    (output, closed)
}

#[tokio::test]
async fn serves_pipelined_requests_in_order() {
    let recorder = Recorder::default();
    let input = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
         \r\nPOST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\n\
         GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (output, closed) = talk(input, &recorder).await;
    assert_eq!(*recorder.seen.borrow(), ["POST /a abc", "POST /b de 1", "GET /c"]);
    let response = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    assert_eq!(output, format!("{response}{response}{last}"));
    assert_eq!(closed.unwrap(), Closed::AfterResponse);
}

#[tokio::test]
async fn the_last_request_that_a_connection_may_bring_closes_it() {
    let recorder = Recorder::default();
    let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let options = ServerOptions { max_requests: Some(2), ..options() };
    let (output, closed) = talk_with(options, &get.repeat(3), &recorder).await;
    assert_eq!(recorder.seen.borrow().len(), 2);
    assert_eq!(output.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(output.ends_with("connection: close\r\n\r\nok") && output.matches("connection").count() == 1);
    assert_eq!(closed.unwrap(), Closed::AfterResponse);
}

#[tokio::test]
async fn trailers_are_held_to_the_rule_of_underscores() {
    let input = "POST /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nde\r\n0\r\nX_Y: 1\r\nZ: 1\r\n\r\n";
    let rule = |underscores| {
        let rules = RequestRules { underscores, ..RequestRules::default() };
        ServerOptions { rules, ..options() }
    };
    for (underscores, seen) in [(Underscores::Allow, "POST /a de 2"), (Underscores::Drop, "POST /a de 1")] {
        let recorder = Recorder::default();
        talk_with(rule(underscores), input, &recorder).await.1.unwrap();
        assert_eq!(*recorder.seen.borrow(), [seen]);
    }
    let recorder = Recorder::default();
    let _ = talk_with(rule(Underscores::Reject), input, &recorder).await;
    assert_eq!(*recorder.seen.borrow(), ["/a broken Downstream"]);
}

#[tokio::test]
async fn http_10_closes_unless_asked_to_stay() {
    let recorder = Recorder::default();
    let input = "GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\nPOST /echo HTTP/1.0\r\nHost: h\r\n\
         Connection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    let (output, _) = talk(input, &recorder).await;
    assert_eq!(
        output,
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok\
         HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi"
    );
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let recorder = Recorder::default();
    let input = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (output, _) = talk(input, &recorder).await;
    assert!(
        output.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{output}"
    );
}

#[tokio::test]
async fn interim_responses_come_first_and_only_to_those_who_know_them() {
    let recorder = Recorder::default();
    let (output, _) = talk("GET /hints HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", &recorder).await;
    assert!(output.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK"), "{output}");
    let (output, _) = talk("GET /hints HTTP/1.0\r\nHost: h\r\n\r\n", &recorder).await;
    assert!(output.starts_with("HTTP/1.0 200 OK"), "{output}");
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted_and_not_otherwise() {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(4096);
    let (_drain, watch) = Drain::new();
    let options = options();
    let talking = async move {
        let head = "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        client.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, h1_encode::CONTINUE);
        client.write_all(b"hi").await.unwrap();
        let mut answer = [0; 40];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
        client.write_all(head.replace("/a", "/early").as_bytes()).await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let (closed, ()) = tokio::join!(serve(server, &recorder, &options, &watch), talking);
    assert_eq!(closed.unwrap(), Closed::AfterResponse);
}

#[tokio::test]
async fn an_early_answer_keeps_the_connection_when_the_rest_is_small() {
    let recorder = Recorder::default();
    let next = "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let small =
        format!("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{}{next}", "x".repeat(1000));
    let (output, _) = talk(&small, &recorder).await;
    assert_eq!(*recorder.seen.borrow(), ["GET /next"]);
    assert!(output.contains("413") && output.contains("200 OK"), "{output}");
    let large = format!(
        "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n{}{next}",
        "x".repeat(200_000)
    );
    let (output, _) = talk(&large, &recorder).await;
    assert_eq!(recorder.seen.borrow().len(), 1, "the next request must not be read");
    assert!(output.contains("413") && !output.contains("200 OK"), "{output}");
}

#[tokio::test]
async fn a_body_that_breaks_is_not_a_request() {
    let recorder = Recorder::default();
    let input = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let (output, _) = talk(input, &recorder).await;
    assert_eq!(*recorder.seen.borrow(), ["/a broken Downstream"]);
    assert!(output.starts_with("HTTP/1.1 400") && output.contains("connection: close"), "{output}");
}

#[tokio::test]
async fn refusals_are_answered_with_limit_and_size() {
    let recorder = Recorder::default();
    let (output, closed) = talk(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)), &recorder).await;
    assert!(output.starts_with("HTTP/1.1 431 ") && output.contains("limit is 61440 bytes"), "{output}");
    assert!(matches!(closed, Ok(Closed::Refused(Refusal::HeadTooLarge { limit: 61440, .. }))));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(100));
    let (output, _) = talk(&many, &recorder).await;
    assert!(output.starts_with("HTTP/1.1 431 ") && output.contains("101 fields"), "{output}");
    let (output, _) = talk("\u{16}\u{3}\u{1}", &recorder).await;
    assert!(output.starts_with("HTTP/1.1 400 "), "{output}");
    assert!(recorder.seen.borrow().is_empty());
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused_in_time() {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(4096);
    let (_drain, watch) = Drain::new();
    let options = ServerOptions { header_timeout: Duration::from_millis(20), ..options() };
    let talking = async move {
        client.write_all(b"GET / HTT").await.unwrap();
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        output
    };
    let (closed, output) = tokio::join!(serve(server, &recorder, &options, &watch), talking);
    assert!(output.starts_with("HTTP/1.1 408 ") && output.contains("after 20ms (9 bytes"), "{output}");
    assert!(matches!(closed, Ok(Closed::Refused(Refusal::HeadTimeout { .. }))));
}

#[tokio::test]
async fn idle_and_stalled_clients_are_let_go() {
    let recorder = Recorder::default();
    let (_drain, watch) = Drain::new();
    let idle = ServerOptions { idle_timeout: Duration::from_millis(10), ..options() };
    let (_client, server) = duplex(4096);
    assert_eq!(serve(server, &recorder, &idle, &watch).await.unwrap(), Closed::Idle);
    let stall = ServerOptions { stall_timeout: Duration::from_millis(10), ..options() };
    let (mut client, server) = duplex(4096);
    client.write_all(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n123").await.unwrap();
    let _ = serve(server, &recorder, &stall, &watch).await;
    assert_eq!(*recorder.seen.borrow(), ["/a broken Downstream"]);
    // A client that does not read: the response's second half finds no room.
    let (mut client, server) = duplex(64);
    let feed = async {
        client.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n").await.unwrap();
        client.write_all(&[b'x'; 60]).await.unwrap();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! { ended = serve(server, &recorder, &stall, &watch) => ended, () = feed => unreachable!() };
    assert!(matches!(ended, Err(ConnectionError::Stalled)), "{ended:?}");
}

/// A connection on `/hold`, as it is once the handler waits.
async fn held(recorder: &Recorder, client: &mut DuplexStream) {
    client.write_all(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    recorder.reached.notified().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(4096);
    let (_drain, watch) = Drain::new();
    let options = options();
    let leaving = async {
        held(&recorder, &mut client).await;
        drop(client);
    };
    let (closed, ()) = tokio::join!(serve(server, &recorder, &options, &watch), leaving);
    assert!(matches!(closed, Err(ConnectionError::ClientGone)));
    assert!(recorder.seen.borrow().is_empty());
}

#[tokio::test]
async fn drain_finishes_what_runs_and_closes_what_is_idle() {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(4096);
    let (drain, watch) = Drain::new();
    let options = options();
    let talking = async {
        held(&recorder, &mut client).await;
        drain.start();
        recorder.release.notify_one();
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        output
    };
    let (closed, output) = tokio::join!(serve(server, &recorder, &options, &watch), talking);
    assert!(output.contains("connection: close") && output.ends_with("ok"), "{output}");
    assert_eq!(closed.unwrap(), Closed::Drained);
    let (_client, server) = duplex(4096);
    assert_eq!(serve(server, &recorder, &options, &watch).await.unwrap(), Closed::Drained);
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_drain_begins_is_answered() {
    let recorder = Recorder::default();
    let options = options();
    for first in ["", "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let (mut client, server) = duplex(4096);
        let (drain, watch) = Drain::new();
        let mut serving = Box::pin(serve(server, &recorder, &options, &watch));
        client.write_all(first.as_bytes()).await.unwrap();
        assert!((&mut serving).now_or_never().is_none(), "idle, after the first request where there is one");
        let mut before = Vec::new();
        while !first.is_empty() && !before.ends_with(b"ok") {
            client.read_buf(&mut before).await.unwrap();
        }
        drain.start();
        assert!(
            (&mut serving).now_or_never().is_none(),
            "the drain was seen, and the connection closed at once"
        );
        let talking = async {
            client.write_all(b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let mut output = String::new();
            client.read_to_string(&mut output).await.unwrap();
            output
        };
        let (closed, output) = tokio::join!(serving, talking);
        assert!(output.contains("connection: close") && output.ends_with("ok"), "{output}");
        assert_eq!(closed.unwrap(), Closed::Drained);
    }
    assert_eq!(recorder.seen.borrow().iter().filter(|seen| seen.contains("/b")).count(), 2);
}

#[tokio::test]
async fn a_response_that_breaks_off_never_ends_cleanly() {
    struct Liar;
    impl Handler for Liar {
        fn handle<'a>(
            &'a self,
            _: RequestHead,
            _: Body,
            _: Informational,
        ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
            Box::pin(async { (ResponseHead::new(200, BodyLength::Known(5)), Body::full("abc")) })
        }
    }
    let (mut client, server) = duplex(4096);
    let (_drain, watch) = Drain::new();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let ended = serve(server, &Liar, &options(), &watch).await;
    assert!(matches!(ended, Err(ConnectionError::ResponseBroken(_))), "{ended:?}");
    let mut output = String::new();
    client.read_to_string(&mut output).await.unwrap();
    assert!(output.ends_with("\r\n\r\nabc"), "{output}");
}

#[tokio::test]
async fn large_bodies_stream_through_a_small_pipe() {
    let recorder = Recorder::default();
    let (client, server) = duplex(1024);
    let (_drain, watch) = Drain::new();
    let options = options();
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(client);
    let sending = async {
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&body).await.unwrap();
    };
    let receiving = async {
        let mut output = Vec::new();
        read.read_to_end(&mut output).await.unwrap();
        output
    };
    let (_, (), output) = tokio::join!(serve(server, &recorder, &options, &watch), sending, receiving);
    let start = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut decoder = crate::http::chunked::ChunkedDecoder::new(Limits::default());
    let (mut buffer, mut echoed) = (bytes::BytesMut::from(&output[start..]), Vec::new());
    while let crate::http::chunked::Decoded::Data(data) = decoder.decode(&mut buffer).unwrap() {
        echoed.extend_from_slice(&data);
    }
    assert!(echoed == body && buffer.is_empty());
}

/// Counts the calls that a kernel would see.
struct Counting {
    io: DuplexStream,
    calls: Rc<std::cell::Cell<(usize, usize)>>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = std::pin::Pin::new(&mut self.io).poll_read(cx, buffer);
        let (reads, writes) = self.calls.get();
        self.calls.set((reads + usize::from(polled.is_ready()), writes));
        polled
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (reads, writes) = self.calls.get();
        self.calls.set((reads, writes + 1));
        std::pin::Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_small_request_costs_one_read_and_one_write() {
    let recorder = Recorder::default();
    let (mut client, server) = duplex(4096);
    let calls = Rc::new(std::cell::Cell::new((0, 0)));
    let (_drain, watch) = Drain::new();
    let options = options();
    let talking = async {
        for round in 1..=3 {
            let request =
                "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 40];
            client.read_exact(&mut answer).await.unwrap();
            assert!(answer.ends_with(b"\r\n\r\nok"));
            assert_eq!(calls.get(), (round, round));
        }
        drop(client);
    };
    let server = Counting { io: server, calls: calls.clone() };
    let (closed, ()) = tokio::join!(serve(server, &recorder, &options, &watch), talking);
    assert_eq!(closed.unwrap(), Closed::ByClient);
}

/// Takes bytes, and never the end of them: a peer that does not read leaves no room for what TLS says when it closes.
struct NeverClosed(DuplexStream);

impl AsyncRead for NeverClosed {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NeverClosed {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn an_idle_connection_goes_also_when_its_client_does_not_read() {
    let recorder = Recorder::default();
    let (_client, server) = duplex(4096);
    let (_drain, watch) = Drain::new();
    let options = ServerOptions { idle_timeout: Duration::from_millis(10), ..options() };
    let serving = serve(NeverClosed(server), &recorder, &options, &watch);
    let closed = tokio::time::timeout(LINGER * 5, serving).await;
    assert_eq!(closed.expect("the connection is held for ever").unwrap(), Closed::Idle);
}
