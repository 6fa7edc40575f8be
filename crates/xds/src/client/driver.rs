//! Drives the [`Client`] over tonic: connect, talk, lose, wait, connect again.

use super::{Backoff, Client, Connection, Handler, Limits, Subscribe, Update};
use crate::wire::{Dialect, Received, Request};
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use protos::envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use runtime::DrainWatch;
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body, Bytes, StdError};
use tonic::{Status, Streaming};

/// Why a channel could not be opened; its text reaches [`Connection::Down`].
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// Requests that may wait for the transport.
const REQUEST_QUEUE: usize = 16;

/// How a client talks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who asks.
    pub node: Node,
    /// In which dialect.
    pub dialect: Dialect,
    /// What it takes.
    pub limits: Limits,
    /// How long it waits between attempts.
    pub backoff: Backoff,
    /// Versions of what is in use already, by type and name: see [`Client::resume`].
    pub known: Vec<(String, BTreeMap<String, String>)>,
}

impl Config {
    /// A delta client with the usual limits.
    pub fn new(node: Node) -> Self {
        Config {
            node,
            dialect: Dialect::Delta,
            limits: Limits::default(),
            backoff: Backoff::default(),
            known: Vec::new(),
        }
    }
}

/// Either kind of response stream.
enum Responses {
    Delta(Streaming<DeltaDiscoveryResponse>),
    Whole(Streaming<DiscoveryResponse>),
}

impl Responses {
    async fn next(&mut self) -> Result<Option<Received>, Status> {
        match self {
            Responses::Delta(stream) => Ok(stream.message().await?.map(Received::from)),
            Responses::Whole(stream) => Ok(stream.message().await?.map(Received::from)),
        }
    }
}

/// Either kind of request queue.
enum Requests {
    Delta(mpsc::Sender<DeltaDiscoveryRequest>),
    Whole(mpsc::Sender<DiscoveryRequest>),
}

impl Requests {
    /// Waits until a request can be queued; false when the stream no longer takes any.
    async fn ready(&self) -> bool {
        match self {
            Requests::Delta(queue) => queue.reserve().await.is_ok(),
            Requests::Whole(queue) => queue.reserve().await.is_ok(),
        }
    }

    /// Queues a request after [`Requests::ready`]; false when there is no room or no stream.
    fn send(&self, request: Request) -> bool {
        match self {
            Requests::Delta(queue) => queue.try_send(request.into()).is_ok(),
            Requests::Whole(queue) => queue.try_send(request.into()).is_ok(),
        }
    }
}

/// What ended a stream.
enum Ended {
    Drain,
    Broken { reason: String, useful: bool },
}

/// Keeps a stream open until the drain, or until the sender of `commands` is gone.
///
/// `connect` makes a channel for each attempt. No future of this function has to be `Send`.
pub async fn run<C, F, T, H>(
    mut connect: C,
    config: Config,
    handler: &mut H,
    mut commands: mpsc::Receiver<Subscribe>,
    drain: DrainWatch,
) where
    C: FnMut() -> F,
    F: Future<Output = Result<T, ConnectError>>,
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
    H: Handler + ?Sized,
{
    let Config { node, dialect, limits, mut backoff, known } = config;
    let mut driver = Driver { client: Client::new(dialect, node, limits), handler };
    for (type_url, versions) in known {
        driver.client.resume(&type_url, versions);
    }
    loop {
        let mut lasted = false;
        let ended = match driver.open(connect(), dialect, limits, &mut commands, &drain).await {
            Ok((requests, responses)) => {
                let opened = Instant::now();
                let ended = driver.talk(requests, responses, &mut commands, &drain).await;
                // A server with nothing new says nothing, so that a stream that lasted counts as well.
                lasted = opened.elapsed() >= backoff.limit();
                ended
            }
            Err(ended) => ended,
        };
        let Ended::Broken { reason, useful } = ended else { return };
        if useful || lasted {
            backoff.reset();
        }
        let retry_in = backoff.wait();
        driver.handler.connection(&Connection::Down { reason, retry_in });
        let wait = std::pin::pin!(tokio::time::sleep(retry_in));
        if driver.meanwhile(wait, &mut commands, &drain).await.is_none() {
            return;
        }
    }
}

struct Driver<'a, H: ?Sized> {
    client: Client,
    handler: &'a mut H,
}

impl<H: Handler + ?Sized> Driver<'_, H> {
    async fn open<F, T>(
        &mut self,
        connecting: F,
        dialect: Dialect,
        limits: Limits,
        commands: &mut mpsc::Receiver<Subscribe>,
        drain: &DrainWatch,
    ) -> Result<(Requests, Responses), Ended>
    where
        F: Future<Output = Result<T, ConnectError>>,
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + Send,
    {
        let broken = |reason: String| Ended::Broken { reason, useful: false };
        let connecting = std::pin::pin!(connecting);
        let channel = self.meanwhile(connecting, commands, drain).await.ok_or(Ended::Drain)?;
        let channel = channel.map_err(|error| broken(format!("cannot connect: {error}")))?;
        let mut service =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(limits.response_bytes);
        // A server may wait for the first request before it sends its headers, so that the queue must hold it by then.
        self.client.connected();
        let first = self.first_request(commands, drain).await.ok_or(Ended::Drain)?;
        let refused = |status: Status| broken(format!("cannot open an ADS stream: {}", describe(&status)));
        match dialect {
            Dialect::Delta => {
                let (queue, stream) = mpsc::channel(REQUEST_QUEUE);
                let requests = Requests::Delta(queue);
                requests.send(first);
                let opening = std::pin::pin!(service.delta_aggregated_resources(ReceiverStream::new(stream)));
                let opened = self.meanwhile(opening, commands, drain).await.ok_or(Ended::Drain)?;
                Ok((requests, Responses::Delta(opened.map_err(refused)?.into_inner())))
            }
            Dialect::StateOfTheWorld => {
                let (queue, stream) = mpsc::channel(REQUEST_QUEUE);
                let requests = Requests::Whole(queue);
                requests.send(first);
                let opening =
                    std::pin::pin!(service.stream_aggregated_resources(ReceiverStream::new(stream)));
                let opened = self.meanwhile(opening, commands, drain).await.ok_or(Ended::Drain)?;
                Ok((requests, Responses::Whole(opened.map_err(refused)?.into_inner())))
            }
        }
    }

    /// The first request; waits for a wish when there is none. None for the drain.
    async fn first_request(
        &mut self,
        commands: &mut mpsc::Receiver<Subscribe>,
        drain: &DrainWatch,
    ) -> Option<Request> {
        loop {
            if let Some(request) = self.client.next_request() {
                return Some(request);
            }
            tokio::select! {
                command = commands.recv() => self.client.subscribe(command?, Instant::now()),
                () = drain.started() => return None,
            }
        }
    }

    /// Waits for something while wishes are taken and missing resources told; None for the drain.
    async fn meanwhile<F: Future + Unpin>(
        &mut self,
        mut future: F,
        commands: &mut mpsc::Receiver<Subscribe>,
        drain: &DrainWatch,
    ) -> Option<F::Output> {
        loop {
            tokio::select! {
                output = &mut future => return Some(output),
                command = commands.recv() => self.client.subscribe(command?, Instant::now()),
                () = until(self.client.deadline()) => self.expire(),
                () = drain.started() => return None,
            }
        }
    }

    async fn talk(
        &mut self,
        requests: Requests,
        mut responses: Responses,
        commands: &mut mpsc::Receiver<Subscribe>,
        drain: &DrainWatch,
    ) -> Ended {
        self.handler.connection(&Connection::Up);
        let mut useful = false;
        loop {
            tokio::select! {
                response = responses.next() => match response {
                    Ok(Some(received)) => {
                        useful = true;
                        if let Some(update) = self.client.receive(received, Instant::now()) {
                            self.deliver(update);
                        }
                    }
                    Ok(None) => return Ended::Broken { reason: "the server ended the stream".to_owned(), useful },
                    Err(status) => return Ended::Broken { reason: describe(&status), useful },
                },
                ready = requests.ready(), if self.client.has_request() => {
                    if let (true, Some(request)) = (ready, self.client.next_request())
                        && requests.send(request)
                    {
                        continue;
                    }
                    // The request side is gone; the response side knows why.
                    let reason = match responses.next().await {
                        Err(status) => describe(&status),
                        Ok(_) => "the server no longer reads requests".to_owned(),
                    };
                    return Ended::Broken { reason, useful };
                }
                command = commands.recv() => match command {
                    Some(command) => self.client.subscribe(command, Instant::now()),
                    None => return Ended::Drain,
                },
                () = until(self.client.deadline()) => self.expire(),
                () = drain.started() => return Ended::Drain,
            }
        }
    }

    fn deliver(&mut self, update: Update) {
        let mut subscriptions = Vec::new();
        let verdict = self.handler.update(&update, &mut subscriptions);
        self.client.answer(update, verdict, Instant::now());
        self.wish(subscriptions);
    }

    fn expire(&mut self) {
        for missing in self.client.expired(Instant::now()) {
            let mut subscriptions = Vec::new();
            self.handler.missing(&missing, &mut subscriptions);
            self.wish(subscriptions);
        }
    }

    fn wish(&mut self, subscriptions: Vec<Subscribe>) {
        for subscription in subscriptions {
            self.client.subscribe(subscription, Instant::now());
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
