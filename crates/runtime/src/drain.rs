//! Telling every task of a process that it should finish what it has and take nothing new.

use tokio::sync::watch;

/// Starts the drain; held by whoever decides to stop (signal handler, `/quitquitquit`, a test).
#[derive(Debug, Clone)]
pub struct Drain {
    state: watch::Sender<bool>,
}

/// Seen by every task that has something to finish.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    state: watch::Receiver<bool>,
}

impl Drain {
    /// A drain that has not started, and the first watch on it.
    pub fn new() -> (Drain, DrainWatch) {
        let (sender, receiver) = watch::channel(false);
        (Drain { state: sender }, DrainWatch { state: receiver })
    }

    /// Starts draining. Calling it again changes nothing.
    pub fn start(&self) {
        self.state.send_replace(true);
    }

    /// Another watch on the same drain.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { state: self.state.subscribe() }
    }
}

impl DrainWatch {
    /// Whether the drain has started: one atomic load under a read lock that nobody holds for long.
    pub fn is_draining(&self) -> bool {
        *self.state.borrow()
    }

    /// Waits until the drain starts. A dropped [`Drain`] counts as started: its owner is gone.
    pub async fn started(&self) {
        let mut state = self.state.clone();
        // The error means that the owner is gone, which is a start as well.
        let _ = state.wait_for(|draining| *draining).await;
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

    #[tokio::test]
    async fn a_lost_owner_counts_as_a_start() {
        let (drain, watch) = Drain::new();
        drop(drain);
        watch.started().await;
    }
}
