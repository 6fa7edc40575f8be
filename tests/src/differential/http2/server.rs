//! An upstream that is spoken to in HTTP/2: answers as the case says and writes down what it received.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::notation::{self, Action};
use super::peer::{Peer, head};
use crate::differential::case::{After, Answer, FullAnswer};
use crate::differential::message::{End, Reader, trailers_to_json};
use crate::differential::text;
use crate::differential::upstream::{Shared, reset};

/// A request that an upstream knows.
struct Request {
    place: usize,
    answer: FullAnswer,
    answered: bool,
}

/// Serves a connection whose preface was read.
pub fn serve(reader: Reader, connection: usize, shared: &Shared) {
    let mut peer = Peer::new(reader, true, "http");
    peer.begin(&shared.settings);
    let mut requests: BTreeMap<u32, Request> = BTreeMap::new();
    loop {
        let end = peer.receive();
        progress(&mut peer, connection, &mut requests, shared);
        match end {
            Ok(()) | Err(End::Timeout) if !peer.is_over() => {}
            _ => break,
        }
    }
    let mut records = shared.records.lock().unwrap();
    for (number, request) in &requests {
        write(&mut records[request.place], &peer, *number, true);
    }
}

/// Writes down what came and answers what is due.
fn progress(peer: &mut Peer, connection: usize, requests: &mut BTreeMap<u32, Request>, shared: &Shared) {
    let certificate = peer.reader().peer_has_certificate();
    let numbers: Vec<u32> = peer.streams.keys().copied().collect();
    for number in numbers {
        let stream = &peer.streams[&number];
        if stream.heads.is_empty() {
            continue;
        }
        let whole = stream.ended.as_deref() == Some("whole");
        let request = requests.entry(number).or_insert_with(|| {
            let fields = head(&stream.heads[0]).to_json();
            let mut record = json!({ "connection": connection, "head": fields });
            if let Some(certificate) = certificate {
                record["certificate"] = json!(certificate);
            }
            let place = {
                let mut records = shared.records.lock().unwrap();
                records.push(record);
                records.len() - 1
            };
            Request { place, answer: shared.answer(), answered: false }
        });
        write(&mut shared.records.lock().unwrap()[request.place], peer, number, false);
        if !request.answered && (whole || request.answer.early) {
            request.answered = true;
            answer(peer, number, &request.answer, shared);
            write(&mut shared.records.lock().unwrap()[request.place], peer, number, false);
        }
    }
}

fn answer(peer: &mut Peer, number: u32, told: &FullAnswer, shared: &Shared) {
    if let Some(delay) = told.delay() {
        std::thread::sleep(delay);
    }
    let actions = if told.frames.is_empty() {
        told.send.as_deref().map(|send| notation::answer(send, &shared.name)).transpose()
    } else {
        notation::parse(&told.frames).map(Some)
    };
    // A case that says nonsense was refused when it was read.
    let mut actions = actions.unwrap().unwrap_or_default();
    let is_head = |(name, value): &(String, String)| name == ":method" && value == "HEAD";
    if told.frames.is_empty() && peer.streams[&number].heads[0].iter().any(is_head) {
        actions.retain(|action| !matches!(action, Action::Data(..)));
        actions.iter_mut().for_each(|action| {
            if let Action::Head(_, _, end) = action {
                *end = true;
            }
        });
    }
    peer.run(&actions, number);
    match told.then {
        After::Keep | After::Silent => {}
        After::Close => peer.run(&[Action::Close], number),
        After::Reset => {
            reset(peer.reader().socket());
            peer.run(&[Action::Close], number);
        }
        After::HalfClose => peer.run(&[Action::HalfClose], number),
    }
}

fn write(record: &mut Value, peer: &Peer, number: u32, over: bool) {
    let stream = &peer.streams[&number];
    record["body"] = json!(text::brief(&text::text(&stream.body)));
    if let Some(trailers) = stream.heads.get(1) {
        record["trailers"] = trailers_to_json(trailers);
    }
    let ended = stream.ended.as_deref();
    match ended {
        Some("whole") => drop(record.as_object_mut().unwrap().remove("ended")),
        Some(how) => record["ended"] = json!(how),
        None => record["ended"] = json!(if over { "cut" } else { "open" }),
    }
    if let Some(then) = &stream.then {
        record["then"] = json!(then);
    }
}

/// Whether a script of an upstream can be read.
///
/// # Errors
/// What is wrong with it.
pub fn check(answer: &Answer) -> Result<(), String> {
    let told = answer.full();
    notation::parse(&told.frames)?;
    match told.send {
        Some(raw) if raw.starts_with("HTTP/") => Ok(()),
        Some(short) => notation::answer(&short, "").map(drop),
        None => Ok(()),
    }
}
