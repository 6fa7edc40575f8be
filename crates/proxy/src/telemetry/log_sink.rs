//! Where access log lines go: each worker writes into a buffer of its own, one thread per sink takes the buffers and
//! writes them out. A stuck sink costs lines, which are counted, and never time of a request.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use config::model::AccessLogSink;

use super::families;
use super::log_layout::Line;
use super::log_output::Output;
use super::log_records::RecordLogs;
use super::raised::Raised;
use super::registry::Registry;
use super::start_time::Seconds;

/// Bytes of lines that may wait in all: a client decides how long a line is.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Lines that come within this time are written together.
const GATHER: Duration = Duration::from_millis(20);
/// A buffer that grows beyond this is written at once.
const FULL: usize = 64 * 1024;
/// Room for a line, so that its pieces find some.
const LINE: usize = 512;
/// Buffers. Workers beyond share one with another.
const LANES: usize = 64;

/// The buffer of one worker. Only that worker and the writer look at it, the writer no longer than it takes to exchange
/// it for an empty one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(Mutex<Buffer>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    seconds: Seconds,
    used: bool,
}

/// What workers and the writer share.
#[derive(Debug)]
struct Common {
    lanes: Vec<Lane>,
    /// Lanes that have been written into: they share the bytes that may wait.
    used: AtomicUsize,
    limit: usize,
    /// Bytes that are being written.
    writing: AtomicUsize,
    /// There is something to write.
    pending: AtomicBool,
    /// It is to be written without waiting for more.
    urgent: AtomicBool,
    closed: AtomicBool,
    writer: OnceLock<Thread>,
    /// How many times somebody asked for everything to be written, and how many of them it was.
    flushes: Mutex<(u64, u64)>,
    flushed: Condvar,
    dropped: Arc<AtomicU64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Common {
    fn wake(&self, urgent: bool) {
        if urgent {
            self.urgent.store(true, Ordering::Release);
        }
        if (!self.pending.swap(true, Ordering::AcqRel) || urgent)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    /// Waits until something is to be written; `false` when nothing will come any more.
    fn wait(&self) -> bool {
        while !self.pending.swap(false, Ordering::AcqRel) {
            if self.closed.load(Ordering::Acquire) {
                return false;
            }
            std::thread::park();
        }
        let end = Instant::now() + GATHER;
        while !self.urgent.swap(false, Ordering::AcqRel) && !self.closed.load(Ordering::Acquire) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        true
    }

    /// Writes what waits.
    fn drain(&self, writer: &mut impl Write, spare: &mut Vec<u8>) {
        for lane in &self.lanes {
            let mut buffer = locked(&lane.0);
            if buffer.bytes.is_empty() {
                continue;
            }
            std::mem::swap(&mut buffer.bytes, spare);
            let lines = std::mem::take(&mut buffer.lines);
            self.writing.store(spare.len(), Ordering::Relaxed);
            drop(buffer);
            if writer.write_all(spare).and_then(|()| writer.flush()).is_err() {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            self.writing.store(0, Ordering::Relaxed);
            spare.clear();
            spare.shrink_to(4 * FULL);
        }
    }
}

/// One open sink.
#[derive(Debug)]
pub struct LogSink(Arc<Common>);

impl LogSink {
    /// A sink that writes into `writer` from a thread of its own.
    ///
    /// # Errors
    /// The operating system has no thread left.
    pub fn start(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_limit(writer, QUEUE_BYTES)
    }

    /// The same where that many bytes may wait.
    fn with_limit(mut writer: impl Write + Send + 'static, limit: usize) -> io::Result<Self> {
        let common = Arc::new(Common {
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            used: AtomicUsize::new(0),
            limit,
            writing: AtomicUsize::new(0),
            pending: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            writer: OnceLock::new(),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
            dropped: Arc::default(),
        });
        let own = common.clone();
        // The thread ends when the sink is gone and everything is written.
        let thread = runtime::thread::spawn("access-log", move || {
            let mut spare = Vec::new();
            while own.wait() {
                let asked = locked(&own.flushes).0;
                own.drain(&mut writer, &mut spare);
                locked(&own.flushes).1 = asked;
                own.flushed.notify_all();
            }
            own.drain(&mut writer, &mut spare);
        })?;
        // What was written before that is found at the next line, or at the end.
        let _ = common.writer.set(thread.thread().clone());
        if common.pending.load(Ordering::Acquire) {
            thread.thread().unpark();
        }
        Ok(Self(common))
    }

    /// Writes a line into the buffer of that worker; when too much waits, the line is dropped and counted.
    pub fn write(&self, worker: usize, write: impl FnOnce(&mut Line<'_>)) {
        let common = &*self.0;
        let mut buffer = locked(&common.lanes[worker % LANES].0);
        let buffer = &mut *buffer;
        if !buffer.used {
            buffer.used = true;
            common.used.fetch_add(1, Ordering::Relaxed);
        }
        let share = common.limit / common.used.load(Ordering::Relaxed).max(1);
        let room = share.saturating_sub(common.writing.load(Ordering::Relaxed));
        let start = buffer.bytes.len();
        if start < room {
            buffer.bytes.reserve(LINE);
            write(&mut Line { bytes: &mut buffer.bytes, seconds: &mut buffer.seconds });
        }
        let end = buffer.bytes.len();
        if start >= room || end > room {
            buffer.bytes.truncate(start);
            common.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.lines += 1;
        let full = start < FULL && end >= FULL;
        if start == 0 || full {
            common.wake(full);
        }
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what is queued was written, at most `limit`. `false` when it took longer.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut flushes = locked(&self.0.flushes);
        flushes.0 += 1;
        let mine = flushes.0;
        self.0.wake(true);
        let done = self.0.flushed.wait_timeout_while(flushes, limit, |flushes| flushes.1 < mine);
        !done.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.wake(true);
    }
}

/// The open sinks of the process: each is opened once, however many listeners log to it.
#[derive(Debug)]
pub struct LogSinks {
    registry: Arc<Registry>,
    /// What is written whatever the filters say.
    pub raised: Arc<Raised>,
    /// Filters whose expression had no value.
    pub filter_errors: Arc<AtomicU64>,
    /// Logs that go to collectors.
    pub records: RecordLogs,
    open: Mutex<HashMap<AccessLogSink, Arc<LogSink>>>,
}

impl LogSinks {
    /// No sink is open yet; drops are reported in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        let filter_errors = Arc::default();
        registry.shared_counter(&families::ACCESS_LOG_FILTER_ERRORS, Vec::new(), &filter_errors);
        let records = RecordLogs::new(registry.clone());
        Self { registry, raised: Arc::default(), filter_errors, records, open: Mutex::default() }
    }

    /// The sink, opened if it was not.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread is left.
    pub fn get(&self, sink: &AccessLogSink) -> io::Result<Arc<LogSink>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = open.get(sink) {
            return Ok(there.clone());
        }
        let (started, path): (LogSink, &str) = match sink {
            AccessLogSink::Stdout => (LogSink::start(io::stdout())?, "/dev/stdout"),
            AccessLogSink::Stderr => (LogSink::start(io::stderr())?, "/dev/stderr"),
            AccessLogSink::File(path) => (LogSink::start(Output::at(path)?)?, path),
        };
        let labels = vec![("path", path.to_owned())];
        self.registry.shared_counter(&families::ACCESS_LOG_DROPPED, labels, &started.0.dropped);
        let started = Arc::new(started);
        open.insert(sink.clone(), started.clone());
        Ok(started)
    }

    /// Waits until what is queued was written, at most `limit` per sink: called before the process ends.
    pub fn flush(&self, limit: Duration) {
        let open: Vec<_> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for sink in open {
            if !sink.flush(limit) {
                tracing::warn!(?limit, "an access log did not take its last lines in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::prometheus;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A writer that blocks until it is let go, then passes on what it got.
    struct Gate {
        go: Receiver<()>,
        out: Sender<Vec<u8>>,
        opened: bool,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.opened {
                self.go.recv().map_err(io::Error::other)?;
                self.opened = true;
            }
            self.out.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn write(sink: &LogSink, worker: usize, line: &[u8]) {
        sink.write(worker, |into| into.bytes.extend_from_slice(line));
    }

    #[test]
    fn a_stuck_sink_drops_lines_counts_them_and_blocks_nobody() {
        let ((go, gate), (out, written)) = (channel(), channel());
        let sink = LogSink::with_limit(Gate { go: gate, out, opened: false }, 32).unwrap();
        for n in 0..100 {
            write(&sink, 0, format!("line {n}\n").as_bytes());
        }
        let dropped = sink.dropped();
        assert!((90..100).contains(&dropped), "{dropped}");
        go.send(()).unwrap();
        while !sink.flush(Duration::from_secs(10)) {}
        drop(sink);
        let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert_eq!(text.lines().count() as u64, 100 - dropped, "what was not dropped was written, once");
    }

    #[test]
    fn a_stuck_sink_holds_a_bounded_number_of_bytes_however_long_its_lines_are() {
        let ((go, gate), (out, written)) = (channel(), channel());
        let sink = LogSink::start(Gate { go: gate, out, opened: false }).unwrap();
        let line = 64 * 1024;
        let fit = (QUEUE_BYTES / line) as u64;
        for _ in 0..fit + 100 {
            write(&sink, 0, &vec![b'x'; line]);
        }
        assert_eq!(sink.dropped(), 100);
        go.send(()).unwrap();
        while !sink.flush(Duration::from_secs(10)) {}
        let before = sink.dropped();
        write(&sink, 0, &vec![b'y'; line]);
        while !sink.flush(Duration::from_secs(10)) {}
        assert_eq!(sink.dropped(), before, "room comes back when lines were written");
        drop(sink);
        let bytes: usize = written.iter().map(|piece| piece.len()).sum();
        assert_eq!(bytes as u64, (fit + 101 - before) * line as u64);
    }

    #[test]
    fn workers_share_what_may_wait_and_every_line_is_whole() {
        let (out, written) = channel();
        let (go, gate) = channel();
        go.send(()).unwrap();
        let sink = Arc::new(LogSink::start(Gate { go: gate, out, opened: false }).unwrap());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let sink = sink.clone();
                scope.spawn(move || {
                    for n in 0..20_000 {
                        write(&sink, worker, format!("worker {worker} line {n}\n").as_bytes());
                    }
                });
            }
        });
        assert!(sink.flush(Duration::from_secs(30)));
        let dropped = sink.dropped();
        drop(sink);
        let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
        assert_eq!(text.lines().count() as u64, 80_000 - dropped);
        let mut next = [0; 4];
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, worker, _, number] = words[..] else { panic!("{line}") };
            let (worker, number): (usize, u32) = (worker.parse().unwrap(), number.parse().unwrap());
            assert!(number >= next[worker], "{line}: after {}", next[worker]);
            next[worker] = number + 1;
        }
    }

    #[test]
    fn a_file_is_opened_once_and_appended_to() {
        let directory = std::env::temp_dir().join(format!("tulle-log-sink-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let registry = Arc::new(Registry::new());
        let sinks = LogSinks::new(registry.clone());
        let name = AccessLogSink::File(path.to_str().unwrap().into());
        let (one, two) = (sinks.get(&name).unwrap(), sinks.get(&name).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        write(&one, 3, b"after\n");
        sinks.flush(Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
        let text = prometheus::render(&registry, prometheus::Format::Text);
        assert!(text.contains("tulle_access_log_dropped_total{path="));
        assert!(sinks.get(&AccessLogSink::File("/nonexistent/access.log".into())).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
