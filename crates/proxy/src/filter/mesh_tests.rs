//! Two sidecars with mTLS between them: what each reports about the same request.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use config::model::{
    CertificateSource, Direction, DownstreamTls, Roots, SanMatcher, SanType, StringMatch, StringMatcher,
    TlsParameters, TlsVersion, TransportSocket, TrustSource, UpstreamTls,
};
use runtime::Drain;
use tokio::net::TcpListener;

use super::testing::*;
use crate::http::Body;
use crate::http::h1::Limits;
use crate::http::h1::server::{ServerOptions, serve};
use crate::tls::testing::{Authority, Leaf};
use crate::tls::{Secrets, ServerTls, pem};
use crate::upstream::testing::{assignment, cluster, endpoint};

const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";
const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
const CLUSTER: &str = "outbound|8080||payment.production.svc.cluster.local";
pub(super) const PARAMETERS: TlsParameters =
    TlsParameters { minimum: TlsVersion::V1_2, maximum: TlsVersion::V1_3 };

pub(super) fn secrets(root: &Authority, id: &str) -> Arc<Secrets> {
    let issued = root.issue(Leaf::new(&[id]));
    let secrets = Secrets::new();
    let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
    let key = pem::certified_key(secrets.provider(), "test", vec![issued.chain[0].clone()], key).unwrap();
    secrets.install(key, vec![root.certificate.clone()], SystemTime::now()).unwrap();
    secrets
}

pub(super) fn trust(pattern: StringMatch) -> TrustSource {
    let matcher = StringMatcher { pattern, ignore_case: false };
    let sans = vec![SanMatcher { kind: Some(SanType::Uri), matcher }];
    TrustSource { roots: Roots::Sds("ROOTCA".into()), sans, spki: vec![], certificate_hash: vec![] }
}

/// Starts payment's sidecar before `app`; returns where it listens.
async fn payment(root: &Authority, app: &Upstream) -> (Rc<Proxy>, std::net::SocketAddr) {
    payment_with(root, app, Limits::default()).await
}

/// The same, with limits of what peers send.
async fn payment_with(root: &Authority, app: &Upstream, limits: Limits) -> (Rc<Proxy>, std::net::SocketAddr) {
    let secrets = secrets(root, PAYMENT);
    let proxy = Rc::new(Proxy::of("payment", sidecar(vec![]), Direction::Inbound, secrets.clone()));
    proxy.push_clusters(&[("inbound|8080||", &[app.address])]);
    proxy.push_routes(routes(vec![route("default", to("inbound|8080||"))]));
    let options = DownstreamTls {
        require_client_certificate: true,
        parameters: PARAMETERS,
        alpn: vec![],
        certificate: CertificateSource::Sds("default".into()),
        trust: Some(trust(StringMatch::Prefix("spiffe://cluster.local/".into()))),
    };
    let tls = ServerTls::new(&options, &secrets).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = proxy.clone();
    tokio::task::spawn_local(async move {
        let (_drain, watch) = Drain::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok((stream, session)) = tls.accept(tcp, "client", None).await else { continue };
            let (manager, watch) = (serving.connection(Some(session)), watch.clone());
            let options = ServerOptions { limits, ..ServerOptions::default() };
            tokio::task::spawn_local(async move { serve(stream, &manager, &options, &watch).await });
        }
    });
    (proxy, address)
}

/// Web's sidecar, which expects `id` behind the payment service.
fn web(root: &Authority, id: &str, address: std::net::SocketAddr) -> Proxy {
    let proxy = Proxy::of("web", sidecar(vec![]), Direction::Outbound, secrets(root, WEB));
    let mut config = cluster(CLUSTER);
    config.transport_socket = TransportSocket::Tls(Arc::new(UpstreamTls {
        sni: "outbound_.8080_._.payment.production.svc.cluster.local".into(),
        parameters: PARAMETERS,
        alpn: vec![],
        certificate: Some(CertificateSource::Sds("default".into())),
        trust: trust(StringMatch::Exact(id.into())),
    }));
    proxy.push_cluster(config, assignment(CLUSTER, vec![endpoint(&address.to_string(), 1)]));
    proxy.push_routes(routes(vec![route("default", to(CLUSTER))]));
    proxy
}

#[tokio::test]
async fn both_sides_report_the_same_request_with_both_identities() {
    local(async {
        let root = Authority::new("root");
        let app = Upstream::start(|_| ok("paid")).await;
        let (payment, address) = payment(&root, &app).await;
        let web = web(&root, PAYMENT, address);
        for _ in 0..3 {
            let answer = web.get("/pay", &[("x-envoy-peer-metadata", "forged by the app")]).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"paid"[..]));
            assert!(!answer.headers.contains("x-envoy-peer-metadata"), "the app never sees it");
        }
        assert!(app.requests.borrow().iter().all(|request| !request.contains("peer-metadata")));
        let principals = [
            format!("source_principal=\"{WEB}\""),
            format!("destination_principal=\"{PAYMENT}\""),
            "source_workload=\"web\"".to_owned(),
            "source_app=\"web\"".to_owned(),
            "source_workload_namespace=\"production\"".to_owned(),
            "destination_workload=\"payment\"".to_owned(),
            "destination_version=\"v1\"".to_owned(),
            "response_code=\"200\"".to_owned(),
        ];
        let of = |proxy: &Proxy, side: &str, security: &str| {
            let (side, security) =
                (format!("reporter=\"{side}\""), format!("connection_security_policy=\"{security}\""));
            let parts: Vec<&str> = principals.iter().chain([&side, &security]).map(String::as_str).collect();
            proxy.metric("istio_requests_total", &parts)
        };
        assert_eq!(of(&web, "source", "unknown").as_deref(), Some("3"), "{}", web.metrics());
        while of(&payment, "destination", "mutual_tls").as_deref() != Some("3") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_with_another_identity_gets_no_request() {
    local(async {
        let root = Authority::new("root");
        let app = Upstream::start(|_| ok("paid")).await;
        let (_payment, address) = payment(&root, &app).await;
        let web = web(&root, "spiffe://cluster.local/ns/production/sa/other", address);
        let answer = web.get("/pay", &[]).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.ends_with(b"reset reason: remote connection failure"), "{:?}", answer.body);
        assert_eq!(app.requests.borrow().len(), 0);
        assert_eq!(web.metric("istio_requests_total", &["response_flags=\"UF\""]).as_deref(), Some("1"));
    })
    .await;
}

/// What `web` gets for a request with `count` fields that its own sidecar has accepted.
async fn status_of_a_large_head(limits: Limits, count: usize) -> u16 {
    let root = Authority::new("root");
    let app = Upstream::start(|_| ok("paid")).await;
    let (_payment, address) = payment_with(&root, &app, limits).await;
    let web = web(&root, PAYMENT, address);
    let mut head = get("/pay", &[]);
    for _ in 0..count {
        head.headers.append("x-fill", "f".repeat(480));
    }
    call(&web.connection(None), head, Body::empty()).await.status
}

#[tokio::test]
async fn the_second_sidecar_takes_what_the_first_took_and_added() {
    local(async {
        // What the control plane configures: 96 KiB and 200 fields from apps, 128 KiB and 250 fields from peers.
        let peers = Limits { max_headers_bytes: 128 * 1024, max_headers_count: 250 };
        assert_eq!(status_of_a_large_head(peers, 198).await, 200);
        let same = Limits { max_headers_bytes: 128 * 1024, max_headers_count: 200 };
        assert_eq!(status_of_a_large_head(same, 198).await, 431, "without room for what the first one adds");
    })
    .await;
}
