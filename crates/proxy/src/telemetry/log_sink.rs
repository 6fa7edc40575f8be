//! Where access log lines go: a bounded queue per sink and one thread that writes. A stuck sink costs lines, which are
//! counted, and never time of a request.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::model::AccessLogSink;

use super::families;
use super::raised::Raised;
use super::registry::Registry;

/// Lines that may wait for a slow sink.
pub const QUEUE: usize = 8_192;
/// Bytes of lines that may wait: a client decides how long a line is.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Lines are written together up to this many bytes.
const BATCH: usize = 64 * 1024;

enum Message {
    Line(Vec<u8>),
    /// Everything before was written.
    Flush(SyncSender<()>),
}

/// One open sink.
#[derive(Debug)]
pub struct LogSink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// Bytes of the lines that are not written yet.
    waiting: Arc<AtomicUsize>,
}

impl LogSink {
    /// A sink that writes into `writer` from a thread of its own.
    ///
    /// # Errors
    /// The operating system has no thread left.
    pub fn start(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_queue(writer, QUEUE)
    }

    /// The same with a queue of that many lines.
    fn with_queue(writer: impl Write + Send + 'static, lines: usize) -> io::Result<Self> {
        let (queue, receiver) = sync_channel(lines);
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (failed, left) = (dropped.clone(), waiting.clone());
        // The thread ends when the last sender is gone.
        runtime::thread::spawn("access-log", move || write_all(receiver, writer, &failed, &left))?;
        Ok(Self { queue, dropped, waiting })
    }

    /// Queues a line; when the queue is full the line is dropped and counted.
    pub fn write(&self, line: Vec<u8>) {
        let length = line.len();
        // Reserve, then look: workers write at the same time.
        let fits = self.waiting.fetch_add(length, Ordering::Relaxed).saturating_add(length) <= QUEUE_BYTES;
        if !fits || self.queue.try_send(Message::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what is queued was written, at most `limit`. `false` when it took longer.
    pub fn flush(&self, limit: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.queue.try_send(Message::Flush(done)).is_ok() && wait.recv_timeout(limit).is_ok()
    }
}

fn write_all(
    receiver: Receiver<Message>,
    mut writer: impl Write,
    failed: &AtomicU64,
    waiting_bytes: &AtomicUsize,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = 0;
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let mut waiting = None;
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Flush(done) => waiting = Some(done),
            }
            next = if batch.len() < BATCH && waiting.is_none() { receiver.try_recv().ok() } else { None };
        }
        if writer.write_all(&batch).and_then(|()| writer.flush()).is_err() {
            failed.fetch_add(lines, Ordering::Relaxed);
        }
        waiting_bytes.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
        lines = 0;
        if let Some(done) = waiting {
            // Whoever asked may have stopped waiting.
            let _ = done.try_send(());
        }
    }
}

/// A file that lines go to. Opening a FIFO waits for its reader, so that only the sink's own thread may do it.
#[derive(Debug)]
enum Output {
    Open(File),
    Later(Arc<str>),
}

impl Output {
    fn open(path: &str) -> io::Result<Output> {
        OpenOptions::new().append(true).create(true).open(path).map(Output::Open)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Output::Later(path) = self {
            *self = Output::open(path)?;
        }
        match self {
            Output::Open(file) => file.write(bytes),
            Output::Later(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Open(file) => file.flush(),
            Output::Later(_) => Ok(()),
        }
    }
}

/// The open sinks of the process: each is opened once, however many listeners log to it.
#[derive(Debug)]
pub struct LogSinks {
    registry: Arc<Registry>,
    /// What is written whatever the filters say.
    pub raised: Arc<Raised>,
    open: Mutex<HashMap<AccessLogSink, Arc<LogSink>>>,
}

impl LogSinks {
    /// No sink is open yet; drops are reported in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, raised: Arc::default(), open: Mutex::default() }
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
            AccessLogSink::File(path) => {
                let fifo = std::fs::metadata(&**path).is_ok_and(|it| it.file_type().is_fifo());
                let writer = if fifo { Output::Later(path.clone()) } else { Output::open(path)? };
                (LogSink::start(writer)?, path)
            }
        };
        let labels = vec![("path", path.to_owned())];
        self.registry.shared_counter(&families::ACCESS_LOG_DROPPED, labels, &started.dropped);
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
    use std::sync::mpsc::{Sender, channel};

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

    #[test]
    fn a_stuck_sink_drops_lines_counts_them_and_blocks_nobody() {
        let ((go, gate), (out, written)) = (channel(), channel());
        let sink = LogSink::with_queue(Gate { go: gate, out, opened: false }, 4).unwrap();
        for n in 0..100 {
            sink.write(format!("line {n}\n").into_bytes());
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
            sink.write(vec![b'x'; line]);
        }
        assert_eq!(sink.dropped(), 100);
        go.send(()).unwrap();
        while !sink.flush(Duration::from_secs(10)) {}
        let before = sink.dropped();
        sink.write(vec![b'y'; line]);
        while !sink.flush(Duration::from_secs(10)) {}
        assert_eq!(sink.dropped(), before, "room comes back when lines were written");
        drop(sink);
        let bytes: usize = written.iter().map(|piece| piece.len()).sum();
        assert_eq!(bytes as u64, (fit + 101 - before) * line as u64);
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
        one.write(b"after\n".to_vec());
        sinks.flush(Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
        let text = prometheus::render(&registry, prometheus::Format::Text);
        assert!(text.contains("tulle_access_log_dropped_total{path="));
        assert!(sinks.get(&AccessLogSink::File("/nonexistent/access.log".into())).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
