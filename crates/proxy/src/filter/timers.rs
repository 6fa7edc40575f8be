//! Timers that the requests of one connection use one after the other.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// Timers kept for later requests. More are needed only while more requests run at once on an HTTP/2 connection.
const KEPT: usize = 8;

/// The timers of a connection that no request uses. They stay set: nearly all requests end long before their time, so
/// a timer that is set early and fires once in a while costs less than one that is set anew for each of them.
#[derive(Debug, Default, Clone)]
pub struct Timers(Rc<RefCell<Vec<Pin<Box<Sleep>>>>>);

impl Timers {
    /// Waits until `at` with the timer in `slot`, which may have been set for an earlier time.
    pub fn poll(&self, slot: &mut Option<Pin<Box<Sleep>>>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = tokio::time::Instant::from_std(at);
        let timer = slot.get_or_insert_with(|| self.take().unwrap_or_else(|| Box::pin(sleep_until(at))));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }

    fn take(&self) -> Option<Pin<Box<Sleep>>> {
        self.0.borrow_mut().pop()
    }

    /// Keeps a timer for the next request.
    pub fn give_back(&self, timer: Pin<Box<Sleep>>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_timer_that_was_set_for_another_request_waits_for_this_one() {
        let timers = Timers::default();
        let start = Instant::now();
        let wait = async |milliseconds: u64| {
            let at = start + Duration::from_millis(milliseconds);
            let mut slot = None;
            std::future::poll_fn(|cx| timers.poll(&mut slot, at, cx)).await;
            assert!(Instant::now() >= at, "{milliseconds}");
            timers.give_back(slot.unwrap());
        };
        let mut slot = None;
        let far = start + Duration::from_secs(3_600);
        let mut ask = |at| timers.poll(&mut slot, at, &mut Context::from_waker(Waker::noop()));
        assert!(ask(far).is_pending());
        timers.give_back(slot.unwrap());
        wait(20).await; // nearer than it was set
        wait(40).await; // it has fired, and is set again
        let mut slot = None;
        let near = Instant::now() + Duration::from_millis(5);
        let _ = std::future::poll_fn(|cx| Poll::Ready(timers.poll(&mut slot, near, cx))).await;
        timers.give_back(slot.unwrap());
        wait(90).await; // it fires on the way
        assert_eq!(timers.0.borrow().len(), 1);
    }
}
