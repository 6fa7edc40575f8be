//! The time of day of a moment, without a second look at a clock.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// How long the distance between the two clocks is believed: one of them may be set.
const BELIEVED: Duration = Duration::from_secs(1);

/// One worker's wall clock: it looks at the system's once a second, and in between adds what the monotonic one says.
/// Right to the millisecond as long as nobody sets the system's clock, and a second later again.
#[derive(Debug, Default)]
pub struct WallClock(Cell<Option<(Instant, SystemTime)>>);

impl WallClock {
    /// The time of day at `moment`, which has just been.
    pub fn at(&self, moment: Instant) -> SystemTime {
        if let Some((then, time)) = self.0.get() {
            let since = moment.saturating_duration_since(then);
            if since < BELIEVED {
                return time + since;
            }
        }
        let (now, time) = (Instant::now(), SystemTime::now());
        self.0.set(Some((now, time)));
        time - now.saturating_duration_since(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_systems_clock() {
        let clock = WallClock::default();
        let far = |time: SystemTime| {
            let now = SystemTime::now();
            now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap()
        };
        let begun = Instant::now();
        assert!(far(clock.at(begun)) < BELIEVED);
        // What the system says is asked for again when the distance is old.
        let wrong = SystemTime::now() - Duration::from_secs(3_600);
        clock.0.set(Some((begun, wrong)));
        assert!(far(clock.at(begun + Duration::from_millis(999))) > BELIEVED, "believed for a second");
        assert!(far(clock.at(begun + BELIEVED)) < 2 * BELIEVED);
    }
}
