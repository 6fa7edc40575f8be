//! What the end-to-end tests share: real processes, raw HTTP, waiting for states.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

pub mod chaos;
pub mod differential;
pub mod grpc;
pub mod load;
pub mod mixed;
pub mod pairs;
pub mod traces;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a state may take to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Names the folder of the binaries under test where they are not beside the tests, as the soak's release binaries.
const BINARIES: &str = "TULLE_BINARIES";

/// Path of one of our binaries, which `cargo build --bins` has put beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = || own.ancestors().nth(2).unwrap().to_owned();
    let path = std::env::var_os(BINARIES).map_or_else(beside, PathBuf::from).join(name);
    assert!(path.is_file(), "{} is missing; run `cargo build --bins` first", path.display());
    path
}

/// A running process with a log file. Killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one of our binaries; standard output and error go to a file in `folder`.
    pub fn start(name: &str, words: &[&str], folder: &Path) -> Process {
        Process::start_program(&binary(name), words, folder)
    }

    /// Starts any program; standard output and error go to a file in `folder`.
    pub fn start_program(program: &Path, words: &[&str], folder: &Path) -> Process {
        Process::start_command(Command::new(program).args(words), folder)
    }

    /// Starts a command; standard output and error go to a file in `folder`.
    pub fn start_command(command: &mut Command, folder: &Path) -> Process {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap().display();
        let log = folder.join(format!("{name}-{}.log", std::process::id()));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Process { child, log }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// The same as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }

    /// Waits until its admin address says that it is ready; tells why it is not.
    pub fn ready(&mut self, admin: SocketAddr) {
        let started = Instant::now();
        loop {
            let page = get(admin, "/ready").unwrap_or_default();
            if page.starts_with("HTTP/1.1 200") {
                return;
            }
            let ended = self.ended();
            let waiting = started.elapsed() < PATIENCE && ended.is_none();
            assert!(waiting, "not ready at {admin} ({ended:?}): {page}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until its log has a line with all of these words, and returns that line.
    pub fn says(&mut self, words: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                return line.to_owned();
            }
            assert!(started.elapsed() < PATIENCE, "no line with {words:?} in:\n{log}");
            if let Some(status) = self.ended() {
                panic!("ended with {status} before it said {words:?}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// Asks until there is an answer, for at most so long.
pub fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends raw bytes on a connection of their own and reads until the peer closes. `None`: nobody listens.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The peer may refuse while we write; what it answered is what counts.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(answer)
}

/// GET, answered whole as text (head and body). `None`: nobody listens.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    exchange(address, request.as_bytes()).map(|answer| String::from_utf8_lossy(&answer).into_owned())
}

/// Ports that are given out: below those that the kernel gives to outgoing connections and to whoever asks for any, so
/// that nobody takes one between here and its use; above Istio's.
const PORTS: std::ops::Range<u16> = 16_000..32_000;
/// How many were given out by this process.
static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);

/// An address on which nobody listens now. None is given out twice.
pub fn free_address() -> SocketAddr {
    let size = PORTS.end - PORTS.start;
    // Processes of tests that run side by side begin at different places.
    let first = u16::try_from(std::process::id().wrapping_mul(397) % u32::from(size)).unwrap();
    loop {
        let number = GIVEN_OUT.fetch_add(1, Ordering::Relaxed);
        assert!(number < size, "all ports were given out");
        let port = PORTS.start + (u32::from(first) + u32::from(number)) as u16 % size;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// The repository's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
