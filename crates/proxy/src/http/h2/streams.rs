//! The streams of a connection, found by their number.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::Waker;

use bytes::Bytes;

use super::code::Code;
use super::fields::Asked;
use super::frame::Payload;
use super::windows::{ReceiveWindow, SendWindow};
use crate::http::head::ResponseHead;
use crate::http::headers::Headers;
use crate::http::refusal::Refusal;

/// Pieces of DATA below this are put together while nobody reads them.
const SMALL: usize = 1024;
/// Up to about so many bytes.
const JOINED: usize = 16 * 1024;

/// What came on a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// Of a client: the head of a response, interim or final.
    Head(ResponseHead),
    Data(Bytes),
    Trailers(Headers),
}

/// Why a stream ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer reset it.
    Reset(Code),
    /// It is beyond the last one that the peer answers.
    GoneAway,
    /// The peer broke a rule: of the stream, or of the connection.
    Broken(&'static str),
    /// What came after the head breaks a rule of messages.
    Malformed(&'static str),
    /// Of a client: the response can be read, but is not taken.
    Refused(Refusal),
    /// The connection has ended.
    Closed,
}

/// One stream, as long as somebody has a use for it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub id: u32,
    /// The peer has not said END_STREAM.
    pub receives: bool,
    /// This side has not said END_STREAM.
    pub sends: bool,
    pub failure: Option<Failure>,
    /// Of what is received alone.
    pub reading_failed: Option<Failure>,
    pub events: VecDeque<Event>,
    /// Bytes of DATA in `events`.
    pub queued: usize,
    /// Nobody reads what still comes.
    pub discards: bool,
    pub receive: ReceiveWindow,
    pub send: SendWindow,
    /// What `content-length` still promises of what is received.
    pub missing: Option<u64>,
    /// The final head has come.
    pub head_came: bool,
    /// Of a client: interim heads that may still come.
    pub interim: usize,
    /// Of a client.
    pub asked: Asked,
    /// Waits for events.
    pub reader: Option<Waker>,
    /// Waits for room to send, and for a failure.
    pub writer: Option<Waker>,
    /// It stands in line for the connection's window or its buffer.
    pub in_line: bool,
}

impl Stream {
    pub(crate) fn new(id: u32, receive: ReceiveWindow, send: SendWindow) -> Self {
        Stream {
            id,
            receives: true,
            sends: true,
            failure: None,
            reading_failed: None,
            events: VecDeque::new(),
            queued: 0,
            discards: false,
            receive,
            send,
            missing: None,
            head_came: false,
            interim: 0,
            asked: Asked::default(),
            reader: None,
            writer: None,
            in_line: false,
        }
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(crate) fn wake_writer(&self) {
        if let Some(writer) = &self.writer {
            writer.wake_by_ref();
        }
    }

    /// Bytes of DATA that came. Small pieces become one: a peer that sends its whole window in frames of a byte must not
    /// make each of them cost a hundred.
    pub(crate) fn queue(&mut self, payload: &Payload<'_>, part: Range<usize>) {
        self.queued += part.len();
        if part.len() < SMALL
            && let Some(Event::Data(last)) = self.events.back_mut()
            && last.len() < JOINED
        {
            match std::mem::take(last).try_into_mut() {
                Ok(mut joined) => {
                    joined.extend_from_slice(&payload.bytes()[part]);
                    *last = joined.freeze();
                    return;
                }
                Err(shared) => *last = shared,
            }
        }
        self.events.push_back(Event::Data(payload.keep(part)));
    }

    /// It ends with that, unless it had an end before.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        (self.receives, self.sends) = (false, false);
        self.wake_reader();
        self.wake_writer();
    }
}

impl Stream {
    /// Nothing more is read of it; it can still be answered.
    pub(crate) fn fail_reading(&mut self, failure: Failure) {
        self.discards = true;
        self.reading_failed = Some(failure);
        self.receives = false;
        self.wake_reader();
    }
}

/// All streams that somebody has a use for.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Numbers, which only grow, with their places.
    index: Vec<(u32, u32)>,
    places: Vec<Option<Box<Stream>>>,
    free: Vec<u32>,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.index.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        let (_, place) = self.index[self.find(id)?];
        self.places[place as usize].as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let (_, place) = self.index[self.find(id)?];
        self.places[place as usize].as_deref_mut()
    }

    /// Adds a stream whose number is above all others.
    pub(crate) fn insert(&mut self, stream: Stream) {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(Box::new(stream));
                place
            }
            None => {
                self.places.push(Some(Box::new(stream)));
                (self.places.len() - 1) as u32
            }
        };
        self.index.push((id, place));
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Box<Stream>> {
        let (_, place) = self.index.remove(self.find(id)?);
        self.free.push(place);
        self.places[place as usize].take()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().filter_map(Option::as_deref_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_of_a_body_become_few() {
        let mut stream = Stream::new(1, ReceiveWindow::new(1), SendWindow::new(1));
        let byte = Payload::Borrowed(b"x");
        (0..100_000).for_each(|_| stream.queue(&byte, 0..1));
        assert_eq!(stream.queued, 100_000);
        assert!(stream.events.len() <= 100_000 / JOINED + 1, "{} pieces", stream.events.len());
        let large = Payload::Owned(Bytes::from(vec![b'y'; SMALL]));
        stream.queue(&large, 0..SMALL);
        let all: Vec<u8> = stream
            .events
            .iter()
            .flat_map(|event| match event {
                Event::Data(data) => data.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(all, [vec![b'x'; 100_000], vec![b'y'; SMALL]].concat());
    }

    #[test]
    fn streams_are_found_by_number_and_places_are_used_again() {
        let mut streams = Streams::default();
        for round in 0..100 {
            for id in [round * 6 + 1, round * 6 + 3, round * 6 + 5] {
                streams.insert(Stream::new(id, ReceiveWindow::new(1), SendWindow::new(1)));
            }
            assert_eq!(streams.get(round * 6 + 3).unwrap().id, round * 6 + 3);
            assert!(streams.get(round * 6 + 2).is_none());
            assert_eq!(streams.remove(round * 6 + 1).unwrap().id, round * 6 + 1);
            assert!(streams.remove(round * 6 + 1).is_none());
            streams.remove(round * 6 + 5);
            assert_eq!(streams.remove(round * 6 + 3).unwrap().id, round * 6 + 3);
        }
        assert_eq!((streams.len(), streams.places.len()), (0, 3));
    }
}
