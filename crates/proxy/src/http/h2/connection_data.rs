//! Bodies of a connection, and what they may fill (RFC 9113, sections 5.2 and 6.1).

use bytes::Bytes;

use super::code::{Code, Violation};
use super::connection::Core;
use super::frame::{self, FrameHead, MAX_PAYLOAD, Payload, without_padding};

impl Core {
    pub(super) fn data(&mut self, head: FrameHead, payload: &Payload<'_>) -> Result<(), Violation> {
        let id = head.stream;
        if id == 0 {
            return Err(Violation::protocol("DATA on no stream"));
        }
        self.is_not_idle(id)?;
        let part = without_padding(head, payload.bytes())?;
        if !self.receive.receive(head.length) {
            let what = "more DATA than the connection's window";
            return Err(Violation::new(Code::FLOW_CONTROL_ERROR, what));
        }
        let Some(stream) = self.streams.get_mut(id) else {
            self.release_connection(head.length);
            if self.was_reset(id) || self.is_too_late(id) {
                return Ok(());
            }
            return self.break_stream(id, Code::STREAM_CLOSED, "DATA on a stream that has ended");
        };
        let overhead = head.length - part.len();
        let fault = if !stream.receives {
            if stream.failure.is_some() {
                self.release_connection(head.length);
                return Ok(());
            }
            Some((Code::STREAM_CLOSED, "DATA behind the end of its stream"))
        } else if !stream.receive.receive(head.length) {
            Some((Code::FLOW_CONTROL_ERROR, "more DATA than the window of its stream"))
        } else if !stream.head_came {
            Some((Code::PROTOCOL_ERROR, "DATA before the head of a response"))
        } else {
            let ends = head.has(frame::END_STREAM);
            let left = stream.missing.map(|missing| missing.checked_sub(part.len() as u64));
            match left {
                Some(None) => Some((Code::PROTOCOL_ERROR, "the body is longer than its content-length")),
                Some(Some(1..)) if ends => {
                    Some((Code::PROTOCOL_ERROR, "the body is shorter than its content-length"))
                }
                _ => {
                    stream.missing = left.flatten();
                    None
                }
            }
        };
        if let Some((code, what)) = fault {
            self.release_connection(head.length);
            return self.break_stream(id, code, what);
        }
        stream.receives = !head.has(frame::END_STREAM);
        let unread = if stream.discards { head.length } else { overhead };
        if !stream.discards && !part.is_empty() {
            stream.queue(payload, part);
        }
        stream.wake_reader();
        if unread > 0 {
            self.release_stream(id, unread);
            self.release_connection(unread);
        }
        Ok(())
    }

    /// Bytes of a stream were taken by their reader: the peer may send as many again.
    pub(crate) fn release_stream(&mut self, id: u32, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(id)
            && stream.receives
            && let Some(step) = stream.receive.release(bytes)
        {
            self.out.frame(frame::WINDOW_UPDATE, 0, id, &step.to_be_bytes());
            self.touched();
        }
    }

    pub(super) fn release_connection(&mut self, bytes: usize) {
        if bytes > 0
            && let Some(step) = self.receive.release(bytes)
        {
            self.out.frame(frame::WINDOW_UPDATE, 0, 0, &step.to_be_bytes());
            self.touched();
        }
    }

    /// Nobody reads the rest of what comes on a stream.
    pub(crate) fn discard(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.discards = true;
        stream.events.clear();
        let queued = std::mem::take(&mut stream.queued);
        self.release_stream(id, queued);
        self.release_connection(queued);
    }

    /// Bytes that can be sent on a stream now, at most those of one frame. When there are none, its writer is woken when
    /// that changes.
    pub(crate) fn room(&mut self, id: u32) -> usize {
        let Some(stream) = self.streams.get(id).filter(|stream| stream.sends) else { return 0 };
        let of_stream = stream.send.left();
        if of_stream == 0 {
            return 0;
        }
        if self.send.left() == 0 || self.is_full() {
            self.stand_in_line(id);
            return 0;
        }
        of_stream.min(self.send.left()).min(MAX_PAYLOAD)
    }

    /// Sends bytes for which there is room.
    pub(crate) fn send_data(&mut self, id: u32, bytes: Bytes, ends: bool) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.sends) else { return };
        stream.send.send(bytes.len());
        self.send.send(bytes.len());
        stream.sends = !ends;
        self.floods.data_sent();
        self.out.data(id, bytes, ends);
        self.touched();
    }
}
