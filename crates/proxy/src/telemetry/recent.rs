//! What is kept of requests so that people can ask about them afterwards: the stories of recent failures, of slow
//! requests and of a sample of all, and the fact that a request passed here.
//!
//! Every worker keeps its own; its lock is only ever shared with somebody who asks. Both rings are bounded, and stories
//! own their text, so that none of them holds a connection's buffer.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base::Reason;

use super::attempts::{AttemptRecord, Parts};
use super::flags::ResponseFlags;
use super::labels::Reporter;
use super::record::{RequestRecord, Told};

/// Stories kept per worker.
pub const STORIES: usize = 256;
/// Requests per worker of which it is known that they passed.
pub const SEEN: usize = 2048;
/// A request that takes longer is kept.
pub const SLOW: Duration = Duration::from_secs(1);
/// One in so many requests is kept, chosen by its id, so that every proxy on its way keeps the same ones.
pub const SAMPLE: u64 = 100;
/// Bytes kept of each text that a client sent.
const LONGEST: usize = 256;

/// One request that was kept.
#[derive(Debug, Clone)]
pub struct Story {
    /// The `x-request-id`.
    pub request_id: Box<str>,
    /// When it came.
    pub start_time: SystemTime,
    /// Which side of a call this was.
    pub reporter: Reporter,
    /// Method.
    pub method: http::Method,
    /// Host, as the client asked for it.
    pub authority: Box<str>,
    /// Path without query.
    pub path: Box<str>,
    /// Protocol.
    pub protocol: &'static str,
    /// Status that the client got; 0: none.
    pub status: u16,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Envoy's response code details.
    pub details: Box<str>,
    /// Why no connection to the upstream could be made.
    pub transport_failure: Box<str>,
    /// The route's origin.
    pub route: Option<Arc<str>>,
    /// Cluster.
    pub cluster: Option<Arc<str>>,
    /// The upstream host that was tried last.
    pub upstream: Option<Arc<str>>,
    /// Tries made.
    pub attempts: u32,
    /// The caller's address.
    pub peer_address: std::net::SocketAddr,
    /// The caller's verified SPIFFE id, else `unknown`.
    pub peer: Box<str>,
    /// The address that the caller connected to.
    pub local_address: std::net::SocketAddr,
    /// Why it ended other than well.
    pub reason: Option<Reason>,
    /// What another proxy said about it.
    pub told: Option<Box<Told>>,
    /// Where the time of each try went.
    pub tries: Box<[Tried]>,
    /// Since it came: the request's last byte was read.
    pub request_read: Option<Duration>,
    /// Since it came: the last try was sent.
    pub sent: Option<Duration>,
    /// Since it came: the response's head came.
    pub answered: Option<Duration>,
    /// Since it came: the end.
    pub ended: Duration,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
}

/// One try of a kept request.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The host's address.
    pub host: Arc<str>,
    /// Our address of the connection.
    pub local: Option<std::net::SocketAddr>,
    /// When it began, since the request came.
    pub began: Duration,
    /// The parts of its time.
    pub parts: Parts,
    /// The status of its answer; 0: none.
    pub status: u16,
    /// Why it failed.
    pub reason: Option<Reason>,
}

/// What a request says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The `x-request-id`.
    pub request_id: &'a [u8],
    /// Which side of a call this is.
    pub reporter: Reporter,
    /// Method.
    pub method: &'a http::Method,
    /// Host.
    pub authority: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
    /// The caller's address.
    pub peer_address: std::net::SocketAddr,
    /// The caller's verified SPIFFE id, else `unknown`.
    pub peer: &'a str,
    /// The address that the caller connected to.
    pub local_address: std::net::SocketAddr,
}

/// What one worker has kept.
#[derive(Debug)]
pub struct Recent {
    hasher: RandomState,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the hashes of their ids.
    stories: VecDeque<(u64, Story)>,
    /// Hashes of ids; empty until the first request.
    seen: Vec<u64>,
    next: usize,
}

/// The answer to a question about one id.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The request passed here.
    pub seen: bool,
    /// Its stories, in the order in which they ended.
    pub stories: Vec<Story>,
}

impl Recent {
    fn new(hasher: RandomState) -> Self {
        Recent { hasher, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere leaves rings that are still rings.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request that has ended.
    pub fn note(&self, asked: &Asked<'_>, record: &RequestRecord) {
        if asked.request_id.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(asked.request_id);
        let ended = record.end.unwrap_or(record.begun).saturating_duration_since(record.begun);
        let story = worth_keeping(asked.request_id, record, ended).then(|| Story::of(asked, record));
        let mut kept = self.kept();
        if kept.seen.is_empty() {
            kept.seen = vec![0; SEEN];
        }
        let at = kept.next;
        kept.seen[at] = hash;
        kept.next = (at + 1) % SEEN;
        if let Some(story) = story {
            if kept.stories.len() == STORIES {
                kept.stories.pop_front();
            }
            kept.stories.push_back((hash, story));
        }
    }

    fn find(&self, request_id: &str, found: &mut Found) {
        let hash = self.hasher.hash_one(request_id.as_bytes());
        let kept = self.kept();
        found.seen |= kept.seen.contains(&hash);
        // Ids are kept in part; the hash is that of the whole.
        found.stories.extend(kept.stories.iter().filter(|it| it.0 == hash).map(|it| it.1.clone()));
    }
}

/// What all workers have kept.
#[derive(Debug, Default)]
pub struct RecentRequests {
    hasher: RandomState,
    workers: Mutex<Vec<Arc<Recent>>>,
}

impl RecentRequests {
    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Recent>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ring for one more worker.
    pub fn worker(&self) -> Arc<Recent> {
        let recent = Arc::new(Recent::new(self.hasher.clone()));
        self.workers().push(recent.clone());
        recent
    }

    /// What is known about the requests with an id.
    pub fn find(&self, request_id: &str) -> Found {
        let mut found = Found::default();
        let workers = self.workers().clone();
        for worker in workers {
            worker.find(request_id, &mut found);
        }
        found.stories.sort_by_key(|story| story.start_time + story.ended);
        found
    }
}

fn worth_keeping(request_id: &[u8], record: &RequestRecord, ended: Duration) -> bool {
    record.reason.is_some()
        || record.flags != ResponseFlags::NONE
        || record.status == 0
        || record.status == 403
        || record.status >= 500
        || ended >= SLOW
        || sampled(request_id)
}

/// Whether a request belongs to the sample: by its id alone (FNV-1a), so that all proxies agree.
fn sampled(request_id: &[u8]) -> bool {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in request_id {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.is_multiple_of(SAMPLE)
}

impl Story {
    /// What is told of a request that has ended.
    pub fn of(asked: &Asked<'_>, record: &RequestRecord) -> Story {
        let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(record.begun));
        let end = record.end.unwrap_or(record.begun);
        let path = asked.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let tried = |attempt: &AttemptRecord| Tried {
            host: attempt.host.clone(),
            local: attempt.local,
            began: attempt.began.saturating_duration_since(record.begun),
            parts: attempt.parts(end),
            status: attempt.status,
            reason: attempt.reason,
        };
        Story {
            request_id: cut(asked.request_id),
            start_time: record.start_time,
            reporter: asked.reporter,
            method: asked.method.clone(),
            authority: cut(asked.authority),
            path: cut(path),
            protocol: record.protocol,
            status: record.status,
            flags: record.flags,
            details: cut(record.details.as_bytes()),
            transport_failure: cut(record.transport_failure.as_bytes()),
            route: record.route_origin.clone(),
            cluster: record.upstream_cluster.clone(),
            upstream: record.upstream_host.clone(),
            attempts: record.attempts,
            peer_address: asked.peer_address,
            peer: cut(asked.peer.as_bytes()),
            request_read: since(record.request_end),
            sent: since(record.sent),
            answered: since(record.response_begin),
            local_address: asked.local_address,
            reason: record.reason,
            told: record.told.clone(),
            tries: record.timeline.iter().map(tried).collect(),
            ended: end.saturating_duration_since(record.begun),
            request_bytes: record.request_body_bytes,
            response_bytes: record.response_body_bytes,
        }
    }
}

/// At most [`LONGEST`] bytes as text that is safe to print: what is no printable character is escaped.
fn cut(bytes: &[u8]) -> Box<str> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(|it| it.is_control()) { text.escape_debug().to_string().into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request_id: &str) -> Asked<'_> {
        Asked {
            request_id: request_id.as_bytes(),
            reporter: Reporter::Source,
            method: &http::Method::GET,
            authority: b"payment",
            target: b"/pay?card=4711",
            peer_address: ([127, 0, 0, 1], 1).into(),
            peer: "unknown",
            local_address: ([127, 0, 0, 1], 2).into(),
        }
    }

    fn record(status: u16) -> RequestRecord {
        let mut record = RequestRecord::new(SystemTime::now(), Instant::now(), "HTTP/1.1");
        record.status = status;
        record.end = Some(record.begun);
        record
    }

    /// An id that the sample does not hold.
    fn plain_id(number: usize) -> String {
        let mut id = format!("id-{number}");
        while sampled(id.as_bytes()) {
            id.push('x');
        }
        id
    }

    #[test]
    fn failures_and_slow_requests_are_kept_and_the_rest_is_known_to_have_passed() {
        let all = RecentRequests::default();
        let worker = all.worker();
        let (good, bad, slow) = (plain_id(1), plain_id(2), plain_id(3));
        worker.note(&asked(&good), &record(200));
        worker.note(&asked(&bad), &record(503));
        let mut late = record(200);
        late.end = Some(late.begun + SLOW);
        worker.note(&asked(&slow), &late);
        let found = |id: &str| all.find(id);
        assert!(found(&good).seen && found(&good).stories.is_empty());
        assert_eq!(found(&bad).stories[0].status, 503);
        assert_eq!(&*found(&bad).stories[0].path, "/pay", "the query is nobody's business");
        assert_eq!(found(&slow).stories[0].ended, SLOW);
        assert!(!found("id-4").seen && found("id-4").stories.is_empty());
    }

    #[test]
    fn the_sample_is_the_same_in_every_proxy() {
        let taken = |_: usize| (0..10_000).filter(|it| sampled(format!("id-{it}").as_bytes())).count();
        assert_eq!(taken(0), taken(1));
        assert!((50..200).contains(&taken(0)), "{}", taken(0));
    }

    #[test]
    fn both_rings_are_bounded() {
        let all = RecentRequests::default();
        let worker = all.worker();
        for number in 0..SEEN + 10 {
            worker.note(&asked(&format!("id-{number}")), &record(500));
        }
        assert!(!all.find("id-9").seen && all.find("id-10").seen);
        assert_eq!(worker.kept().stories.len(), STORIES);
        assert!(all.find(&format!("id-{}", SEEN + 9)).stories.len() == 1);
        let long = "x".repeat(100_000);
        worker.note(&asked(&long), &record(500));
        assert_eq!(all.find(&long).stories[0].request_id.len(), LONGEST);
        assert!(all.find(&"x".repeat(99_999)).stories.is_empty(), "another id that begins so");
    }

    #[test]
    fn what_a_client_sent_cannot_act_on_a_terminal() {
        assert_eq!(&*cut(b"a\x1b[2J\r\n\0\xff"), "a\\u{1b}[2J\\r\\n\\0\u{fffd}");
    }
}
