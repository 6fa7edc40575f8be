use super::*;
use crate::metrics::Render;
use crate::push::Debounce;
use crate::push::tests::TestWorlds;
use crate::testing::TestClock;
use api::MeshConfig;
use protos::envoy::google::protobuf::{Struct, Value, value::Kind};
use runtime::Drain;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use translate::{Change, World};
use xds::client::{Backoff, Config, Connection, Handler, Missing, Subscribe, Update, Verdict};
use xds::server::{AdsService, Limits};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: payment}
spec:
  selector: {app: payment}
  clusterIP: 127.20.0.1
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: frontend}
spec:
  selector: {app: frontend}
  clusterIP: 127.20.0.2
  ports: [{name: http, port: 8080}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: payment-1}
spec: {address: 127.10.0.1, labels: {app: payment, version: stable}, serviceAccount: payment}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: payment-2}
spec: {address: 127.10.0.2, labels: {app: payment, version: canary}, serviceAccount: payment}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: frontend-1}
spec: {address: 127.10.0.3, labels: {app: frontend}, serviceAccount: frontend}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment}
spec:
  host: payment
  subsets:
  - {name: stable, labels: {version: stable}}
  - {name: canary, labels: {version: canary}}
";

fn weights(stable: u32, canary: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: payment}}
spec:
  hosts: [payment]
  http:
  - route:
    - {{destination: {{host: payment, subset: stable}}, weight: {stable}}}
    - {{destination: {{host: payment, subset: canary}}, weight: {canary}}}
"
    )
}

fn changes(yaml: &str) -> Vec<Change> {
    let parsed = api::parse("test.yaml", yaml.as_bytes(), "production");
    assert!(!parsed.problems.iter().any(api::Problem::is_error), "{:?}", parsed.problems);
    parsed.objects.into_iter().map(Change::Apply).collect()
}

fn world() -> World {
    World::empty(MeshConfig::default()).with(&changes(MESH)).with(&changes(&weights(95, 5)))
}

fn node(namespace: &str, service_account: &str) -> Node {
    let fields =
        [("NAMESPACE", namespace), ("SERVICE_ACCOUNT", service_account), ("INTERCEPTION_MODE", "NONE")];
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    Node {
        id: format!("sidecar~127.10.0.3~frontend-1.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields: fields.map(|(key, text)| (key.to_owned(), value(text))).into() }),
        user_agent_name: "tulle-proxy".to_owned(),
        ..Default::default()
    }
}

fn peer(spiffe: Option<&str>, tls: bool) -> PeerIdentity {
    PeerIdentity {
        spiffe: spiffe.map(|text| text.parse().unwrap()),
        not_after: None,
        address: "127.0.0.1:4000".parse().unwrap(),
        tls,
    }
}

const FRONTEND: &str = "spiffe://cluster.local/ns/production/sa/frontend";

#[test]
fn the_node_must_be_what_the_certificate_says() {
    let check = |node: Node, peer: Option<PeerIdentity>| {
        check(&ProxyNode::from_node(&node).unwrap(), peer.as_ref())
            .map_err(|status| (status.code(), status.message().to_owned()))
    };
    let frontend = || Some(peer(Some(FRONTEND), true));
    assert_eq!(check(node("production", "frontend"), frontend()), Ok(()));
    let (code, text) = check(node("production", "payment"), frontend()).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("SERVICE_ACCOUNT is \"payment\"") && text.contains("\"frontend\""), "{text}");
    let (code, text) = check(node("outside", "frontend"), frontend()).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("NAMESPACE is \"outside\"") && text.contains("\"production\""), "{text}");
    // A node that does not say is not believed either.
    assert_eq!(check(node("production", ""), frontend()).unwrap_err().0, Code::PermissionDenied);
    assert_eq!(check(node("production", "frontend"), None).unwrap_err().0, Code::Unauthenticated);
    let anonymous = Some(peer(None, true));
    assert_eq!(check(node("production", "frontend"), anonymous).unwrap_err().0, Code::Unauthenticated);
    assert_eq!(check(node("production", "frontend"), Some(peer(None, false))), Ok(()));
}

/// A control plane on the loopback interface whose callers all have one identity.
struct Plane {
    worlds: Arc<TestWorlds>,
    connections: Arc<Connections>,
    metrics: Arc<XdsMetrics>,
}

/// Writes down what it hears; asks for the endpoints of each cluster, and refuses the route named in `refuse`.
struct Scribe {
    heard: mpsc::UnboundedSender<String>,
    refuse: Arc<std::sync::atomic::AtomicBool>,
}

impl Handler for Scribe {
    fn update(&mut self, update: &Update, subscriptions: &mut Vec<Subscribe>) -> Verdict {
        let names: Vec<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
        if update.type_url == CLUSTER {
            let eds = names.iter().filter(|name| name.starts_with("outbound|") && name.contains("payment"));
            subscriptions.push(Subscribe::to(ENDPOINT, eds.copied()));
        }
        self.heard.send(format!("{} {}", label(&update.type_url), names.join(" "))).unwrap();
        match self.refuse.load(std::sync::atomic::Ordering::SeqCst) {
            true => Verdict::Nack { detail: "virtual_hosts[0]: no".to_owned(), rejected: vec![] },
            false => Verdict::Ack,
        }
    }

    fn missing(&mut self, missing: &Missing, _: &mut Vec<Subscribe>) {
        self.heard.send(format!("missing {}", missing.name)).unwrap();
    }

    fn connection(&mut self, connection: &Connection) {
        if let Connection::Down { reason, .. } = connection {
            self.heard.send(format!("down {reason}")).unwrap();
        }
    }
}

type Heard = mpsc::UnboundedReceiver<String>;

/// Runs a control plane, a client that calls itself `node` and is `peer`, and a script.
async fn with_client<S, F>(node: Node, peer: PeerIdentity, script: S)
where
    S: FnOnce(Plane, Heard, Arc<std::sync::atomic::AtomicBool>) -> F,
    F: Future<Output = ()>,
{
    let worlds = TestWorlds::new(world());
    let connections = Arc::new(Connections::default());
    let metrics = Arc::new(XdsMetrics::new(connections.clone()));
    let pusher = Arc::new(Pusher::new(Debounce::default()));
    let (drain, watch) = Drain::new();
    let source = AdsSource::new(pusher.clone(), connections.clone(), metrics.clone(), TestClock::new());
    let service = AdsService::new(Arc::new(source), Limits::default(), watch.clone()).into_server();
    let service = InterceptedService::new(service, move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(peer.clone());
        Ok(request)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let stopped = watch.clone();
    let serving =
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                stopped.started().await
            });
    let connect = || async move {
        Ok(tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
    };
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    let (heard, hears) = mpsc::unbounded_channel();
    let refuse = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut scribe = Scribe { heard, refuse: refuse.clone() };
    let (wishes, commands) = mpsc::channel(4);
    for wish in [Subscribe::all(CLUSTER), Subscribe::all(LISTENER), Subscribe::to(ROUTE, ["8080"])] {
        wishes.send(wish).await.unwrap();
    }
    let config = Config { backoff, ..Config::new(node) };
    let client = xds::client::run(connect, config, &mut scribe, commands, watch.clone());
    let pushing = pusher.run(worlds.clone(), watch);
    let script = async {
        script(Plane { worlds, connections, metrics }, hears, refuse).await;
        drain.start();
        drop(wishes);
    };
    let (served, (), pushed, ()) = tokio::join!(serving, client, pushing, script);
    served.unwrap();
    pushed.unwrap();
}

/// Waits until the only connected proxy looks like this.
async fn until(connections: &Connections, good: impl Fn(&ConnectionReport) -> bool) -> ConnectionReport {
    loop {
        match connections.list().first() {
            Some(report) if good(report) => return report.clone(),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn synced(report: &ConnectionReport) -> bool {
    report.types.len() == 4 && report.types.values().all(|report| report.state == State::Synced)
}

async fn first_four(hears: &mut Heard) -> Vec<String> {
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(hears.recv().await.unwrap());
    }
    heard
}

#[tokio::test]
async fn a_changed_weight_pushes_the_route_and_nothing_else() {
    with_client(
        node("production", "frontend"),
        peer(Some(FRONTEND), true),
        |plane, mut hears, _| async move {
            let heard = first_four(&mut hears).await;
            let kinds: Vec<&str> = heard.iter().map(|line| &line[..3]).collect();
            assert_eq!(kinds, ["cds", "eds", "lds", "rds"], "{heard:?}");
            assert!(
                heard[0].contains("outbound|8080|canary|payment.production.svc.cluster.local"),
                "{heard:?}"
            );
            assert!(heard[2].contains("127.20.0.1_8080"), "{heard:?}");
            let before = until(&plane.connections, synced).await;
            assert_eq!(
                (before.identity.as_deref(), before.workload.as_str()),
                (Some(FRONTEND), "frontend-1")
            );

            plane.worlds.set(world().with(&changes(&weights(50, 50))));
            assert_eq!(hears.recv().await.unwrap(), "rds 8080");
            let newer = |report: &ConnectionReport| report.revision == 2 && synced(report);
            let after =
                until(&plane.connections, |report| newer(report) && report.types["rds"].pushes == 2).await;
            assert_ne!(after.types["rds"].acked_version, before.types["rds"].acked_version);
            for quiet in ["cds", "eds", "lds"] {
                assert_eq!(after.types[quiet], before.types[quiet]);
            }

            // What concerns nobody is pushed to nobody.
            plane.worlds.set(world().with(&changes(&weights(50, 50))));
            until(&plane.connections, |report| report.revision == 3).await;
            let after = until(&plane.connections, synced).await;
            assert_eq!(after.types["rds"].pushes, 2);

            let mut metrics = String::new();
            plane.metrics.render(&mut metrics);
            for line in
                ["pilot_xds 1\n", "pilot_xds_pushes{type=\"rds\"} 2\n", "pilot_xds_pushes{type=\"cds\"} 1\n"]
            {
                assert!(metrics.contains(line), "{line} is not in\n{metrics}");
            }
            assert!(metrics.contains("pilot_proxy_convergence_time_count 2\n"), "{metrics}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_refusal_is_kept_with_its_reason() {
    with_client(
        node("production", "frontend"),
        peer(Some(FRONTEND), true),
        |plane, mut hears, refuse| async move {
            first_four(&mut hears).await;
            until(&plane.connections, synced).await;
            refuse.store(true, std::sync::atomic::Ordering::SeqCst);
            plane.worlds.set(world().with(&changes(&weights(50, 50))));
            let report =
                until(&plane.connections, |report| report.types["rds"].state == State::Rejected).await;
            let rejection = report.types["rds"].rejection.as_ref().unwrap();
            assert_eq!(
                (rejection.text.as_str(), rejection.resources.as_slice()),
                ("virtual_hosts[0]: no", &["8080".to_owned()][..])
            );
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["types"]["rds"]["state"], "rejected");
            let mut metrics = String::new();
            plane.metrics.render(&mut metrics);
            assert!(
                metrics.contains("pilot_xds_rds_reject 1\n")
                    && metrics.contains("pilot_total_xds_rejects 1\n")
            );
        },
    )
    .await;
}

#[tokio::test]
async fn somebody_else_gets_nothing() {
    with_client(
        node("production", "payment"),
        peer(Some(FRONTEND), true),
        |plane, mut hears, _| async move {
            let heard = hears.recv().await.unwrap();
            assert!(heard.contains("SERVICE_ACCOUNT is \"payment\"") && heard.contains(FRONTEND), "{heard}");
            assert_eq!(plane.connections.count(), 0);
        },
    )
    .await;
}

#[tokio::test]
async fn a_node_that_is_not_served_is_told_why() {
    let mut redirected = node("production", "frontend");
    redirected.metadata.as_mut().unwrap().fields.remove("INTERCEPTION_MODE");
    with_client(redirected, peer(Some(FRONTEND), true), |_, mut hears, _| async move {
        let heard = hears.recv().await.unwrap();
        assert!(heard.contains("INTERCEPTION_MODE"), "{heard}");
    })
    .await;
}
