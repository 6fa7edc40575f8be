//! A load that counts: requests at a fixed rate, each with a name of its own, whatever the answers do; and the programs'
//! records of what they executed. Nothing lost, nothing done twice, is then a matter of counting on both sides.

pub mod client;
pub mod h2;
pub mod records;
pub mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::{Client, Sent};

/// How the callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, a connection for each caller.
    Http1,
    /// HTTP/2 with prior knowledge; several callers share a connection.
    Http2,
    /// gRPC over HTTP/2: a call with so many messages, one after the other. One is a unary call.
    Grpc {
        /// Messages of a call.
        messages: u32,
    },
    /// A WebSocket with so many messages, one after the other.
    WebSocket {
        /// Messages of a session.
        messages: u32,
    },
}

/// Pause of a stream or a session between two messages.
pub const BETWEEN_MESSAGES: Duration = Duration::from_millis(50);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How it is sent.
    pub speaks: Speaks,
    /// Where to.
    pub address: SocketAddr,
    /// Path, or a URL for an HTTP proxy.
    pub target: String,
    /// The `Host` header.
    pub host: String,
    /// Further header lines, each with its line end.
    pub headers: String,
    /// Requests a second; sent on time, also when answers are late.
    pub rate: u64,
    /// Requests that can be under way at once.
    pub callers: usize,
    /// Requests on one connection before a new one is made; 1 is a connection each.
    pub per_connection: u32,
    /// Every so manieth request is a GET, the others are POSTs. 1: GETs only; 0: POSTs only.
    pub get_every: u64,
    /// A request without an answer for so long has failed.
    pub patience: Duration,
}

impl Plan {
    /// POSTs and GETs in turn, on connections that are kept for 100 requests.
    pub fn new(address: SocketAddr, host: &str, rate: u64) -> Plan {
        Plan {
            speaks: Speaks::Http1,
            address,
            target: "/".to_owned(),
            host: host.to_owned(),
            headers: String::new(),
            rate,
            callers: 64,
            per_connection: 100,
            get_every: 2,
            patience: Duration::from_secs(20),
        }
    }
}

/// How one request went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its name; the first letter tells the method.
    pub id: String,
    /// Status of the answer, 0 for none.
    pub status: u16,
    /// What went wrong, or the start of the answer's body.
    pub detail: String,
    /// From the start of the load to the sending.
    pub at: Duration,
    /// From the sending to the end.
    pub took: Duration,
}

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    callers: Vec<JoinHandle<()>>,
    started: Instant,
}

impl Load {
    /// Starts sending; every name begins with `run` after its method's letter.
    pub fn start(plan: &Plan, run: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (next, outcomes) = (Arc::new(AtomicU64::new(0)), Arc::<Mutex<Vec<Outcome>>>::default());
        let started = Instant::now();
        let schedule =
            Schedule { run: run.to_owned(), started, stop: stop.clone(), next, outcomes: outcomes.clone() };
        let threads = match plan.speaks {
            Speaks::Http2 | Speaks::Grpc { .. } => 1,
            Speaks::Http1 | Speaks::WebSocket { .. } => plan.callers,
        };
        let caller = |_| {
            let (plan, schedule) = (plan.clone(), schedule.clone());
            std::thread::spawn(move || match plan.speaks {
                Speaks::Http1 => {
                    let mut client = Client::new(&plan);
                    schedule.keep(&plan, |method, id| client.send(method, id));
                }
                Speaks::WebSocket { messages } => {
                    schedule.keep(&plan, |_, id| socket::session(&plan, id, messages));
                }
                Speaks::Http2 | Speaks::Grpc { .. } => h2::run(&plan, &schedule),
            })
        };
        let callers = (0..threads).map(caller).collect();
        Load { stop, outcomes, callers, started }
    }

    /// Requests that have ended so far.
    pub fn ended(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }

    /// Waits until so many more requests have ended: the load is felt, whatever the clock says.
    pub fn more(&self, requests: usize) {
        let goal = self.ended() + requests;
        crate::until_within(Duration::from_secs(120), "more requests have ended", || {
            (self.ended() >= goal).then_some(())
        });
    }

    /// Sends nothing more, waits for what is under way, and tells how it went.
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        let outcomes = std::mem::take(&mut *self.outcomes.lock().unwrap());
        Report { outcomes, took: self.started.elapsed() }
    }
}

/// Says who sends what when, and takes down how it went.
#[derive(Debug, Clone)]
pub struct Schedule {
    run: String,
    started: Instant,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

/// A request that is to be sent.
pub struct Turn {
    /// Its place in the load.
    pub number: u64,
    /// When it is to be sent.
    pub due: Instant,
}

impl Schedule {
    /// The next request.
    pub fn turn(&self, plan: &Plan) -> Turn {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Turn { number, due: self.started + Duration::from_nanos(number * 1_000_000_000 / plan.rate) }
    }

    /// Whether nothing more is to be sent.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Method and name of a request.
    pub fn name(&self, plan: &Plan, number: u64) -> (&'static str, String) {
        let get = plan.get_every > 0 && number.is_multiple_of(plan.get_every);
        let (method, letter) = if get { ("GET", 'G') } else { ("POST", 'P') };
        (method, format!("{letter}{}-{number}", self.run))
    }

    /// Takes down how a request went that was sent at `begun`.
    pub fn ended(&self, id: String, begun: Instant, sent: Sent) {
        let (at, took) = (begun.duration_since(self.started), begun.elapsed());
        let Sent { status, detail } = sent;
        self.outcomes.lock().unwrap().push(Outcome { id, status, detail, at, took });
    }

    fn keep(&self, plan: &Plan, mut send: impl FnMut(&'static str, &str) -> Sent) {
        loop {
            let Turn { number, due } = self.turn(plan);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.is_over() {
                return;
            }
            let (method, id) = self.name(plan, number);
            let begun = Instant::now();
            let sent = send(method, &id);
            self.ended(id, begun, sent);
        }
    }
}

/// How all of them went.
#[derive(Debug)]
pub struct Report {
    /// One for each request that was sent.
    pub outcomes: Vec<Outcome>,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Report {
    /// Answers by status.
    pub fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        self.outcomes.iter().for_each(|outcome| *statuses.entry(outcome.status).or_default() += 1);
        statuses
    }

    /// Requests without an answer of 200.
    pub fn failed(&self) -> Vec<&Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.status != 200).collect()
    }

    /// Requests a second that were sent.
    pub fn rate(&self) -> f64 {
        self.outcomes.len() as f64 / self.took.as_secs_f64()
    }

    /// The slowest of the fastest `share` of the answers, in milliseconds.
    pub fn latency(&self, share: f64) -> f64 {
        let mut all: Vec<Duration> = self.outcomes.iter().map(|outcome| outcome.took).collect();
        all.sort_unstable();
        let at = ((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1));
        all.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }

    /// The numbers of a load: how many, how fast, how they ended, how long they took.
    pub fn numbers(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.outcomes.len(), "seconds": self.took.as_secs(), "rate": self.rate().round(),
            "statuses": self.statuses(), "p50_ms": rounded(self.latency(0.5)), "p99_ms": rounded(self.latency(0.99)),
            "p999_ms": rounded(self.latency(0.999)), "max_ms": rounded(self.latency(1.0)),
        })
    }

    /// Every request was answered with 200.
    pub fn assert_nothing_failed(&self) {
        let failed = self.failed();
        let shown: Vec<_> = failed.iter().take(5).collect();
        assert!(failed.is_empty(), "{} of {} failed: {shown:#?}", failed.len(), self.outcomes.len());
    }
}

/// With one digit after the point.
pub fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
