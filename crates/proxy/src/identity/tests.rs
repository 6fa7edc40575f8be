//! Joining against a certificate service in this process: who is believed, and who gets the token.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base::clock::SystemClock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use protos::istio_ca::{
    IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceServer,
};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status as GrpcStatus};

use super::request::{Credential, request};
use super::*;
use crate::tls::testing::{Authority, Leaf};
use crate::tls::{JoinToken, RootPin, Secrets, pem};

const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
const TULLED: &str = "spiffe://cluster.local/ns/istio-system/sa/tulled";

struct Ca {
    authority: Arc<Authority>,
    identity: Mutex<&'static str>,
    lifetime: Duration,
    refuse: Mutex<Option<&'static str>>,
    calls: AtomicU32,
    tokens: AtomicU32,
}

impl Ca {
    fn new(lifetime: Duration) -> Arc<Ca> {
        Arc::new(Ca {
            authority: Arc::new(Authority::new("root")),
            identity: Mutex::new(PAYMENT),
            lifetime,
            refuse: Mutex::new(None),
            calls: AtomicU32::new(0),
            tokens: AtomicU32::new(0),
        })
    }

    fn token(&self) -> String {
        token_for(&self.authority)
    }

    fn calls(&self) -> (u32, u32) {
        (self.calls.load(Ordering::SeqCst), self.tokens.load(Ordering::SeqCst))
    }
}

fn token_for(authority: &Authority) -> String {
    let pin = URL_SAFE_NO_PAD.encode(RootPin::of_certificate(&authority.certificate).unwrap().0);
    format!("tulle1.aWQ.c2VjcmV0.{pin}")
}

struct Signer(Arc<Ca>);

impl IstioCertificateService for Signer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, GrpcStatus> {
        let ca = &self.0;
        ca.calls.fetch_add(1, Ordering::SeqCst);
        if request.metadata().contains_key("authorization") {
            ca.tokens.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(reason) = *ca.refuse.lock().unwrap() {
            return Err(GrpcStatus::permission_denied(reason));
        }
        let identity = *ca.identity.lock().unwrap();
        let leaf = ca.authority.sign(&request.into_inner().csr, identity, ca.lifetime);
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf, ca.authority.pem.clone()] }))
    }
}

/// Serves a CA that shows the certificate `own`; what it runs on ends with the returned runtime.
async fn start(ca: &Arc<Ca>, own: &'static str) -> (SocketAddr, tokio::task::JoinSet<()>) {
    let issued = ca.authority.issue(Leaf::new(&[own]).dns("localhost"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = pem::roots("test", std::slice::from_ref(&ca.authority.certificate)).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(issued.chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = IstioCertificateServiceServer::new(Signer(ca.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = hyper::service::service_fn(move |request| service.clone().call(request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    (address, tasks)
}

fn service(address: SocketAddr) -> Service {
    Service {
        address: address.to_string(),
        trust_domain: "cluster.local".to_owned(),
        expected: Some(PAYMENT.parse().unwrap()),
        lifetime_seconds: None,
    }
}

fn open(options: Options, secrets: &Arc<Secrets>) -> Keeper {
    Keeper::open(options, secrets.clone(), Arc::new(Status::default()), Arc::new(SystemClock)).unwrap()
}

async fn ask(ca: &Arc<Ca>, own: &'static str, token: &str) -> Result<String, String> {
    let (address, _server) = start(ca, own).await;
    let token = JoinToken::parse(token).unwrap();
    let answer =
        request(&service(address), Credential::Token(&token), &Secrets::new(), SystemTime::now()).await;
    answer.map(|(_, checked)| checked.spiffe.to_string()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_token_gets_the_identity_that_the_control_plane_knows() {
    let ca = Ca::new(Duration::from_secs(3600));
    assert_eq!(ask(&ca, TULLED, &ca.token()).await.unwrap(), PAYMENT);
    assert_eq!(ca.calls(), (1, 1));
}

#[tokio::test]
async fn a_server_with_another_root_never_sees_the_token() {
    let ca = Ca::new(Duration::from_secs(3600));
    let error = ask(&ca, TULLED, &token_for(&Authority::new("other"))).await.unwrap_err();
    assert!(error.contains("the token is of another mesh"), "{error}");
    assert_eq!(ca.calls(), (0, 0));
}

#[tokio::test]
async fn a_workload_of_the_mesh_is_not_the_control_plane() {
    let ca = Ca::new(Duration::from_secs(3600));
    let error = ask(&ca, PAYMENT, &ca.token()).await.unwrap_err();
    assert!(error.contains(&format!("the peer is {PAYMENT}; accepted here: {TULLED}")), "{error}");
    assert_eq!(ca.calls(), (0, 0));
}

#[tokio::test]
async fn refusals_are_shown_word_for_word_and_foreign_identities_are_not_taken() {
    let ca = Ca::new(Duration::from_secs(3600));
    *ca.refuse.lock().unwrap() = Some("the token is for production/frontend");
    let error = ask(&ca, TULLED, &ca.token()).await.unwrap_err();
    assert!(error.contains("PermissionDenied: the token is for production/frontend"), "{error}");
    *ca.refuse.lock().unwrap() = None;
    *ca.identity.lock().unwrap() = "spiffe://cluster.local/ns/production/sa/stranger";
    let error = ask(&ca, TULLED, &ca.token()).await.unwrap_err();
    assert!(error.contains("sa/stranger's, and this workload is"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_both_clocks() {
    let ca = Ca::new(Duration::from_secs(3600));
    let (address, _server) = start(&ca, TULLED).await;
    let (token, secrets) = (JoinToken::parse(&ca.token()).unwrap(), Secrets::new());
    let now = SystemTime::now();
    let (material, checked) =
        request(&service(address), Credential::Token(&token), &secrets, now).await.unwrap();
    let clock = |time| crate::tls::clock_text(crate::tls::error::unix(time));
    let late = now + Duration::from_secs(2 * 3600);
    let error = material.check(secrets.provider(), None, late).err().unwrap();
    let wanted =
        format!("expired at {}, and this machine's clock says {}", clock(checked.own.not_after), clock(late));
    assert!(error.contains(&wanted), "{error}");
    let early = now - Duration::from_secs(2 * 3600);
    let error = material.check(secrets.provider(), None, early).err().unwrap();
    assert!(error.contains("is valid from") && error.contains(&clock(early)), "{error}");
}

#[tokio::test]
async fn the_identity_is_renewed_with_itself_and_survives_a_restart_without_a_control_plane() {
    let ca = Ca::new(Duration::from_secs(3));
    let (address, server) = start(&ca, TULLED).await;
    let place = tempfile::tempdir().unwrap();
    let token_file = place.path().join("token");
    std::fs::write(&token_file, ca.token()).unwrap();
    let options = Options {
        service: service(address),
        token_file: Some(token_file),
        state_directory: place.path().join("state"),
    };
    let secrets = Secrets::new();
    let keeping = open(options.clone(), &secrets).keep();
    tokio::select! {
        result = keeping => panic!("the identity task ended: {:?}", result.map_err(|error| error.to_string())),
        () = async { while secrets.version() < 2 { tokio::time::sleep(Duration::from_millis(10)).await } } => {}
    }
    let (calls, tokens) = ca.calls();
    assert!(calls >= 2 && tokens == 1, "{calls} calls, {tokens} with the token");

    drop(server);
    let secrets = Secrets::new();
    let keeping = open(options, &secrets).keep();
    tokio::select! {
        _ = keeping => panic!("the identity task ended"),
        () = secrets.ready() => {}
    }
    assert_eq!(secrets.current().unwrap().own.uri_sans, [PAYMENT]);
}
