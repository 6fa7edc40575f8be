//! From a new World to the streams of the proxies.
//!
//! Changes come in bursts (an editor, a rollout): the [`Pusher`] waits for a short quiet, takes the newest World and
//! tells every stream one number. Each stream then compares what its proxy should have with what it was sent, by
//! content, so that a proxy that is not affected gets nothing. Nothing is pushed from a World that is not whole yet.

pub mod connections;
pub mod metrics;

pub use connections::Connections;
pub use metrics::XdsMetrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use runtime::{DrainWatch, TaskError};
use tokio::sync::watch;
use translate::World;

use crate::store::Store;

/// Where Worlds come from; the store, or a test.
pub trait Worlds: Send + Sync + 'static {
    /// The newest World.
    fn world(&self) -> Arc<World>;

    /// A number that changes with the World, and when the sources become synced.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Whether every source has told all it had at its start. Before that, what a World lacks may just not be read
    /// yet, and a proxy that was told so would drop it.
    fn synced(&self) -> bool;
}

impl Worlds for Store {
    fn world(&self) -> Arc<World> {
        Store::world(self)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        Store::watch(self)
    }

    fn synced(&self) -> bool {
        self.is_synced()
    }
}

/// How long a burst of changes is collected.
#[derive(Debug, Clone, Copy)]
pub struct Debounce {
    /// A burst ends when nothing changed for so long.
    pub quiet: Duration,
    /// A burst that does not end is pushed after so long.
    pub longest: Duration,
}

impl Default for Debounce {
    fn default() -> Self {
        Debounce { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// One World that is pushed.
#[derive(Debug)]
pub struct Snapshot {
    /// The World.
    pub world: Arc<World>,
    /// Its number; grows by one with each push of this process.
    pub revision: u64,
    /// When the first change in it was seen.
    pub changed: Instant,
}

/// Publishes Worlds to the streams.
#[derive(Debug)]
pub struct Pusher {
    debounce: Debounce,
    snapshot: ArcSwapOption<Snapshot>,
    revision: watch::Sender<u64>,
    published: AtomicU64,
    metrics: std::sync::OnceLock<Arc<XdsMetrics>>,
}

impl Pusher {
    /// A pusher that has nothing to tell yet.
    pub fn new(debounce: Debounce) -> Self {
        Pusher {
            debounce,
            snapshot: ArcSwapOption::empty(),
            revision: watch::Sender::new(0),
            published: AtomicU64::new(0),
            metrics: std::sync::OnceLock::new(),
        }
    }

    /// What is pushed now; None before the sources are synced.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// The number of the snapshot, as it changes; 0 before the first.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Publishes Worlds until the drain; a task of the supervisor.
    ///
    /// # Errors
    /// The store is gone.
    pub async fn run(&self, worlds: Arc<dyn Worlds>, drain: DrainWatch) -> Result<(), TaskError> {
        let mut changes = worlds.watch();
        self.publish(&*worlds, Instant::now());
        loop {
            let change = tokio::select! {
                change = changes.changed() => change,
                () = drain.started() => return Ok(()),
            };
            change.map_err(|_| "the store of resources is gone")?;
            let first = Instant::now();
            self.settle(&mut changes, first).await;
            self.publish(&*worlds, first);
        }
    }

    /// Waits until a burst ends.
    async fn settle(&self, changes: &mut watch::Receiver<u64>, first: Instant) {
        loop {
            let left = self.debounce.longest.saturating_sub(first.elapsed());
            let quiet = self.debounce.quiet.min(left);
            match tokio::time::timeout(quiet, changes.changed()).await {
                Ok(Ok(())) if !left.is_zero() => {}
                _ => return,
            }
        }
    }

    fn publish(&self, worlds: &dyn Worlds, changed: Instant) {
        if !worlds.synced() {
            return;
        }
        let world = worlds.world();
        if self.snapshot.load().as_ref().is_some_and(|last| Arc::ptr_eq(&last.world, &world)) {
            return;
        }
        let revision = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        self.snapshot.store(Some(Arc::new(Snapshot { world, revision, changed })));
        self.revision.send_replace(revision);
        if let Some(metrics) = self.metrics.get() {
            metrics.changes.add_one();
        }
    }

    /// Counts what is pushed there from now on.
    pub fn count_in(&self, metrics: Arc<XdsMetrics>) {
        // Asked once, before anything is pushed.
        let _ = self.metrics.set(metrics);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use api::MeshConfig;
    use runtime::Drain;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    /// A store that a test fills.
    pub(crate) struct TestWorlds {
        world: Mutex<Arc<World>>,
        revision: watch::Sender<u64>,
        synced: AtomicBool,
    }

    impl TestWorlds {
        pub(crate) fn new(world: World) -> Arc<TestWorlds> {
            let (world, revision) = (Mutex::new(Arc::new(world)), watch::Sender::new(0));
            Arc::new(TestWorlds { world, revision, synced: AtomicBool::new(true) })
        }

        pub(crate) fn set(&self, world: World) {
            *self.world.lock().unwrap() = Arc::new(world);
            self.revision.send_modify(|revision| *revision += 1);
        }

        fn set_synced(&self, synced: bool) {
            self.synced.store(synced, Ordering::SeqCst);
            self.revision.send_modify(|revision| *revision += 1);
        }
    }

    impl Worlds for TestWorlds {
        fn world(&self) -> Arc<World> {
            self.world.lock().unwrap().clone()
        }

        fn watch(&self) -> watch::Receiver<u64> {
            self.revision.subscribe()
        }

        fn synced(&self) -> bool {
            self.synced.load(Ordering::SeqCst)
        }
    }

    fn empty() -> World {
        World::empty(MeshConfig::default())
    }

    #[tokio::test]
    async fn a_burst_is_one_push_of_the_newest_world() {
        let worlds = TestWorlds::new(empty());
        let pusher =
            Pusher::new(Debounce { quiet: Duration::from_millis(300), longest: Duration::from_secs(60) });
        let (drain, watch) = Drain::new();
        let script = async {
            let mut revisions = pusher.watch();
            revisions.wait_for(|revision| *revision == 1).await.unwrap();
            for _ in 0..5 {
                worlds.set(empty());
                tokio::task::yield_now().await;
            }
            revisions.wait_for(|revision| *revision > 1).await.unwrap();
            let snapshot = pusher.snapshot().unwrap();
            assert_eq!(snapshot.revision, 2);
            assert!(Arc::ptr_eq(&snapshot.world, &worlds.world()));
            drain.start();
        };
        let (result, ()) = tokio::join!(pusher.run(worlds.clone(), watch), script);
        result.unwrap();
    }

    #[tokio::test]
    async fn changes_without_end_are_pushed_all_the_same() {
        let worlds = TestWorlds::new(empty());
        let pusher =
            Pusher::new(Debounce { quiet: Duration::from_secs(60), longest: Duration::from_millis(30) });
        let (drain, watch) = Drain::new();
        let script = async {
            let mut revisions = pusher.watch();
            while *revisions.borrow_and_update() < 3 {
                worlds.set(empty());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drain.start();
        };
        let (result, ()) = tokio::join!(pusher.run(worlds.clone(), watch), script);
        result.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_pushed_before_the_sources_are_synced() {
        let worlds = TestWorlds::new(empty());
        worlds.set_synced(false);
        let pusher = Pusher::new(Debounce { quiet: Duration::ZERO, longest: Duration::ZERO });
        let (drain, watch) = Drain::new();
        let script = async {
            worlds.set(empty());
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(pusher.snapshot().is_none());
            worlds.set_synced(true);
            pusher.watch().wait_for(|revision| *revision == 1).await.unwrap();
            drain.start();
        };
        let (result, ()) = tokio::join!(pusher.run(worlds.clone(), watch), script);
        result.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_is_gone_stops_the_process() {
        struct Gone;
        impl Worlds for Gone {
            fn world(&self) -> Arc<World> {
                Arc::new(empty())
            }
            fn watch(&self) -> watch::Receiver<u64> {
                watch::channel(0).1
            }
            fn synced(&self) -> bool {
                true
            }
        }
        let (_drain, watch) = Drain::new();
        let error = Pusher::new(Debounce::default()).run(Arc::new(Gone), watch).await.unwrap_err();
        assert_eq!(error.to_string(), "the store of resources is gone");
    }
}
