//! Telling every task of a process that it should finish what it has and take nothing new.

use std::time::Instant;

use tokio::sync::watch;

/// Starts the drain; held by whoever decides to stop (signal handler, `/quitquitquit`, a test).
#[derive(Debug, Clone)]
pub struct Drain {
    state: watch::Sender<Option<Instant>>,
}

/// Seen by every task that has something to finish.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    state: watch::Receiver<Option<Instant>>,
}

impl Drain {
    /// A drain that has not started, and the first watch on it.
    pub fn new() -> (Drain, DrainWatch) {
        let (sender, receiver) = watch::channel(None);
        (Drain { state: sender }, DrainWatch { state: receiver })
    }

    /// Starts draining. Calling it again changes nothing: there is one deadline, counted from the first call.
    pub fn start(&self) {
        self.state.send_if_modified(|since| {
            let first = since.is_none();
            since.get_or_insert_with(Instant::now);
            first
        });
    }

    /// Another watch on the same drain.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { state: self.state.subscribe() }
    }
}

impl DrainWatch {
    /// Whether the drain has started: one atomic load under a read lock that nobody holds for long.
    pub fn is_draining(&self) -> bool {
        self.since().is_some()
    }

    /// When the drain started; every part of the process counts its time from here.
    pub fn since(&self) -> Option<Instant> {
        *self.state.borrow()
    }

    /// Waits until the drain starts. A dropped [`Drain`] counts as started: its owner is gone.
    pub async fn started(&self) {
        let mut state = self.state.clone();
        // The error means that the owner is gone, which is a start as well.
        let _ = state.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_those_who_wait_and_those_who_come_late() {
        let (drain, watch) = Drain::new();
        assert!(!watch.is_draining());
        let early = watch.clone();
        let (_, ()) = tokio::join!(early.started(), async { drain.start() });
        assert!(watch.is_draining());
        drain.watch().started().await;
    }

    #[test]
    fn a_second_start_does_not_move_the_deadline() {
        let (drain, watch) = Drain::new();
        drain.start();
        let first = watch.since();
        std::thread::sleep(std::time::Duration::from_millis(2));
        drain.start();
        assert!(first.is_some() && watch.since() == first);
    }

    #[tokio::test]
    async fn a_lost_owner_counts_as_a_start() {
        let (drain, watch) = Drain::new();
        drop(drain);
        watch.started().await;
    }
}
