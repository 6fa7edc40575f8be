//! `/debug/tap` and `/debug/top`: what passes now, line by line of JSON, until the reader goes away.
//!
//! A reader that is too slow loses lines, and is told how many; nothing is kept for it beyond a bounded queue.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use protos::observe::{Answer, Filter, HeaderFilter, Sum, Watch};
use runtime::DrainWatch;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};

use super::observe::{Observers, Selection, Watched, Who};
use super::query::Query;
use super::why;
use crate::store::Store;

/// How often a reader is told how it stands, and sums are told.
const BEAT: Duration = Duration::from_secs(1);
/// The most kinds of requests in one line of sums; more are summed up as one.
const MOST_KINDS: usize = 10_000;
const OTHERS: &str = "(others)";
/// What a query may say.
const KNOWN: [&str; 9] =
    ["workload", "direction", "method", "path", "authority", "status", "header", "peer", "sample"];

/// A body of any kind.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a query asks to watch.
///
/// # Errors
/// A part that is unknown or has no meaning, in words.
pub fn wanted(query: &Query, sums: bool) -> Result<(Selection, Watch), String> {
    if let Some(unknown) = query.unknown(&KNOWN) {
        return Err(format!("unknown {unknown:?}; there are {}", KNOWN.join(", ")));
    }
    let list = |name: &'static str| query.all(name).map(str::to_owned).collect();
    let headers = query.all("header").map(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, "*"));
        HeaderFilter { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() }
    });
    let percent = match query.get("sample") {
        "" => 100.0,
        text => text
            .parse::<f64>()
            .ok()
            .filter(|it| *it > 0.0 && *it <= 100.0)
            .ok_or_else(|| format!("sample {text:?}: a percentage above 0, at most 100"))?,
    };
    let filter = Filter {
        direction: query.get("direction").to_owned(),
        methods: list("method"),
        path: query.get("path").to_owned(),
        authority: query.get("authority").to_owned(),
        statuses: list("status"),
        headers: headers.collect(),
        peer: query.get("peer").to_owned(),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    let per_million = ((percent * 10_000.0) as u32).max(1);
    Ok((Selection::parse(query.get("workload")), Watch { filter: Some(filter), per_million, sums }))
}

/// One reader.
struct Reader {
    watched: Watched,
    store: Arc<Store>,
    beat: Interval,
    drain: DrainWatch,
    /// Stories that the proxies left out.
    dropped: u64,
    refusals: Vec<String>,
    /// The proxies that have said that they watch.
    joined: BTreeSet<Who>,
    sums: Option<BTreeMap<Key, Sum>>,
    since: Instant,
}

type Key = (Who, String, String, String, String);

/// The lines of a watch, from now until the reader goes away or the drain starts.
///
/// # Errors
/// There are too many watches.
pub fn body(
    observers: &Arc<Observers>,
    store: &Arc<Store>,
    drain: DrainWatch,
    (selection, wanted): (Selection, Watch),
) -> Result<Body, String> {
    let sums = wanted.sums.then(BTreeMap::new);
    let watched = observers.watch(selection, wanted)?;
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now(), BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reader = Reader {
        watched,
        store: store.clone(),
        beat,
        drain,
        dropped: 0,
        refusals: Vec::new(),
        joined: BTreeSet::new(),
        sums,
        since: Instant::now(),
    };
    let lines = stream::unfold(reader, |mut reader| async move {
        let lines = reader.next().await?;
        Some((Ok(Frame::data(Bytes::from(lines))), reader))
    });
    Ok(StreamBody::new(lines).boxed_unsync())
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        loop {
            let Reader { watched, beat, drain, .. } = self;
            let lines = tokio::select! {
                () = drain.started() => return None,
                answer = watched.answers.recv() => {
                    let (who, answer) = answer?;
                    self.take(&who, answer)
                }
                _ = beat.tick() => self.state(),
            };
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    /// The lines that an answer makes.
    fn take(&mut self, who: &Who, answer: Answer) -> String {
        self.dropped += answer.dropped;
        if answer.refusal.is_empty() {
            self.joined.insert(who.clone());
        } else {
            self.refusals.push(format!("{who}: {}", answer.refusal));
        }
        if let Some(sums) = &mut self.sums {
            for sum in answer.sums {
                add(sums, who, sum);
            }
        }
        let world = self.store.world();
        let hops = answer.stories.into_iter().map(|story| {
            let request_id = story.request_id.clone();
            let hop = why::hop(&world, who.to_string(), story);
            line(&Told { request_id, hop })
        });
        hops.collect()
    }

    /// How the reader stands: which proxies take part, what was lost; the sums.
    fn state(&mut self) -> String {
        let dropped = std::mem::take(&mut self.dropped) + self.watched.take_dropped();
        let there = self.watched.proxies();
        self.joined.retain(|who| there.contains(who));
        let mut state = json!({
            "proxies": there.len(),
            "watching": self.joined.len(),
            "dropped": dropped,
            "refused": std::mem::take(&mut self.refusals),
        });
        if let (Some(sums), Some(fields)) = (&mut self.sums, state.as_object_mut()) {
            let rows: Vec<Value> = std::mem::take(sums).into_iter().map(row).collect();
            fields.insert("seconds".to_owned(), json!(self.since.elapsed().as_secs_f64()));
            fields.insert("sums".to_owned(), Value::Array(rows));
            self.since = Instant::now();
        }
        line(&state)
    }
}

#[derive(Serialize)]
struct Told {
    request_id: String,
    #[serde(flatten)]
    hop: why::Hop,
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).map(|text| text + "\n").unwrap_or_default()
}

fn add(sums: &mut BTreeMap<Key, Sum>, who: &Who, sum: Sum) {
    let mut key =
        (who.clone(), sum.direction.clone(), sum.service.clone(), sum.route.clone(), sum.peer.clone());
    if sums.len() >= MOST_KINDS && !sums.contains_key(&key) {
        let others = || OTHERS.to_owned();
        let nobody = Who { namespace: String::new(), workload: others() };
        key = (nobody, sum.direction.clone(), others(), others(), others());
    }
    let mine = sums.entry(key).or_default();
    mine.requests += sum.requests;
    mine.failures += sum.failures;
    for (slot, count) in sum.slots.into_iter().zip(sum.counts) {
        match mine.slots.binary_search(&slot) {
            Ok(at) => mine.counts[at] += count,
            Err(at) => {
                mine.slots.insert(at, slot);
                mine.counts.insert(at, count);
            }
        }
    }
}

fn row(((who, direction, service, route, peer), sum): (Key, Sum)) -> Value {
    json!({
        "proxy": who.to_string(),
        "direction": direction,
        "service": service,
        "route": route,
        "peer": peer,
        "requests": sum.requests,
        "failures": sum.failures,
        "slots": sum.slots,
        "counts": sum.counts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_watched() {
        let query = Query::parse(Some(
            "workload=production/a&method=GET&status=5xx&status=404&header=X-User:%20ann&header=x-b&sample=2.5",
        ));
        let (selection, watch) = wanted(&query, false).unwrap();
        assert_eq!(selection, Selection { namespace: "production".to_owned(), workload: "a".to_owned() });
        assert_eq!(watch.per_million, 25_000);
        let filter = watch.filter.unwrap();
        assert_eq!((filter.methods.as_slice(), filter.statuses.len()), (["GET".to_owned()].as_slice(), 2));
        assert_eq!((filter.headers[0].name.as_str(), filter.headers[0].value.as_str()), ("x-user", "ann"));
        assert_eq!((filter.headers[1].name.as_str(), filter.headers[1].value.as_str()), ("x-b", "*"));
        for wrong in ["pth=/a", "sample=0", "sample=101", "sample=x"] {
            assert!(wanted(&Query::parse(Some(wrong)), false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sums_of_one_kind_are_one() {
        let mut sums = BTreeMap::new();
        let who = Who { namespace: "n".to_owned(), workload: "w".to_owned() };
        let sum = |slots: &[u32]| Sum {
            service: "s".to_owned(),
            requests: 2,
            failures: 1,
            slots: slots.to_vec(),
            counts: vec![1; slots.len()],
            ..Sum::default()
        };
        add(&mut sums, &who, sum(&[3, 9]));
        add(&mut sums, &who, sum(&[1, 9]));
        let (_, all) = sums.pop_first().unwrap();
        assert_eq!((all.requests, all.failures), (4, 2));
        assert_eq!((all.slots, all.counts), (vec![1, 3, 9], vec![1, 1, 2]));
    }
}
