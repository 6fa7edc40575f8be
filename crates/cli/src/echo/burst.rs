//! `GET /burst?count=N&concurrency=C&via=vip|proxy&path=/pay&header=name:value`: calls the other service N times and
//! streams the tally as one JSON object a line, the last one with `"done": true`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use runtime::Tasks;
use serde::{Deserialize, Serialize};

use super::{EchoArguments, ReplyBody, text};
use crate::Error;
use crate::client::{Answer, Connection, request};

/// Most requests of one burst, and most of them at once.
const MAX_COUNT: u64 = 10_000_000;
const MAX_CONCURRENCY: u64 = 256;
/// How often a line is written.
const TICK: Duration = Duration::from_millis(100);

/// What is called: `http://HOST[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host and port as they go into the `Host` header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let uri: hyper::Uri = text.parse().map_err(|error| format!("{text}: {error}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => Ok(Url {
                authority: authority.to_string(),
                path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            }),
            _ => Err(format!("{text} is not of the form http://HOST:PORT/PATH")),
        }
    }
}

/// Reads `http://ADDRESS:PORT` or `ADDRESS:PORT`.
pub fn proxy_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    bare.parse().map_err(|error| format!("{text}: {error}; expected http://IP:PORT"))
}

/// How the calls went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that ended, one way or the other.
    pub sent: u64,
    /// Calls without an answer, or with a 5xx.
    pub failed: u64,
    /// Answers by status code; `0` for none.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers with status 200 by the version of whoever answered.
    pub versions: BTreeMap<String, u64>,
    /// The body of the first answer with status 200.
    pub first_answer: Option<String>,
    /// The first failure, in words.
    pub first_failure: Option<String>,
    /// Seconds since the start.
    pub seconds: f64,
    /// Whether this is the last line.
    pub done: bool,
}

impl Tally {
    fn count(&mut self, result: Result<Answer, Error>) {
        self.sent += 1;
        let (status, failure) = match result {
            Ok(answer) => {
                if answer.status == 200 {
                    self.first_answer.get_or_insert_with(|| answer.text().chars().take(8192).collect());
                    *self.versions.entry(answer.header("x-echo-version").to_owned()).or_default() += 1;
                }
                let failed = answer.status.is_server_error();
                (answer.status.as_u16(), failed.then(|| format!("{}: {}", answer.status, answer.text())))
            }
            Err(error) => (0, Some(error.to_string())),
        };
        *self.statuses.entry(status).or_default() += 1;
        if let Some(failure) = failure {
            self.failed += 1;
            self.first_failure.get_or_insert(failure);
        }
    }

    /// Share of the 200s that a version answered, 0 to 1; 0 where there are none.
    pub fn share(&self, version: &str) -> f64 {
        let total: u64 = self.versions.values().sum();
        let part = self.versions.get(version).copied().unwrap_or_default();
        if total == 0 { 0.0 } else { part as f64 / total as f64 }
    }
}

struct Plan {
    address: SocketAddr,
    target: String,
    host: String,
    method: String,
    headers: Vec<(String, String)>,
    count: u64,
    concurrency: u64,
}

/// Answers a `/burst` request.
pub(super) fn serve(
    request: &Request<Incoming>,
    arguments: &EchoArguments,
    tasks: &Tasks,
) -> Response<ReplyBody> {
    match plan(request.uri().query().unwrap_or_default(), arguments) {
        Ok(plan) => stream_tally(plan, tasks),
        Err(reason) => text(400, format!("{reason}\n")),
    }
}

fn plan(query: &str, arguments: &EchoArguments) -> Result<Plan, String> {
    let url = arguments.call.as_ref().ok_or("this service was started without --call")?;
    let mut plan = Plan {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        target: String::new(),
        host: url.authority.clone(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        count: 1,
        concurrency: 1,
    };
    let (mut path, mut via) = (url.path.clone(), "vip");
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let number = || value.parse::<u64>().map_err(|error| format!("{name}={value}: {error}"));
        match name {
            "count" => plan.count = number()?.min(MAX_COUNT),
            "concurrency" => plan.concurrency = number()?.clamp(1, MAX_CONCURRENCY),
            "via" => via = value,
            "path" => path = value.to_owned(),
            "method" => plan.method = value.to_owned(),
            "header" => {
                let (header, value) =
                    value.split_once(':').ok_or_else(|| format!("header={value}: no colon"))?;
                plan.headers.push((header.to_owned(), value.to_owned()));
            }
            other => return Err(format!("unknown parameter {other}")),
        }
    }
    (plan.address, plan.target) = match via {
        "vip" => (arguments.call_address.ok_or("this service was started without --call-address")?, path),
        "proxy" => {
            let proxy = arguments.proxy.ok_or("this service was started without --proxy")?;
            (proxy, format!("http://{}{path}", url.authority))
        }
        other => return Err(format!("via={other}: expected vip or proxy")),
    };
    Ok(plan)
}

struct Progress {
    tally: Tally,
    left: u64,
    busy: u64,
    started: Instant,
}

fn stream_tally(plan: Plan, tasks: &Tasks) -> Response<ReplyBody> {
    let concurrency = plan.concurrency.min(plan.count.max(1));
    let progress = Rc::new(RefCell::new(Progress {
        tally: Tally::default(),
        left: plan.count,
        busy: concurrency,
        started: Instant::now(),
    }));
    let plan = Rc::new(plan);
    for _ in 0..concurrency {
        let (plan, jobs) = (plan.clone(), tasks.clone());
        // The callers stop when the reader of the tally is gone.
        let weak = Rc::downgrade(&progress);
        tasks.job_local("burst caller", async move {
            let mut connection = None;
            loop {
                let Some(progress) = weak.upgrade() else { return };
                {
                    let mut state = progress.borrow_mut();
                    if state.left == 0 {
                        state.busy -= 1;
                        return;
                    }
                    state.left -= 1;
                }
                let result = call(&plan, &mut connection, &jobs).await;
                progress.borrow_mut().tally.count(result);
            }
        });
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(4);
    tasks.job_local("burst tally", async move {
        loop {
            tokio::time::sleep(TICK).await;
            let line = {
                let mut state = progress.borrow_mut();
                state.tally.seconds = state.started.elapsed().as_secs_f64();
                state.tally.done = state.busy == 0;
                (state.tally.done, serde_json::to_string(&state.tally).unwrap_or_default())
            };
            if sender.send(format!("{}\n", line.1)).await.is_err() || line.0 {
                return;
            }
        }
    });
    let body = StreamBody::new(stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(line))), receiver))
    }));
    Response::new(ReplyBody::Stream(body.boxed_unsync()))
}

async fn call(plan: &Plan, connection: &mut Option<Connection>, tasks: &Tasks) -> Result<Answer, Error> {
    let mut open = match connection.take().filter(Connection::is_open) {
        Some(open) => open,
        None => Connection::open(plan.address, tasks).await?,
    };
    let answer = open.exchange(request(&plan.method, &plan.target, &plan.host, &plan.headers)?).await?;
    if answer.header("connection") != "close" {
        *connection = Some(open);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_proxies_are_read_or_refused_with_the_form_expected() {
        let url: Url = "http://payment-service:8080/pay?x=1".parse().unwrap();
        assert_eq!((url.authority.as_str(), url.path.as_str()), ("payment-service:8080", "/pay?x=1"));
        assert!("https://a/".parse::<Url>().unwrap_err().contains("http://HOST"));
        assert_eq!(proxy_address("http://127.0.0.1:15080/"), Ok("127.0.0.1:15080".parse().unwrap()));
        assert!(proxy_address("payment:80").is_err());
    }

    #[test]
    fn a_share_counts_answers_only() {
        let mut tally = Tally::default();
        tally.versions.insert("stable".to_owned(), 95);
        tally.versions.insert("canary".to_owned(), 5);
        tally.count(Err("refused".into()));
        assert_eq!((tally.share("canary"), tally.failed, tally.statuses[&0]), (0.05, 1, 1));
        assert_eq!(Tally::default().share("canary"), 0.0);
    }
}
