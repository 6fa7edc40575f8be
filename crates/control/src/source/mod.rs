//! Where resources come from. Every source speaks the same verbs to the store: apply, delete, synced.

pub mod directory;
pub mod memory;
pub mod reconcile;
pub mod scan;
pub mod watch;

pub use directory::{Directory, Settings};

use api::Problem;
use translate::Change;

/// What a source found out since its last update.
#[derive(Debug, Default)]
pub struct Update {
    /// Resources that are new, changed or gone, and the mesh's settings. They count as one step.
    pub changes: Vec<Change>,
    /// Everything that is wrong or worth saying now; it replaces what the last update said.
    pub problems: Vec<Reported>,
}

/// A problem, and what its victim does meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reported {
    /// The problem.
    pub problem: Problem,
    /// What serves in the place of what is refused; `None` where nothing is refused.
    pub effect: Option<Effect>,
}

/// What serves in the place of a refused resource or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Its last good version.
    LastGood,
    /// The same resource from another file, which was there first.
    Other,
    /// Nothing: it never had a good version.
    Nothing,
}

impl Effect {
    /// For the end of a message.
    pub const fn text(self) -> &'static str {
        match self {
            Effect::LastGood => "the last good version keeps serving",
            Effect::Other => "the other one keeps serving",
            Effect::Nothing => "it does not serve: there is no good version yet",
        }
    }
}

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.problem)?;
        match self.effect {
            Some(effect) => write!(f, " ({})", effect.text()),
            None => Ok(()),
        }
    }
}

/// Who takes what a source found; the store, or a test.
pub trait Sink: Send + Sync {
    /// Takes an update.
    fn apply(&self, update: Update);

    /// The source has told everything it had at its start. Called once.
    fn synced(&self);
}
