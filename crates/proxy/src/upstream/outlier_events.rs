//! What became of outliers: a log line each, and the last ones for the admin page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::outlier::Cause;
use crate::telemetry::log_sink::LogSink;
use crate::telemetry::start_time;

/// Most events that are kept.
pub const MAX_EVENTS: usize = 256;

/// A host was ejected, or has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierEvent {
    /// When.
    pub at: SystemTime,
    /// The cluster.
    pub cluster: Arc<str>,
    /// The host's address.
    pub host: Arc<str>,
    /// Ejections of the host so far.
    pub ejections: u32,
    /// What happened.
    pub action: Action,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ejected.
    Ejected {
        /// Why.
        cause: Cause,
        /// For at least so long; it returns at the first sweep after.
        time: Duration,
    },
    /// Returned.
    Returned,
}

impl OutlierEvent {
    /// Envoy's `OutlierDetectionEvent` as a line of JSON, with the end of an ejection beside it.
    fn line(&self) -> Vec<u8> {
        let text = |time: SystemTime| {
            let mut text = Vec::new();
            start_time::write_default(&mut text, time);
            String::from_utf8_lossy(&text).into_owned()
        };
        let mut line = serde_json::json!({
            "timestamp": text(self.at),
            "cluster_name": &*self.cluster,
            "upstream_url": &*self.host,
            "action": "UNEJECT",
            "num_ejections": self.ejections,
            "enforced": true,
        });
        if let Action::Ejected { cause, time } = self.action {
            line["action"] = "EJECT".into();
            line["type"] = cause.text().into();
            line["ejected_until"] = text(self.at + time).into();
        }
        let mut line = line.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// The last events. Written and read off the request path.
#[derive(Debug, Default)]
pub struct OutlierEvents {
    wake: Arc<Notify>,
    last: Mutex<VecDeque<OutlierEvent>>,
    /// Where each event is written as a line; its queue is bounded, and a stuck disk costs lines.
    file: OnceLock<Arc<LogSink>>,
}

impl OutlierEvents {
    /// Told when somebody's health has changed.
    pub fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// The last events, oldest first.
    pub fn last(&self) -> Vec<OutlierEvent> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Writes every event into a sink as well. The first call counts.
    pub fn write_to(&self, sink: Arc<LogSink>) {
        // There is one file in a bootstrap.
        let _ = self.file.set(sink);
    }

    /// Logs and keeps an event.
    pub(super) fn add(&self, event: OutlierEvent) {
        let (cluster, host, ejections) = (&*event.cluster, &*event.host, event.ejections);
        match event.action {
            Action::Ejected { cause, time } => {
                let mut until = Vec::new();
                start_time::write_default(&mut until, event.at + time);
                let until = String::from_utf8_lossy(&until);
                let cause = cause.text();
                tracing::warn!(cluster, host, cause, %until, ejections, "host ejected: it is an outlier");
            }
            Action::Returned => tracing::info!(cluster, host, ejections, "host returned from its ejection"),
        }
        if let Some(file) = self.file.get() {
            file.write(0, |line| line.bytes.extend_from_slice(&event.line()));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MAX_EVENTS {
            last.pop_front();
        }
        last.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};

    /// A file that takes nothing.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            // Until the test ends.
            let _ = self.0.recv();
            Err(io::Error::other("gone"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(action: Action) -> OutlierEvent {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        OutlierEvent { at, cluster: "app".into(), host: "10.0.0.1:80".into(), ejections: 2, action }
    }

    #[test]
    fn a_line_says_what_happened_to_whom_why_and_until_when() {
        let ejected = Action::Ejected { cause: Cause::Consecutive5xx, time: Duration::from_secs(60) };
        let line: serde_json::Value = serde_json::from_slice(&event(ejected).line()).unwrap();
        let wanted = serde_json::json!({
            "timestamp": "1970-01-01T00:00:01.500Z", "cluster_name": "app", "upstream_url": "10.0.0.1:80",
            "action": "EJECT", "num_ejections": 2, "enforced": true, "type": "CONSECUTIVE_5XX",
            "ejected_until": "1970-01-01T00:01:01.500Z",
        });
        assert_eq!(line, wanted);
        assert!(String::from_utf8(event(Action::Returned).line()).unwrap().contains("\"UNEJECT\""));
    }

    #[test]
    fn a_stuck_disk_holds_nobody_up() {
        let (release, wait) = std::sync::mpsc::channel();
        let sink = Arc::new(LogSink::start(Stuck(wait)).unwrap());
        let events = OutlierEvents::default();
        events.write_to(sink.clone());
        let line = event(Action::Returned).line().len();
        for _ in 0..crate::telemetry::log_sink::QUEUE_BYTES / line + 2_000 {
            events.add(event(Action::Returned));
        }
        // A batch of lines may have left the queue before the disk got stuck.
        assert!(sink.dropped() >= 1_000, "{}", sink.dropped());
        assert_eq!(events.last().len(), MAX_EVENTS);
        drop(release);
    }
}
