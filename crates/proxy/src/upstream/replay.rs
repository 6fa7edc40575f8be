//! A request's body that can be sent again: what was read of it is kept, up to a limit.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::http::{Body, BodyError, BodyLength, BodyStream, Frame};

/// The body of a request over all of its tries.
pub struct Replay {
    shared: Rc<RefCell<Shared>>,
}

struct Shared {
    source: Body,
    /// A body of known length ends with its last byte: nobody asks for more.
    expected: u64,
    kept: Vec<Frame>,
    bytes: u64,
    /// More is not kept: then the body cannot be sent again.
    limit: u64,
    /// All that was read is kept.
    whole: bool,
    /// Something was read.
    touched: bool,
    ended: Option<Instant>,
}

impl Replay {
    /// Keeps up to `limit` bytes of a body.
    pub fn new(source: Body, length: BodyLength, limit: u64) -> Self {
        let ended = source.is_end().then(Instant::now);
        let expected = match length {
            BodyLength::Known(bytes) => bytes,
            BodyLength::None | BodyLength::Unknown => u64::MAX,
        };
        let shared = Shared {
            source,
            expected,
            kept: Vec::new(),
            bytes: 0,
            limit,
            whole: true,
            touched: false,
            ended,
        };
        Replay { shared: Rc::new(RefCell::new(shared)) }
    }

    /// The body from its beginning, for one try. The reader of the try before must be gone.
    pub fn reader(&self) -> Body {
        let shared = self.shared.borrow();
        if shared.ended.is_some() && !shared.touched {
            return Body::empty();
        }
        Body::stream(Reader { shared: self.shared.clone(), position: 0 })
    }

    /// Whether [`reader`](Self::reader) gives the body whole.
    pub fn can_repeat(&self) -> bool {
        self.shared.borrow().whole
    }

    /// There will be no further try: what is kept is let go.
    pub fn stop_keeping(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.limit = 0;
        // The reader of this try has read all that is kept.
        shared.whole = !shared.touched;
    }

    /// When the end of the body was read.
    pub fn ended(&self) -> Option<Instant> {
        self.shared.borrow().ended
    }
}

struct Reader {
    shared: Rc<RefCell<Shared>>,
    position: usize,
}

impl BodyStream for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(frame) = shared.kept.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(frame.clone())));
        }
        if shared.ended.is_some() {
            return Poll::Ready(None);
        }
        let polled = shared.source.poll_frame(cx);
        if polled.is_pending() {
            return polled;
        }
        shared.touched = true;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Frame::Data(data) = frame {
                    shared.bytes = shared.bytes.saturating_add(data.len() as u64);
                }
                if shared.whole && shared.bytes <= shared.limit {
                    shared.kept.push(frame.clone());
                    self.position += 1;
                } else {
                    shared.whole = false;
                    shared.kept = Vec::new();
                    self.position = 0;
                }
                if matches!(frame, Frame::Trailers(_))
                    || shared.source.is_end()
                    || shared.bytes >= shared.expected
                {
                    shared.ended = Some(Instant::now());
                }
            }
            Poll::Ready(None) => shared.ended = Some(Instant::now()),
            // A body that broke off is sent by nobody.
            _ => shared.whole = false,
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::collections::VecDeque;

    struct Frames(VecDeque<Frame>);

    impl BodyStream for Frames {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn three() -> Body {
        let data = |text: &'static str| Frame::Data(Bytes::from_static(text.as_bytes()));
        Body::stream(Frames([data("ab"), data("cd"), data("ef")].into()))
    }

    async fn read(mut body: Body, frames: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..frames {
            match body.frame().await {
                Some(Ok(Frame::Data(data))) => all.extend_from_slice(&data),
                _ => break,
            }
        }
        all
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_given_again_from_the_beginning() {
        let replay = Replay::new(three(), BodyLength::Unknown, 6);
        assert_eq!(read(replay.reader(), 1).await, b"ab");
        assert!(replay.can_repeat() && replay.ended().is_none());
        assert_eq!(read(replay.reader(), 9).await, b"abcdef");
        assert!(replay.can_repeat() && replay.ended().is_some());
        assert_eq!(read(replay.reader(), 9).await, b"abcdef");
    }

    #[tokio::test]
    async fn beyond_the_limit_nothing_is_kept_and_nothing_lost() {
        let replay = Replay::new(three(), BodyLength::Unknown, 3);
        assert_eq!(read(replay.reader(), 9).await, b"abcdef");
        assert!(!replay.can_repeat());
        assert!(replay.shared.borrow().kept.is_empty());

        let replay = Replay::new(three(), BodyLength::Unknown, 100);
        let mut reader = replay.reader();
        assert!(matches!(reader.frame().await, Some(Ok(Frame::Data(data))) if data == "ab"));
        replay.stop_keeping();
        assert_eq!(read(reader, 9).await, b"cdef");
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn the_last_byte_of_a_known_length_is_the_end() {
        let replay = Replay::new(three(), BodyLength::Known(6), 100);
        let mut reader = replay.reader();
        for ended in [false, false, true] {
            assert!(matches!(reader.frame().await, Some(Ok(Frame::Data(_)))));
            assert_eq!(replay.ended().is_some(), ended);
        }
    }

    #[tokio::test]
    async fn without_a_body_there_is_nothing_to_keep() {
        let replay = Replay::new(Body::empty(), BodyLength::None, 0);
        assert!(replay.reader().is_end() && replay.can_repeat() && replay.ended().is_some());
        let untouched = Replay::new(three(), BodyLength::Unknown, 0);
        assert!(untouched.can_repeat(), "nothing was read yet");
    }
}
