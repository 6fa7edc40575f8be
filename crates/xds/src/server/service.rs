//! The ADS service over tonic: one [`Session`] per stream, driven by requests, changes and the drain.
//!
//! A stream owns everything it needs and is polled by its connection: no task, no queue. A client that does not read
//! is not written to, and its newest state waits as one pending push per type.

use super::{Caller, Event, Limits, Proxy, Reply, Session, Source};
use crate::wire::{Dialect, Request, Response};
use futures_util::Stream;
use futures_util::stream;
use protos::envoy::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use protos::envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use runtime::DrainWatch;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tonic::{Status, Streaming};

/// The service; see [`AdsService::into_server`].
pub struct AdsService<S> {
    source: Arc<S>,
    limits: Limits,
    drain: DrainWatch,
}

impl<S: Source> AdsService<S> {
    /// A service that answers from `source` until the drain.
    pub fn new(source: Arc<S>, limits: Limits, drain: DrainWatch) -> Self {
        AdsService { source, limits, drain }
    }

    /// As a tonic service, with the limit on request messages.
    pub fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        let limit = self.limits.request_bytes;
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(limit)
    }

    fn converse<I, O>(&self, dialect: Dialect, request: tonic::Request<Streaming<I>>) -> Responses<O>
    where
        I: Into<Request> + Send + 'static,
        O: From<Response> + Send + 'static,
    {
        let address = request.remote_addr();
        let (_, extensions, requests) = request.into_parts();
        let conversation = Conversation::<S, I> {
            watch: self.source.watch(),
            source: self.source.clone(),
            caller: Caller { dialect, address, extensions },
            requests,
            session: Session::new(dialect, self.limits),
            proxy: None,
            drain: self.drain.clone(),
            limits: self.limits,
        };
        Box::pin(stream::unfold(Some(conversation), |conversation| async move {
            let mut conversation = conversation?;
            match conversation.next().await {
                Ok(Some(response)) => Some((Ok(O::from(response)), Some(conversation))),
                Ok(None) => None,
                Err(status) => Some((Err(*status), None)),
            }
        }))
    }
}

type Responses<O> = Pin<Box<dyn Stream<Item = Result<O, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Source> AggregatedDiscoveryService for AdsService<S> {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.converse(Dialect::StateOfTheWorld, request)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.converse(Dialect::Delta, request)))
    }
}

/// One stream.
struct Conversation<S: Source, I> {
    source: Arc<S>,
    caller: Caller,
    requests: Streaming<I>,
    session: Session,
    /// None before the first request.
    proxy: Option<S::Proxy>,
    watch: watch::Receiver<u64>,
    drain: DrainWatch,
    limits: Limits,
}

/// How a wait ended.
enum Woken<I> {
    Request(Result<Option<I>, Status>),
    Changed(bool),
    Timer,
    Drain,
}

impl<S: Source, I: Into<Request>> Conversation<S, I> {
    /// The next response; `Ok(None)` when the client is gone.
    async fn next(&mut self) -> Result<Option<Response>, Box<Status>> {
        if self.proxy.is_none() && !self.admit().await? {
            return Ok(None);
        }
        loop {
            if let Some(response) = self.respond() {
                return Ok(Some(response));
            }
            if let (true, Some(proxy)) = (self.session.is_settled(), &mut self.proxy) {
                proxy.settled();
            }
            match self.wait().await {
                Woken::Request(Ok(Some(request))) => self.take(request.into())?,
                Woken::Request(Ok(None)) => return Ok(None),
                Woken::Request(Err(status)) => {
                    tracing::debug!(address = ?self.caller.address, "ADS stream broke: {}", status.message());
                    // Matters when the request was too large; a client that is gone does not hear it.
                    return Err(Box::new(status));
                }
                Woken::Changed(true) => {
                    if let Some(proxy) = &mut self.proxy {
                        proxy.refresh();
                    }
                    self.session.on_change();
                }
                Woken::Timer => {}
                Woken::Changed(false) | Woken::Drain => {
                    return Err(Box::new(Status::unavailable(
                        "the control plane is shutting down; connect again",
                    )));
                }
            }
        }
    }

    async fn wait(&mut self) -> Woken<I> {
        let deadline = self.session.deadline(Instant::now());
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = self.requests.message() => Woken::Request(request),
            changed = self.watch.changed() => Woken::Changed(changed.is_ok()),
            () = timer => Woken::Timer,
            () = self.drain.started() => Woken::Drain,
        }
    }

    /// Waits for the first request and has the source admit the node; false when the client left before.
    async fn admit(&mut self) -> Result<bool, Box<Status>> {
        let limit = self.limits.first_request;
        let first = tokio::time::timeout(limit, self.requests.message()).await;
        let Ok(first) = first else {
            return Err(Box::new(Status::deadline_exceeded(format!(
                "no request within {} s",
                limit.as_secs()
            ))));
        };
        let Some(first) = first.map_err(Box::new)? else { return Ok(false) };
        let first: Request = first.into();
        let Some(node) = &first.node else {
            return Err(Box::new(Status::invalid_argument("the first request of a stream has no node")));
        };
        if node.id.is_empty() || node.id.len() > self.limits.id_bytes {
            let limit = self.limits.id_bytes;
            let found = node.id.len();
            return Err(Box::new(Status::invalid_argument(format!(
                "node.id has {found} bytes; allowed are 1 to {limit}"
            ))));
        }
        if node.id.contains(char::is_control) {
            // It stands in logs and on status pages.
            return Err(Box::new(Status::invalid_argument("node.id contains a control character")));
        }
        let mut proxy = self.source.open(node, &self.caller).map_err(Box::new)?;
        self.watch.mark_unchanged();
        proxy.refresh();
        self.proxy = Some(proxy);
        self.take(first)?;
        Ok(true)
    }

    fn take(&mut self, request: Request) -> Result<(), Box<Status>> {
        let type_url = request.type_url.clone();
        let reply = self
            .session
            .on_request(request, Instant::now())
            .map_err(|violation| Box::new(Status::invalid_argument(violation.to_string())))?;
        let event = match reply {
            Reply::None | Reply::Stale => return Ok(()),
            Reply::Acked { after } => Event::Acked { type_url, after },
            Reply::Nacked(nack) => Event::Nacked { type_url, nack },
        };
        self.tell(&event);
        Ok(())
    }

    fn respond(&mut self) -> Option<Response> {
        let proxy = self.proxy.as_mut()?;
        let response = self
            .session
            .next_response(&mut |type_url, wanted| proxy.resources(type_url, wanted), Instant::now())?;
        self.tell(&Event::Pushed {
            type_url: response.type_url.clone(),
            resources: response.resources.len(),
            removed: response.removed.len(),
        });
        Some(response)
    }

    fn tell(&mut self, event: &Event) {
        if let (Some(proxy), Some(status)) = (&mut self.proxy, self.session.status(event.type_url())) {
            proxy.event(event, status);
        }
    }
}
