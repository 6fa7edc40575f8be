//! The clock of a handshake: the caller's, so that one clock decides everything and a test decides the time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// A [`Clock`] as the TLS library wants it.
pub struct HandshakeClock(pub Arc<dyn Clock>);

impl TimeProvider for HandshakeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unix_seconds())))
    }
}

impl fmt::Debug for HandshakeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeClock")
    }
}
