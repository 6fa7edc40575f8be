use super::*;
use crate::ca::Authority;
use crate::csr::{CertificateService, certificate_server};
use crate::metrics::CertificateMetrics;
use crate::serve::{listener, tls};
use crate::testing::TestClock;
use crate::testing::client::{Leaf, channel, connector, join, leaf};
use crate::token::{NewToken, Tokens as JoinTokens, create};
use protos::istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use runtime::{Drain, Supervisor};
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tonic::{Code, Status};

struct Server {
    data: tempfile::TempDir,
    clock: Arc<TestClock>,
    authority: Arc<Authority>,
    address: SocketAddr,
    _drain: Drain,
    _supervisor: Supervisor,
}

async fn serve(limits: Limits) -> Server {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let authority = authority(data.path(), &clock);
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let tokens = JoinTokens::new(data.path().to_owned(), authority.clone());
    let service = CertificateService::new(authority.clone(), tokens, Arc::new(CertificateMetrics::default()));
    let port = Arc::new(GrpcPort {
        routes: Routes::new(certificate_server(service)),
        tls: Some(TlsAcceptor::from(tls::server_config(authority.clone()).unwrap())),
        trust_domain: "cluster.local".to_owned(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        limits,
    });
    let listener = listener::bind("test", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |stream, address| port.clone().connection(stream, address);
    tasks.spawn("test port", listener::accept("connection", listener, 100, tasks.clone(), serve));
    Server { data, clock, authority, address, _drain: drain, _supervisor: supervisor }
}

fn authority(data: &Path, clock: &Arc<TestClock>) -> Arc<Authority> {
    Arc::new(Authority::load_or_create(data, "cluster.local", clock.clone()).unwrap())
}

impl Server {
    fn token(&self) -> String {
        let wanted = NewToken {
            namespace: "production".into(),
            service_account: "payment".into(),
            lifetime: Duration::from_secs(3600),
            max_uses: None,
        };
        create(self.data.path(), &wanted, &self.authority).unwrap().to_string()
    }

    fn client(&self, leaf: Option<Leaf>) -> TlsConnector {
        connector(self.authority.certificate(), leaf)
    }

    async fn channel(&self, leaf: Option<Leaf>) -> Result<Channel, tonic::transport::Error> {
        channel(self.address, self.client(leaf)).await
    }

    async fn ask(&self, leaf: Option<Leaf>, token: Option<&str>) -> Result<(Leaf, Vec<String>), Status> {
        let unavailable = |error: tonic::transport::Error| Status::unavailable(format!("{error:?}"));
        let channel = self.channel(leaf).await.map_err(unavailable)?;
        join(channel, token).await
    }

    async fn send(&self, csr: String) -> Status {
        let channel = self.channel(None).await.unwrap();
        let request = IstioCertificateRequest { csr, ..IstioCertificateRequest::default() };
        IstioCertificateServiceClient::new(channel).create_certificate(request_of(request)).await.unwrap_err()
    }
}

fn request_of<T>(message: T) -> tonic::Request<T> {
    tonic::Request::new(message)
}

#[tokio::test]
async fn a_large_request_is_cut_off_while_it_arrives() {
    let server = serve(Limits::default()).await;
    let small = server.send("x".repeat(10_000)).await;
    assert_eq!(small.code(), Code::Unauthenticated, "{small:?}");
    let large = server.send("x".repeat(1_000_000)).await;
    assert_ne!(large.code(), Code::Unauthenticated, "{large:?}");
}

#[tokio::test]
async fn a_workload_joins_with_a_token_and_renews_with_its_certificate() {
    let server = serve(Limits::default()).await;
    let token = server.token();
    let (first, chain) = server.ask(None, Some(&token)).await.unwrap();
    assert_eq!(chain.last().unwrap(), server.authority.pem());
    let (second, _) = server.ask(Some(first), None).await.unwrap();
    server.ask(Some(second), None).await.unwrap();
    let status = server.ask(None, None).await.map(|(_, chain)| chain).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
}

#[tokio::test]
async fn certificates_of_others_and_expired_ones_do_not_get_through_the_handshake() {
    let server = serve(Limits::default()).await;
    let token = server.token();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = leaf(&authority(elsewhere.path(), &server.clock), None);
    let refused = server.ask(Some(foreign), Some(&token)).await.map(|(_, chain)| chain).unwrap_err();
    assert_ne!(refused.code(), Code::Unauthenticated, "it reached the service: {refused:?}");
    let expired = leaf(&server.authority, Some(Duration::from_secs(60)));
    server.clock.advance(Duration::from_secs(61));
    let refused = server.ask(Some(expired), Some(&token)).await.map(|(_, chain)| chain).unwrap_err();
    assert_ne!(refused.code(), Code::Unauthenticated, "it reached the service: {refused:?}");
    server.ask(Some(leaf(&server.authority, None)), Some(&token)).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_ends() {
    let limits = Limits { parting: Duration::from_millis(50), ..Limits::default() };
    let server = serve(limits).await;
    let short = leaf(&server.authority, Some(Duration::from_secs(2)));
    assert!(open_until_closed(&server, Some(short)).await);
}

#[tokio::test]
async fn a_connection_ends_also_when_the_clock_has_jumped_past_its_certificate() {
    let quick = Duration::from_millis(20);
    let server = serve(Limits { parting: quick, clock_check: quick, ..Limits::default() }).await;
    let connection = open_until_closed(&server, Some(leaf(&server.authority, None)));
    let mut connection = std::pin::pin!(connection);
    // The twin: as long as the certificate is good the connection stays.
    assert!(tokio::time::timeout(Duration::from_millis(200), connection.as_mut()).await.is_err());
    server.clock.advance(Duration::from_secs(25 * 3600));
    assert!(connection.await);
}

#[tokio::test]
async fn who_shows_no_certificate_does_not_stay() {
    let limits = Limits {
        unauthenticated: Duration::from_millis(50),
        parting: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = serve(limits).await;
    assert!(open_until_closed(&server, None).await);
}

/// Opens a connection that asks nothing and waits until the server ends it.
async fn open_until_closed(server: &Server, leaf: Option<Leaf>) -> bool {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let connector = server.client(leaf);
    let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let (_sender, connection) =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .handshake::<_, http_body_util::Empty<bytes::Bytes>>(TokioIo::new(stream))
            .await
            .unwrap();
    // The end itself is what is waited for, cleanly or by a reset.
    let _ = connection.await;
    true
}

#[tokio::test]
async fn a_silent_or_senseless_caller_is_closed() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let server = serve(limits).await;
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff]] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, bytes).await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(rest.len() < 64, "{rest:?}");
    }
}
