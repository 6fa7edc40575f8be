//! A connection's place in its listener's configuration. An edit cuts nothing that a new connection of the same kind
//! would be allowed: the connection goes on under the chain that would take it now, and what that chain says above the
//! connection (HTTP filters, policies, routes, access logs) holds from its next request. What was agreed on below stays.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use base::Reason;
use runtime::{Drain, DrainWatch};

use super::authorize::allowed;
use super::bound::Bound;
use super::chain::Chain;
use super::choose::{self, Asked};
use super::inspect::Seen;
use super::worker::Worker;
use crate::filter::Downstream;
use crate::http::on_wake::OnWake;

/// How long a connection without a chain may finish what it does (Istio's drain duration).
const GRACE: Duration = Duration::from_secs(45);

/// One connection of a listener.
pub struct Attachment<'a> {
    worker: &'a Worker,
    bound: &'a Bound,
    seen: Seen,
    downstream: &'a Downstream,
    chain: RefCell<Arc<Chain>>,
    drain: Drain,
    watch: DrainWatch,
}

/// What an edit means for a connection.
enum Fate {
    /// It goes on under that chain.
    Adopted(Arc<Chain>),
    /// No chain would take it any more: it may finish.
    LastCall,
    /// A policy denies it.
    Denied,
}

impl<'a> Attachment<'a> {
    /// A connection that was given to that chain.
    pub fn new(
        worker: &'a Worker,
        bound: &'a Bound,
        seen: Seen,
        downstream: &'a Downstream,
        chain: Arc<Chain>,
    ) -> Self {
        let (drain, watch) = Drain::new();
        Attachment { worker, bound, seen, downstream, chain: RefCell::new(chain), drain, watch }
    }

    /// Told when the connection has to end after what it does now.
    pub fn drain(&self) -> &DrainWatch {
        &self.watch
    }

    /// Follows the edits of the listener, and gives each chain that the connection goes on under to `adopt`. Ends when
    /// the connection has to be closed, and says why.
    pub async fn follow(&self, adopt: impl Fn(&Chain)) -> Reason {
        loop {
            let current = self.chain.borrow().clone();
            // Every wake of the connection passes here: asking must not touch what all connections share.
            let mut replaced = OnWake::new(current.drain().started());
            poll_fn(|cx| replaced.poll(cx)).await;
            match self.fate(&current) {
                Fate::Adopted(next) => {
                    adopt(&next);
                    *self.chain.borrow_mut() = next.clone();
                }
                Fate::LastCall => break,
                Fate::Denied => return Reason::ConnectionDenied,
            }
        }
        self.drain.start();
        tokio::time::sleep(GRACE).await;
        if self.bound.is_draining() { Reason::Draining } else { Reason::ConfigurationChanged }
    }

    fn fate(&self, old: &Chain) -> Fate {
        if self.bound.is_draining() {
            return Fate::LastCall;
        }
        let listener = self.bound.current();
        let Downstream { local, remote, .. } = *self.downstream;
        let Some(next) = choose::filter_chain(&listener, &Asked { local, remote, seen: &self.seen }) else {
            return Fate::LastCall;
        };
        if !self.fits(old, next) {
            return Fate::LastCall;
        }
        if !allowed(self.worker, &next.config.filters, self.downstream) {
            return Fate::Denied;
        }
        Fate::Adopted(next.clone())
    }

    /// Whether the connection is what the chain would have made of it: the same protocol, and a peer that was verified
    /// as the chain demands.
    fn fits(&self, old: &Chain, next: &Chain) -> bool {
        let session = self.downstream.session.as_ref();
        let verified = match (&old.config.tls, &next.config.tls) {
            (None, None) => true,
            (Some(old), Some(next)) => {
                old.trust == next.trust
                    && (!next.require_client_certificate || session.is_some_and(|it| it.peer.is_some()))
            }
            _ => false,
        };
        verified && old.http.is_some() == next.http.is_some()
    }
}
