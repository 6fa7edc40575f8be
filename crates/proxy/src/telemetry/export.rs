//! Telemetry on its way to a collector: a bounded queue on the request path's side, batches on the sender's.
//!
//! A request only puts a finished item into the queue; when it is full the item is dropped and counted. The sender is a
//! task of its own, off the workers: a collector that is slow, stuck or gone costs items and never time of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::model::Collector;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Items of one message.
pub const BATCH: usize = 256;
/// How long a batch may wait for more items.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Where finished items go.
#[derive(Debug)]
pub struct Queue<T> {
    sender: mpsc::Sender<T>,
    counts: Arc<Counts>,
}

impl<T> Queue<T> {
    /// Queues an item, or drops it.
    pub fn push(&self, item: T) {
        if self.sender.try_send(item).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of items and messages. One for all outlets of a kind.
#[derive(Debug, Default)]
pub struct Counts {
    /// Items sent.
    pub sent: Arc<AtomicU64>,
    /// Items that found no place in the queue, or whose message was not taken.
    pub dropped: Arc<AtomicU64>,
    /// Batches sent because their time had come.
    pub flushed: Arc<AtomicU64>,
    /// Messages taken.
    pub messages_sent: Arc<AtomicU64>,
    /// Messages that the collector refused.
    pub messages_refused: Arc<AtomicU64>,
    /// Messages without an answer.
    pub messages_failed: Arc<AtomicU64>,
    /// Messages for a cluster that is not there.
    pub without_cluster: Arc<AtomicU64>,
}

/// One message.
#[derive(Debug)]
pub struct Batch {
    /// Items in it.
    pub items: usize,
    /// Encoded.
    pub payload: Vec<u8>,
}

/// Where a sender takes messages from.
pub trait Batches: Send {
    /// Waits for the next message; `None` when nobody can queue anything any more.
    fn next(&mut self) -> BoxFuture<'_, Option<Batch>>;

    /// A message of what waits now, without waiting.
    fn rest(&mut self) -> Option<Batch>;
}

/// One stream of messages to a collector.
pub struct Outlet {
    /// Where to.
    pub collector: Collector,
    /// The gRPC method, for collectors that speak it.
    pub grpc_method: &'static str,
    /// Of a message over plain HTTP.
    pub content_type: &'static str,
    /// The messages.
    pub batches: Box<dyn Batches>,
    /// What became of them.
    pub counts: Arc<Counts>,
}

struct Waiting<T, E> {
    items: mpsc::Receiver<T>,
    encode: E,
    counts: Arc<Counts>,
}

impl<T: Send, E: Fn(Vec<T>) -> Vec<u8> + Send> Waiting<T, E> {
    fn batch(&mut self, mut items: Vec<T>) -> Batch {
        while items.len() < BATCH
            && let Ok(item) = self.items.try_recv()
        {
            items.push(item);
        }
        Batch { items: items.len(), payload: (self.encode)(items) }
    }
}

impl<T: Send, E: Fn(Vec<T>) -> Vec<u8> + Send> Batches for Waiting<T, E> {
    fn next(&mut self) -> BoxFuture<'_, Option<Batch>> {
        Box::pin(async move {
            let mut items = vec![self.items.recv().await?];
            let end = Instant::now() + FLUSH;
            while items.len() < BATCH {
                match tokio::time::timeout_at(end, self.items.recv()).await {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(_) => {
                        self.counts.flushed.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
            Some(self.batch(items))
        })
    }

    fn rest(&mut self) -> Option<Batch> {
        let first = self.items.try_recv().ok()?;
        Some(self.batch(vec![first]))
    }
}

/// The outlets on their way to the task that serves them.
#[derive(Debug)]
pub struct Exports {
    opened: mpsc::UnboundedSender<Outlet>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Outlet>>>,
}

impl Default for Exports {
    fn default() -> Self {
        let (opened, waiting) = mpsc::unbounded_channel();
        Exports { opened, waiting: Mutex::new(Some(waiting)) }
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("collector", &self.collector).finish_non_exhaustive()
    }
}

impl Exports {
    /// Opens an outlet in whose queue `capacity` items fit. It ends when the queue is dropped.
    pub fn open<T: Send + 'static>(
        &self,
        capacity: usize,
        (collector, grpc_method, content_type): (Collector, &'static str, &'static str),
        counts: &Arc<Counts>,
        encode: impl Fn(Vec<T>) -> Vec<u8> + Send + 'static,
    ) -> Queue<T> {
        let (sender, items) = mpsc::channel(capacity);
        let batches = Box::new(Waiting { items, encode, counts: counts.clone() });
        // Without a task that serves it, the queue is closed and every item counted as dropped.
        let _ = self.opened.send(Outlet {
            collector,
            grpc_method,
            content_type,
            batches,
            counts: counts.clone(),
        });
        Queue { sender, counts: counts.clone() }
    }

    /// The outlets, for the one task that serves them.
    pub fn take(&self) -> Option<mpsc::UnboundedReceiver<Outlet>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::{CollectorProtocol, HeaderOperations};

    fn outlet(capacity: usize) -> (Queue<u8>, Outlet) {
        let exports = Exports::default();
        let collector = Collector {
            cluster: "c".into(),
            protocol: CollectorProtocol::Grpc,
            authority: "c".into(),
            timeout: None,
            headers: HeaderOperations::default(),
        };
        let queue = exports.open(capacity, (collector, "", ""), &Arc::default(), |items: Vec<u8>| items);
        (queue, exports.take().unwrap().try_recv().unwrap())
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_waits_for_nobody() {
        let (queue, mut outlet) = outlet(10);
        (0..25).for_each(|item| queue.push(item));
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 15);
        let batch = outlet.batches.next().await.unwrap();
        assert_eq!((batch.items, batch.payload), (10, (0..10).collect()));
        queue.push(77);
        assert_eq!(outlet.batches.rest().unwrap().payload, [77]);
        assert!(outlet.batches.rest().is_none());
        drop(queue);
        assert!(outlet.batches.next().await.is_none());
    }

    #[tokio::test]
    async fn a_batch_goes_when_it_is_full_or_its_time_has_come() {
        let (queue, mut outlet) = outlet(1_000);
        let begun = Instant::now();
        (0..=255).chain(0..=9).for_each(|item| queue.push(item));
        assert_eq!(outlet.batches.next().await.unwrap().items, BATCH);
        assert_eq!(outlet.batches.next().await.unwrap().items, 10);
        assert!(begun.elapsed() >= FLUSH);
    }
}
