//! One side of an HTTP/2 connection: does what a script says, obeys flow control, and keeps what it saw.

use std::collections::BTreeMap;
use std::net::Shutdown;

use serde_json::{Map, Value, json};

use super::frame::{self, END_HEADERS, END_STREAM, Frame, PREFACE};
use super::hpack::{self, Decoder, Fields};
use super::notation::{Action, Until, Which};
use crate::differential::message::{End, Head, Reader, trailers_to_json};
use crate::differential::text;
use crate::differential::upstream::reset;

/// The ping that shows that a connection still lives.
const BARRIER: &[u8] = b"alive\0\0\0";
const WINDOW: i64 = 65_535;
const FRAME: usize = 16_384;

/// A stream as this side sees it.
#[derive(Debug, Default)]
pub struct Stream {
    /// Header blocks in their order.
    pub heads: Vec<Fields>,
    /// Bytes of DATA.
    pub body: Vec<u8>,
    /// How it ended: `whole` or `reset CODE`.
    pub ended: Option<String>,
    /// A reset after the end.
    pub then: Option<String>,
    window: i64,
    told: bool,
}

/// A side of a connection.
pub struct Peer {
    reader: Reader,
    server: bool,
    scheme: &'static str,
    decoder: Decoder,
    /// Streams by number.
    pub streams: BTreeMap<u32, Stream>,
    block: Option<(u32, bool, Vec<u8>)>,
    resized: bool,
    next: u32,
    same: u32,
    window: i64,
    initial: i64,
    hold: bool,
    goaways: Vec<String>,
    settings: Option<Vec<String>>,
    shows_settings: bool,
    pongs: usize,
    alive: bool,
    over: Option<End>,
}

impl Peer {
    /// A side that has sent nothing yet.
    pub fn new(reader: Reader, server: bool, scheme: &'static str) -> Peer {
        Peer {
            reader,
            server,
            scheme,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            block: None,
            resized: false,
            next: if server { 2 } else { 1 },
            same: 0,
            window: WINDOW,
            initial: WINDOW,
            hold: false,
            goaways: Vec::new(),
            settings: None,
            shows_settings: false,
            pongs: 0,
            alive: false,
            over: None,
        }
    }

    /// What a client or a server sends first.
    pub fn begin(&mut self, settings: &[u8]) {
        let mut bytes = if self.server { Vec::new() } else { PREFACE.to_vec() };
        bytes.extend(Frame::new("SETTINGS", 0, 0, settings.to_vec()).bytes(None));
        self.reader.send(&bytes);
    }

    /// The reader below.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Whether the connection has ended.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Does what a script says. `same` is the stream that it begins with.
    pub fn run(&mut self, actions: &[Action], same: u32) {
        self.same = same;
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Preface(None) => {}
            Action::Preface(Some(settings)) => self.begin(settings),
            Action::Head(which, fields, end) => {
                let mut fields = fields.clone();
                for (name, value) in &mut fields {
                    if name == ":scheme" && value.is_empty() {
                        self.scheme.clone_into(value);
                    }
                }
                let flags = if *end { END_HEADERS | END_STREAM } else { END_HEADERS };
                let stream = self.stream(*which);
                // No table is used, whatever its size may be now.
                let mut block = if std::mem::take(&mut self.resized) { vec![0x20] } else { Vec::new() };
                block.extend(hpack::encode(&fields));
                self.reader.send(&Frame::new("HEADERS", flags, stream, block).bytes(None));
            }
            Action::Data(which, bytes, end) => {
                let stream = self.stream(*which);
                self.data(stream, bytes, *end);
            }
            Action::Frame(which, frame, length) => {
                let stream = self.stream(*which);
                self.reader.send(&Frame { stream, ..frame.clone() }.bytes(*length));
            }
            Action::Bytes(bytes) => self.reader.send(bytes),
            Action::Read(until) => self.wait(*until),
            Action::Wait(time) => std::thread::sleep(*time),
            Action::Hold => self.hold = true,
            Action::Close => self.close(),
            Action::Abort => {
                reset(self.reader.socket());
                self.close();
            }
            Action::HalfClose => {
                // It may have ended by itself.
                let _ = self.reader.socket().shutdown(Shutdown::Write);
            }
        }
    }

    fn close(&mut self) {
        if self.over.is_none() {
            self.over = Some(End::Closed);
        }
    }

    fn stream(&mut self, which: Which) -> u32 {
        let number = match which {
            Which::Number(0) => return 0,
            Which::Number(number) => number,
            Which::Next => self.next,
            Which::Same => self.same,
        };
        self.same = number;
        if number >= self.next && number % 2 == self.next % 2 {
            self.next = number + 2;
        }
        let window = self.initial;
        self.streams.entry(number).or_insert_with(|| Stream { window, ..Stream::default() });
        number
    }

    /// DATA in frames as large as the peer's windows and frames allow. Gives up when the peer does.
    fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let mut rest = bytes;
        loop {
            let own = self.streams.get(&stream).map_or(0, |stream| stream.window);
            let allowed = usize::try_from(self.window.min(own).max(0)).unwrap_or(0);
            let (now, later) = rest.split_at(rest.len().min(allowed).min(FRAME));
            if now.is_empty() && !rest.is_empty() {
                let ended = self.streams.get(&stream).is_none_or(|stream| stream.refuses());
                if ended || self.receive().is_err() {
                    return;
                }
                continue;
            }
            let count = i64::try_from(now.len()).unwrap();
            self.window -= count;
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.window -= count;
            }
            let flags = if end && later.is_empty() { END_STREAM } else { 0 };
            self.reader.send(&Frame::new("DATA", flags, stream, now.to_vec()).bytes(None));
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn wait(&mut self, until: Until) {
        let until = match until {
            Until::Ended(which) => Until::Ended(Which::Number(self.stream(which))),
            Until::Head(which) => Until::Head(Which::Number(self.stream(which))),
            Until::Data(which) => Until::Data(Which::Number(self.stream(which))),
            other => other,
        };
        self.shows_settings |= until == Until::Settings;
        while !self.has(until) && self.receive().is_ok() {}
    }

    fn has(&self, until: Until) -> bool {
        let stream = |which| match which {
            Which::Number(number) => self.streams.get(&number),
            Which::Next | Which::Same => None,
        };
        match until {
            Until::All => self.streams.values().all(|stream| stream.ended.is_some()),
            Until::Ended(which) => stream(which).is_some_and(|stream| stream.ended.is_some()),
            Until::Head(which) => stream(which)
                .is_some_and(|stream| stream.ended.is_some() || stream.heads.iter().any(is_final)),
            Until::Data(which) => {
                stream(which).is_some_and(|stream| stream.ended.is_some() || !stream.body.is_empty())
            }
            Until::Goaway => !self.goaways.is_empty(),
            Until::Settings => self.settings.is_some(),
            Until::Close => false,
        }
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// How the connection ended, or that nothing came in time.
    pub fn receive(&mut self) -> Result<(), End> {
        if let Some(end) = self.over {
            return Err(end);
        }
        match Frame::read(&mut self.reader) {
            Ok(frame) => {
                self.take(&frame);
                Ok(())
            }
            Err(End::Timeout) => Err(End::Timeout),
            Err(end) => {
                self.over = Some(end);
                Err(end)
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        let ends = frame.flags & END_STREAM != 0;
        match frame::TYPES.get(usize::from(frame.kind)).copied().unwrap_or_default() {
            "DATA" => {
                self.entry(frame.stream).body.extend(frame.content());
                if !self.hold && !frame.payload.is_empty() {
                    let count = u32::try_from(frame.payload.len()).unwrap().to_be_bytes().to_vec();
                    let streams = if ends { &[0][..] } else { &[0, frame.stream] };
                    for stream in streams {
                        let update = Frame::new("WINDOW_UPDATE", 0, *stream, count.clone());
                        self.reader.send(&update.bytes(None));
                    }
                }
                if ends {
                    self.end(frame.stream, "whole".to_owned());
                }
            }
            "HEADERS" => {
                self.block = Some((frame.stream, ends, frame.content().to_vec()));
                self.block_ends(frame);
            }
            "CONTINUATION" => {
                if let Some((_, _, bytes)) = &mut self.block {
                    bytes.extend(&frame.payload);
                }
                self.block_ends(frame);
            }
            "RST_STREAM" => self.end(frame.stream, format!("reset {}", frame::code_name(frame.number(0)))),
            "SETTINGS" if !ends => self.take_settings(frame),
            "PING" if !ends => {
                self.reader.send(&Frame::new("PING", END_STREAM, 0, frame.payload.clone()).bytes(None));
            }
            "PING" if frame.payload == BARRIER => self.alive = true,
            "PING" => self.pongs += 1,
            "GOAWAY" => self.goaways.push(frame::code_name(frame.number(4))),
            "WINDOW_UPDATE" => {
                let count = i64::from(frame.number(0));
                match frame.stream {
                    0 => self.window += count,
                    number => self.entry(number).window += count,
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, number: u32) -> &mut Stream {
        let window = self.initial;
        self.streams.entry(number).or_insert_with(|| Stream { window, ..Stream::default() })
    }

    fn end(&mut self, number: u32, how: String) {
        let stream = self.entry(number);
        match stream.ended {
            None => stream.ended = Some(how),
            Some(_) => stream.then = Some(how),
        }
    }

    fn block_ends(&mut self, frame: &Frame) {
        if frame.flags & END_HEADERS == 0 {
            return;
        }
        let Some((number, ends, bytes)) = self.block.take() else { return };
        let malformed = || vec![("malformed block".to_owned(), String::new())];
        let fields = self.decoder.decode(&bytes).unwrap_or_else(malformed);
        self.entry(number).heads.push(fields);
        if ends {
            self.end(number, "whole".to_owned());
        }
    }

    fn take_settings(&mut self, frame: &Frame) {
        let mut shown = Vec::new();
        for pair in frame.payload.as_chunks::<6>().0 {
            let number = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            self.resized |= number == 1 && value < 4096;
            if number == 4 {
                let change = i64::from(value) - self.initial;
                self.initial += change;
                self.streams.values_mut().for_each(|stream| stream.window += change);
            }
            let name = frame::SETTINGS.iter().find(|(_, known)| *known == number);
            let name = name.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned());
            shown.push(format!("{name}={value}"));
        }
        shown.sort();
        self.settings = Some(shown);
        self.reader.send(&Frame::new("SETTINGS", END_STREAM, 0, Vec::new()).bytes(None));
    }

    /// What was seen since the last time, after a look whether the connection still lives.
    pub fn seen(&mut self) -> Map<String, Value> {
        self.alive = false;
        if self.over.is_none() && self.goaways.is_empty() {
            self.reader.send(&Frame::new("PING", 0, 0, BARRIER.to_vec()).bytes(None));
        }
        // A side that said GOAWAY closes when it is done.
        while !self.alive && self.receive().is_ok() {}
        let mut seen = Map::new();
        let mut streams = Map::new();
        for (number, stream) in self.streams.iter_mut().filter(|(_, stream)| !stream.told) {
            stream.told = stream.ended.is_some();
            streams.insert(number.to_string(), stream.to_json());
        }
        seen.insert("streams".to_owned(), compact(streams));
        if !self.goaways.is_empty() {
            self.goaways.dedup();
            seen.insert("goaway".to_owned(), json!(self.goaways));
        }
        if self.pongs > 0 {
            seen.insert("pongs".to_owned(), json!(self.pongs));
        }
        if self.shows_settings {
            seen.insert("settings".to_owned(), json!(self.settings));
        }
        let state = match self.over {
            Some(_) => "closed",
            None if self.alive => "open",
            None => "silent",
        };
        seen.insert("connection".to_owned(), json!(state));
        seen
    }
}

impl Stream {
    fn refuses(&self) -> bool {
        [&self.ended, &self.then].into_iter().flatten().any(|how| how.starts_with("reset"))
    }

    /// Interim heads, head, body, trailers and end of a response.
    fn to_json(&self) -> Value {
        let mut seen = Map::new();
        let mut heads = self.heads.iter();
        let interim: Vec<Value> = heads
            .by_ref()
            .take_while(|fields| !is_final(fields))
            .map(|fields| head(fields).to_json())
            .collect();
        if !interim.is_empty() {
            seen.insert("interim".to_owned(), json!(interim));
        }
        let mut rest = self.heads.iter().skip(interim.len());
        if let Some(fields) = rest.next() {
            seen.insert("head".to_owned(), head(fields).to_json());
        }
        if !self.body.is_empty() {
            seen.insert("body".to_owned(), json!(text::brief(&text::text(&self.body))));
        }
        for trailers in rest {
            seen.insert("trailers".to_owned(), trailers_to_json(trailers));
        }
        seen.insert("ended".to_owned(), json!(self.ended.as_deref().unwrap_or("never")));
        if let Some(then) = &self.then {
            seen.insert("then".to_owned(), json!(then));
        }
        Value::Object(seen)
    }
}

/// Many streams that ended alike are told once, with their number.
fn compact(streams: Map<String, Value>) -> Value {
    if streams.len() <= 20 {
        return Value::Object(streams);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seen in streams.values() {
        *counts.entry(seen.to_string()).or_default() += 1;
    }
    json!(counts)
}

fn is_final(fields: &Fields) -> bool {
    !fields.iter().any(|(name, value)| name == ":status" && value.starts_with('1'))
}

/// A head as HTTP/1 would show it: what its first line has no place for stays among the fields.
pub fn head(fields: &Fields) -> Head {
    let mut fields = fields.clone();
    let mut pseudo = |wanted: &str| {
        let at = fields.iter().position(|(name, _)| name == wanted)?;
        Some(fields.remove(at).1)
    };
    let line = match pseudo(":status") {
        Some(status) => format!("HTTP/2 {status}"),
        None => {
            let method = pseudo(":method").unwrap_or_default();
            let path = pseudo(":path").unwrap_or_default();
            format!("{method} {path} HTTP/2")
        }
    };
    Head { line, fields }
}
