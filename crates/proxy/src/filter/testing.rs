//! Connection managers, routes and scripted upstreams for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::model::{
    AccessLog, AccessLogFormat, AccessLogLayout, AccessLogOutput, AccessLogSink, BackOff, ClientCertDetails,
    ClusterSpecifier, Codec, Direction, DomainIndex, EscapedSlashes, Format, Forward, ForwardClientCert,
    HeaderOperations, HeaderSource, HeadersWithUnderscores, HostRewrite, Http1Options, HttpConnectionManager,
    HttpFilter, HttpFilterKind, LoadAssignment, Node, Operator, PathMatch, PathRewrite, PeerMetadataFilter,
    Priority, RetryOn, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, RouteSource,
    RouterFilter, ServerHeader, StatsFilter, StripPort, Token, Value, VirtualHost, WeightedCluster,
    WeightedClusters,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ConnectionManager, Downstream, HttpChain, Shared, Worker};
use crate::http::{Body, BodyLength, Handler, Headers, Informational, RequestHead, Scheme, Version};
use crate::route::LiveRouting;
use crate::state::Snapshot;
use crate::telemetry::{Registry, prometheus};
use crate::tls::testing::{Authority, Leaf};
use crate::tls::{Peer, Secrets, Session};
use crate::upstream::Environment;
use crate::upstream::testing::{assignment, cluster, endpoint};

/// What a scripted upstream does with the next request.
#[derive(Clone)]
pub enum Script {
    /// Answers with these bytes and goes on.
    Answer(String),
    /// Answers with these bytes, then closes.
    AnswerAndClose(String),
    /// Answers in part, and then is silent.
    AnswerAndWait(String),
    /// Closes without a byte.
    Close,
    /// Says nothing.
    Silence,
}

/// An HTTP/1 server on loopback that records what it got.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// The requests, head and body as text.
    pub requests: Rc<RefCell<Vec<String>>>,
    /// Connections accepted.
    pub connections: Rc<RefCell<usize>>,
}

/// `200 OK` with that body.
pub fn ok(body: &str) -> Script {
    Script::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

impl Upstream {
    /// Starts one; `script` says what happens with the n-th request.
    pub async fn start(script: impl Fn(usize) -> Script + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
        let script = Rc::new(script);
        let (seen, accepted) = (requests.clone(), connections.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *accepted.borrow_mut() += 1;
                tokio::task::spawn_local(serve(stream, seen.clone(), script.clone()));
            }
        });
        Self { address, requests, connections }
    }
}

async fn serve(mut stream: TcpStream, seen: Rc<RefCell<Vec<String>>>, script: Rc<impl Fn(usize) -> Script>) {
    let mut buffer = Vec::new();
    loop {
        let Some(request) = read_request(&mut stream, &mut buffer).await else { return };
        let number = {
            let mut seen = seen.borrow_mut();
            seen.push(request);
            seen.len() - 1
        };
        match script(number) {
            Script::Answer(bytes) => stream.write_all(bytes.as_bytes()).await.unwrap(),
            Script::AnswerAndClose(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                return;
            }
            Script::AnswerAndWait(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            }
            Script::Close => return,
            Script::Silence => std::future::pending().await,
        }
    }
}

/// The next request on a connection, as text.
pub async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let lower = text[..end].to_ascii_lowercase();
            let length = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                buffer.drain(..end + 4 + length);
                return Some(text[..end + 4 + length].to_owned());
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A proxy with one connection manager and one worker.
pub struct Proxy {
    /// What workers share.
    pub shared: Arc<Shared>,
    /// The worker.
    pub worker: Rc<Worker>,
    chain: Arc<HttpChain>,
    snapshot: RefCell<Snapshot>,
}

/// An answer, whole.
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
    /// Body; what came before a failure.
    pub body: Bytes,
    /// The body broke off.
    pub broken: bool,
}

impl Proxy {
    /// A proxy with that connection manager, beside the workload `frontend`.
    pub fn new(config: HttpConnectionManager, direction: Direction) -> Self {
        Self::of("frontend", config, direction, Secrets::new())
    }

    /// A proxy beside that workload, with its certificates.
    pub fn of(
        workload: &str,
        config: HttpConnectionManager,
        direction: Direction,
        secrets: Arc<Secrets>,
    ) -> Self {
        let registry = Arc::new(Registry::new());
        let routing = LiveRouting::new(Environment::new(registry.clone(), secrets));
        let shared = Shared::new(&node(workload), registry, routing);
        let worker = Worker::new(&shared);
        let chain = HttpChain::build(&Arc::new(config), direction, &shared).unwrap();
        Self { shared, worker, chain, snapshot: RefCell::default() }
    }

    /// Pushes clusters with their endpoints; what was pushed before stays.
    pub fn push_clusters(&self, clusters: &[(&str, &[SocketAddr])]) {
        let mut snapshot = self.snapshot.borrow_mut();
        for (name, addresses) in clusters {
            let endpoints = addresses.iter().map(|address| endpoint(&address.to_string(), 1)).collect();
            snapshot.clusters.insert((*name).into(), Arc::new(cluster(name)));
            snapshot.assignments.insert((*name).into(), assignment(name, endpoints));
        }
        assert_eq!(self.shared.routing.apply(&snapshot), []);
    }

    /// Pushes one cluster.
    pub fn push_cluster(&self, config: config::model::Cluster, endpoints: Arc<LoadAssignment>) {
        let mut snapshot = self.snapshot.borrow_mut();
        snapshot.assignments.insert(config.name.clone(), endpoints);
        snapshot.clusters.insert(config.name.clone(), Arc::new(config));
        assert_eq!(self.shared.routing.apply(&snapshot), []);
    }

    /// Pushes the route configuration `routes`.
    pub fn push_routes(&self, routes: RouteConfiguration) {
        let mut snapshot = self.snapshot.borrow_mut();
        snapshot.routes.insert("routes".into(), Arc::new(routes));
        assert_eq!(self.shared.routing.apply(&snapshot), []);
    }

    /// A downstream connection.
    pub fn connection(&self, session: Option<Session>) -> ConnectionManager {
        let downstream = Downstream {
            local: "127.0.1.1:8080".parse().unwrap(),
            remote: "127.0.2.1:40000".parse().unwrap(),
            session,
            passed_server_name: None,
        };
        ConnectionManager::new(&self.worker, &self.chain, downstream)
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, target: &'static str, fields: &[(&'static str, &'static str)]) -> Answer {
        call(&self.connection(None), get(target, fields), Body::empty()).await
    }

    /// The metrics as text.
    pub fn metrics(&self) -> String {
        prometheus::render(&self.shared.registry, prometheus::Format::Text)
    }

    /// What stands behind a metric whose line has all of `parts`.
    pub fn metric(&self, name: &str, parts: &[&str]) -> Option<String> {
        let text = self.metrics();
        let line = text.lines().find(|line| {
            line.starts_with(&format!("{name}{{")) && parts.iter().all(|part| line.contains(part))
        })?;
        line.rsplit(' ').next().map(str::to_owned)
    }
}

/// A GET for `payment:8080`.
pub fn get(target: &'static str, fields: &[(&'static str, &'static str)]) -> RequestHead {
    RequestHead {
        method: http::Method::GET,
        scheme: Scheme::Http,
        authority: "payment:8080".into(),
        target: target.into(),
        version: Version::Http11,
        headers: fields.iter().copied().collect(),
        length: BodyLength::None,
        upgrade: None,
    }
}

/// Sends a request to a connection manager and reads the whole answer.
pub async fn call(manager: &ConnectionManager, head: RequestHead, body: Body) -> Answer {
    let (head, mut body) = manager.handle(head, body, Informational::none()).await;
    let (mut all, mut broken) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(crate::http::Frame::Data(data)) => all.extend_from_slice(&data),
            Ok(crate::http::Frame::Trailers(_)) => {}
            Err(_) => broken = true,
        }
    }
    Answer { status: head.status, headers: head.headers, body: all.into(), broken }
}

/// Runs a test on a `LocalSet`.
pub async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

/// The session of a connection from a mesh peer with that id.
pub fn mesh_session(id: &str) -> Session {
    let leaf = Authority::new("root").issue(Leaf::new(&[id]));
    Session {
        peer: Some(Arc::new(Peer::parse(&leaf.chain[0]).unwrap())),
        local_uri: Some("spiffe://cluster.local/ns/production/sa/own".into()),
        sni: None,
        alpn: None,
        version: "TLSv1.3",
    }
}

/// A node of that workload.
pub fn node(workload: &str) -> Node {
    let text = |value: &str| Value::String(value.into());
    let labels = BTreeMap::from([("app".into(), text(workload)), ("version".into(), text("v1"))]);
    Node {
        id: format!("sidecar~127.0.2.1~{workload}.production~production.svc.cluster.local").into(),
        cluster: format!("{workload}.production").into(),
        metadata: BTreeMap::from([
            ("NAME".into(), text(workload)),
            ("NAMESPACE".into(), text("production")),
            ("WORKLOAD_NAME".into(), text(workload)),
            ("CLUSTER_ID".into(), text("here")),
            ("LABELS".into(), Value::Map(labels)),
        ]),
        locality: Default::default(),
    }
}

/// A route of everything to an action.
pub fn route(name: &str, action: RouteAction) -> Route {
    Route {
        name: name.into(),
        origin: None,
        matcher: RouteMatch {
            path: PathMatch::Prefix("/".into()),
            case_sensitive: true,
            headers: vec![],
            query_parameters: vec![],
            grpc: false,
            runtime_fraction: None,
        },
        action,
        tracing: None,
        decorator: None,
        request_headers: HeaderOperations::default(),
        response_headers: HeaderOperations::default(),
    }
}

/// Sends to that cluster.
pub fn forward(cluster: ClusterSpecifier) -> Forward {
    Forward {
        cluster,
        cluster_not_found_status: 503,
        path_rewrite: PathRewrite::Keep,
        host_rewrite: HostRewrite::Keep,
        append_x_forwarded_host: false,
        timeout: None,
        idle_timeout: None,
        max_stream_duration: None,
        max_grpc_timeout: None,
        grpc_timeout_offset: None,
        retry: None,
        request_body_buffer_limit: None,
        upgrades: vec![],
        connect_to_tcp: None,
        priority: Priority::Default,
    }
}

/// Sends to that cluster.
pub fn to(cluster: &str) -> RouteAction {
    RouteAction::Forward(Box::new(forward(ClusterSpecifier::Cluster(cluster.into()))))
}

/// Sends to that cluster, and again as the policy says.
pub fn retrying(cluster: &str, retry: RetryPolicy) -> RouteAction {
    let mut forward = forward(ClusterSpecifier::Cluster(cluster.into()));
    forward.retry = Some(Arc::new(retry));
    RouteAction::Forward(Box::new(forward))
}

/// Two retries on other hosts on these conditions, without a wait to speak of.
pub fn retry_policy(on: &str) -> RetryPolicy {
    RetryPolicy {
        on: on.split(',').filter_map(RetryOn::named).fold(RetryOn::NONE, RetryOn::with),
        retries: 2,
        per_try_timeout: None,
        per_try_idle_timeout: None,
        back_off: BackOff { base: Duration::from_millis(1), max: Duration::from_millis(1) },
        rate_limited: None,
        status_codes: vec![503],
        headers: vec![],
        request_headers: vec![],
        other_hosts: true,
        host_selection_attempts: 5,
        is_default: false,
    }
}

/// The mesh's default.
pub fn default_retries() -> RetryPolicy {
    let on = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    RetryPolicy { is_default: true, ..retry_policy(on) }
}

/// Sends to clusters by weight.
pub fn split(weights: &[(&str, u32)]) -> RouteAction {
    let clusters = weights.iter().map(|(name, weight)| WeightedCluster {
        name: (*name).into(),
        weight: *weight,
        request_headers: HeaderOperations::default(),
        response_headers: HeaderOperations::default(),
        host_rewrite: None,
    });
    let total = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let weighted = WeightedClusters { clusters: clusters.collect(), total };
    RouteAction::Forward(Box::new(forward(ClusterSpecifier::Weighted(weighted))))
}

/// Routes of the one virtual host `payment:8080`.
pub fn routes(routes: Vec<Route>) -> RouteConfiguration {
    let mut domains = DomainIndex::default();
    domains.insert("payment:8080", 0).unwrap();
    RouteConfiguration {
        name: "routes".into(),
        virtual_hosts: vec![VirtualHost {
            name: "payment.production.svc.cluster.local:8080".into(),
            domains: vec!["payment:8080".into()],
            routes: routes.into_iter().map(Arc::new).collect(),
            request_headers: HeaderOperations::default(),
            response_headers: HeaderOperations::default(),
            retry: None,
            request_body_buffer_limit: None,
            include_request_attempt_count: true,
            include_attempt_count_in_response: false,
        }],
        domains,
        request_headers: HeaderOperations::default(),
        response_headers: HeaderOperations::default(),
        most_specific_header_mutations_wins: false,
        ignore_port_in_host_matching: false,
        ignore_path_parameters: false,
        internal_only_headers: vec![],
    }
}

/// A sidecar's connection manager: RDS `routes`, peer metadata, stats, router; `more` filters stand before stats.
pub fn sidecar(more: Vec<HttpFilterKind>) -> HttpConnectionManager {
    let mut config = manager();
    config.route = RouteSource::Rds { name: "routes".into() };
    config.server_name = "istio-envoy".into();
    let everything = PeerMetadataFilter {
        downstream_discovery: true,
        upstream_discovery: true,
        downstream_propagation: true,
        upstream_propagation: true,
        skip_external_clusters: true,
    };
    let stats = StatsFilter {
        disable_host_header_fallback: false,
        tcp_reporting_duration: Duration::from_secs(5),
        metrics: Vec::new(),
    };
    let mut kinds = vec![HttpFilterKind::PeerMetadata(everything)];
    kinds.extend(more);
    kinds.extend([HttpFilterKind::Stats(stats), HttpFilterKind::Router(RouterFilter::default())]);
    config.http_filters = kinds.into_iter().map(|kind| HttpFilter { name: "filter".into(), kind }).collect();
    config
}

/// An access log of a few fields into a file.
pub fn log_to(path: &str) -> AccessLog {
    let request = |name: &str| Operator::Request(HeaderSource { name: name.into(), alternative: None });
    let operators = [
        request(":method"),
        request(":path"),
        Operator::ResponseCode,
        Operator::ResponseFlags,
        Operator::ResponseCodeDetails,
        Operator::BytesReceived,
        Operator::BytesSent,
        Operator::UpstreamCluster,
        Operator::UpstreamHost,
        Operator::RouteName,
    ];
    let mut tokens = Vec::new();
    for operator in operators {
        tokens.push(Token::Operator { operator, max_length: None });
        tokens.push(Token::Literal(" ".into()));
    }
    tokens.push(Token::Literal("\n".into()));
    AccessLog {
        output: AccessLogOutput::Lines {
            sink: AccessLogSink::File(path.into()),
            format: AccessLogFormat {
                layout: AccessLogLayout::Text(Format { tokens }),
                omit_empty_values: false,
            },
        },
        filter: None,
    }
}

/// A connection manager with Envoy's defaults and no filters.
pub fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "test".into(),
        codec: Codec::Auto,
        route: RouteSource::Inline(Arc::new(RouteConfiguration {
            name: "none".into(),
            virtual_hosts: vec![],
            domains: Default::default(),
            request_headers: Default::default(),
            response_headers: Default::default(),
            most_specific_header_mutations_wins: false,
            ignore_port_in_host_matching: false,
            ignore_path_parameters: false,
            internal_only_headers: vec![],
        })),
        http_filters: vec![],
        access_log: vec![],
        request_headers_timeout: None,
        request_timeout: None,
        stream_idle_timeout: None,
        max_stream_duration: None,
        idle_timeout: None,
        max_connection_duration: None,
        drain_timeout: Duration::from_secs(5),
        delayed_close_timeout: None,
        max_request_headers_bytes: 60 * 1024,
        max_headers_count: 100,
        max_requests_per_connection: None,
        headers_with_underscores: HeadersWithUnderscores::Allow,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        strip_port: StripPort::Keep,
        strip_trailing_host_dot: false,
        forward_client_cert: ForwardClientCert::Sanitize,
        client_cert_details: ClientCertDetails::default(),
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        via: "".into(),
        server_name: "envoy".into(),
        server_header: ServerHeader::Overwrite,
        generate_request_id: true,
        preserve_external_request_id: false,
        request_id: Default::default(),
        tracing: None,
        internal_addresses: Vec::new(),
        always_set_request_id_in_response: false,
        proxy_100_continue: false,
        upgrades: vec![],
        http1: Http1Options::default(),
        http2: Default::default(),
    }
}
