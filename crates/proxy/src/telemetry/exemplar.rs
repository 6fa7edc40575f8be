//! A trace beside a number (OpenMetrics' exemplars): from a slow bucket to one of the requests in it.

use std::sync::Mutex;
use std::time::SystemTime;

/// One request that was traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// What was measured, in thousandths of the metric's unit.
    pub value_thousandths: u64,
    /// When it was measured.
    pub at: SystemTime,
}

impl Exemplar {
    /// The later of two.
    pub fn later(one: Option<Exemplar>, two: Option<Exemplar>) -> Option<Exemplar> {
        match (one, two) {
            (Some(one), Some(two)) => Some(if one.at >= two.at { one } else { two }),
            (one, two) => one.or(two),
        }
    }
}

/// The last exemplar of one worker's series. Its lock is shared with the scraper alone, and while that reads, an
/// exemplar is left out rather than waited for.
#[derive(Debug, Default)]
pub struct ExemplarCell(Mutex<Option<Exemplar>>);

impl ExemplarCell {
    /// Remembers this one.
    pub fn set(&self, exemplar: Exemplar) {
        if let Ok(mut last) = self.0.try_lock() {
            *last = Some(exemplar);
        }
    }

    /// The last one.
    pub fn get(&self) -> Option<Exemplar> {
        self.0.lock().map_or(None, |last| *last)
    }
}
