//! Against the `h2` crate's server, and against one that is written frame by frame.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::http::body::BodyError;
use crate::http::handler::InformationalSink;
use crate::http::{BodyLength, BodyStream, Frame, Headers, Scheme, Version};

const OPTIONS: Options = Options {
    limits: Limits { max_headers_bytes: 4096, max_headers_count: 100 },
    max_informational: 4,
    stream_window: 65_535,
    connection_window: 65_535,
    header_table_size: 4096,
    keepalive: None,
};

async fn local<T>(test: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    let test = tokio::time::timeout(limit, test);
    tokio::task::LocalSet::new().run_until(test).await.expect("the test came to its end")
}

fn request(method: http::Method, length: BodyLength) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: "payment:8080".into(),
        target: "/pay?x=1".into(),
        version: Version::Http11,
        headers: [("X-Mine", "1")].into_iter().collect(),
        length,
        upgrade: None,
    }
}

fn get() -> RequestHead {
    request(http::Method::GET, BodyLength::None)
}

type ServerConnection = h2::server::Connection<DuplexStream, Bytes>;
type Respond = h2::server::SendResponse<Bytes>;

/// A connection to a server of the `h2` crate.
async fn connected(options: Options, server: h2::server::Builder) -> (Connection, ServerConnection) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (client, server) =
        tokio::join!(Connection::handshake(near, &options, ()), server.handshake::<_, Bytes>(far));
    (client.unwrap(), server.unwrap())
}

/// Serves each request by `answer`, one after the other as they come.
fn serve<F: Future<Output = ()> + 'static>(
    mut server: ServerConnection,
    answer: impl Fn(http::Request<RecvStream>, Respond) -> F + 'static,
) {
    tokio::task::spawn_local(async move {
        while let Some(Ok((request, respond))) = server.accept().await {
            tokio::task::spawn_local(answer(request, respond));
        }
    });
}

use h2::RecvStream;

async fn send(
    client: &Connection,
    head: &RequestHead,
    body: Body,
) -> Result<(ResponseHead, Body), SendError> {
    client.send(head, body, &Informational::none(), Box::new(|| {})).await
}

fn ok() -> Response<()> {
    Response::new(())
}

struct Script(Vec<Frame>);

impl BodyStream for Script {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }
}

#[derive(Default)]
struct Interim(RefCell<Vec<u16>>);

impl InformationalSink for Interim {
    fn send(&self, head: ResponseHead) {
        self.0.borrow_mut().push(head.status);
    }
}

#[tokio::test]
async fn heads_bodies_trailers_and_interim_responses_go_both_ways_at_once() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        serve(server, |request, mut respond| async move {
            assert_eq!(request.uri().to_string(), "http://payment:8080/pay?x=1");
            assert_eq!(request.headers()["x-mine"], "1");
            let mut body = request.into_body();
            let mut got = Vec::new();
            while let Some(data) = body.data().await {
                got.extend_from_slice(&data.unwrap());
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            let mut early = ok();
            *early.status_mut() = StatusCode::EARLY_HINTS;
            respond.send_informational(early).unwrap();
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data(got.into(), false).unwrap();
            stream.send_trailers(trailers).unwrap();
        });
        let one = |number: usize| {
            let client = client.clone();
            async move {
                let trailers: Headers = [("X-Sum", number.to_string())].into_iter().collect();
                let frames = vec![
                    Frame::Data(Bytes::from(format!("body {number}"))),
                    Frame::Trailers(trailers.clone()),
                ];
                let interim = Rc::new(Interim::default());
                let ends = Rc::new(Cell::new(0));
                let on_end = Box::new({
                    let ends = ends.clone();
                    move || ends.set(ends.get() + 1)
                });
                let head = request(http::Method::POST, BodyLength::Unknown);
                let informational = Informational::new(interim.clone());
                let (head, mut body) =
                    client.send(&head, Body::stream(Script(frames)), &informational, on_end).await.unwrap();
                assert_eq!((head.status, head.version), (200, Version::Http2));
                let mut data = Vec::new();
                let mut end = None;
                while let Some(frame) = body.frame().await {
                    match frame.unwrap() {
                        Frame::Data(piece) => data.extend_from_slice(&piece),
                        Frame::Trailers(trailers) => end = trailers.get_str("x-sum").map(str::to_owned),
                    }
                }
                assert_eq!((data, end), (format!("body {number}").into_bytes(), Some(number.to_string())));
                assert_eq!(*interim.0.borrow(), [103]);
                assert_eq!(ends.get(), 1);
            }
        };
        futures_util::future::join_all((0..50).map(one)).await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_stream_may_be_sent_again_with_its_body_and_a_reset_one_may_not() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        serve(server, |request, mut respond| async move {
            let refuse = request.headers().contains_key("refuse");
            respond.send_reset(if refuse { h2::Reason::REFUSED_STREAM } else { h2::Reason::INTERNAL_ERROR });
        });
        let mut head = request(http::Method::POST, BodyLength::Known(3));
        let reset = send(&client, &head, Body::full("abc")).await.unwrap_err();
        assert_eq!((reset.reason, reset.safe_to_retry), (Reason::UpstreamResetStream, false));
        assert_eq!(reset.blame, Blame::Upstream);

        head.headers.append("refuse", "1");
        head.length = BodyLength::None;
        let refused = send(&client, &head, Body::empty()).await.unwrap_err();
        assert_eq!((refused.reason, refused.safe_to_retry), (Reason::UpstreamRefusedStream, true));
        assert!(client.is_open(), "only the stream has ended");
    })
    .await;
}

/// A server that is written frame by frame.
struct Raw(DuplexStream);

impl Raw {
    /// Connects, answers the greeting with `settings`, and acknowledges those of the client.
    async fn connect(options: Options, settings: &[u8]) -> (Connection, Raw, Rc<()>) {
        let (near, mut far) = tokio::io::duplex(256 * 1024);
        let keep = Rc::new(());
        let greet = async {
            let mut preface = [0; 24];
            far.read_exact(&mut preface).await.unwrap();
            assert_eq!(&preface[..14], b"PRI * HTTP/2.0");
            let mut raw = Raw(far);
            raw.write(4, 0, 0, settings).await;
            raw.write(4, 1, 0, &[]).await;
            raw
        };
        let (client, raw) = tokio::join!(Connection::handshake(near, &options, keep.clone()), greet);
        (client.unwrap(), raw, keep)
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame of that kind: flags and stream.
    async fn next(&mut self, wanted: u8) -> (u8, u32) {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            if head[3] == wanted {
                return (head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
        }
    }
}

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;
/// `:status: 200` of the static table.
const STATUS_200: &[u8] = &[0x88];

#[tokio::test]
async fn goaway_ends_what_the_host_will_not_answer_and_leaves_the_rest() {
    local(async {
        let (client, mut raw, keep) = Raw::connect(OPTIONS, &[]).await;
        let (answered, unanswered) = (client.clone(), client.clone());
        let head = get();
        let talk = async {
            assert_eq!(raw.next(HEADERS).await.1, 1);
            assert_eq!(raw.next(HEADERS).await.1, 3);
            // The last stream that is answered is 1; no error.
            raw.write(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
            raw.write(HEADERS, WHOLE, 1, STATUS_200).await;
        };
        let (first, second, ()) = tokio::join!(
            send(&answered, &head, Body::empty()),
            send(&unanswered, &head, Body::empty()),
            talk
        );
        assert_eq!(first.unwrap().0.status, 200);
        let second = second.unwrap_err();
        assert_eq!((second.reason, second.safe_to_retry), (Reason::UpstreamRefusedStream, true), "{second}");
        assert!(!client.is_open(), "no new stream");
        let late = send(&client, &head, Body::empty()).await.unwrap_err();
        assert!(late.safe_to_retry && late.body.is_some(), "{late}");
        drop((client, answered, unanswered));
        while Rc::strong_count(&keep) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_no_promise() {
    local(async {
        let (client, mut raw, _) = Raw::connect(OPTIONS, &[]).await;
        let head = get();
        let (result, ()) = tokio::join!(send(&client, &head, Body::empty()), async {
            raw.next(HEADERS).await;
            drop(raw);
        });
        let error = result.unwrap_err();
        assert_eq!((error.reason, error.safe_to_retry), (Reason::UpstreamReset, false), "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_hosts_limits_are_known_before_the_first_request() {
    local(async {
        // SETTINGS_MAX_CONCURRENT_STREAMS = 7.
        let (client, _raw, _) = Raw::connect(OPTIONS, &[0, 3, 0, 0, 0, 7]).await;
        assert_eq!(client.max_streams(), 7);
    })
    .await;
}

#[tokio::test]
async fn a_host_that_speaks_http1_is_named_and_gets_no_request() {
    local(async {
        let (near, mut far) = tokio::io::duplex(4096);
        let answer = async {
            far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).await.unwrap();
            seen
        };
        let (result, seen) = tokio::join!(Connection::handshake(near, &OPTIONS, ()), answer);
        assert!(result.unwrap_err().starts_with("HTTP/2 handshake: "));
        assert!(!seen.windows(4).any(|window| window == b"/pay"));
    })
    .await;
}

#[tokio::test]
async fn an_unanswered_ping_ends_the_connection_and_an_answered_one_does_not() {
    local(async {
        let keepalive =
            Some(Keepalive { interval: Duration::from_millis(10), timeout: Duration::from_millis(300) });
        let options = Options { keepalive, ..OPTIONS };
        let (alive, server) = connected(options, h2::server::Builder::new()).await;
        serve(server, |_, mut respond| async move { drop(respond.send_response(ok(), true)) });

        let (dead, raw, keep) = Raw::connect(options, &[]).await;
        let head = get();
        let error = send(&dead, &head, Body::empty()).await.unwrap_err();
        assert_eq!((error.reason, error.safe_to_retry), (Reason::UpstreamReset, false));
        assert!(!dead.is_open() && Rc::strong_count(&keep) == 1);
        drop(raw);
        assert!(alive.is_open());
        assert_eq!(send(&alive, &head, Body::empty()).await.unwrap().0.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_stops_at_its_window() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        serve(server, move |_, mut respond| {
            let count = count.clone();
            async move {
                let mut stream = respond.send_response(ok(), false).unwrap();
                while count.get() < 1_000_000 {
                    stream.reserve_capacity(10_000);
                    let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                    let piece = room.min(10_000);
                    stream.send_data(vec![0; piece].into(), false).unwrap();
                    count.set(count.get() + piece);
                }
                stream.send_data(Bytes::new(), true).unwrap();
            }
        });
        let (_, mut body) = send(&client, &get(), Body::empty()).await.unwrap();
        while sent.get() < 65_535 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sent.get(), 65_535, "the window and not a byte more");
        let mut got = 0;
        while let Some(frame) = body.frame().await {
            if let Frame::Data(data) = frame.unwrap() {
                got += data.len();
            }
        }
        assert_eq!(got, sent.get());
        assert!(got >= 1_000_000);
    })
    .await;
}

/// An endless body that counts what was taken from it.
struct Endless(Rc<Cell<usize>>);

impl BodyStream for Endless {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.set(self.0.get() + 10_000);
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(&[0; 10_000])))))
    }
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_not_taken_from_the_client() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        // Answers at once and never reads.
        serve(server, |request, mut respond| async move {
            let _stream = respond.send_response(ok(), false).unwrap();
            let _request = request;
            std::future::pending::<()>().await;
        });
        let taken = Rc::new(Cell::new(0));
        let head = request(http::Method::POST, BodyLength::Unknown);
        let (_, mut body) = send(&client, &head, Body::stream(Endless(taken.clone()))).await.unwrap();
        for _ in 0..1_000 {
            let polled = poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await;
            assert!(polled.is_pending());
            tokio::task::yield_now().await;
        }
        assert!((60_000..=200_000).contains(&taken.get()), "{}", taken.get());
    })
    .await;
}

#[tokio::test]
async fn too_many_or_too_large_fields_are_the_hosts_fault() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        serve(server, |request, mut respond| async move {
            let many = request.headers().contains_key("many");
            let mut response = ok();
            let fields: &mut HeaderMap = response.headers_mut();
            if many {
                for _ in 0..101 {
                    fields.append("a", HeaderValue::from_static("b"));
                }
            } else {
                fields.insert("a", HeaderValue::from_str(&"b".repeat(4096)).unwrap());
            }
            respond.send_response(response, true).unwrap();
        });
        let mut head = get();
        for _ in 0..2 {
            let error = send(&client, &head, Body::empty()).await.unwrap_err();
            assert_eq!((error.reason, error.safe_to_retry), (Reason::UpstreamProtocol, false), "{error}");
            head.headers.append("many", "1");
        }
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_is_an_extended_connect_where_the_host_takes_them() {
    local(async {
        let mut head = get();
        head.upgrade = Some("websocket".into());
        head.length = BodyLength::Unknown;
        let (plain, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        serve(server, |_, mut respond| async move { drop(respond.send_response(ok(), true)) });
        let refused = send(&plain, &head, Body::empty()).await.unwrap_err();
        assert!(refused.safe_to_retry && refused.detail.contains("RFC 8441"));

        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let (client, server) = connected(OPTIONS, builder).await;
        serve(server, |request, mut respond| async move {
            assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
            let mut stream = respond.send_response(ok(), false).unwrap();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        });
        let frames = vec![Frame::Data("ping".into())];
        let (accepted, body) = send(&client, &head, Body::stream(Script(frames))).await.unwrap();
        assert_eq!(accepted.status, 101);
        assert_eq!(body.collect(100).await.unwrap(), "ping");
    })
    .await;
}

#[tokio::test]
async fn a_dropped_response_resets_its_stream_and_not_the_connection() {
    local(async {
        let (client, server) = connected(OPTIONS, h2::server::Builder::new()).await;
        let resets = Rc::new(RefCell::new(Vec::new()));
        let seen = resets.clone();
        serve(server, move |request, mut respond| {
            let seen = seen.clone();
            async move {
                if request.headers().contains_key("wait") {
                    let mut stream = respond.send_response(ok(), false).unwrap();
                    let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
                    seen.borrow_mut().push(reset.unwrap());
                } else {
                    respond.send_response(ok(), true).unwrap();
                }
            }
        });
        let mut head = get();
        head.headers.append("wait", "1");
        let ended = Rc::new(Cell::new(false));
        let on_end = Box::new({
            let ended = ended.clone();
            move || ended.set(true)
        });
        let (_, body) = client.send(&head, Body::empty(), &Informational::none(), on_end).await.unwrap();
        assert!(!ended.get());
        drop(body);
        assert!(ended.get());
        while resets.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*resets.borrow(), [h2::Reason::CANCEL]);
        assert_eq!(send(&client, &get(), Body::empty()).await.unwrap().0.status, 200);
    })
    .await;
}

#[path = "client_answer_tests.rs"]
mod answers;
