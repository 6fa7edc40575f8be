//! Tests of the server, with the `h2` crate as the client, over an in-memory stream.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use runtime::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;

use super::*;
use crate::http::body::{Body, BodyError, BodyStream, Frame};
use crate::http::handler::{Gone, Informational, LocalBoxFuture};
use crate::http::head::{BodyLength, RequestHead, ResponseHead};
use crate::http::headers::Headers;
use crate::http::refusal::Refusal;

/// Answers by path and remembers what it saw.
#[derive(Default)]
struct Recorder {
    seen: RefCell<Vec<String>>,
    reached: Notify,
    release: Notify,
    dropped: Rc<Cell<u32>>,
    gone: RefCell<Vec<Gone>>,
}

/// Counts when it is dropped.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A body without end, made as it is asked for; counts what was taken.
struct Endless(Rc<Cell<u32>>);

impl BodyStream for Endless {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.set(self.0.get() + 16);
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(&[7; 16 * 1024])))))
    }
}

impl Recorder {
    async fn answer(&self, head: RequestHead, mut body: Body, sink: Informational) -> (ResponseHead, Body) {
        let path = String::from_utf8_lossy(head.path()).into_owned();
        match path.as_str() {
            "/hold" => {
                let _counted = Counted(self.dropped.clone());
                self.reached.notify_one();
                self.release.notified().await;
            }
            "/hints" => {
                let mut hints = ResponseHead::new(103, BodyLength::None);
                hints.headers.append("Link", "</a>");
                sink.send(hints);
            }
            "/echo" => return (ResponseHead::new(200, BodyLength::Unknown), body),
            "/endless" => {
                let endless = Body::stream(Endless(self.dropped.clone()));
                return (ResponseHead::new(200, BodyLength::Unknown), endless);
            }
            "/short" => return (ResponseHead::new(200, BodyLength::Known(9)), Body::full("short")),
            _ => {}
        }
        let (mut bytes, mut fields) = (0, Headers::new());
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(Frame::Data(data)) => bytes += data.len(),
                Ok(Frame::Trailers(trailers)) => fields = trailers,
                Err(error) => {
                    self.seen.borrow_mut().push(format!("{path} broken {:?} {}", error.blame, error.reason));
                    return (ResponseHead::new(400, BodyLength::Known(0)), Body::empty());
                }
            }
        }
        self.seen.borrow_mut().push(format!("{} {path} {bytes} {}", head.method, fields.len()));
        let mut head = ResponseHead::new(200, BodyLength::Known(2));
        head.headers.append("X-Answer", "1");
        (head, Body::full("ok"))
    }
}

impl Handler for Recorder {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(self.answer(head, body, sink))
    }

    fn client_gone(&self, how: Gone) {
        self.gone.borrow_mut().push(how);
    }
}

fn options() -> ServerOptions {
    ServerOptions { header_timeout: Duration::from_secs(5), ..ServerOptions::default() }
}

/// Runs a client against the codec; both end.
async fn with_client<T, F: Future<Output = T>>(
    options: ServerOptions,
    recorder: &Recorder,
    client: impl FnOnce(SendRequest<Bytes>, Drain) -> F,
) -> (T, Result<Closed, ConnectionError>) {
    let (near, far) = duplex(64 * 1024);
    let (drain, watch) = Drain::new();
    let serving = serve(far, recorder, &options, &watch);
    let talking = async move {
        let (send, connection) = h2::client::handshake(near).await.unwrap();
        let mut talking = Box::pin(client(send, drain));
        let mut connection = Box::pin(connection);
        let mut connected = true;
        let said = poll_fn(|cx| {
            if connected && connection.as_mut().poll(cx).is_ready() {
                connected = false;
            }
            talking.as_mut().poll(cx)
        })
        .await;
        drop(talking);
        if connected {
            let _ = connection.await;
        }
        said
    };
    let (closed, said) = tokio::join!(serving, talking);
    (said, closed)
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://up{path}")).body(()).unwrap()
}

async fn text(response: Response<RecvStream>) -> (u16, HeaderMap, String, Option<HeaderMap>) {
    let (parts, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    (parts.status.as_u16(), parts.headers, String::from_utf8(text).unwrap(), trailers)
}

async fn get(send: &SendRequest<Bytes>, request: Request<()>) -> Result<Response<RecvStream>, h2::Error> {
    let mut send = send.clone().ready().await?;
    send.send_request(request, true)?.0.await
}

#[tokio::test]
async fn serves_streams_side_by_side_with_bodies_and_trailers() {
    let recorder = Recorder::default();
    let (_, closed) = with_client(options(), &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let (held, _) = send.send_request(request("GET", "/hold"), true).unwrap();
        recorder.reached.notified().await;
        let (answer, mut body) = send.send_request(request("POST", "/echo"), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])).unwrap();
        let (status, _, echoed, trailers) = text(answer.await.unwrap()).await;
        assert_eq!((status, echoed.as_str()), (200, "hello"));
        assert_eq!(trailers.unwrap()["x-sum"], "1");
        recorder.release.notify_one();
        let (_, headers, ok, _) = text(held.await.unwrap()).await;
        assert_eq!((ok.as_str(), headers.len()), ("ok", 2));
        assert_eq!(
            (&headers["content-length"], &headers["x-answer"]),
            (&"2".parse().unwrap(), &"1".parse().unwrap())
        );
        let (status, headers, nothing, _) = text(get(&send, request("HEAD", "/head")).await.unwrap()).await;
        assert_eq!((status, nothing.as_str(), &headers["content-length"]), (200, "", &"2".parse().unwrap()));
    })
    .await;
    assert_eq!(closed.unwrap(), Closed::ByClient);
    assert_eq!(*recorder.seen.borrow(), ["GET /hold 0 0", "HEAD /head 0 0"]);
    assert!(recorder.gone.borrow().is_empty());
}

#[tokio::test]
async fn interim_responses_come_before_the_answer() {
    let recorder = Recorder::default();
    let (informed, _) = with_client(options(), &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let (mut answer, mut body) = send
            .send_request(
                Request::builder().uri("http://up/hints").header("expect", "100-continue").body(()).unwrap(),
                false,
            )
            .unwrap();
        let mut seen = Vec::new();
        while let Some(interim) = poll_fn(|cx| answer.poll_informational(cx)).await {
            seen.push(interim.unwrap().status().as_u16());
            if seen.len() == 2 {
                body.send_data(Bytes::new(), true).unwrap();
            }
        }
        assert_eq!(answer.await.unwrap().status(), 200);
        seen
    })
    .await;
    assert_eq!(informed, [103, 100]);
}

#[tokio::test]
async fn a_reset_by_the_client_drops_the_exchange() {
    let recorder = Recorder::default();
    let _closed = with_client(options(), &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let (answer, mut body) = send.send_request(request("POST", "/hold"), false).unwrap();
        recorder.reached.notified().await;
        body.send_reset(h2::Reason::CANCEL);
        drop(answer);
        while recorder.dropped.get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(*recorder.gone.borrow(), [Gone::Reset, Gone::Disconnected]);
    assert!(recorder.seen.borrow().is_empty());
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_a_bounded_number_of_bytes() {
    let recorder = Recorder::default();
    let taken = recorder.dropped.clone();
    let options = ServerOptions { stall_timeout: Duration::from_millis(200), ..options() };
    let _closed = with_client(options, &recorder, async |send, _drain| {
        // Nothing is released: the client's window closes.
        let response = get(&send, request("GET", "/endless")).await.unwrap();
        let mut body = response.into_body();
        let mut received = 0;
        let error = loop {
            match body.data().await.unwrap() {
                Ok(data) => received += data.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert_eq!(received, 65_535);
    })
    .await;
    assert!(taken.get() <= 64 + 16, "{} KiB were taken", taken.get());
}

#[tokio::test]
async fn an_upload_that_nobody_takes_is_held_by_the_window() {
    let recorder = Recorder::default();
    let options = ServerOptions { stream_window: 100_000, ..options() };
    let _closed = with_client(options, &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let (answer, mut body) = send.send_request(request("POST", "/hold"), false).unwrap();
        recorder.reached.notified().await;
        body.reserve_capacity(1 << 20);
        let mut sent = 0;
        while sent < 100_000 {
            let room = poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            body.send_data(Bytes::from(vec![1; room]), false).unwrap();
            sent += room;
        }
        assert_eq!(sent, 100_000);
        let more = poll_fn(|cx| body.poll_capacity(cx));
        assert!(tokio::time::timeout(Duration::from_millis(100), more).await.is_err());
        recorder.release.notify_one();
        // Now it is read, and the window opens.
        let room = poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
        assert!(room > 0);
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    })
    .await;
    assert_eq!(*recorder.seen.borrow(), ["POST /hold 100000 0"]);
}

#[tokio::test]
async fn a_body_that_lies_about_its_length_is_an_error_on_both_sides() {
    let recorder = Recorder::default();
    let _closed = with_client(options(), &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let mut lying = request("POST", "/read");
        lying.headers_mut().insert("content-length", "5".parse().unwrap());
        let (answer, mut body) = send.send_request(lying, false).unwrap();
        body.send_data(Bytes::from_static(b"123456"), true).unwrap();
        assert_eq!(answer.await.unwrap_err().reason(), Some(h2::Reason::PROTOCOL_ERROR));
        // A reset overtakes what waits to be written.
        let error = match get(&send, request("GET", "/short")).await {
            Ok(response) => {
                let mut body = response.into_body();
                loop {
                    match body.data().await.unwrap() {
                        Ok(data) => assert_eq!(data, "short"),
                        Err(error) => break error,
                    }
                }
            }
            Err(error) => error,
        };
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    })
    .await;
    let seen = recorder.seen.borrow();
    assert!(seen.iter().all(|line| line == "/read broken Downstream bad-request"), "{seen:?}");
}

#[tokio::test]
async fn a_head_beyond_a_limit_is_answered() {
    let recorder = Recorder::default();
    let _closed = with_client(options(), &recorder, async |send, _drain| {
        let mut large = request("GET", "/");
        large.headers_mut().insert("x", "v".repeat(62_000).parse().unwrap());
        let answer = get(&send, large).await.unwrap();
        assert_eq!(answer.status().as_u16(), Refusal::HeadTooLarge { limit: 0, seen: 0 }.status());
        let mut odd = request("GET", "/");
        odd.headers_mut().insert("host", "other".parse().unwrap());
        assert_eq!(get(&send, odd).await.unwrap().status(), 400);
        assert_eq!(get(&send, request("GET", "/")).await.unwrap().status(), 200);
    })
    .await;
    assert_eq!(*recorder.seen.borrow(), ["GET / 0 0"]);
}

#[tokio::test]
async fn the_drain_lets_streams_finish_and_takes_no_more() {
    let recorder = Recorder::default();
    let (_, closed) = with_client(options(), &recorder, async |send, drain| {
        let mut send = send.ready().await.unwrap();
        let (held, _) = send.send_request(request("GET", "/hold"), true).unwrap();
        recorder.reached.notified().await;
        drain.start();
        // The client learns it by GOAWAY; its stream goes on.
        while get(&send, request("GET", "/")).await.is_ok() {}
        recorder.release.notify_one();
        assert_eq!(held.await.unwrap().status(), 200);
    })
    .await;
    assert_eq!(closed.unwrap(), Closed::Drained);
}

#[tokio::test]
async fn the_last_request_and_the_age_end_a_connection() {
    let recorder = Recorder::default();
    let once = ServerOptions { max_requests: Some(1), ..options() };
    let (_, closed) = with_client(once, &recorder, async |send, _drain| {
        assert_eq!(get(&send, request("GET", "/")).await.unwrap().status(), 200);
        while get(&send, request("GET", "/")).await.is_ok() {}
    })
    .await;
    assert_eq!(closed.unwrap(), Closed::LastRequest);
    let old = ServerOptions { max_duration: Some(Duration::from_millis(50)), ..options() };
    let (_, closed) = with_client(
        old,
        &recorder,
        async |send, _drain| {
            while get(&send, request("GET", "/")).await.is_ok() {}
        },
    )
    .await;
    assert_eq!(closed.unwrap(), Closed::Aged);
    let idle = ServerOptions { idle_timeout: Duration::from_millis(50), ..options() };
    let (_, closed) = with_client(idle, &recorder, async |send, _drain| {
        assert_eq!(get(&send, request("GET", "/")).await.unwrap().status(), 200);
        while let Ok(ready) = send.clone().ready().await {
            drop(ready);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(closed.unwrap(), Closed::Idle);
}

/// Sends frames by hand, and returns the kinds and last bytes of the frames that come back, until the end.
async fn by_hand(
    options: ServerOptions,
    recorder: &Recorder,
    frames: Vec<Vec<u8>>,
    keep_open: bool,
) -> (Vec<(u8, Vec<u8>)>, Result<Closed, ConnectionError>) {
    let (near, far) = duplex(1 << 20);
    let (_drain, watch) = Drain::new();
    let serving = serve(far, recorder, &options, &watch);
    let talking = async move {
        let (mut read, mut write) = tokio::io::split(near);
        let writing = async {
            write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            for frame in std::iter::once(wire(4, 0, 0, b"")).chain(frames) {
                if write.write_all(&frame).await.is_err() {
                    return;
                }
            }
            if !keep_open {
                let _ = write.shutdown().await;
            }
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(writing, read.read_to_end(&mut all));
        read.unwrap();
        let mut seen = Vec::new();
        while all.len() >= 9 {
            let length = usize::from(all[1]) << 8 | usize::from(all[2]);
            seen.push((all[3], all[9..9 + length].to_vec()));
            all.drain(..9 + length);
        }
        seen
    };
    let (closed, seen) = tokio::join!(serving, talking);
    (seen, closed)
}

fn wire(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET http://up/` in HPACK.
const HEAD: &[u8] = b"\x82\x86\x84\x41\x02up";

fn goaway_code(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let last = frames.iter().rev().find(|(kind, _)| *kind == 7)?;
    Some(u32::from_be_bytes(last.1[4..8].try_into().unwrap()))
}

#[tokio::test]
async fn floods_end_in_enhance_your_calm() {
    const CALM: Option<u32> = Some(11);
    let limits = FloodLimits { reset_burst: 100, ..FloodLimits::default() };
    let options = || ServerOptions { flood: limits, ..options() };
    let resets = (0..200).flat_map(|n| {
        let stream = 2 * n + 1;
        [wire(1, 4, stream, HEAD), wire(3, 0, stream, &[0, 0, 0, 8])]
    });
    let open = || std::iter::once(wire(1, 4, 1, HEAD));
    let repeat = |frame: Vec<u8>| open().chain(std::iter::repeat_n(frame, 2000)).collect::<Vec<_>>();
    for (flood, frames) in [
        (Flood::Resets, resets.collect::<Vec<_>>()),
        (Flood::Priority, repeat(wire(2, 0, 1, &[0, 0, 0, 0, 1]))),
        (Flood::Control, repeat(wire(6, 0, 0, &[0; 8]))),
        (Flood::Control, repeat(wire(4, 0, 0, &[]))),
        (Flood::EmptyFrames, repeat(wire(0, 0, 1, &[]))),
        (Flood::WindowUpdates, repeat(wire(8, 0, 1, &[0, 0, 0, 1]))),
    ] {
        let recorder = Recorder::default();
        let (seen, closed) = by_hand(options(), &recorder, frames, true).await;
        assert_eq!((closed.unwrap(), goaway_code(&seen)), (Closed::Flooded(flood), CALM));
    }
}

#[tokio::test]
async fn heads_that_do_not_end_are_bounded() {
    let recorder = Recorder::default();
    let mut frames = vec![wire(1, 0, 1, HEAD)];
    // A field of 16 KiB without compression, again and again.
    let mut field = b"\x00\x01x\x7f\x81\x7f".to_vec();
    field.extend([b'v'; 127 + 128 * 127 + 1 - 128]);
    field.truncate(16_000);
    frames.extend(std::iter::repeat_n(wire(9, 0, 1, &field), 500));
    let (seen, closed) = by_hand(options(), &recorder, frames, false).await;
    assert!(closed.is_err());
    assert!(goaway_code(&seen).is_some_and(|code| code != 0));
    assert!(recorder.seen.borrow().is_empty());
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_ends_the_connection() {
    let recorder = Recorder::default();
    let options = ServerOptions { header_timeout: Duration::from_millis(100), ..options() };
    let (_, closed) = by_hand(options.clone(), &recorder, vec![wire(1, 0, 1, HEAD)], true).await;
    assert_eq!(closed.unwrap(), Closed::HeadTimeout);
    let cut = wire(1, 4, 1, HEAD)[..12].to_vec();
    let (_, closed) = by_hand(options.clone(), &recorder, vec![cut], true).await;
    assert_eq!(closed.unwrap(), Closed::HeadTimeout);
    let (silent, far): (DuplexStream, DuplexStream) = duplex(64);
    let (_drain, watch) = Drain::new();
    let error = serve(far, &recorder, &options, &watch).await.unwrap_err();
    assert!(matches!(error, ConnectionError::NoPreface(_)));
    drop(silent);
}

#[tokio::test]
async fn what_could_become_two_requests_becomes_none() {
    let field = |name: &[u8], value: &[u8]| {
        let mut head = HEAD.to_vec();
        head.push(0);
        head.push(name.len() as u8);
        head.extend_from_slice(name);
        head.push(value.len() as u8);
        head.extend_from_slice(value);
        wire(1, 4, 1, &head)
    };
    for (name, value) in [
        (&b"x"[..], &b"a\r\nhost: evil"[..]),
        (b"x", b"a\nb"),
        (b"x", b"a\0b"),
        (b"x\r\ny", b"1"),
        (b"x y", b"1"),
        (b"X-Upper", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"keep-alive", b"1"),
        (b"te", b"gzip"),
        (b":path", b"/other"),
        (b":status", b"200"),
        (b"content-length", b"-1"),
        (b"content-length", b"1, 1"),
    ] {
        let recorder = Recorder::default();
        let options = ServerOptions { idle_timeout: Duration::from_millis(50), ..options() };
        let (seen, _) =
            by_hand(options, &recorder, vec![field(name, value), wire(0, 1, 1, b"x")], true).await;
        assert!(recorder.seen.borrow().is_empty(), "{name:?}: {value:?} reached the handler");
        // 400 in a HEADERS frame, a reset, or a GOAWAY.
        assert!(seen.iter().any(|(kind, _)| matches!(kind, 1 | 3 | 7)), "{name:?}: {seen:?}");
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_body_ran_out_of_time() {
    let recorder = Recorder::default();
    let options = ServerOptions { stall_timeout: Duration::from_millis(20), ..options() };
    let _closed = with_client(options, &recorder, async |send, _drain| {
        let mut send = send.ready().await.unwrap();
        let (answer, mut body) = send.send_request(request("POST", "/upload"), false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 400);
    })
    .await;
    assert_eq!(
        *recorder.seen.borrow(),
        [format!("/upload broken {:?} {}", base::Blame::Downstream, base::Reason::Timeout)]
    );
}

#[tokio::test]
async fn a_fragment_is_refused_and_the_connection_goes_on() {
    let recorder = Recorder::default();
    let wire = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        // GET, http, `:path: /a#/b` (remembered), `:authority: up`, and the end of head and stream.
        b"\0\0\x0d\x01\x05\0\0\0\x01\x82\x86\x44\x05/a#/b\x41\x02up".to_vec(),
        b"\0\0\x04\x01\x05\0\0\0\x03\x82\x86\xbf\xbe".to_vec(),
        b"\0\0\x0a\x01\x05\0\0\0\x05\x82\x86\x04\x02/b\x41\x02up".to_vec(),
    ]
    .concat();
    let (mut near, far) = duplex(64 * 1024);
    let ((_drain, watch), options) = (Drain::new(), options());
    let talking = async {
        near.write_all(&wire).await.unwrap();
        while recorder.seen.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(near);
    };
    let (_, ()) = tokio::join!(serve(far, &recorder, &options, &watch), talking);
    assert_eq!(*recorder.seen.borrow(), ["GET /b 0 0"]);
}

#[tokio::test]
async fn a_request_whose_trailers_have_pseudo_headers_never_ends() {
    for (trailers, ends) in [(&b"\x00\x05x-sum\x011"[..], true), (b"\x04\x05/a#/b", false), (b"\x88", false)]
    {
        let recorder = Recorder::default();
        let head = b"\0\0\x0c\x01\x04\0\0\0\x01\x83\x86\x04\x04/one\x41\x02up";
        let last = [&[0, 0, trailers.len() as u8, 1, 5, 0, 0, 0, 1], trailers].concat();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let next = b"\0\0\x0c\x01\x05\0\0\0\x03\x82\x86\x04\x04/two\x41\x02up";
        let wire = [&preface[..], head, &last, next].concat();
        let (mut near, far) = duplex(64 * 1024);
        let ((_drain, watch), options) = (Drain::new(), options());
        let is_done = || recorder.seen.borrow().iter().any(|seen| seen.contains("/two"));
        let talking = async {
            near.write_all(&wire).await.unwrap();
            while !is_done() || (!ends && recorder.gone.borrow().is_empty()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(near);
        };
        let (_, ()) = tokio::join!(serve(far, &recorder, &options, &watch), talking);
        let seen = recorder.seen.borrow();
        assert_eq!(seen.contains(&"POST /one 0 1".to_owned()), ends, "{trailers:?}: {seen:?}");
        if !ends {
            assert_eq!(*recorder.gone.borrow(), [Gone::Malformed, Gone::Disconnected], "{trailers:?}");
        }
    }
}

#[path = "server_upgraded_tests.rs"]
mod upgraded;
