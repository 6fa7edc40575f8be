//! One worker with its manager, upstreams and listeners for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::model::{
    Address, CertificateSource, Direction, DownstreamTls, FilterChain, FilterChainMatch, Listener,
    NetworkFilter, Roots, SanMatcher, SanType, StringMatch, StringMatcher, TcpCluster, TcpProxy,
    TlsParameters, TlsVersion, TransportSocket, TrustSource, UpstreamTls,
};
use runtime::{Drain, Supervisor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::chain::Parts;
use super::{ConnectionLimit, Manager, Worker};
use crate::filter::{self, Shared};
use crate::route::LiveRouting;
use crate::state::Snapshot;
use crate::tcp::Forwarder;
use crate::tls::testing::{Authority, Leaf};
use crate::tls::{ClientTls, Secrets, pem};
use crate::upstream::testing::{assignment, cluster, endpoint, environment};

/// Longer than anything takes.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The workload of the bench.
pub const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
/// One of its callers.
pub const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";
const PARAMETERS: TlsParameters = TlsParameters { minimum: TlsVersion::V1_2, maximum: TlsVersion::V1_3 };

/// An upstream that answers each byte with its name.
pub async fn upstream(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(name.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// A server that greets whoever connects, as mail servers and databases do, and then answers each byte with `!`.
pub async fn greeter(greeting: &'static [u8]) -> (SocketAddr, Rc<RefCell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Rc::new(RefCell::new(0)));
    let count = accepted.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *count.borrow_mut() += 1;
            tokio::task::spawn_local(async move {
                let _ = stream.write_all(greeting).await;
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(b"!").await.unwrap();
                }
            });
        }
    });
    (address, accepted)
}

/// The forwarding of bytes to a cluster.
pub fn proxy_to(cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: "test".into(),
        cluster: TcpCluster::One(cluster.into()),
        idle_timeout: None,
        max_connection_duration: None,
        duration_jitter_percent: 0.0,
        max_connect_attempts: 1,
        access_log: Vec::new(),
    }
}

/// A plaintext chain that ends in that filter.
pub fn chain(matcher: FilterChainMatch, last: NetworkFilter) -> FilterChain {
    FilterChain {
        name: "".into(),
        matcher,
        tls: None,
        transport_socket_connect_timeout: None,
        filters: vec![last],
    }
}

/// The same behind mutual TLS.
pub fn mutual(matcher: FilterChainMatch, last: NetworkFilter) -> FilterChain {
    let tls = DownstreamTls {
        require_client_certificate: true,
        parameters: PARAMETERS,
        alpn: vec!["istio".into()],
        certificate: CertificateSource::Sds("default".into()),
        trust: Some(trust(StringMatch::Prefix("spiffe://cluster.local/".into()))),
    };
    FilterChain { tls: Some(Arc::new(tls)), ..chain(matcher, last) }
}

/// Takes connections of that transport protocol.
pub fn speaking(protocol: &str) -> FilterChainMatch {
    FilterChainMatch { transport_protocol: protocol.into(), ..FilterChainMatch::default() }
}

fn trust(pattern: StringMatch) -> TrustSource {
    let matcher = StringMatcher { pattern, ignore_case: false };
    let sans = vec![SanMatcher { kind: Some(SanType::Uri), matcher }];
    TrustSource { roots: Roots::Sds("ROOTCA".into()), sans, spki: vec![], certificate_hash: vec![] }
}

/// Mutual TLS to the workload of the bench.
pub fn to_payment() -> UpstreamTls {
    UpstreamTls {
        sni: "payment".into(),
        parameters: PARAMETERS,
        alpn: vec!["istio".into()],
        certificate: Some(CertificateSource::Sds("default".into())),
        trust: trust(StringMatch::Exact(PAYMENT.into())),
    }
}

/// A listener with these chains.
pub fn listening(address: SocketAddr, filter_chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: "in".into(),
        address: Address::Socket(address),
        bind_to_port: true,
        direction: Direction::Inbound,
        listener_filters: Vec::new(),
        listener_filters_timeout: Some(LIMIT),
        continue_on_listener_filters_timeout: false,
        filter_chains,
        default_filter_chain: None,
        tcp_backlog_size: None,
        access_log: vec![],
    }
}

/// A listener that forwards to a cluster.
pub fn listener(address: SocketAddr, to: &str, backlog: u32) -> Arc<Listener> {
    let forward = chain(FilterChainMatch::default(), NetworkFilter::Tcp(Arc::new(proxy_to(to))));
    Arc::new(Listener { tcp_backlog_size: Some(backlog), ..listening(address, vec![forward]) })
}

/// One worker and its manager.
pub struct Bench {
    /// Owner of the listeners.
    pub manager: Manager,
    /// What workers share.
    pub shared: Arc<Shared>,
    /// A free address.
    pub address: SocketAddr,
    snapshot: Snapshot,
    root: Authority,
    _drain: Drain,
    _supervisor: Supervisor,
}

impl Bench {
    /// A worker for at most `limit` connections, with a certificate and the clusters `a` and `b`.
    pub async fn new(limit: u64) -> Bench {
        let environment = environment();
        let root = Authority::new("root");
        let secrets = environment.secrets.clone();
        identify(&secrets, &root, PAYMENT);
        let registry = environment.registry.clone();
        let routing = LiveRouting::new(environment);
        let shared = Shared::new(&crate::filter::testing::node("payment"), registry, routing);
        let (drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        let (sender, commands) = mpsc::unbounded_channel();
        let http = filter::Worker::new(&shared);
        let worker = Rc::new(Worker {
            tasks: supervisor.tasks(),
            limit: ConnectionLimit::new(limit),
            http: http.clone(),
            failures: Default::default(),
            tcp: Forwarder::new(http),
        });
        tokio::task::spawn_local(super::worker::run(worker, commands));
        let manager =
            Manager::new(vec![sender], Parts { shared: shared.clone(), secrets }, Default::default());
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let snapshot = Snapshot::default();
        let mut bench =
            Bench { manager, shared, address, snapshot, root, _drain: drain, _supervisor: supervisor };
        for name in ["a", "b"] {
            bench.cluster(name, upstream(name).await, TransportSocket::RawBuffer);
        }
        bench
    }

    /// Pushes a cluster with one endpoint.
    pub fn cluster(&mut self, name: &str, at: SocketAddr, socket: TransportSocket) {
        let mut config = cluster(name);
        config.transport_socket = socket;
        self.snapshot.clusters.insert(name.into(), Arc::new(config));
        self.snapshot.assignments.insert(name.into(), assignment(name, vec![endpoint(&at.to_string(), 1)]));
        assert_eq!(self.shared.routing.apply(&self.snapshot), []);
    }

    /// The one listener, or none.
    pub fn apply(&mut self, wanted: Option<Arc<Listener>>) {
        let wanted = wanted.into_iter().map(|listener| (listener.name.clone(), listener));
        assert!(
            self.manager.reconcile(&wanted.collect::<BTreeMap<_, _>>()),
            "{:?}",
            self.manager.listening().failures()
        );
    }

    /// A connection in plaintext.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What calls the bench with mutual TLS as `web`.
    pub fn caller(&self) -> ClientTls {
        let secrets = Secrets::new();
        identify(&secrets, &self.root, WEB);
        ClientTls::new(&to_payment(), &secrets).unwrap()
    }
}

fn identify(secrets: &Secrets, root: &Authority, id: &str) {
    let issued = root.issue(Leaf::new(&[id]));
    let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
    let key = pem::certified_key(secrets.provider(), "test", vec![issued.chain[0].clone()], key).unwrap();
    secrets.install(key, vec![root.certificate.clone()], SystemTime::now()).unwrap();
}

/// What a real TLS client says first.
pub fn hello(name: &str) -> Vec<u8> {
    let roots = pem::roots("test", &[Authority::new("root").certificate]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"istio-http/1.1".to_vec(), b"istio".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// One byte there, one back.
pub async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"?").await?;
    stream.read_u8().await
}

/// Runs a test where tasks may stay on their thread.
pub async fn on_local<F: Future>(test: F) -> F::Output {
    LocalSet::new().run_until(test).await
}
