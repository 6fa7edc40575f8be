//! Sends telemetry to collectors: one task beside the workers, over the clusters of the configuration, with the same
//! pools, TLS and protocols as any request.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use config::model::{CollectorProtocol, Priority};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use crate::filter::Shared;
use crate::http::{Body, BodyLength, Frame, Headers, Informational, RequestHead, Scheme, Version};
use crate::route::header_operations;
use crate::telemetry::Random;
use crate::telemetry::export::{Batch, Outlet};
use crate::upstream::{Call, RetryRules, UpstreamWorker};

/// Limit of one message where the configuration has none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last messages may take when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 * 1024;
const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Tulle/", env!("CARGO_PKG_VERSION"));

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    Refused,
    Failed,
    NoCluster,
}

/// Serves outlets until `ending` says that nothing new will come; then what waits is sent, for a little while.
pub async fn run(
    mut outlets: mpsc::UnboundedReceiver<Outlet>,
    shared: Arc<Shared>,
    ending: watch::Receiver<bool>,
) {
    let sender = Sender {
        upstream: UpstreamWorker::new(shared.registry.clone()),
        random: Random::from_system(),
        shared,
    };
    let mut running = FuturesUnordered::new();
    let mut ended = ending.clone();
    loop {
        tokio::select! {
            outlet = outlets.recv() => match outlet {
                Some(outlet) => running.push(sender.serve(outlet, ending.clone())),
                None => break,
            },
            Some(()) = running.next() => {}
            () = sender.upstream.maintain() => {}
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    let rest = async { while running.next().await.is_some() {} };
    if tokio::time::timeout(LAST, rest).await.is_err() {
        tracing::warn!(limit = ?LAST, "a collector did not take its last messages in time");
    }
}

struct Sender {
    upstream: UpstreamWorker,
    random: Random,
    shared: Arc<Shared>,
}

impl Sender {
    async fn serve(&self, mut outlet: Outlet, mut ending: watch::Receiver<bool>) {
        loop {
            let batch = tokio::select! {
                biased;
                batch = outlet.batches.next() => batch,
                _ = ending.wait_for(|ended| *ended) => break,
            };
            match batch {
                Some(batch) => self.send(&outlet, batch).await,
                None => return,
            }
        }
        while let Some(batch) = outlet.batches.rest() {
            self.send(&outlet, batch).await;
        }
    }

    async fn send(&self, outlet: &Outlet, batch: Batch) {
        let items = batch.items as u64;
        let limit = outlet.collector.timeout.unwrap_or(TIMEOUT);
        let calling = self.call(outlet, batch.payload);
        let sent = tokio::time::timeout(limit, calling).await.unwrap_or(Sent::Failed);
        let counts = &outlet.counts;
        let (message, spans) = match sent {
            Sent::Taken => (&counts.messages_sent, &counts.sent),
            Sent::Refused => (&counts.messages_refused, &counts.dropped),
            Sent::Failed => (&counts.messages_failed, &counts.dropped),
            Sent::NoCluster => (&counts.without_cluster, &counts.dropped),
        };
        message.fetch_add(1, Ordering::Relaxed);
        spans.fetch_add(items, Ordering::Relaxed);
    }

    async fn call(&self, outlet: &Outlet, payload: Vec<u8>) -> Sent {
        let collector = &outlet.collector;
        let cluster = self.shared.routing.load().clusters.get(&collector.cluster).cloned();
        let Some(cluster) = cluster else { return Sent::NoCluster };
        let (target, body, grpc) = match &collector.protocol {
            CollectorProtocol::Grpc => (outlet.grpc_method.as_bytes(), framed(&payload), true),
            CollectorProtocol::Http { path } => (path.as_bytes(), payload.into(), false),
        };
        let mut headers = Headers::new();
        headers.append("content-type", if grpc { "application/grpc" } else { outlet.content_type });
        headers.append("user-agent", USER_AGENT);
        if grpc {
            headers.append("te", "trailers");
        }
        header_operations::apply(&collector.headers, &mut headers, None);
        let mut head = RequestHead {
            method: http::Method::POST,
            scheme: Scheme::Http,
            authority: Bytes::copy_from_slice(collector.authority.as_bytes()),
            target: Bytes::copy_from_slice(target),
            version: if grpc { Version::Http2 } else { Version::Http11 },
            headers,
            length: BodyLength::Known(body.len() as u64),
            upgrade: None,
        };
        let call = Call {
            worker: &self.upstream,
            random: &self.random,
            cluster: &cluster,
            priority: Priority::Default,
            informational: &Informational::default(),
            rules: RetryRules { policy: None, per_try_timeout: None, body_limit: 0, grpc },
            awaited: &RefCell::default(),
            timeline: &RefCell::default(),
            raw: false,
        };
        match call.run(&mut head, Body::full(body), &mut |_, _| {}).await {
            Ok(answer) => outcome(answer.head.status, answer.head.headers, answer.body, grpc).await,
            Err(failed) => {
                tracing::debug!(cluster = %collector.cluster, "a collector was not reached: {:?}", failed.failure);
                Sent::Failed
            }
        }
    }
}

/// A gRPC message: not compressed, its length, its bytes.
fn framed(payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(payload.len() + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    message.put_slice(payload);
    message.freeze()
}

/// Reads an answer to its end, so that its connection can be used again.
async fn outcome(status: u16, headers: Headers, mut body: Body, grpc: bool) -> Sent {
    let mut said = headers.get_bytes("grpc-status");
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(data)) => read += data.len(),
            Ok(Frame::Trailers(trailers)) => said = trailers.get_bytes("grpc-status").or(said),
            Err(_) => return Sent::Failed,
        }
        if read > LONGEST_ANSWER {
            return Sent::Failed;
        }
    }
    let good = (200..300).contains(&status) && (!grpc || said.as_deref() == Some(b"0"));
    if good { Sent::Taken } else { Sent::Refused }
}
