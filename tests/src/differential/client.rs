//! The client of a case: it sends the steps and writes down what it sees.

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{After, Case, Distribution, FullStep, Read};
use super::message::{End, Framing, Head, Reader, response_framing, trailers_to_json};
use super::text;
use super::tls::{Certificates, Stream};
use super::upstream::reset;

/// How long an answer may take until the step is written down as unanswered.
const LIMIT: Duration = Duration::from_secs(4);

/// Plays all steps against a listener.
pub fn play(case: &Case, listener: SocketAddr, certificates: Option<&Certificates>) -> Vec<Value> {
    let mut named: BTreeMap<String, Reader> = BTreeMap::new();
    let mut seen = Vec::new();
    for step in &case.steps {
        let step = step.full();
        let kept = step.connection.as_ref().and_then(|name| named.remove(name));
        let Some(mut reader) = kept.or_else(|| connect(listener, &step, certificates)) else {
            seen.push(json!({ "step": step.title(), "connection": "refused" }));
            continue;
        };
        seen.push(exchange(&step, &mut reader));
        match (step.then, &step.connection) {
            (After::Reset, _) => reset(reader.socket()),
            (After::Close, _) | (_, None) => {}
            (_, Some(name)) => drop(named.insert(name.clone(), reader)),
        }
    }
    seen
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
    stream.set_nodelay(true).unwrap();
    Some(Reader::new(match certificates {
        Some(certificates) if !step.plaintext => certificates.connect(stream, step.certificate.as_deref()),
        _ => Stream::Plain(stream),
    }))
}

fn exchange(step: &FullStep, reader: &mut Reader) -> Value {
    let bytes = step.bytes();
    let method = text::text(bytes.split(|byte| *byte == b' ').next().unwrap_or_default());
    reader.send(&bytes);
    if step.then == After::HalfClose {
        let _ = reader.socket().shutdown(Shutdown::Write);
    }
    let mut seen = json!({ "step": step.title() });
    if step.read == Read::Nothing {
        return seen;
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
    if !reader.rest().is_empty() && step.read != Read::Interim {
        seen["extra bytes"] = json!(text::brief(&text::text(reader.rest())));
    }
    seen
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
