//! Access logs that are raised for a time: what a filter leaves out is written too, for every request or for those with
//! one id. No connection and no configuration is touched.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ids that may be raised at once; the oldest makes room.
const MOST_IDS: usize = 64;
/// The longest time.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The longest id, in bytes.
pub const LONGEST_ID: usize = 256;

/// What is raised. Requests read one number that hardly ever changes.
#[derive(Debug, Default)]
pub struct Raised {
    /// Until when something is raised, in seconds since 1970; 0: nothing is.
    any: AtomicU64,
    /// Until when everything is.
    all: AtomicU64,
    ids: Mutex<Vec<(Box<[u8]>, u64)>>,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Raised {
    fn ids(&self) -> MutexGuard<'_, Vec<(Box<[u8]>, u64)>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises every request for a time.
    pub fn raise_all(&self, now: SystemTime, time: Duration) {
        let until = seconds(now + time.min(LONGEST));
        self.all.store(until, Ordering::Relaxed);
        self.any.fetch_max(until, Ordering::Relaxed);
    }

    /// Raises the requests with that id for a time.
    pub fn raise_id(&self, id: &[u8], now: SystemTime, time: Duration) {
        let until = seconds(now + time.min(LONGEST));
        let mut ids = self.ids();
        ids.retain(|(there, end)| &**there != id && *end > seconds(now));
        if ids.len() == MOST_IDS {
            ids.remove(0);
        }
        ids.push((id.into(), until));
        self.any.fetch_max(until, Ordering::Relaxed);
    }

    /// Raises every request (without an id) or those with that id; no time: nothing any more. Returns the end.
    ///
    /// # Errors
    /// The time or the id is too long.
    pub fn raise(&self, id: Option<&str>, time: Duration, now: SystemTime) -> Result<SystemTime, String> {
        if time > LONGEST {
            return Err(format!("at most {} seconds", LONGEST.as_secs()));
        }
        match id {
            _ if time.is_zero() => self.reset(),
            None => self.raise_all(now, time),
            Some(id) if id.is_empty() || id.len() > LONGEST_ID => {
                return Err(format!("a request id has 1 to {LONGEST_ID} bytes"));
            }
            Some(id) => self.raise_id(id.as_bytes(), now, time),
        }
        Ok(now + time)
    }

    /// Nothing is raised any more.
    pub fn reset(&self) {
        self.any.store(0, Ordering::Relaxed);
        self.all.store(0, Ordering::Relaxed);
        self.ids().clear();
    }

    /// Whether a request that came at that time is written in any case.
    pub fn takes(&self, came: SystemTime, id: Option<&[u8]>) -> bool {
        let any = self.any.load(Ordering::Relaxed);
        // Nearly always nothing is raised: then no clock is turned into a number, and no lock is looked at.
        if any == 0 {
            return false;
        }
        let came = seconds(came);
        if came >= any {
            return false;
        }
        came < self.all.load(Ordering::Relaxed)
            || id.is_some_and(|id| self.ids().iter().any(|(there, until)| &**there == id && came < *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_or_one_id_is_raised_for_a_time() {
        let (raised, now) = (Raised::default(), SystemTime::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(!raised.takes(now, Some(b"a")));
        raised.raise_id(b"a", now, Duration::from_secs(600));
        assert!(raised.takes(later(599), Some(b"a")));
        assert!(!raised.takes(later(1), Some(b"b")) && !raised.takes(later(1), None));
        assert!(!raised.takes(later(601), Some(b"a")));
        raised.raise_all(now, Duration::from_secs(10));
        assert!(raised.takes(later(9), None) && !raised.takes(later(11), None));
        assert!(raised.takes(later(11), Some(b"a")));
        raised.reset();
        assert!(!raised.takes(now, Some(b"a")));
    }

    #[test]
    fn ids_and_times_are_bounded() {
        let (raised, now) = (Raised::default(), SystemTime::now());
        for number in 0..=MOST_IDS {
            raised.raise_id(number.to_string().as_bytes(), now, Duration::MAX.min(LONGEST * 2));
        }
        assert_eq!(raised.ids().len(), MOST_IDS);
        assert!(!raised.takes(now, Some(b"0")) && raised.takes(now, Some(b"1")));
        assert!(!raised.takes(now + LONGEST, Some(b"1")));
    }
}
