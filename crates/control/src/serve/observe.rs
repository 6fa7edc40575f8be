//! The reverse streams of the proxies (`tulle.v1.Observe`): users ask through the control plane what became of a request,
//! what passes now, and how a proxy is configured.
//!
//! A proxy answers for the workload that its certificate names; an answer is only taken for a question that was asked
//! on the same stream, or for a watch that concerns its workload. A proxy that comes again while its old stream has not
//! ended (its machine was cut off) is asked on the new one only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protos::observe::{Answer, FromProxy, Observe, ObserveServer, Question, Questions, RaiseLog, Watch};
use runtime::Tasks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use translate::ProxyNode;

use super::ads;
use crate::peer::PeerIdentity;

/// The most streams at a time.
const MOST_STREAMS: usize = 20_000;
/// The most watches at a time.
const MOST_WATCHES: usize = 32;
/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;
/// Answers to one question that may wait to be read; a page comes in parts of 64 KiB.
const MOST_PARTS: usize = 512;
/// Answers of a watch that may wait to be read; more are dropped and counted.
const WATCHED: usize = 256;
/// Questions that may wait for one proxy.
const WAITING: usize = 64;
/// How long a proxy may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// How long a question may wait for its place in the stream.
const PATIENCE: Duration = Duration::from_secs(5);

/// The proxies that can be asked.
pub struct Observers {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Arc<Observer>>>,
    watches: Mutex<BTreeMap<u64, Arc<Watching>>>,
    tasks: Tasks,
}

/// One proxy that can be asked.
#[derive(Debug)]
struct Observer {
    node: String,
    who: Who,
    questions: mpsc::Sender<Result<Question, Status>>,
    pending: Mutex<BTreeMap<u64, mpsc::Sender<Answer>>>,
}

/// A proxy's workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// Its namespace.
    pub namespace: String,
    /// Its workload.
    pub workload: String,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.workload)
    }
}

/// Which proxies a question is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this namespace; empty: all.
    pub namespace: String,
    /// Of this workload; empty: all.
    pub workload: String,
}

impl Selection {
    /// `NAMESPACE/WORKLOAD`, `NAMESPACE/` or `WORKLOAD`.
    pub fn parse(text: &str) -> Selection {
        let (namespace, workload) = text.split_once('/').unwrap_or(("", text));
        Selection { namespace: namespace.to_owned(), workload: workload.to_owned() }
    }

    /// Whether it is meant.
    pub fn takes(&self, who: &Who) -> bool {
        (self.namespace.is_empty() || self.namespace == who.namespace)
            && (self.workload.is_empty() || self.workload == who.workload)
    }
}

/// What one proxy said.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Its namespace.
    pub namespace: String,
    /// Its workload.
    pub workload: String,
    /// Its answer; `None`: it did not answer in time.
    pub answer: Option<Answer>,
}

/// An open watch, as the streams of the proxies see it.
#[derive(Debug)]
struct Watching {
    selection: Selection,
    wanted: Watch,
    sender: mpsc::Sender<(Who, Answer)>,
    dropped: AtomicU64,
}

/// An open watch: what it sees, until it is dropped.
pub struct Watched {
    of: Arc<Observers>,
    id: u64,
    watching: Arc<Watching>,
    /// Answers with their proxies.
    pub answers: mpsc::Receiver<(Who, Answer)>,
}

impl Watched {
    /// Stories that were left out here since it was last asked, because nobody took them fast enough.
    pub fn take_dropped(&self) -> u64 {
        self.watching.dropped.swap(0, Ordering::Relaxed)
    }

    /// The workloads whose proxies take part now.
    pub fn proxies(&self) -> BTreeSet<Who> {
        self.of.selected(&self.watching.selection).iter().map(|observer| observer.who.clone()).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        held(&self.of.watches).remove(&self.id);
        let stop = Question { id: self.id, stop: true, ..Question::default() };
        self.of.tell(&self.watching.selection, stop);
    }
}

impl Observers {
    /// Nobody yet. Streams are read by jobs of `tasks`.
    pub fn new(tasks: Tasks) -> Arc<Self> {
        let (streams, watches) = (Mutex::default(), Mutex::default());
        Arc::new(Observers { next: AtomicU64::new(1), streams, watches, tasks })
    }

    /// The gRPC service.
    pub fn server(self: &Arc<Self>) -> ObserveServer<Service> {
        ObserveServer::new(Arc::new(Service(self.clone())), LARGEST_ANSWER)
    }

    /// The proxies that can be asked.
    pub fn list(&self) -> Vec<Who> {
        let mut all: Vec<_> = self.current().into_iter().map(|observer| observer.who.clone()).collect();
        all.sort();
        all
    }

    /// How many streams and watches are open.
    pub fn counts(&self) -> (usize, usize) {
        (held(&self.streams).len(), held(&self.watches).len())
    }

    /// The newest stream of each proxy.
    fn current(&self) -> Vec<Arc<Observer>> {
        let streams = held(&self.streams);
        let newest: BTreeMap<&str, &Arc<Observer>> =
            streams.values().map(|observer| (observer.node.as_str(), observer)).collect();
        newest.into_values().cloned().collect()
    }

    fn selected(&self, selection: &Selection) -> Vec<Arc<Observer>> {
        let mut all = self.current();
        all.retain(|observer| selection.takes(&observer.who));
        all
    }

    /// Asks every proxy about a request. Takes at most `limit`.
    pub async fn ask(&self, request_id: &str, limit: Duration) -> Vec<Reply> {
        let mut asked: FuturesUnordered<_> = self
            .current()
            .into_iter()
            .map(|observer| {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                let question = Question { id, request_id: request_id.to_owned(), ..Question::default() };
                async move {
                    let asking = async { observer.ask(question).await?.recv().await };
                    let answer = tokio::time::timeout(limit, asking).await.ok().flatten();
                    held(&observer.pending).remove(&id);
                    let Who { namespace, workload } = observer.who.clone();
                    Reply { namespace, workload, answer }
                }
            })
            .collect();
        let mut replies = Vec::new();
        while let Some(reply) = asked.next().await {
            replies.push(reply);
        }
        replies.sort_by(|a, b| (&a.namespace, &a.workload).cmp(&(&b.namespace, &b.workload)));
        replies
    }

    /// A page of every proxy's admin server; those that do not answer within `limit` are left out.
    pub async fn pages(&self, page: &str, limit: Duration) -> Vec<(Who, Vec<u8>)> {
        let all = self.current();
        let question = Question { page: page.to_owned(), ..Question::default() };
        let mut asked: FuturesUnordered<_> =
            all.iter().map(|it| self.document_of(it, question.clone(), limit)).collect();
        let mut pages = Vec::new();
        while let Some((who, page)) = asked.next().await {
            pages.extend(page.ok().map(|page| (who, page)));
        }
        pages.sort();
        pages
    }

    /// A page of one proxy's admin server.
    ///
    /// # Errors
    /// There is no such proxy, it does not know the page, or it does not answer within `limit`.
    pub async fn page(&self, selection: &Selection, page: &str, limit: Duration) -> Result<Vec<u8>, String> {
        let found = self.selected(selection);
        let observer = match found.as_slice() {
            [] => return Err("no such proxy is connected".to_owned()),
            [first, others @ ..] => {
                if let Some(other) = others.iter().find(|other| other.who != first.who) {
                    return Err(format!("it may be {} or {}: say which", first.who, other.who));
                }
                first
            }
        };
        let question = Question { page: page.to_owned(), ..Question::default() };
        let (who, page) = self.document_of(observer, question, limit).await;
        page.map_err(|reason| format!("{who}: {reason}"))
    }

    /// Raises the access logs of the selected proxies: what each said, sorted by name.
    pub async fn raise_logs(
        &self,
        selection: &Selection,
        wanted: RaiseLog,
        limit: Duration,
    ) -> Vec<(Who, Result<Vec<u8>, String>)> {
        let all = self.selected(selection);
        let question = Question { log: Some(wanted), ..Question::default() };
        let asked = all.iter().map(|it| self.document_of(it, question.clone(), limit));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut said = Vec::new();
        while let Some(one) = asked.next().await {
            said.push(one);
        }
        said.sort();
        said
    }

    async fn document_of(
        &self,
        observer: &Observer,
        question: Question,
        limit: Duration,
    ) -> (Who, Result<Vec<u8>, String>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let question = Question { id, ..question };
        let asking = async {
            let mut parts = observer.ask(question).await.ok_or("it has just gone")?;
            let mut whole = Vec::new();
            while let Some(part) = parts.recv().await {
                if !part.refusal.is_empty() {
                    return Err(part.refusal);
                }
                whole.extend_from_slice(&part.document);
                if !part.more {
                    return Ok(whole);
                }
            }
            Err("it went away while it answered".to_owned())
        };
        let answer = tokio::time::timeout(limit, asking).await;
        held(&observer.pending).remove(&id);
        let late = |_| Err(format!("no answer within {} s", limit.as_secs()));
        (observer.who.clone(), answer.unwrap_or_else(late))
    }

    /// Opens a watch at the selected proxies, also those that come later.
    ///
    /// # Errors
    /// There are too many.
    pub fn watch(self: &Arc<Self>, selection: Selection, wanted: Watch) -> Result<Watched, String> {
        let (sender, answers) = mpsc::channel(WATCHED);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let question = Question { id, watch: Some(wanted.clone()), ..Question::default() };
        let dropped = AtomicU64::new(0);
        let watching = Arc::new(Watching { selection, wanted, sender, dropped });
        {
            let mut watches = held(&self.watches);
            if watches.len() >= MOST_WATCHES {
                return Err(format!("{MOST_WATCHES} taps and tops are open already: close one"));
            }
            watches.insert(id, watching.clone());
        }
        self.tell(&watching.selection, question);
        Ok(Watched { of: self.clone(), id, watching, answers })
    }

    /// Puts something in the streams of the selected proxies, in order.
    fn tell(&self, selection: &Selection, question: Question) {
        for observer in self.selected(selection) {
            if observer.questions.try_send(Ok(question.clone())).is_ok() {
                continue;
            }
            let question = question.clone();
            self.tasks.job("question to a proxy", async move {
                // Who does not take it in time is told again when it speaks of the watch.
                let _ = observer.questions.send_timeout(Ok(question), PATIENCE).await;
            });
        }
    }

    /// An answer that belongs to a watch.
    fn watched(&self, observer: &Observer, answer: Answer) {
        let watching = held(&self.watches).get(&answer.id).cloned();
        let Some(watching) = watching.filter(|it| it.selection.takes(&observer.who)) else {
            if answer.more {
                let stop = Question { id: answer.id, stop: true, ..Question::default() };
                // When there is no room now, its next answer comes here too.
                let _ = observer.questions.try_send(Ok(stop));
            }
            return;
        };
        let stories = answer.stories.len() as u64 + answer.dropped;
        if watching.sender.try_send((observer.who.clone(), answer)).is_err() {
            watching.dropped.fetch_add(stories, Ordering::Relaxed);
        }
    }
}

impl Observer {
    async fn ask(&self, question: Question) -> Option<mpsc::Receiver<Answer>> {
        let (sender, answers) = mpsc::channel(MOST_PARTS);
        held(&self.pending).insert(question.id, sender);
        self.questions.send(Ok(question)).await.ok()?;
        Some(answers)
    }

    async fn read(&self, mut messages: Streaming<FromProxy>, all: &Observers) {
        // An error ends the stream as its end does: the proxy comes again.
        while let Ok(Some(message)) = messages.message().await {
            let Some(answer) = message.answer else { continue };
            if answer.watching {
                all.watched(self, answer);
                continue;
            }
            let (id, more) = (answer.id, answer.more);
            let mut pending = held(&self.pending);
            // Whoever asked may have gone; who takes too much at a time gets no more of it.
            let taken = pending.get(&id).is_some_and(|asker| asker.try_send(answer).is_ok());
            if !taken || !more {
                pending.remove(&id);
            }
        }
        // Nobody waits any more.
        held(&self.pending).clear();
    }
}

/// The service of an [`Observers`].
#[derive(Clone)]
pub struct Service(Arc<Observers>);

impl Observe for Service {
    async fn attach(&self, request: Request<Streaming<FromProxy>>) -> Result<Response<Questions>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(INTRODUCTION, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no node within {INTRODUCTION:?}")))??;
        let node = first
            .and_then(|it| it.node)
            .ok_or_else(|| Status::invalid_argument("the first message must carry the node"))?;
        let node =
            ProxyNode::from_node(&node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        ads::check(&node, peer.as_ref())?;
        let (questions, outgoing) = mpsc::channel(WAITING);
        let observer = Arc::new(Observer {
            node: node.id,
            who: Who { namespace: node.namespace, workload: node.workload },
            questions,
            pending: Mutex::default(),
        });
        let observers = self.0.clone();
        let id = observers.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut streams = held(&observers.streams);
            if streams.len() >= MOST_STREAMS {
                return Err(Status::resource_exhausted(
                    "too many proxies are connected to this control plane",
                ));
            }
            streams.insert(id, observer.clone());
        }
        // The channel is new and has room for all of them.
        for (id, watching) in held(&observers.watches).iter().filter(|it| it.1.selection.takes(&observer.who))
        {
            let watch = Some(watching.wanted.clone());
            let _ = observer.questions.try_send(Ok(Question { id: *id, watch, ..Question::default() }));
        }
        let drain = observers.tasks.drain();
        observers.tasks.clone().job("observe stream", async move {
            tokio::select! {
                () = observer.read(messages, &observers) => {}
                () = drain.started() => {}
            }
            held(&observers.streams).remove(&id);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with the lock held left a map that is still a map.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
