//! Polls a rare event only when it wakes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that many connections wait for beside their own work. Its wake-ups are caught in a flag, so that asking for
/// it costs one load of a flag of this connection; the lock that the event's waiters share is taken twice in a
/// connection's life, not twice per request.
pub(crate) struct OnWake<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
    ready: bool,
}

struct Flag {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future<Output = ()>> OnWake<F> {
    pub(crate) fn new(future: F) -> Self {
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        OnWake { future: Box::pin(future), flag, ready: false }
    }

    /// Whether the event has happened.
    pub(crate) fn is_ready(&mut self) -> bool {
        if !self.ready && self.flag.woken.load(Ordering::Acquire) {
            self.flag.woken.store(false, Ordering::Release);
            let waker = Waker::from(self.flag.clone());
            self.ready = self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        }
        self.ready
    }

    /// Ready when the event has happened; wakes the task when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flag.task.register(cx.waker());
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn is_polled_when_woken_and_not_before() {
        let (drain, watch) = runtime::Drain::new();
        let polls = Cell::new(0);
        let mut started = Box::pin(watch.started());
        let mut event = OnWake::new(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            started.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            assert!(!event.is_ready());
        }
        assert_eq!(polls.get(), 1);
        let (_, ()) = tokio::join!(poll_fn(|cx| event.poll(cx)), async { drain.start() });
        assert!(event.is_ready());
        assert_eq!(polls.get(), 2);
    }
}
