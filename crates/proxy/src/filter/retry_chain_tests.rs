//! A chain of services with sidecars, whose end fails: the load that it sees, with the default retries and with
//! retries that everybody wrote.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::{
    CertificateSource, Direction, DownstreamTls, PathMatch, RetryPolicy, Route, RouteAction, StringMatch,
    TransportSocket, UpstreamTls,
};
use runtime::Drain;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::mesh_tests::{PARAMETERS, secrets, trust};
use super::testing::*;
use crate::http::Body;
use crate::http::h1::server::{ServerOptions, serve};
use crate::tls::ServerTls;
use crate::tls::testing::Authority;
use crate::upstream::testing::{assignment, cluster, endpoint};

const CLIENTS: usize = 60;
const REQUESTS: usize = 3;

fn under(prefix: &'static str, action: RouteAction) -> Route {
    let mut route = route(prefix, action);
    route.matcher.path = PathMatch::Prefix(prefix.into());
    route
}

/// One service: its sidecar takes requests from the mesh on `/in`, and from its application on `/out`.
struct Service {
    sidecar: Rc<Proxy>,
    inbound: SocketAddr,
}

impl Service {
    async fn start(
        root: &Authority,
        app: SocketAddr,
        next: Option<SocketAddr>,
        retries: &RetryPolicy,
    ) -> Self {
        let secrets = secrets(root, "spiffe://cluster.local/ns/production/sa/any");
        let sidecar = Rc::new(Proxy::of("any", sidecar(vec![]), Direction::Inbound, secrets.clone()));
        sidecar.push_clusters(&[("in", &[app])]);
        let mut config = cluster("out");
        config.transport_socket = TransportSocket::Tls(Arc::new(UpstreamTls {
            sni: "any".into(),
            parameters: PARAMETERS,
            alpn: vec![],
            certificate: Some(CertificateSource::Sds("default".into())),
            trust: trust(StringMatch::Prefix("spiffe://cluster.local/".into())),
        }));
        let next = next.map(|address| endpoint(&address.to_string(), 1));
        sidecar.push_cluster(config, assignment("out", next.into_iter().collect()));
        let mut outward = retrying("out", retries.clone());
        if let RouteAction::Forward(forward) = &mut outward {
            forward.path_rewrite = config::model::PathRewrite::Prefix("/in".into());
        }
        sidecar.push_routes(routes(vec![under("/in", to("in")), under("/out", outward)]));
        let inbound = listen(&sidecar, &secrets).await;
        Service { sidecar, inbound }
    }
}

async fn listen(sidecar: &Rc<Proxy>, secrets: &Arc<crate::tls::Secrets>) -> SocketAddr {
    let options = DownstreamTls {
        require_client_certificate: true,
        parameters: PARAMETERS,
        alpn: vec![],
        certificate: CertificateSource::Sds("default".into()),
        trust: Some(trust(StringMatch::Prefix("spiffe://cluster.local/".into()))),
    };
    let tls = Rc::new(ServerTls::new(&options, secrets).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sidecar = sidecar.clone();
    tokio::task::spawn_local(async move {
        let (_drain, watch) = Drain::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, sidecar, watch) = (tls.clone(), sidecar.clone(), watch.clone());
            tokio::task::spawn_local(async move {
                let Ok((stream, session)) = tls.accept(tcp, "client", None).await else { return };
                let manager = sidecar.connection(Some(session));
                let _ = serve(stream, &manager, &ServerOptions::default(), &watch).await;
            });
        }
    });
    address
}

/// What an application does with a request that has that id.
type Work = Rc<dyn Fn(String) -> crate::http::LocalBoxFuture<'static, u16>>;

async fn application(work: Work) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let work = work.clone();
            tokio::task::spawn_local(async move {
                let mut buffer = Vec::new();
                while let Some(request) = read_request(&mut stream, &mut buffer).await {
                    let id = request.lines().find_map(|line| line.strip_prefix("x-request-id: "));
                    let status = work(id.unwrap_or_default().to_owned()).await;
                    let answer = format!("HTTP/1.1 {status} so\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Calls the next service through its own sidecar, with the id that tracing asks to pass on.
async fn onward(sidecar: &Proxy, id: String) -> u16 {
    let mut head = get("/out", &[]);
    head.headers.set("x-request-id", id);
    call(&sidecar.connection(None), head, Body::empty()).await.status
}

/// How many requests the end of a chain of four hops gets for each request of a client.
async fn load_at_the_end(retries: RetryPolicy) -> f64 {
    let root = Authority::new("root");
    let reached = Rc::new(Cell::new(0usize));
    let counted = reached.clone();
    let end = application(Rc::new(move |_| {
        counted.set(counted.get() + 1);
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            503
        })
    }))
    .await;
    let mut service = Service::start(&root, end, None, &retries).await;
    for _ in 0..3 {
        let sidecar: Rc<std::cell::RefCell<Option<Rc<Proxy>>>> = Rc::default();
        let own = sidecar.clone();
        let app = application(Rc::new(move |id| {
            let own = own.borrow().clone().unwrap();
            Box::pin(async move { onward(&own, id).await })
        }))
        .await;
        service = Service::start(&root, app, Some(service.inbound), &retries).await;
        *sidecar.borrow_mut() = Some(service.sidecar.clone());
    }
    let nobody = application(Rc::new(|_| Box::pin(async { 200 }))).await;
    let first = Service::start(&root, nobody, Some(service.inbound), &retries).await;
    let clients = (0..CLIENTS).map(|client| {
        let sidecar = first.sidecar.clone();
        async move {
            for request in 0..REQUESTS {
                assert_eq!(onward(&sidecar, format!("{client}-{request}")).await, 503);
            }
        }
    });
    futures_util::future::join_all(clients).await;
    reached.get() as f64 / (CLIENTS * REQUESTS) as f64
}

#[tokio::test]
async fn a_chain_of_four_hops_does_not_multiply_the_load_of_a_failing_end() {
    local(async {
        let load = load_at_the_end(default_retries()).await;
        assert!(load <= 1.25, "{load}");
        assert!(load > 1.0, "nothing was retried: {load}");
        // What everybody wrote runs as written: each hop adds its share.
        let written = load_at_the_end(RetryPolicy { is_default: false, ..default_retries() }).await;
        assert!(written > load && written > 1.25, "{written} against {load}");
    })
    .await;
}
