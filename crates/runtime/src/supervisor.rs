//! One supervisor owns every task of a process. A part that must live is a *task*: when it ends before the drain, the
//! process stops with its name and reason. A part that comes and goes (a connection) is a *job*: it is tracked for
//! the drain, and its panic is logged and counted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::drain::DrainWatch;

/// Why a task ended.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

struct Ended {
    name: String,
    result: Result<(), TaskError>,
}

/// Handle with which tasks and jobs are started. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Tasks {
    ended: mpsc::UnboundedSender<Ended>,
    tracker: TaskTracker,
    drain: DrainWatch,
    panics: Arc<AtomicU64>,
}

/// Waits for the tasks of a process.
pub struct Supervisor {
    tasks: Tasks,
    ended: mpsc::UnboundedReceiver<Ended>,
}

impl Supervisor {
    /// A supervisor of a process that drains with `drain`.
    pub fn new(drain: DrainWatch) -> Supervisor {
        let (sender, receiver) = mpsc::unbounded_channel();
        let tasks =
            Tasks { ended: sender, tracker: TaskTracker::new(), drain, panics: Arc::new(AtomicU64::new(0)) };
        Supervisor { tasks, ended: receiver }
    }

    /// The handle to start tasks with.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Runs until the drain has started and every task and job has ended, or `grace` has passed since it started.
    ///
    /// # Errors
    /// The name and reason of the first task that ended before the drain.
    pub async fn run(mut self, grace: Duration) -> Result<(), TaskError> {
        let drain = self.tasks.drain.clone();
        tokio::select! {
            biased;
            () = drain.started() => {}
            ended = self.ended.recv() => self.judge(ended)?,
        }
        self.tasks.tracker.close();
        let deadline = drain.since().unwrap_or_else(Instant::now) + grace;
        if tokio::time::timeout_at(deadline.into(), self.tasks.tracker.wait()).await.is_err() {
            let left = self.tasks.tracker.len();
            tracing::warn!(
                left,
                grace_seconds = grace.as_secs(),
                "tasks were still busy when the drain time was over"
            );
        }
        Ok(())
    }

    /// A task that ended before the drain is a failure, whatever its result.
    fn judge(&self, ended: Option<Ended>) -> Result<(), TaskError> {
        match ended {
            Some(ended) if !self.tasks.drain.is_draining() => Err(match ended.result {
                Ok(()) => format!("task {} ended although nobody asked it to", ended.name).into(),
                Err(error) => format!("task {} failed: {error}", ended.name).into(),
            }),
            _ => Ok(()),
        }
    }
}

impl Tasks {
    /// Starts a task that must live until the drain.
    pub fn spawn<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.tracker.spawn(self.clone().watched(name.into(), future));
    }

    /// Like [`Tasks::spawn`], on the current thread's `LocalSet`.
    pub fn spawn_local<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), TaskError>> + 'static,
    {
        self.tracker.spawn_local(self.clone().watched(name.into(), future));
    }

    /// Starts a job: it may end at any time, and the drain waits for it.
    pub fn job<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // What wraps the future would hold it several times over.
        self.tracker.spawn(self.clone().guarded(name, Box::pin(future)));
    }

    /// Like [`Tasks::job`], on the current thread's `LocalSet`.
    pub fn job_local<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.tracker.spawn_local(self.clone().guarded(name, Box::pin(future)));
    }

    /// The drain that these tasks obey.
    pub fn drain(&self) -> DrainWatch {
        self.drain.clone()
    }

    /// Jobs that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Tasks and jobs alive now.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    async fn watched<F: Future<Output = Result<(), TaskError>>>(self, name: String, future: F) {
        let result = match std::panic::AssertUnwindSafe(future).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => Err(format!("panicked: {}", panic_text(&*panic)).into()),
        };
        // Nobody listens any more once the supervisor has left its loop, which it only does to stop.
        let _ = self.ended.send(Ended { name, result });
    }

    async fn guarded<F: Future<Output = ()>>(self, name: &'static str, future: F) {
        if let Err(panic) = std::panic::AssertUnwindSafe(future).catch_unwind().await {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(job = name, "panicked: {}", panic_text(&*panic));
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_first_failure_stops_the_process_and_is_named() {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        supervisor.tasks().spawn("lives", std::future::pending());
        supervisor.tasks().spawn("watcher", async { Err("the disk is gone".into()) });
        let error = supervisor.run(GRACE).await.unwrap_err().to_string();
        assert_eq!(error, "task watcher failed: the disk is gone");
    }

    #[tokio::test]
    async fn a_task_that_panics_or_just_ends_is_a_failure() {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        supervisor.tasks().spawn("leader", async { panic!("boom") });
        assert!(
            supervisor.run(GRACE).await.unwrap_err().to_string().contains("leader failed: panicked: boom")
        );

        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        supervisor.tasks().spawn("leader", async { Ok(()) });
        assert!(supervisor.run(GRACE).await.unwrap_err().to_string().contains("leader ended"));
    }

    #[tokio::test]
    async fn the_drain_waits_for_jobs_and_survives_their_panics() {
        let (drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch.clone());
        let tasks = supervisor.tasks();
        let (done, finished) = tokio::sync::oneshot::channel();
        tasks.job("request", async move {
            watch.started().await;
            let _ = done.send(());
        });
        tasks.job("broken", async { panic!("bad connection") });
        tokio::task::yield_now().await;
        drain.start();
        supervisor.run(GRACE).await.unwrap();
        finished.await.unwrap();
        assert_eq!((tasks.panics(), tasks.alive()), (1, 0));
    }
}
