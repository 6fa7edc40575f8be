//! Shows what a server sends to [`Responses`] before the `h2` crate reads it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h2_frames::FrameScanner;
use super::h2_heads::{Fault, Responses};

/// An IO object of a client that is watched.
pub(crate) struct Watched<IO> {
    io: IO,
    responses: Rc<RefCell<Responses>>,
    reader: FrameScanner,
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO, responses: Rc<RefCell<Responses>>) -> Self {
        Watched { io, responses, reader: FrameScanner::default() }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        let mut responses = this.responses.borrow_mut();
        this.reader.scan(&buffer.filled()[before..], |piece| responses.take(piece));
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Waits for the response on a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    responses: Rc<RefCell<Responses>>,
    stream: u32,
}

impl Watch {
    /// A request was sent on that stream.
    pub(crate) fn new(responses: &Rc<RefCell<Responses>>, stream: u32) -> Self {
        responses.borrow_mut().wait(stream);
        Watch { responses: responses.clone(), stream }
    }

    /// What is wrong with the response's heads so far, in words.
    pub(crate) fn fault_of_head(&self) -> Option<&'static str> {
        let fault = self.responses.borrow().fault(self.stream);
        (fault == Some(Fault::PseudoOfRequest)).then_some("HTTP/2: pseudo-headers of a request in a response")
    }

    /// What is wrong with its trailers, in words.
    pub(crate) fn fault_of_trailers(&self) -> Option<&'static str> {
        let fault = self.responses.borrow().fault(self.stream);
        (fault == Some(Fault::PseudoInTrailers)).then_some("HTTP/2: pseudo-headers in trailers")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.responses.borrow_mut().forget(self.stream);
    }
}
