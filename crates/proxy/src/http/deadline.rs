//! A timer that is cheap to move.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A point in time that moves with every message. The timer behind it is set again only when it fires too early or the
/// point came nearer, so that moving it into the future costs one look at the clock.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Moves the point to `after` from now; `None` or zero switches it off.
    pub(crate) fn set(&mut self, after: Option<Duration>) {
        self.at = after.filter(|after| !after.is_zero()).map(|after| Instant::now() + after);
    }

    /// Switches it off.
    pub(crate) fn clear(&mut self) {
        self.at = None;
    }

    /// Whether it is on.
    pub(crate) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Ready when the point has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}
