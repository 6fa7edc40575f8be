use super::*;
use crate::testing::TestClock;
use clap::Parser;
use std::fs;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, selector: {app: a}, ports: [{name: http, port: 80}]}\n";

fn options(folder: &Path) -> Serve {
    let (config, data) = (folder.join("mesh"), folder.join("data"));
    let words = [
        "tulled".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--xds-address=127.0.0.1:0".as_ref(),
        "--monitoring-address=127.0.0.1:0".as_ref(),
    ];
    Options::try_parse_from(words).unwrap().serve.unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("mesh/production")).unwrap();
    fs::write(folder.path().join("mesh/production/a.yaml"), SERVICE).unwrap();
    folder
}

async fn until(store: &Store, state: impl Fn(&Store) -> bool) {
    let mut watch = store.watch();
    while !state(store) {
        watch.changed().await.unwrap();
    }
}

#[tokio::test]
async fn it_starts_reads_follows_and_stops() {
    let folder = folder();
    let options = options(folder.path());
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let started = start(&options, TestClock::new(), &tasks).await.unwrap();
    until(&started.store, Store::is_synced).await;
    assert_eq!(started.store.world().services().count(), 1);
    let second = start(&options, TestClock::new(), &tasks).await.unwrap_err().to_string();
    assert!(second.contains("another tulled"), "{second}");
    let more = SERVICE.replace("name: a", "name: b").replace("10.1", "10.2");
    fs::write(folder.path().join("mesh/production/b.yaml"), more).unwrap();
    until(&started.store, |store| store.world().services().count() == 2).await;
    drain.start();
    supervisor.run(Duration::from_secs(5)).await.unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&fs::read(options.data.join(ADDRESSES)).unwrap()).unwrap();
    assert_eq!(told["xds"], started.addresses.xds.to_string());
    assert_eq!(told["monitoring"], started.addresses.monitoring.to_string());
}

#[tokio::test]
async fn what_prevents_the_start_is_named() {
    let folder = folder();
    let (_drain, watch) = Drain::new();
    let tasks = Supervisor::new(watch).tasks();
    let refused =
        async |options: &Serve| start(options, TestClock::new(), &tasks).await.unwrap_err().to_string();
    let mut missing = options(folder.path());
    missing.config = folder.path().join("nothing");
    assert!(refused(&missing).await.contains("no such directory"));
    fs::write(folder.path().join("mesh/mesh.yaml"), "trustDomian: a.example\n").unwrap();
    let text = refused(&options(folder.path())).await;
    assert!(text.contains("mesh.yaml:1:1") && text.contains("trustDomain"), "{text}");
    fs::write(folder.path().join("mesh/mesh.yaml"), "trustDomain: a.example\n").unwrap();
    Authority::create(&folder.path().join("data"), "b.example", TestClock::new()).unwrap();
    let text = refused(&options(folder.path())).await;
    assert!(text.contains("a.example") && text.contains("b.example"), "{text}");
}

#[test]
fn tokens_and_roots_are_made_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |words: &[&str]| {
        let words = [&["tulled"], words, &["--data", data.to_str().unwrap()]].concat();
        once(Options::try_parse_from(words).unwrap().command.unwrap()).map_err(|error| error.to_string())
    };
    let create = ["token", "create", "--namespace", "production", "--service-account", "payment"];
    assert!(run(&create).unwrap_err().contains("tulled ca init --data"));
    assert!(run(&["ca", "init"]).unwrap().contains("cluster.local"));
    assert!(run(&["ca", "init"]).unwrap_err().contains("never replaced"));
    let token: crate::token::Token = run(&create).unwrap().parse().unwrap();
    let shown: serde_json::Value =
        serde_json::from_str(&run(&["ca", "show", "-o", "json"]).unwrap()).unwrap();
    assert_eq!(shown["pin"], crate::encoding::encode(&token.pin));
    assert!(!shown.to_string().contains("PRIVATE"));
}

mod ads {
    use super::*;
    use crate::testing::client::{Leaf, channel, connector, join};
    use protos::envoy::envoy::config::core::v3::Node;
    use protos::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
    use protos::envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
    use protos::envoy::google::protobuf::value::Kind;
    use protos::envoy::google::protobuf::{Struct, Value};
    use protos::observe::{Answer, FromProxy, ObserveClient, Question, Story};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::{Code, Status, Streaming};

    const MESH: &str = "apiVersion: v1
kind: Service
metadata: {name: payment-service}
spec: {clusterIP: 127.0.10.1, selector: {app: payment}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: payment-1, labels: {app: payment}}
spec: {address: 127.0.2.1, serviceAccount: payment, labels: {app: payment}}
";

    struct Mesh {
        options: Serve,
        _folder: tempfile::TempDir,
        started: Started,
        _drain: Drain,
        _supervisor: Supervisor,
    }

    async fn mesh() -> Mesh {
        let folder = folder();
        fs::write(folder.path().join("mesh/production/a.yaml"), MESH).unwrap();
        let options = options(folder.path());
        let (drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        let started = start(&options, TestClock::new(), &supervisor.tasks()).await.unwrap();
        Mesh { options, _folder: folder, started, _drain: drain, _supervisor: supervisor }
    }

    fn text(value: &str) -> Value {
        Value { kind: Some(Kind::StringValue(value.to_owned())) }
    }

    fn node(namespace: &str, account: &str) -> Node {
        let fields = [
            ("NAMESPACE", namespace),
            ("WORKLOAD_NAME", "payment-1"),
            ("SERVICE_ACCOUNT", account),
            ("INSTANCE_IPS", "127.0.2.1"),
            ("INTERCEPTION_MODE", "NONE"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), text(value)));
        Node {
            id: format!("sidecar~127.0.2.1~payment-1.{namespace}~{namespace}.svc.cluster.local"),
            cluster: format!("payment.{namespace}"),
            user_agent_name: "tulle-proxy".to_owned(),
            metadata: Some(Struct { fields: fields.into() }),
            ..Node::default()
        }
    }

    impl Mesh {
        fn root(&self) -> CertificateDer<'static> {
            CertificateDer::from_pem_file(self.options.data.join("ca/root-cert.pem")).unwrap()
        }

        async fn join(&self) -> Leaf {
            let data = self.options.data.to_str().unwrap();
            let words = [
                "tulled",
                "token",
                "create",
                "--namespace",
                "production",
                "--service-account",
                "payment",
                "--data",
                data,
            ];
            let token = once(Options::try_parse_from(words).unwrap().command.unwrap()).unwrap();
            let channel = channel(self.started.addresses.xds, connector(&self.root(), None)).await.unwrap();
            join(channel, Some(&token)).await.unwrap().0
        }

        async fn listeners(&self, leaf: Option<Leaf>, node: Node) -> Result<Listening, Status> {
            let channel = channel(self.started.addresses.xds, connector(&self.root(), leaf)).await.unwrap();
            let (requests, receiver) = tokio::sync::mpsc::channel(8);
            let first = DeltaDiscoveryRequest {
                node: Some(node),
                type_url: "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned(),
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(first).await.unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let mut client = AggregatedDiscoveryServiceClient::new(channel);
            let responses = client.delta_aggregated_resources(stream).await?.into_inner();
            let mut listening = Listening { requests, responses };
            listening.next().await?;
            Ok(listening)
        }
    }

    struct Listening {
        requests: tokio::sync::mpsc::Sender<DeltaDiscoveryRequest>,
        responses: Streaming<DeltaDiscoveryResponse>,
    }

    impl Listening {
        async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
            let response =
                self.responses.message().await?.ok_or_else(|| Status::aborted("the stream ended"))?;
            let ack = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            };
            self.requests.send(ack).await.unwrap();
            Ok(response)
        }
    }

    #[tokio::test]
    async fn a_workload_joins_is_served_and_sees_an_edit() {
        let mesh = mesh().await;
        let mut listening =
            mesh.listeners(Some(mesh.join().await), node("production", "payment")).await.unwrap();
        let file = mesh.options.config.join("production/a.yaml");
        // A broken edit, then a comment: neither is pushed; then a port that is.
        fs::write(&file, MESH.replace("port: 8080", "prt: 8080")).unwrap();
        let refused = |store: &Store| store.verdicts().resources.iter().any(|one| one.serving.is_some());
        while !refused(&mesh.started.store) {
            tokio::task::yield_now().await;
        }
        fs::write(&file, format!("# a comment\n{MESH}")).unwrap();
        let moved = |store: &Store| store.verdicts().resources.iter().any(|one| one.line == 2);
        while !moved(&mesh.started.store) {
            tokio::task::yield_now().await;
        }
        fs::write(&file, MESH.replace("port: 8080", "port: 8081, targetPort: 8081")).unwrap();
        let update = listening.next().await.unwrap();
        let names: Vec<&str> = update.resources.iter().map(|one| one.name.as_str()).collect();
        assert!(names.iter().any(|name| name.ends_with("8081")), "{names:?}");
        assert!(update.removed_resources.iter().any(|name| name.ends_with("8080")), "{update:?}");
    }

    #[tokio::test]
    async fn nobody_gets_what_is_anothers() {
        let mesh = mesh().await;
        let status = mesh.listeners(None, node("production", "payment")).await.err().unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        for (namespace, account) in [("outside", "payment"), ("production", "ledger")] {
            let leaf = Some(mesh.join().await);
            let status = mesh.listeners(leaf, node(namespace, account)).await.err().unwrap();
            assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
            let both = status.message().contains("payment") && status.message().contains("production");
            assert!(both, "{status:?}");
        }
    }

    impl Mesh {
        /// A proxy's reverse stream: what it sends, and the questions that come.
        async fn observe(
            &self,
            leaf: Option<Leaf>,
            node: Node,
        ) -> Result<(tokio::sync::mpsc::Sender<FromProxy>, Streaming<Question>), Status> {
            let channel = channel(self.started.addresses.xds, connector(&self.root(), leaf)).await.unwrap();
            let (sender, receiver) = tokio::sync::mpsc::channel(8);
            sender.send(FromProxy { node: Some(node), answer: None }).await.unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let questions = ObserveClient::new(channel, 1024).attach(stream).await?.into_inner();
            Ok((sender, questions))
        }

        async fn why(&self, request_id: &str) -> serde_json::Value {
            let mut tcp = tokio::net::TcpStream::connect(self.started.addresses.monitoring).await.unwrap();
            let request = format!(
                "GET /debug/why?request_id={request_id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            );
            tcp.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).await.unwrap();
            serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
        }
    }

    #[tokio::test]
    async fn a_proxy_is_asked_what_became_of_a_request() {
        let mesh = mesh().await;
        assert_eq!(mesh.why("id-1").await["asked"], 0, "nobody is there yet");
        let leaf = Some(mesh.join().await);
        let (sender, mut questions) = mesh.observe(leaf, node("production", "payment")).await.unwrap();
        let proxy = async {
            let question = questions.message().await.unwrap().unwrap();
            assert_eq!(question.request_id, "id-1");
            let story = Story { status: 503, flags: "UH".to_owned(), ..Story::default() };
            // An answer to a question that nobody asked is not taken.
            let answer = |id, seen| Answer { id, seen, stories: vec![story.clone()], ..Answer::default() };
            for answer in [answer(question.id + 1, true), answer(question.id, true)] {
                sender.send(FromProxy { node: None, answer: Some(answer) }).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(mesh.why("id-1"), proxy);
        assert_eq!(found["seen_by"][0], "production/payment-1", "{found}");
        assert_eq!(found["hops"].as_array().unwrap().len(), 1);
        assert_eq!(found["hops"][0]["reason"]["code"], "no-healthy-upstream");
        // Whoever does not answer is named, and whoever has gone is not asked.
        assert_eq!(mesh.why("id-2").await["silent"][0], "production/payment-1");
        drop((sender, questions));
        while mesh.why("id-3").await["asked"] != 0 {}
    }

    #[tokio::test]
    async fn a_proxy_that_came_again_is_asked_once_though_its_old_stream_has_not_ended() {
        let mesh = mesh().await;
        let old = mesh.observe(Some(mesh.join().await), node("production", "payment")).await.unwrap();
        assert_eq!(mesh.why("id-1").await["asked"], 1);
        let (sender, mut questions) =
            mesh.observe(Some(mesh.join().await), node("production", "payment")).await.unwrap();
        let proxy = async {
            let question = questions.message().await.unwrap().unwrap();
            let answer = Some(Answer { id: question.id, seen: true, ..Answer::default() });
            sender.send(FromProxy { node: None, answer }).await.unwrap();
        };
        let (found, ()) = tokio::join!(mesh.why("id-2"), proxy);
        assert_eq!((&found["asked"], &found["seen_by"][0]), (&1.into(), &"production/payment-1".into()));
        drop(old);
    }

    #[tokio::test]
    async fn nobody_answers_for_another_workload() {
        let mesh = mesh().await;
        let status = mesh.observe(None, node("production", "payment")).await.err().unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        let leaf = Some(mesh.join().await);
        let status = mesh.observe(leaf, node("production", "ledger")).await.err().unwrap();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
}
