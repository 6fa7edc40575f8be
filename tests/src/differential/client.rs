//! The client of a case: it sends the steps and writes down what it sees.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::admin;
use super::bootstrap::Place;
use super::case::{After, Case, Distribution, FullStep, Read};
use super::http2::notation::{self, Action};
use super::http2::peer::Peer;
use super::message::{End, Framing, Head, Reader, response_framing, trailers_to_json};
use super::tls::{Certificates, Stream, Wishes};
use super::upstream::reset;
use super::{tcp, text};

/// How long an answer may take until the step is written down as unanswered.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection that steps share.
enum Open {
    /// Whatever is read from a socket.
    Plain(Reader),
    /// HTTP/2.
    Http2(Box<Peer>),
}

impl Open {
    fn socket(&mut self) -> &TcpStream {
        match self {
            Open::Plain(reader) => reader.socket(),
            Open::Http2(peer) => peer.reader().socket(),
        }
    }
}

/// Plays all steps against a listener.
pub fn play(case: &Case, place: &Place) -> Vec<Value> {
    let (listener, certificates) = (place.listener, place.certificates);
    let by_default = case.listens_with_tls();
    let mut named: BTreeMap<String, Open> = BTreeMap::new();
    let mut seen = Vec::new();
    for step in &case.steps {
        let mut step = step.full();
        if !step.admin.is_empty() {
            seen.push(
                json!({ "step": step.title(), "admin": admin::ask(place.admin, &step.admin, &step.only) }),
            );
            continue;
        }
        step.tls = (by_default || step.tls) && !step.plaintext;
        let kept = step.connection.as_ref().and_then(|name| named.remove(name));
        let Some(open) = kept.or_else(|| connect(listener, &step, certificates).map(Open::Plain)) else {
            seen.push(json!({ "step": step.title(), "connection": "refused" }));
            continue;
        };
        let (told, mut open) = take(&step, open, step.tls);
        seen.push(told);
        match (step.then, &step.connection) {
            (After::Reset, _) => reset(open.socket()),
            (After::Close, _) | (_, None) => {}
            (_, Some(name)) => drop(named.insert(name.clone(), open)),
        }
    }
    seen
}

/// Takes a step on a connection.
fn take(step: &FullStep, mut open: Open, secure: bool) -> (Value, Open) {
    let agreed = match &mut open {
        Open::Plain(reader) if secure && !step.alpn.is_empty() => Some(reader.alpn()),
        _ => None,
    };
    let (mut told, open) = match open {
        Open::Plain(mut reader) if step.http2.is_empty() => {
            (exchange(step, &mut reader), Open::Plain(reader))
        }
        Open::Plain(reader) => {
            let mut peer = Box::new(Peer::new(reader, false, if secure { "https" } else { "http" }));
            (http2(step, &mut peer, true), Open::Http2(peer))
        }
        Open::Http2(mut peer) => (http2(step, &mut peer, false), Open::Http2(peer)),
    };
    if let Some(name) = agreed {
        told["alpn"] = json!(name);
    }
    (told, open)
}

/// Does what an HTTP/2 step says. The first one of a connection begins it, unless it does that itself.
fn http2(step: &FullStep, peer: &mut Peer, first: bool) -> Value {
    let actions = notation::parse(&step.http2).unwrap();
    if first && !matches!(actions.first(), Some(Action::Preface(_))) {
        peer.begin(&[]);
    }
    peer.run(&actions, 0);
    let mut seen = serde_json::Map::new();
    seen.insert("step".to_owned(), json!(step.title()));
    let kept = |name: &str| step.only.is_empty() || step.only.iter().any(|only| only == name);
    seen.extend(peer.seen().into_iter().filter(|(name, _)| kept(name)));
    Value::Object(seen)
}

fn connect(listener: SocketAddr, step: &FullStep, certificates: Option<&Certificates>) -> Option<Reader> {
    let stream = match &step.from {
        None => TcpStream::connect(listener).ok()?,
        Some(from) => {
            use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
            let address: IpAddr = from.parse().expect("`from` is an address");
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
            bind(&socket, &SocketAddr::new(address, 0)).ok()?;
            connect(&socket, &listener).ok()?;
            TcpStream::from(socket)
        }
    };
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    let http2 = ["h2".to_owned()];
    let wishes = Wishes {
        certificate: step.certificate.as_deref(),
        alpn: if step.http2.is_empty() || !step.alpn.is_empty() { &step.alpn } else { &http2 },
        server_name: step.server_name.as_deref(),
    };
    Some(Reader::new(match certificates {
        Some(certificates) if step.tls => certificates.connect(stream, &wishes),
        _ => Stream::Plain(stream),
    }))
}

fn exchange(step: &FullStep, reader: &mut Reader) -> Value {
    let mut seen = json!({ "step": step.title() });
    if !step.request.is_empty() || step.send.is_some() {
        ask(step, reader, &mut seen);
    }
    if !step.tcp.is_empty() {
        seen["tcp"] = tcp::run(reader, &tcp::parse(&step.tcp).unwrap());
    }
    seen
}

/// Sends a request, or bytes, and writes down the responses.
fn ask(step: &FullStep, reader: &mut Reader, seen: &mut Value) {
    let bytes = step.bytes();
    let method = text::text(bytes.split(|byte| *byte == b' ').next().unwrap_or_default());
    reader.send(&bytes);
    if step.then == After::HalfClose {
        reader.half_close();
    }
    if step.read == Read::Nothing {
        return;
    }
    let mut messages = Vec::new();
    let mut state = "open";
    let mut wanted = step.responses.unwrap_or(1);
    while wanted > 0 {
        match response(reader, &method) {
            Ok((message, interim, promised)) => {
                messages.push(message);
                if !interim {
                    wanted -= 1;
                }
                if interim && step.read == Read::Interim {
                    break;
                }
                if promised {
                    state = "promised to close";
                    break;
                }
            }
            Err(End::Timeout) => {
                state = "no answer";
                break;
            }
            Err(_) => {
                state = "closed";
                break;
            }
        }
    }
    if state == "promised to close" || (step.read == Read::Close && state == "open") {
        state = match reader.to_end() {
            End::Closed => "closed",
            _ if state == "open" => "open",
            _ => "open in spite of its promise",
        };
    }
    seen["responses"] = json!(messages);
    seen["connection"] = json!(state);
    if !reader.rest().is_empty() && step.read != Read::Interim && step.tcp.is_empty() {
        seen["extra bytes"] = json!(text::brief(&text::text(reader.rest())));
    }
}

/// One message: what it says, whether it is an interim one, and whether the connection will be closed after it.
fn response(reader: &mut Reader, method: &str) -> Result<(Value, bool, bool), End> {
    let head = reader.head()?;
    let mut message = json!({ "head": head.to_json() });
    let interim = (100..200).contains(&head.status()) && head.status() != 101;
    if interim {
        return Ok((message, true, false));
    }
    let framing = response_framing(&head, method);
    let (body, trailers, end) = reader.body(framing);
    if !body.is_empty() {
        message["body"] = json!(text::brief(&text::text(&body)));
    }
    if !trailers.is_empty() {
        message["trailers"] = trailers_to_json(&trailers);
    }
    if end != End::Whole {
        message["ended"] = json!(if end == End::Timeout { "never" } else { "cut" });
    }
    Ok((message, false, closes(&head, framing) || end != End::Whole))
}

fn closes(head: &Head, framing: Framing) -> bool {
    let connection = head.get("connection").unwrap_or_default().to_ascii_lowercase();
    let old = head.line.starts_with("HTTP/1.0") && !connection.contains("keep-alive");
    framing == Framing::Close || old || connection.contains("close")
}

/// Sends many equal requests on one connection and counts the bodies of the answers.
pub fn count(distribution: &Distribution, listener: SocketAddr) -> Value {
    let request = text::request(&distribution.request, &[], None);
    let mut counts: BTreeMap<String, u32> =
        distribution.shares.keys().map(|name| (name.clone(), 0)).collect();
    let mut reader = connect(listener, &FullStep::default(), None);
    for _ in 0..distribution.repeat {
        let Some(open) = reader.as_mut() else { break };
        open.send(&request);
        let answer =
            open.head().map(|head| (closes(&head, Framing::Length(0)), response_framing(&head, "GET")));
        let body = match answer {
            Ok((close, framing)) => {
                let body = text::text(&open.body(framing).0);
                if close {
                    reader = connect(listener, &FullStep::default(), None);
                }
                body
            }
            Err(end) => {
                reader = connect(listener, &FullStep::default(), None);
                format!("no answer ({end:?})")
            }
        };
        *counts.entry(body).or_default() += 1;
    }
    json!(counts)
}
