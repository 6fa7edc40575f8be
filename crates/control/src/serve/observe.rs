//! The reverse streams of the proxies (`tulle.v1.Observe`): users ask through the control plane what became of a request.
//!
//! A proxy answers for the workload that its certificate names; an answer is only taken for a question that was asked
//! on the same stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protos::observe::{Answer, FromProxy, Observe, ObserveServer, Question, Questions};
use runtime::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use translate::ProxyNode;

use super::ads;
use crate::peer::PeerIdentity;

/// The most streams at a time.
const MOST_STREAMS: usize = 20_000;
/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;
/// Questions that may wait for one proxy.
const WAITING: usize = 16;
/// How long a proxy may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// The proxies that can be asked.
pub struct Observers {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Arc<Observer>>>,
    tasks: Tasks,
}

/// One proxy that can be asked.
#[derive(Debug)]
struct Observer {
    namespace: String,
    workload: String,
    questions: mpsc::Sender<Result<Question, Status>>,
    pending: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
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

impl Observers {
    /// Nobody yet. Streams are read by jobs of `tasks`.
    pub fn new(tasks: Tasks) -> Arc<Self> {
        Arc::new(Observers { next: AtomicU64::new(1), streams: Mutex::default(), tasks })
    }

    /// The gRPC service.
    pub fn server(self: &Arc<Self>) -> ObserveServer<Service> {
        ObserveServer::new(Arc::new(Service(self.clone())), LARGEST_ANSWER)
    }

    /// Asks every proxy about a request. Takes at most `limit`.
    pub async fn ask(&self, request_id: &str, limit: Duration) -> Vec<Reply> {
        let all: Vec<Arc<Observer>> = held(&self.streams).values().cloned().collect();
        let mut asked: FuturesUnordered<_> = all
            .into_iter()
            .map(|observer| {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                async move {
                    let answer =
                        tokio::time::timeout(limit, observer.ask(id, request_id)).await.ok().flatten();
                    held(&observer.pending).remove(&id);
                    Reply {
                        namespace: observer.namespace.clone(),
                        workload: observer.workload.clone(),
                        answer,
                    }
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
}

impl Observer {
    async fn ask(&self, id: u64, request_id: &str) -> Option<Answer> {
        let (sender, answer) = oneshot::channel();
        held(&self.pending).insert(id, sender);
        self.questions.send(Ok(Question { id, request_id: request_id.to_owned() })).await.ok()?;
        answer.await.ok()
    }

    async fn read(&self, mut messages: Streaming<FromProxy>) {
        // An error ends the stream as its end does: the proxy comes again.
        while let Ok(Some(message)) = messages.message().await {
            let Some(answer) = message.answer else { continue };
            if let Some(asker) = held(&self.pending).remove(&answer.id) {
                // Whoever asked may have gone.
                let _ = asker.send(answer);
            }
        }
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
            namespace: node.namespace,
            workload: node.workload,
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
        let drain = observers.tasks.drain();
        observers.tasks.clone().job("observe stream", async move {
            tokio::select! {
                () = observer.read(messages) => {}
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
