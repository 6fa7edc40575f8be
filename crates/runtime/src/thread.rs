//! Named threads: plain ones, and workers that run one single-threaded tokio runtime each.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::{Builder, JoinHandle};

use futures_util::FutureExt;

/// Starts a named thread.
///
/// # Errors
/// The operating system has no thread left.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

/// Runs a future to its end on a new single-threaded runtime of the current thread, with a `LocalSet` around it, so that
/// what it starts may stay on this thread.
///
/// # Errors
/// The runtime could not be built (no file descriptor left for epoll).
pub fn block_on_local<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    Ok(local.block_on(&runtime, future))
}

/// Starts a named thread with a single-threaded runtime of its own and runs the future that `start` makes on it.
///
/// # Errors
/// The operating system has no thread left.
pub fn worker<F, T>(
    name: &str,
    start: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    spawn(name, move || block_on_local(start()))
}

/// Starts a future on the current thread's `LocalSet` for which nobody waits, not even a drain: for what serves others and
/// ends when they let go of it. A panic is logged and ends it alone.
pub fn background<F: Future<Output = ()> + 'static>(name: &'static str, future: F) {
    drop(tokio::task::spawn_local(async move {
        if AssertUnwindSafe(future).catch_unwind().await.is_err() {
            tracing::error!(job = name, "panicked");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_runs_what_cannot_move_between_threads() {
        let handle = worker("worker-0", || async {
            let local = std::rc::Rc::new(41);
            tokio::task::yield_now().await;
            (*local + 1, std::thread::current().name().map(str::to_owned))
        });
        let (value, name) = handle.unwrap().join().unwrap().unwrap();
        assert_eq!((value, name.as_deref()), (42, Some("worker-0")));
    }
}
