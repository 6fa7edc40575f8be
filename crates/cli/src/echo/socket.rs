//! The socket under a connection, so that an answer can break it: reset, excess bytes, a close that nobody announced.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What the answers of a connection ask of its socket.
#[derive(Debug)]
pub struct Control {
    reset: AtomicBool,
    close: AtomicBool,
    busy: AtomicBool,
    finished: AtomicBool,
    excess: Mutex<Bytes>,
    opened: Instant,
    /// Milliseconds from `opened` to the last byte.
    touched: AtomicU64,
    over: Notify,
}

impl Control {
    /// Of a connection that was just opened.
    pub fn new() -> Arc<Control> {
        Arc::new(Control {
            reset: AtomicBool::new(false),
            close: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            excess: Mutex::default(),
            opened: Instant::now(),
            touched: AtomicU64::new(0),
            over: Notify::new(),
        })
    }

    /// The socket is reset when it closes.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// The socket closes after the answer.
    pub fn close_after_answer(&self) {
        self.close.store(true, Ordering::Relaxed);
    }

    /// A request has come.
    pub fn begin(&self) {
        self.finished.store(false, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// The answer has been handed over whole; `excess` follows it unannounced.
    pub fn finish(&self, excess: Bytes) {
        *self.excess.lock().unwrap_or_else(PoisonError::into_inner) = excess;
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Waits until the connection has to be closed without another word.
    pub async fn over(&self, idle: Option<Duration>) {
        let Some(limit) = idle else { return self.over.notified().await };
        loop {
            let since = Duration::from_millis(self.touched.load(Ordering::Relaxed));
            let left = limit.saturating_sub(self.opened.elapsed().saturating_sub(since));
            if left.is_zero() && !self.busy.load(Ordering::Relaxed) {
                return;
            }
            tokio::select! {
                () = self.over.notified() => return,
                () = tokio::time::sleep(left.max(Duration::from_millis(1))) => {}
            }
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched.store(now, Ordering::Relaxed);
    }
}

/// A socket and what is asked of it.
#[derive(Debug)]
pub struct Controlled {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Controlled {
    /// A socket that obeys `control`.
    pub fn new(stream: TcpStream, control: Arc<Control>) -> Controlled {
        Controlled { stream, control }
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Relaxed) {
            // A socket that is gone already needs no reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Controlled {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.control.touch();
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Controlled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.control.touch();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.control.finished.load(Ordering::Relaxed) {
            let mut excess = this.control.excess.lock().unwrap_or_else(PoisonError::into_inner);
            while !excess.is_empty() {
                let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &excess))?;
                excess.advance(written);
            }
            this.control.finished.store(false, Ordering::Relaxed);
            this.control.busy.store(false, Ordering::Relaxed);
            this.control.touch();
            if this.control.close.load(Ordering::Relaxed) {
                this.control.over.notify_one();
            }
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.control.reset.load(Ordering::Relaxed) {
            // The reset comes with the close; an orderly end before it would hide it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
