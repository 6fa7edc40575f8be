//! The only owner of tasks and threads: supervisor, drain, signals, log set-up.
//!
//! Nothing else in the workspace calls `tokio::spawn` or `std::thread::spawn` (clippy refuses it): a task that
//! nobody joins can die while its process looks healthy.

pub mod drain;
pub mod logging;
pub mod process;
pub mod signals;
pub mod supervisor;
pub mod thread;

pub use drain::{Drain, DrainWatch};
pub use supervisor::{Supervisor, TaskError, Tasks};
