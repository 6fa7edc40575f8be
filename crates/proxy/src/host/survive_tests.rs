//! A sidecar that starts while there is no control plane: from its sealed snapshot and its saved identity, or not at all.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use protos::Message as _;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::json::Pool;
use xds::order;

use super::survive::Survival;
use super::tests::{LIMIT, Proxy, at, exchange, filters, free_port, upstream};
use crate::identity::material::Material;
use crate::identity::store::{SNAPSHOT, Store};
use crate::state::sealed::{Content, Saved};
use crate::state::{Builder, Checks, Live, SealedStatus};
use crate::tls::testing::{Authority, Leaf};
use crate::tls::{Secrets, pem};

const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
const NODE: &str = "node-1 payment.production";

/// A workload's folder with its bootstrap, identity and snapshot.
struct Workload {
    place: tempfile::TempDir,
    admin: SocketAddr,
    port: u16,
}

fn material(leaf: Leaf) -> Material {
    let ca = Authority::new("root");
    let issued = ca.issue(leaf);
    Material::from_pem(format!("{}{}{}", issued.key_pem, issued.leaf_pem, ca.pem).as_bytes()).unwrap()
}

fn saved(type_url: &str, name: &str, message: &impl protos::Message) -> Saved {
    let (type_url, name) = (type_url.to_owned(), name.to_owned());
    Saved { type_url, name, version: "1".to_owned(), value: message.encode_to_vec() }
}

impl Workload {
    /// Somebody whose snapshot forwards a free port to `app`.
    fn new(app: SocketAddr) -> Workload {
        let (place, port) = (tempfile::tempdir().unwrap(), free_port());
        let workload = Workload { place, admin: at(free_port()), port };
        workload.write_bootstrap();
        let store = workload.store();
        store.save(&material(Leaf::new(&[PAYMENT]))).unwrap();
        store.save_snapshot(&workload.content(NODE, app).encode_to_vec()).unwrap();
        workload
    }

    fn state(&self) -> PathBuf {
        self.place.path().join("state")
    }

    fn store(&self) -> Store {
        let store = Store::open(&self.state()).unwrap();
        store.load().unwrap();
        store
    }

    fn content(&self, node: &str, app: SocketAddr) -> Content {
        let pool = Pool::load().unwrap();
        let listener: Listener = pool
            .from_yaml(&format!(
                "{{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}, filter_chains: [{{filters: {}}}]}}",
                self.port,
                filters()
            ))
            .unwrap();
        let cluster: Cluster = pool
            .from_yaml(&format!(
                "{{name: app, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}}}",
                app.ip(),
                app.port()
            ))
            .unwrap();
        let resources = vec![saved(order::CLUSTER, "app", &cluster), saved(order::LISTENER, "in", &listener)];
        Content { node: node.to_owned(), bundle: String::new(), saved: 1_700_000_000, resources }
    }

    /// Its control plane is an address on which nobody listens.
    fn write_bootstrap(&self) {
        let dead = at(free_port());
        let text = format!(
            r#"
node:
  id: node-1
  cluster: payment.production
  metadata:
    NAMESPACE: production
    SERVICE_ACCOUNT: payment
    TULLE_IDENTITY: {{ca_address: "{dead}", state_directory: "{}", trust_domain: cluster.local}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}
dynamic_resources:
  ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment: {{cluster_name: xds, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}
"#,
            self.state().display(),
            self.admin.port(),
            dead.port()
        );
        std::fs::write(self.place.path().join("bootstrap.yaml"), text).unwrap();
    }

    fn start(&self) -> Proxy {
        Proxy::of_file(self.place.path().join("bootstrap.yaml"), self.admin)
    }

    fn snapshot(&self) -> PathBuf {
        self.state().join(SNAPSHOT)
    }
}

#[test]
fn it_serves_from_its_snapshot_and_says_so() {
    let (asked, _seen) = mpsc::channel();
    let workload = Workload::new(upstream("hello", None, asked));
    let proxy = workload.start().wait_ready();
    let answer = exchange(at(workload.port), "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let info = proxy.get("/server_info");
    assert!(
        info.contains("\"source\": \"sealed snapshot\"") && info.contains("2023-11-14T22:13:20Z"),
        "{info}"
    );
    let metrics = proxy.get("/stats/prometheus");
    for wanted in
        ["tulle_snapshot_in_use 1", "tulle_snapshot_refused 0", "tulle_certificate_expiry_seconds 8"]
    {
        assert!(metrics.contains(wanted), "no {wanted:?} in {metrics}");
    }
    let verbose = proxy.get("/ready?verbose");
    for wanted in
        ["LIVE", "certificate: ends at", "renewal: next at", "snapshot: in use", "xDS: not connected"]
    {
        assert!(verbose.contains(wanted), "no {wanted:?} in {verbose}");
    }
    proxy.end();
}

/// Starts with a snapshot that `spoil` has changed; nothing of it may be in use, and the reason is shown.
fn refused(spoil: impl FnOnce(&Workload), reason: &str) {
    let workload = Workload::new(at(1));
    spoil(&workload);
    let proxy = workload.start().wait_until("/server_info", reason);
    assert!(proxy.get("/ready").contains("INITIALIZING"));
    assert!(proxy.get("/stats/prometheus").contains("tulle_snapshot_refused 1"));
    assert!(!proxy.get("/config_dump").contains("\"app\""), "half of it is in use");
    assert!(TcpStream::connect(at(workload.port)).is_err(), "its listener is open");
    proxy.end();
}

#[test]
fn a_torn_snapshot_is_refused() {
    refused(
        |workload| {
            let bytes = std::fs::read(workload.snapshot()).unwrap();
            std::fs::write(workload.snapshot(), &bytes[..bytes.len() / 2]).unwrap();
        },
        "is torn",
    );
}

#[test]
fn a_changed_snapshot_is_refused() {
    refused(
        |workload| {
            let mut bytes = std::fs::read(workload.snapshot()).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(workload.snapshot(), bytes).unwrap();
        },
        "it was changed",
    );
}

#[test]
fn another_workloads_snapshot_is_refused() {
    refused(
        |workload| {
            let other = Workload::new(at(1));
            std::fs::copy(other.snapshot(), workload.snapshot()).unwrap();
        },
        "belongs to another workload",
    );
}

#[test]
fn another_nodes_snapshot_is_refused() {
    refused(
        |workload| {
            let content = workload.content("node-2 payment.production", at(1));
            workload.store().save_snapshot(&content.encode_to_vec()).unwrap();
        },
        "it was made by the node",
    );
}

#[test]
fn another_formats_snapshot_is_refused() {
    refused(
        |workload| {
            let mut bytes = std::fs::read(workload.snapshot()).unwrap();
            bytes[11] = 0;
            std::fs::write(workload.snapshot(), bytes).unwrap();
        },
        "it has format 0",
    );
}

#[test]
fn a_snapshot_with_a_resource_that_this_program_refuses_is_refused_whole() {
    refused(
        |workload| {
            let mut content = workload.content(NODE, at(1));
            content.resources.push(Saved {
                type_url: order::CLUSTER.to_owned(),
                name: "bad".to_owned(),
                version: "1".to_owned(),
                value: vec![0xff],
            });
            workload.store().save_snapshot(&content.encode_to_vec()).unwrap();
        },
        "cds bad: ",
    );
}

#[test]
fn an_expired_identity_is_named_with_both_clocks_and_a_remedy() {
    let workload = Workload::new(at(1));
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let store = workload.store();
    store.save(&material(Leaf::new(&[PAYMENT]).valid(now - 3 * hour, now - hour))).unwrap();
    let proxy = workload.start().wait_until("/ready", "identity: ");
    let page = proxy.get("/ready");
    assert!(page.contains("no join token") || page.contains("expired at"), "{page}");
    assert!(proxy.get("/server_info").contains("\"source\": \"sealed snapshot\""));
    proxy.end();
}

/// The writer by itself, with a builder that has a configuration.
fn writer(place: &Path) -> (Survival, Builder, SealedStatus, Arc<Secrets>) {
    let store = Arc::new(Store::open(place).unwrap());
    store.save(&material(Leaf::new(&[PAYMENT]))).unwrap();
    let (secrets, status) = (Secrets::new(), SealedStatus::default());
    let node = config::model::Node {
        id: "node-1".into(),
        cluster: "payment.production".into(),
        metadata: Default::default(),
        locality: Default::default(),
    };
    let checks = Checks { listener: Box::new(|_| Ok(())), cluster: Box::new(|_| Ok(())) };
    let builder = Builder::new(Live::new(), checks, true, true);
    (Survival::new(store, secrets.clone(), &node, status.clone()), builder, status, secrets)
}

#[tokio::test]
async fn a_disk_that_refuses_is_counted_and_tried_again_and_equal_content_is_not_written_twice() {
    let place = tempfile::tempdir().unwrap();
    let (survival, mut builder, status, secrets) = writer(place.path());
    let (asked, _seen) = mpsc::channel();
    let content = Workload::new(upstream("x", None, asked)).content(NODE, at(1));
    builder.restore(&content.by_type()).unwrap();
    let builder = std::rc::Rc::new(std::cell::RefCell::new(builder));
    let blocked = place.path().join(format!(".{SNAPSHOT}.{}", std::process::id()));
    std::fs::create_dir(&blocked).unwrap();
    let (_drain, watch) = runtime::Drain::new();
    let keeping = survival.keep(builder.clone(), watch);
    let issue = || {
        let ca = Authority::new("root");
        let issued = ca.issue(Leaf::new(&[PAYMENT]));
        let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
        let key = pem::certified_key(secrets.provider(), "test", vec![issued.chain[0].clone()], key).unwrap();
        secrets.install(key, vec![ca.certificate.clone()], SystemTime::now()).unwrap();
    };
    let script = async {
        let until = async |what: &dyn Fn() -> bool| {
            while !what() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        issue();
        until(&|| status.facts().write_failures == 1).await;
        assert!(status.facts().failure.is_some() && !place.path().join(SNAPSHOT).exists());
        std::fs::remove_dir(&blocked).unwrap();
        until(&|| status.facts().writes == 1).await;
        let facts = status.facts();
        assert!(facts.failure.is_none() && facts.bytes > 0 && place.path().join(SNAPSHOT).exists());
        // Another bundle is another content; the same again is not.
        issue();
        until(&|| status.facts().writes == 2).await;
    };
    tokio::select! {
        biased;
        () = keeping => panic!("the writer ended"),
        result = tokio::time::timeout(LIMIT, script) => result.unwrap(),
    }
}
