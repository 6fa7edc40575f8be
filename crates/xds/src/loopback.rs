//! Client and server over a real connection on the loopback interface.

use crate::client::{Backoff, Config, Connection, Handler, Missing, Subscribe, Update, Verdict};
use crate::order::{CLUSTER, ROUTE};
use crate::server::{AdsService, Answer, Caller, Event, Limits, Proxy, Source, TypeStatus, Wanted};
use crate::testing::{World, texts};
use crate::wire::Dialect;
use futures_util::StreamExt;
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use protos::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use runtime::{Drain, DrainWatch};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;

/// A world that streams watch.
struct Shared {
    world: Mutex<World>,
    revision: watch::Sender<u64>,
    events: mpsc::UnboundedSender<String>,
}

impl Shared {
    fn change(&self, type_url: &str, pairs: &[&str]) {
        self.world.lock().unwrap().set(type_url, pairs);
        self.revision.send_modify(|revision| *revision += 1);
    }
}

struct View {
    shared: Arc<Shared>,
    world: World,
}

struct TestSource(Arc<Shared>);

impl Source for TestSource {
    type Proxy = View;

    fn open(&self, node: &Node, caller: &Caller) -> Result<View, tonic::Status> {
        if node.id == "stranger" {
            return Err(tonic::Status::permission_denied("who are you?"));
        }
        assert!(caller.address.is_some_and(|address| address.ip().is_loopback()));
        Ok(View { shared: self.0.clone(), world: World::default() })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }
}

impl Proxy for View {
    fn refresh(&mut self) {
        self.world = self.shared.world.lock().unwrap().clone();
    }

    fn resources(&mut self, type_url: &str, wanted: Wanted<'_>) -> Answer {
        self.world.answer(type_url, wanted)
    }

    fn event(&mut self, event: &Event, status: &TypeStatus) {
        let text = match event {
            Event::Pushed { .. } => return,
            Event::Acked { .. } => format!("acked {}", status.acked == status.sent),
            Event::Nacked { nack, .. } => format!("nacked {}", nack.text),
        };
        self.shared.events.send(text).unwrap();
    }

    fn settled(&mut self) {}
}

/// Writes down what it hears; refuses what has the content `bad`.
struct Scribe(mpsc::UnboundedSender<String>);

impl Handler for Scribe {
    fn update(&mut self, update: &Update, _: &mut Vec<Subscribe>) -> Verdict {
        let mut heard: Vec<String> = texts(&update.added);
        heard.extend(update.removed.iter().map(|name| format!("-{name}")));
        let bad = heard.iter().any(|text| text.ends_with("=bad"));
        self.0.send(heard.join(" ")).unwrap();
        match bad {
            true => Verdict::Nack { detail: "it is bad".to_owned(), rejected: vec![] },
            false => Verdict::Ack,
        }
    }

    fn missing(&mut self, missing: &Missing, _: &mut Vec<Subscribe>) {
        self.0.send(format!("missing {}", missing.name)).unwrap();
    }

    fn connection(&mut self, connection: &Connection) {
        let text = match connection {
            Connection::Up => "up".to_owned(),
            Connection::Down { reason, .. } => format!("down {reason}"),
        };
        self.0.send(text).unwrap();
    }
}

async fn serve(shared: Arc<Shared>, drain: DrainWatch) -> (SocketAddr, impl Future<Output = ()>) {
    serve_within(shared, Limits::default(), drain).await
}

async fn serve_within(
    shared: Arc<Shared>,
    limits: Limits,
    drain: DrainWatch,
) -> (SocketAddr, impl Future<Output = ()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = AdsService::new(Arc::new(TestSource(shared)), limits, drain.clone()).into_server();
    let serving = async move {
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                async move { drain.started().await },
            )
            .await
            .unwrap();
    };
    (address, serving)
}

fn config(dialect: Dialect, id: &str) -> Config {
    Config {
        dialect,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)),
        ..Config::new(Node { id: id.to_owned(), ..Default::default() })
    }
}

async fn conversation(dialect: Dialect) {
    let (events, mut seen) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { world: Mutex::default(), revision: watch::Sender::new(0), events });
    shared.change(CLUSTER, &["a=1", "b=1"]);
    shared.change(ROUTE, &["r=1"]);
    let (first_drain, first_watch) = Drain::new();
    let (second_drain, second_watch) = Drain::new();
    let (first, first_serving) = serve(shared.clone(), first_watch).await;
    let (second, second_serving) = serve(shared.clone(), second_watch).await;
    let target = Mutex::new(first);
    let connect = || {
        let address = *target.lock().unwrap();
        async move {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
            Ok(endpoint.connect().await?)
        }
    };
    let (client_drain, client_watch) = Drain::new();
    let (wishes, commands) = mpsc::channel(4);
    let (heard, mut hears) = mpsc::unbounded_channel();
    let mut scribe = Scribe(heard);
    let client = crate::client::run(connect, config(dialect, "sidecar"), &mut scribe, commands, client_watch);
    let script = async {
        wishes.send(Subscribe::all(CLUSTER)).await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), "up");
        assert_eq!(hears.recv().await.unwrap(), "a=1 b=1");
        wishes.send(Subscribe::to(ROUTE, ["r"])).await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), "r=1");
        assert_eq!(seen.recv().await.unwrap(), "acked true");
        assert_eq!(seen.recv().await.unwrap(), "acked true");
        shared.change(CLUSTER, &["a", "b=2"]);
        // What is gone goes after the routes were looked at, by itself.
        assert_eq!(hears.recv().await.unwrap(), "b=2");
        assert_eq!(hears.recv().await.unwrap(), "-a");
        assert_eq!(seen.recv().await.unwrap(), "acked true");
        assert_eq!(seen.recv().await.unwrap(), "acked true");
        shared.change(ROUTE, &["r=bad"]);
        assert_eq!(hears.recv().await.unwrap(), "r=bad");
        assert_eq!(seen.recv().await.unwrap(), "nacked it is bad");
        // The first server goes away; the second one tells what became of the route meanwhile, and nothing else.
        *target.lock().unwrap() = second;
        shared.world.lock().unwrap().set(ROUTE, &["r=3"]);
        first_drain.start();
        let down = hears.recv().await.unwrap();
        assert!(down.starts_with("down") && down.contains("shutting down"), "{down}");
        assert_eq!(hears.recv().await.unwrap(), "up");
        if dialect == Dialect::StateOfTheWorld {
            assert_eq!(hears.recv().await.unwrap(), "", "the full set, in which nothing is new");
        }
        assert_eq!(hears.recv().await.unwrap(), "r=3");
        client_drain.start();
    };
    tokio::join!(
        client,
        async {
            script.await;
            second_drain.start();
        },
        first_serving,
        second_serving
    );
}

#[tokio::test]
async fn delta() {
    conversation(Dialect::Delta).await;
}

#[tokio::test]
async fn state_of_the_world() {
    conversation(Dialect::StateOfTheWorld).await;
}

#[tokio::test]
async fn refusals_and_dead_servers_are_told_and_tried_again() {
    let (events, _seen) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { world: Mutex::default(), revision: watch::Sender::new(0), events });
    let (drain, watch) = Drain::new();
    let (address, serving) = serve(shared, watch).await;
    let mut attempts = 0;
    let connect = || {
        attempts += 1;
        let dead = attempts == 1;
        async move {
            if dead {
                return Err("the port is closed".into());
            }
            Ok(tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
        }
    };
    let (client_drain, client_watch) = Drain::new();
    let (wishes, commands) = mpsc::channel(4);
    let (heard, mut hears) = mpsc::unbounded_channel();
    let mut scribe = Scribe(heard);
    let client =
        crate::client::run(connect, config(Dialect::Delta, "stranger"), &mut scribe, commands, client_watch);
    let script = async {
        wishes.send(Subscribe::all(CLUSTER)).await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), "down cannot connect: the port is closed");
        for _ in 0..2 {
            // The server admits a stream when it has read the first request, which is after its headers.
            assert_eq!(hears.recv().await.unwrap(), "up");
            let down = hears.recv().await.unwrap();
            assert!(down.contains("who are you?"), "{down}");
        }
        client_drain.start();
        drain.start();
    };
    tokio::join!(client, script, serving);
}

/// What becomes of a stream on which these requests come, and then nothing more.
async fn fate(address: SocketAddr, requests: Vec<DeltaDiscoveryRequest>) -> tonic::Status {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(endpoint.connect().await.unwrap());
    let requests = futures_util::stream::iter(requests).chain(futures_util::stream::pending());
    let mut responses = client.delta_aggregated_resources(requests).await.unwrap().into_inner();
    loop {
        match responses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_ends_with_the_reason() {
    let (events, _seen) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { world: Mutex::default(), revision: watch::Sender::new(0), events });
    let (drain, watch) = Drain::new();
    let limits = Limits { names: 2, request_bytes: 2000, id_bytes: 300, ..Limits::default() };
    let limits = Limits { first_request: Duration::from_millis(50), ..limits };
    let (address, serving) = serve_within(shared, limits, watch).await;
    let first = |id: &str, names: &[&str]| DeltaDiscoveryRequest {
        node: Some(Node { id: id.to_owned(), ..Default::default() }),
        type_url: ROUTE.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let script = async {
        let no_node = DeltaDiscoveryRequest { type_url: ROUTE.to_owned(), ..Default::default() };
        assert!(fate(address, vec![no_node.clone()]).await.message().contains("no node"));
        assert!(fate(address, vec![first("", &[])]).await.message().contains("node.id has 0 bytes"));
        assert!(fate(address, vec![first(&"x".repeat(301), &[])]).await.message().contains("301"));
        assert!(fate(address, vec![first("a\nb", &[])]).await.message().contains("control character"));
        assert!(fate(address, vec![first("a", &["x", "y", "z"])]).await.message().contains("limit of 2"));
        let untyped = DeltaDiscoveryRequest::default();
        assert!(fate(address, vec![first("a", &[]), untyped]).await.message().contains("type_url"));
        let silent = fate(address, vec![]).await;
        assert_eq!(silent.code(), tonic::Code::DeadlineExceeded);
        let large = fate(address, vec![first("a", &[]), first(&"x".repeat(3000), &[])]).await;
        assert!(large.message().contains("2000"), "{large}");
        drain.start();
    };
    tokio::join!(script, serving);
}
