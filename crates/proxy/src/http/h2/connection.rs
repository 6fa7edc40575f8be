//! A connection without input and output: frames come in, events and bytes come out (RFC 9113, sections 4 to 6).

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::code::{Code, Violation};
use super::connection_heads::OpenBlock;
use super::floods::{FloodLimits, Floods};
use super::frame::{self, FrameHead, MAX_PAYLOAD, Payload, number};
use super::hpack_decoder::Decoder;
use super::hpack_encoder::Encoder;
use super::output::Output;
use super::reader::FrameSink;
use super::settings::{DEFAULT_WINDOW, Local, Remote};
use super::streams::{Event, Failure, Stream, Streams};
use super::windows::{LARGEST, ReceiveWindow, SendWindow};
use crate::http::h1::Limits;
use crate::http::head::RequestHead;
use crate::http::refusal::Refusal;

/// More bytes than this wait to be written: streams wait too.
const HIGH_WATER: usize = 64 * 1024;
/// More bytes than this wait to be written: nothing is read that could ask for answers.
const FULL: usize = 256 * 1024;
/// Streams that this side has reset and the peer may not know about.
const MAX_RESET: usize = 256;
/// The last stream of a GOAWAY that does not say which one is the last (section 6.8).
const NO_LAST: u32 = (1 << 31) - 1;
/// What is in the PING behind the first GOAWAY, and in those that look for the peer.
const DRAIN_PING: [u8; 8] = *b"goodbye?";
const ALIVE_PING: [u8; 8] = *b"alive?\0\0";

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What a side is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub role: Role,
    pub limits: Limits,
    pub local: Local,
    /// Bytes of all bodies together that the peer may send before they are read.
    pub connection_window: u32,
    pub floods: FloodLimits,
    /// Of a client: interim responses before a final one.
    pub max_interim: usize,
}

/// A request that came.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub id: u32,
    pub request: Result<RequestHead, Refusal>,
}

/// Why nothing more is taken from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The transport has ended.
    Closed,
    /// The peer broke a rule.
    Violation(Violation),
    /// This side has ended it.
    Ended,
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Core {
    pub rules: Rules,
    pub out: Output,
    pub streams: Streams,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) remote: Remote,
    pub(super) receive: ReceiveWindow,
    pub(super) send: SendWindow,
    pub(super) block: Option<OpenBlock>,
    pub(super) floods: Floods,
    /// The newest stream that the peer opened.
    pub(super) newest: u32,
    /// The next stream that a client opens.
    pub(super) next: u32,
    reset: VecDeque<u32>,
    line: VecDeque<u32>,
    /// Requests that nobody has taken yet.
    pub accepted: VecDeque<Accepted>,
    /// Rules that requests broke which get no answer.
    pub unanswered: Vec<&'static str>,
    /// Waits for the peer to allow another stream.
    openers: Vec<Waker>,
    settings_came: bool,
    /// The request with which the connection began, until the peer has begun to speak HTTP/2.
    pub(super) first: Option<RequestHead>,
    /// The last stream that this side answers, once it has said so.
    last: Option<u32>,
    /// The last stream that the peer answers, once it has said so.
    peer_last: Option<u32>,
    /// The peer has heard the first GOAWAY.
    drain_heard: bool,
    /// A PING that looks for the peer was answered.
    pub alive: bool,
    pub over: Option<Over>,
    driver: Option<Waker>,
    driving: bool,
}

impl Core {
    /// A side that has said its greeting: it waits in the output.
    pub(crate) fn new(rules: Rules) -> Self {
        let mut out = Output::default();
        if rules.role == Role::Client {
            out.raw(frame::PREFACE);
        }
        out.frame(frame::SETTINGS, 0, 0, &rules.local.payload());
        let window = rules.connection_window.max(DEFAULT_WINDOW);
        if window > DEFAULT_WINDOW {
            out.frame(frame::WINDOW_UPDATE, 0, 0, &(window - DEFAULT_WINDOW).to_be_bytes());
        }
        Core {
            rules,
            out,
            streams: Streams::default(),
            decoder: Decoder::new(rules.local.header_table_size),
            encoder: Encoder::new(),
            remote: Remote::default(),
            receive: ReceiveWindow::new(window),
            send: SendWindow::new(DEFAULT_WINDOW),
            block: None,
            floods: Floods::new(rules.floods),
            newest: 0,
            next: 1,
            reset: VecDeque::new(),
            line: VecDeque::new(),
            accepted: VecDeque::new(),
            unanswered: Vec::new(),
            openers: Vec::new(),
            settings_came: false,
            first: None,
            last: None,
            peer_last: None,
            drain_heard: false,
            alive: true,
            over: None,
            driver: None,
            driving: false,
        }
    }

    /// The future that moves the bytes looks after everything from now on.
    pub(crate) fn begin_driving(&mut self, cx: &Context<'_>) {
        self.driving = true;
        if self.driver.as_ref().is_none_or(|driver| !driver.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
    }

    /// It has to be woken.
    pub(crate) fn end_driving(&mut self) {
        self.driving = false;
    }

    /// Something was done that the future that moves the bytes has to know.
    pub(crate) fn touched(&mut self) {
        if !self.driving
            && let Some(driver) = &self.driver
        {
            self.driving = true;
            driver.wake_by_ref();
        }
    }

    /// Whether the peer may be read: its answers are taken.
    pub(crate) fn reads(&self) -> bool {
        self.over.is_none() && self.out.waiting() < FULL
    }

    /// Whether the peer's settings have come.
    pub(crate) fn is_greeted(&self) -> bool {
        self.settings_came
    }

    /// Whether a header block has begun and not ended.
    pub(crate) fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// Streams that the peer allows at a time.
    pub(crate) fn max_streams(&self) -> usize {
        self.remote.max_concurrent_streams.map_or(usize::MAX, |streams| streams as usize)
    }

    /// Whether extended CONNECT is taken by the peer.
    pub(crate) fn takes_connect(&self) -> bool {
        self.remote.connect_protocol
    }

    /// Whether the peer answers no new stream, or opens none.
    pub(crate) fn peer_leaves(&self) -> bool {
        self.peer_last.is_some()
    }

    /// Whether a client may ever open another stream.
    pub(crate) fn opens(&self) -> bool {
        self.over.is_none() && self.peer_last.is_none() && self.last.is_none() && self.next < NO_LAST
    }

    /// Ready when a stream may be opened, or never more.
    pub(crate) fn poll_opening(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.opens() || self.streams.len() < self.max_streams() {
            return Poll::Ready(());
        }
        self.openers.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn wake_openers(&mut self) {
        self.openers.drain(..).for_each(Waker::wake);
    }

    /// Takes settings that came in another way than by a frame (RFC 7540, section 3.2.1).
    pub(crate) fn apply_settings(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let before = self.remote.stream_window;
        self.remote.read(payload, self.rules.role == Role::Client)?;
        self.encoder.limit(self.remote.header_table_size);
        let change = i64::from(self.remote.stream_window) - i64::from(before);
        if change != 0 {
            for stream in self.streams.iter_mut() {
                if !stream.send.grow(change) {
                    let what = "SETTINGS: INITIAL_WINDOW_SIZE takes a window beyond 2^31-1";
                    return Err(Violation::new(Code::FLOW_CONTROL_ERROR, what));
                }
                stream.wake_writer();
            }
        }
        self.wake_openers();
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream != 0 {
            return Err(Violation::protocol("SETTINGS on a stream"));
        }
        if head.has(frame::ACK) {
            if head.length != 0 {
                return Err(Violation::size("an acknowledgement of SETTINGS with a payload"));
            }
            return Ok(());
        }
        self.apply_settings(payload)?;
        self.settings_came = true;
        if let Some(first) = self.first.take() {
            self.open_first(first);
        }
        self.out.frame(frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream != 0 {
            return Err(Violation::protocol("PING on a stream"));
        }
        if head.length != 8 {
            return Err(Violation::size("PING of a length other than 8"));
        }
        if !head.has(frame::ACK) {
            self.out.frame(frame::PING, frame::ACK, 0, payload);
        } else if *payload == DRAIN_PING {
            self.drain_heard = true;
        } else if *payload == ALIVE_PING {
            self.alive = true;
        }
        Ok(())
    }

    /// Looks for the peer: [`Core::alive`] is set when it answers.
    pub(crate) fn look_for_peer(&mut self) {
        self.alive = false;
        self.out.frame(frame::PING, 0, 0, &ALIVE_PING);
    }

    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream != 0 {
            return Err(Violation::protocol("GOAWAY on a stream"));
        }
        let Some(last) = number(payload).filter(|_| head.length >= 8) else {
            return Err(Violation::size("GOAWAY of less than 8 bytes"));
        };
        let last = last & NO_LAST;
        self.peer_last = Some(self.peer_last.map_or(last, |before| before.min(last)));
        if self.rules.role == Role::Client {
            for stream in self.streams.iter_mut().filter(|stream| stream.id > last) {
                stream.fail(Failure::GoneAway);
            }
            self.wake_openers();
        }
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let Some(step) = number(payload).filter(|_| head.length == 4) else {
            return Err(Violation::size("WINDOW_UPDATE of a length other than 4"));
        };
        let step = i64::from(step) & LARGEST;
        if step == 0 {
            return Err(Violation::protocol("WINDOW_UPDATE by nothing"));
        }
        if head.stream == 0 {
            if !self.send.grow(step) {
                let what = "WINDOW_UPDATE takes the connection's window beyond 2^31-1";
                return Err(Violation::new(Code::FLOW_CONTROL_ERROR, what));
            }
            self.wake_line();
            return Ok(());
        }
        self.is_not_idle(head.stream)?;
        let Some(stream) = self.streams.get_mut(head.stream) else { return Ok(()) };
        if !stream.send.grow(step) {
            let what = "WINDOW_UPDATE takes a window beyond 2^31-1";
            return self.break_stream(head.stream, Code::FLOW_CONTROL_ERROR, what);
        }
        stream.wake_writer();
        Ok(())
    }

    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let Some(code) = number(payload).filter(|_| head.length == 4) else {
            return Err(Violation::size("RST_STREAM of a length other than 4"));
        };
        self.is_not_idle(head.stream)?;
        let server = self.rules.role == Role::Server;
        let Some(stream) = self.streams.get_mut(head.stream) else { return Ok(()) };
        if server || stream.receives {
            stream.fail(Failure::Reset(Code(code)));
        } else {
            // The response is whole: only the rest of the request is not wanted.
            stream.sends = false;
            stream.wake_writer();
        }
        Ok(())
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream == 0 {
            return Err(Violation::protocol("PRIORITY on no stream"));
        }
        let Some(parent) = number(payload).filter(|_| head.length == 5) else {
            return Err(Violation::size("PRIORITY of a length other than 5"));
        };
        if parent & NO_LAST == head.stream && !self.is_idle(head.stream) {
            return self.break_stream(head.stream, Code::PROTOCOL_ERROR, ITSELF);
        }
        Ok(())
    }

    fn is_idle(&self, id: u32) -> bool {
        match self.rules.role {
            Role::Server => id > self.newest || id.is_multiple_of(2),
            Role::Client => id >= self.next || id.is_multiple_of(2),
        }
    }

    pub(super) fn is_not_idle(&self, id: u32) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::protocol("a frame on a stream that nobody opened"));
        }
        Ok(())
    }

    /// Whether this side has ended the stream, of which the peer may not have known.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }

    /// Ends a stream, and says so.
    pub(crate) fn reset_stream(&mut self, id: u32, code: Code) {
        self.out.frame(frame::RST_STREAM, 0, id, &code.0.to_be_bytes());
        if self.reset.len() == MAX_RESET {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
        self.touched();
    }

    /// Ends a stream whose peer broke a rule; too many of them end the connection.
    pub(super) fn break_stream(&mut self, id: u32, code: Code, what: &'static str) -> Result<(), Violation> {
        self.end_stream(id, code, Failure::Broken(what))
    }

    pub(super) fn end_stream(&mut self, id: u32, code: Code, failure: Failure) -> Result<(), Violation> {
        let ended = |stream: &Stream| !stream.receives && !stream.sends;
        // Of a stream that both sides have ended there is nothing to say.
        if !self.streams.get(id).is_some_and(ended) {
            self.reset_stream(id, code);
        }
        if let Some(stream) = self.streams.get_mut(id) {
            stream.fail(failure);
        }
        self.floods.reset().map_or(Ok(()), |flood| Err(Violation::flood(flood)))
    }

    /// Says that no more requests are taken, once the peer has heard it (section 6.8).
    pub(crate) fn announce_end(&mut self) {
        self.say_goaway(NO_LAST, Code::NO_ERROR);
        self.out.frame(frame::PING, 0, 0, &DRAIN_PING);
    }

    /// Whether the peer has heard the announcement, or said that it leaves itself.
    pub(crate) fn has_heard(&self) -> bool {
        self.drain_heard || self.peer_last.is_some()
    }

    /// Takes no more requests.
    pub(crate) fn say_last(&mut self) {
        self.last = Some(self.newest);
        self.say_goaway(self.newest, Code::NO_ERROR);
    }

    /// Whether it takes no more requests.
    pub(crate) fn has_said_last(&self) -> bool {
        self.last.is_some()
    }

    /// Whether that stream is beyond the last one.
    pub(super) fn is_too_late(&self, id: u32) -> bool {
        self.last.is_some_and(|last| id > last)
    }

    fn say_goaway(&mut self, last: u32, code: Code) {
        let [a, b, c, d] = last.to_be_bytes();
        let [e, f, g, h] = code.0.to_be_bytes();
        self.out.frame(frame::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h]);
    }

    /// Ends the connection with all of its streams, and says why.
    pub(crate) fn end(&mut self, over: Over) {
        if self.over.is_some() {
            return;
        }
        self.over = Some(over);
        let failure = match over {
            Over::Violation(violation) => {
                self.say_goaway(self.newest, violation.code);
                Failure::Broken(violation.what)
            }
            Over::Closed | Over::Ended => Failure::Closed,
        };
        for stream in self.streams.iter_mut() {
            if stream.receives || failure == Failure::Closed && self.rules.role == Role::Server {
                stream.fail(failure);
            } else {
                stream.sends = false;
                stream.wake_writer();
            }
        }
        self.wake_openers();
    }

    /// Ends the connection with all of its streams for a reason that is not the peer's fault.
    pub(crate) fn end_with(&mut self, code: Code) {
        if self.over.is_none() {
            self.say_goaway(self.newest, code);
        }
        self.end(Over::Ended);
    }

    /// A stream waits for the connection's window, or for room in the output.
    pub(super) fn stand_in_line(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id)
            && !std::mem::replace(&mut stream.in_line, true)
        {
            self.line.push_back(id);
        }
    }

    /// Everybody who waits may look again.
    pub(super) fn wake_line(&mut self) {
        for id in self.line.drain(..) {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.in_line = false;
                stream.wake_writer();
            }
        }
    }

    /// Bytes were written: those who wait for room look again.
    pub(crate) fn written(&mut self) {
        if !self.line.is_empty() && !self.is_full() {
            self.wake_line();
        }
    }

    /// Whether streams wait for bytes to be written.
    pub(super) fn is_full(&self) -> bool {
        self.out.waiting() >= HIGH_WATER
    }

    /// What came on a stream, or why nothing comes any more.
    pub(crate) fn poll_event(&mut self, id: u32, cx: &Context<'_>) -> Poll<Option<Result<Event, Failure>>> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Poll::Ready(Some(Err(Failure::Closed)));
        };
        if let Some(event) = stream.events.pop_front() {
            if let Event::Data(data) = &event {
                let bytes = data.len();
                stream.queued -= bytes;
                self.release_connection(bytes);
            }
            return Poll::Ready(Some(Ok(event)));
        }
        if let Some(failure) = stream.failure.or(stream.reading_failed) {
            return Poll::Ready(Some(Err(failure)));
        }
        if !stream.receives {
            return Poll::Ready(None);
        }
        if stream.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            stream.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Why a stream has failed; a stream that is not there any more has too.
    pub(crate) fn failure(&self, id: u32) -> Option<Failure> {
        self.streams.get(id).map_or(Some(Failure::Closed), |stream| stream.failure)
    }

    /// Nobody has a use for the stream any more. `code`: what the peer is told when a side of it is still open.
    pub(crate) fn forget(&mut self, id: u32, code: Code) -> Option<Box<Stream>> {
        let stream = self.streams.remove(id)?;
        self.release_connection(stream.queued);
        if self.over.is_none() && (stream.receives || stream.sends) {
            self.reset_stream(id, code);
        }
        if self.rules.role == Role::Client {
            self.wake_openers();
            if self.streams.is_empty() {
                self.touched();
            }
        }
        Some(stream)
    }

    /// A stream ended as it should.
    pub(crate) fn ended_well(&mut self) {
        self.floods.ended_well();
    }
}

/// Why a stream ends whose priority names itself (RFC 7540, section 5.3.1).
pub(super) const ITSELF: &str = "a stream depends on itself";

impl FrameSink for Core {
    fn head(&mut self, head: FrameHead) -> Result<(), Violation> {
        if !self.settings_came && head.kind != frame::SETTINGS {
            return Err(Violation::protocol("what comes first is not SETTINGS of HTTP/2"));
        }
        if head.length > MAX_PAYLOAD {
            return Err(Violation::size("a frame is larger than 2^14 bytes"));
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: Payload<'_>) -> Result<(), Violation> {
        if self.over.is_some() {
            return Ok(());
        }
        if let Some(flood) = self.floods.received(head) {
            return Err(Violation::flood(flood));
        }
        if let Some(block) = &self.block
            && (head.kind != frame::CONTINUATION || head.stream != block.stream)
        {
            return Err(Violation::protocol("a frame between those of a header block"));
        }
        let bytes = payload.bytes();
        match head.kind {
            frame::DATA => self.data(head, &payload),
            frame::HEADERS => self.headers(head, bytes),
            frame::CONTINUATION => self.continuation(head, bytes),
            frame::PRIORITY => self.priority(head, bytes),
            frame::RST_STREAM => self.rst_stream(head, bytes),
            frame::SETTINGS => self.settings(head, bytes),
            frame::PING => self.ping(head, bytes),
            frame::GOAWAY => self.goaway(head, bytes),
            frame::WINDOW_UPDATE => self.window_update(head, bytes),
            frame::PUSH_PROMISE => Err(Violation::protocol("a push, which was never allowed")),
            // Section 5.5.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
