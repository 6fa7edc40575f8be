//! Tests of `h1_client`, against a scripted upstream.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::http::body::{BodyStream, Frame};
use crate::http::handler::InformationalSink;
use crate::http::head::{Scheme, Version};
use crate::http::headers::Headers;

fn request(method: Method, length: BodyLength) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: Bytes::from_static(b"up"),
        target: Bytes::from_static(b"/p"),
        version: Version::Http11,
        headers: Headers::new(),
        length,
        upgrade: None,
    }
}

/// Whether the connection came back: `None` while it is in use.
type Fate = Rc<RefCell<Option<Option<Box<Connection<DuplexStream>>>>>>;

fn hook(fate: &Fate) -> OnEnd<DuplexStream> {
    let fate = fate.clone();
    Box::new(move |ended| {
        let old = fate.borrow_mut().replace(match ended {
            Ended::Reusable(connection) => Some(connection),
            Ended::Closed => None,
        });
        assert!(old.is_none(), "told twice");
    })
}

fn reusable(fate: &Fate) -> Option<bool> {
    fate.borrow().as_ref().map(Option::is_some)
}

fn pair() -> (Box<Connection<DuplexStream>>, DuplexStream, Fate) {
    let (near, far) = duplex(1 << 16);
    (Connection::new(near, ClientOptions::default()), far, Fate::default())
}

async fn collect(mut body: Body) -> Result<(Vec<u8>, Headers), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), Headers::new());
    while let Some(frame) = body.frame().await {
        match frame? {
            Frame::Data(piece) => data.extend_from_slice(&piece),
            Frame::Trailers(fields) => trailers = fields,
        }
    }
    Ok((data, trailers))
}

/// Sends a GET to an upstream that answers with `answer`, and closes if `close`.
async fn get(
    answer: &str,
    close: bool,
) -> (Result<(u16, Result<(Vec<u8>, Headers), BodyError>), SendError>, Fate) {
    let (connection, mut far, fate) = pair();
    let upstream = async move {
        let mut head = [0; 29];
        far.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"GET /p HTTP/1.1\r\nhost: up\r\n\r\n");
        far.write_all(answer.as_bytes()).await.unwrap();
        (!close).then_some(far)
    };
    let request = request(Method::GET, BodyLength::None);
    let client = async {
        let (head, body) =
            connection.send(&request, Body::empty(), &Informational::none(), hook(&fate)).await?;
        Ok((head.status, collect(body).await))
    };
    let (_far, result) = tokio::join!(upstream, client);
    (result, fate)
}

#[tokio::test]
async fn clean_ends_give_the_connection_back() {
    for (answer, text) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n", "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", ""),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok"),
    ] {
        let (result, fate) = get(answer, false).await;
        assert_eq!(result.unwrap().1.unwrap().0, text.as_bytes(), "{answer:?}");
        assert_eq!(reusable(&fate), Some(true), "{answer:?}");
    }
}

#[tokio::test]
async fn other_ends_do_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (result, fate) = get(answer, true).await;
        assert_eq!(result.unwrap().1.unwrap().0, b"ok", "{answer:?}");
        assert_eq!(reusable(&fate), Some(false), "{answer:?}");
    }
}

#[tokio::test]
async fn bodies_that_break_off_are_errors() {
    for (answer, reason) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", Reason::UpstreamCutBody),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Reason::UpstreamCutBody),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", Reason::UpstreamProtocol),
    ] {
        let (result, fate) = get(answer, true).await;
        let error = result.unwrap().1.unwrap_err();
        assert_eq!((error.blame, error.reason), (Blame::Upstream, reason), "{answer:?}");
        assert_eq!(reusable(&fate), Some(false));
    }
    let (result, _) = get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", true).await;
    assert!(result.unwrap().1.unwrap_err().detail.contains("2 of 5 bytes"));
}

#[tokio::test]
async fn heads_that_break_rules_are_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101));
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33);
    for answer in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        &many,
        &interim,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (result, fate) = get(answer, false).await;
        let error = result.unwrap_err();
        assert_eq!(error.reason, Reason::UpstreamProtocol, "{answer:?}");
        assert!(!error.safe_to_retry && !error.stale_connection);
        assert_eq!(reusable(&fate), Some(false));
    }
    let (result, _) = get("HTTP/1.1 20", true).await;
    let error = result.unwrap_err();
    assert!(error.reason == Reason::UpstreamProtocol && error.detail.contains("after 11 bytes"), "{error}");
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed_and_safe_to_retry() {
    let (mut connection, far, fate) = pair();
    assert!(connection.is_reusable());
    drop(far);
    assert!(!connection.is_reusable());
    let request = request(Method::POST, BodyLength::Known(2));
    let sent = connection.send(&request, Body::full("hi"), &Informational::none(), hook(&fate)).await;
    let error = sent.unwrap_err();
    assert!(error.safe_to_retry && !error.stale_connection);
    assert_eq!(error.body.unwrap().collect(9).await.unwrap(), "hi");
    assert_eq!(reusable(&fate), Some(false));
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_make_a_connection_unusable() {
    let (mut connection, mut far, _) = pair();
    far.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn a_close_after_the_request_was_written_is_not_safe() {
    let (connection, mut far, fate) = pair();
    let request = request(Method::POST, BodyLength::Known(2));
    let upstream = async move {
        let mut some = [0; 8];
        far.read_exact(&mut some).await.unwrap();
    };
    let none = Informational::none();
    let sent = connection.send(&request, Body::full("hi"), &none, hook(&fate));
    let (result, ()) = tokio::join!(sent, upstream);
    let error = result.unwrap_err();
    assert!(!error.safe_to_retry && error.body.is_none(), "{error:?}");
    assert_eq!((error.blame, error.reason), (Blame::Upstream, Reason::UpstreamReset));
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection() {
    let (connection, mut far, fate) = pair();
    far.write_all(b"").await.unwrap();
    let request = request(Method::GET, BodyLength::None);
    let upstream = async {
        let mut head = [0; 29];
        far.read_exact(&mut head).await.unwrap();
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
    };
    let none = Informational::none();
    let sent = connection.send(&request, Body::empty(), &none, hook(&fate));
    let (result, ()) = tokio::join!(sent, upstream);
    assert_eq!(reusable(&fate), None);
    drop(result);
    assert_eq!(reusable(&fate), Some(false));
    let mut rest = Vec::new();
    assert_eq!(far.read_to_end(&mut rest).await.unwrap(), 0);
}

/// Gives what the test puts in, and breaks when it is told to.
struct Fed(tokio::sync::mpsc::UnboundedReceiver<Result<Frame, BodyError>>);

impl BodyStream for Fed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn the_upload_goes_on_while_the_response_is_read() {
    let (connection, mut far, fate) = pair();
    let (feed, fed) = tokio::sync::mpsc::unbounded_channel();
    let request = request(Method::POST, BodyLength::Unknown);
    let informational = Informational::none();
    let upstream = async move {
        let mut head = vec![0; 58];
        far.read_exact(&mut head).await.unwrap();
        assert_eq!(head, b"POST /p HTTP/1.1\r\nhost: up\r\ntransfer-encoding: chunked\r\n\r\n");
        far.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        feed.send(Ok(Frame::Data(Bytes::from_static(b"hello")))).unwrap();
        let mut chunk = [0; 10];
        far.read_exact(&mut chunk).await.unwrap();
        assert_eq!(&chunk, b"5\r\nhello\r\n");
        far.write_all(&chunk).await.unwrap();
        feed.send(Ok(Frame::Trailers([("X-Sum", "1")].into_iter().collect()))).unwrap();
        let mut end = [0; 15];
        far.read_exact(&mut end).await.unwrap();
        assert_eq!(&end, b"0\r\nX-Sum: 1\r\n\r\n");
        far.write_all(b"0\r\n\r\n").await.unwrap();
        far
    };
    let client = async {
        let sent = connection.send(&request, Body::stream(Fed(fed)), &informational, hook(&fate));
        let (_, body) = sent.await.unwrap();
        collect(body).await.unwrap().0
    };
    let (_far, data) = tokio::join!(upstream, client);
    assert_eq!(data, b"hello");
    assert_eq!(reusable(&fate), Some(true));
}

#[tokio::test]
async fn a_client_body_that_breaks_is_blamed_on_the_client_and_never_ended() {
    let (connection, mut far, fate) = pair();
    let (feed, fed) = tokio::sync::mpsc::unbounded_channel();
    feed.send(Ok(Frame::Data(Bytes::from_static(b"ab")))).unwrap();
    feed.send(Err(BodyError::new(Blame::Downstream, Reason::DownstreamReset, "gone"))).unwrap();
    let request = request(Method::POST, BodyLength::Unknown);
    let sent = connection.send(&request, Body::stream(Fed(fed)), &Informational::none(), hook(&fate)).await;
    let error = sent.unwrap_err();
    assert!(error.blame == Blame::Downstream && !error.safe_to_retry);
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert!(!got.contains("0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn an_early_answer_is_passed_and_closes_the_connection() {
    let (connection, mut far, fate) = pair();
    let (_feed, fed) = tokio::sync::mpsc::unbounded_channel();
    let request = request(Method::POST, BodyLength::Known(1_000_000));
    let upstream = async {
        let mut head = [0; 16];
        far.read_exact(&mut head).await.unwrap();
        far.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();
    };
    let client = async {
        let informational = Informational::none();
        let sent = connection.send(&request, Body::stream(Fed(fed)), &informational, hook(&fate));
        let (head, body) = sent.await.unwrap();
        (head.status, collect(body).await.unwrap().0)
    };
    let ((), (status, data)) = tokio::join!(upstream, client);
    assert_eq!((status, &data[..]), (413, &b"big"[..]));
    assert_eq!(reusable(&fate), Some(false));
}

#[tokio::test]
async fn as_many_interim_responses_pass_as_are_allowed() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(32);
    let (result, _) = get(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), false).await;
    assert_eq!(result.unwrap().0, 200);
}

#[tokio::test]
async fn interim_heads_reach_the_sink() {
    struct Seen(RefCell<Vec<u16>>);
    impl InformationalSink for Seen {
        fn send(&self, head: ResponseHead) {
            self.0.borrow_mut().push(head.status);
        }
    }
    let (connection, mut far, fate) = pair();
    let seen = Rc::new(Seen(RefCell::default()));
    let sink = Informational::new(seen.clone());
    let request = request(Method::HEAD, BodyLength::None);
    let upstream = async {
        let mut head = [0; 16];
        far.read_exact(&mut head).await.unwrap();
        let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        far.write_all(answer.as_bytes()).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(&request, Body::empty(), &sink, hook(&fate)), upstream);
    let (head, body) = sent.unwrap();
    assert!(head.status == 200 && body.is_end());
    assert_eq!(*seen.0.borrow(), [103]);
    assert_eq!(reusable(&fate), Some(true));
}
