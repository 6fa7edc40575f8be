//! Pairs of TLS ends in memory: what is accepted, and the many that are not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::model::{
    CertificateSource, DownstreamTls, Roots, SanMatcher, SanType, StringMatch, StringMatcher, TlsParameters,
    TlsVersion, TrustSource, UpstreamTls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::testing::{Authority, Issued, Leaf};
use super::*;

pub(super) const CLIENT: &str = "spiffe://cluster.local/ns/production/sa/frontend";
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/production/sa/payment";
const PARAMETERS: TlsParameters = TlsParameters { minimum: TlsVersion::V1_2, maximum: TlsVersion::V1_3 };

fn secrets(issued: &Issued, roots: &Authority) -> Arc<Secrets> {
    let secrets = Secrets::new();
    install(&secrets, issued, roots);
    secrets
}

fn install(secrets: &Secrets, issued: &Issued, roots: &Authority) {
    let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
    let key = pem::certified_key(secrets.provider(), "test", vec![issued.chain[0].clone()], key).unwrap();
    secrets.install(key, vec![roots.certificate.clone()], SystemTime::now()).unwrap();
}

fn trust(pattern: StringMatch) -> TrustSource {
    let matcher = StringMatcher { pattern, ignore_case: false };
    let sans = vec![SanMatcher { kind: Some(SanType::Uri), matcher }];
    TrustSource { roots: Roots::Sds("ROOTCA".into()), sans, spki: vec![], certificate_hash: vec![] }
}

pub(super) fn server_options() -> DownstreamTls {
    DownstreamTls {
        require_client_certificate: true,
        parameters: PARAMETERS,
        alpn: vec!["http/1.1".into()],
        certificate: CertificateSource::Sds("default".into()),
        trust: Some(trust(StringMatch::Prefix("spiffe://cluster.local/".into()))),
    }
}

pub(super) fn client_options(expected: &str) -> UpstreamTls {
    UpstreamTls {
        sni: "outbound_.8080_.stable_.payment.production.svc.cluster.local".into(),
        parameters: PARAMETERS,
        alpn: vec!["istio".into()],
        certificate: Some(CertificateSource::Sds("default".into())),
        trust: trust(StringMatch::Exact(expected.into())),
    }
}

type Outcome = (Result<Session, HandshakeError>, Result<Session, HandshakeError>);

/// Runs one handshake and one byte each way; what the server says, then what the client says. The client of TLS 1.3
/// learns of a refusal only when it reads.
async fn shake(server: &ServerTls, client: &ClientTls) -> Outcome {
    let (near, far) = tokio::io::duplex(1 << 16);
    let limit = Some(Duration::from_secs(10));
    let serve = async {
        let (mut stream, session) = server.accept(far, "client", limit).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        stream.write_all(&byte).await.unwrap();
        stream.flush().await.unwrap();
        Ok(session)
    };
    let call = async {
        let (mut stream, session) = client.connect(near, "server", limit).await?;
        let _ = stream.write_all(b"x").await;
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(_) => Ok(session),
            Err(error) => Err(HandshakeError::from_io("server", Side::Upstream, &error, None)),
        }
    };
    tokio::join!(serve, call)
}

async fn meet(client_leaf: Leaf, server_leaf: Leaf) -> Outcome {
    let ca = Authority::new("root");
    let server = ServerTls::new(&server_options(), &secrets(&ca.issue(server_leaf), &ca)).unwrap();
    let client = ClientTls::new(&client_options(SERVER), &secrets(&ca.issue(client_leaf), &ca)).unwrap();
    shake(&server, &client).await
}

#[tokio::test]
async fn the_right_identities_meet_and_know_each_other() {
    let (server, client) = meet(Leaf::new(&[CLIENT]), Leaf::new(&[SERVER])).await;
    let (server, client) = (server.unwrap(), client.unwrap());
    assert_eq!(server.peer.as_ref().unwrap().uri_sans, [CLIENT]);
    assert_eq!(client.peer.as_ref().unwrap().uri_sans, [SERVER]);
    assert_eq!((server.local_uri.as_deref(), server.version), (Some(SERVER), "TLSv1.3"));
    assert!(server.sni.unwrap().starts_with("outbound_.8080_.stable_."));
    assert_eq!(server.alpn, None, "no common protocol is no reason to refuse");
}

#[tokio::test]
async fn a_client_with_a_wrong_certificate_is_refused_with_the_reason() {
    let other = "spiffe://other.domain/ns/production/sa/frontend";
    for (leaf, reason) in [
        (Leaf::new(&[other]), "the peer is spiffe://other.domain/"),
        (Leaf::new(&[CLIENT, "spiffe://cluster.local/ns/x/sa/y"]), "has 2 URI names"),
        (Leaf::new(&[]).dns("frontend"), "has 0 URI names"),
        (Leaf::new(&[CLIENT]).expired(), "expired at"),
        (Leaf::new(&[CLIENT]).authority(), ""),
        (Leaf::new(&["https://cluster.local/frontend"]), "not the SPIFFE id"),
    ] {
        let (server, client) = meet(leaf, Leaf::new(&[SERVER])).await;
        let error = server.unwrap_err();
        assert!(error.reason.contains(reason), "{error} does not say {reason:?}");
        assert_eq!(error.blame, base::Blame::Downstream);
        assert!(client.unwrap_err().reason.contains("refused with alert"));
    }
}

#[tokio::test]
async fn a_server_that_is_another_workload_is_refused() {
    let other = "spiffe://cluster.local/ns/production/sa/stranger";
    let (_, client) = meet(Leaf::new(&[CLIENT]), Leaf::new(&[other])).await;
    let error = client.unwrap_err();
    assert_eq!(error.reason, format!("the peer is {other}; accepted here: {SERVER}"));
    assert_eq!(error.blame, base::Blame::Upstream);
}

#[tokio::test]
async fn another_root_is_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server =
        ServerTls::new(&server_options(), &secrets(&ours.issue(Leaf::new(&[SERVER])), &ours)).unwrap();
    let client_of =
        |roots| ClientTls::new(&client_options(SERVER), &secrets(&theirs.issue(Leaf::new(&[CLIENT])), roots));
    let (refused, _) = shake(&server, &client_of(&ours).unwrap()).await;
    assert!(refused.unwrap_err().reason.contains("not signed by a root that is trusted here"));
    let (_, refused) = shake(&server, &client_of(&theirs).unwrap()).await;
    assert!(refused.unwrap_err().reason.contains("not signed by a root that is trusted here"));
}

#[tokio::test]
async fn a_client_without_a_certificate_and_a_plaintext_client_are_refused() {
    let ca = Authority::new("root");
    let issued = ca.issue(Leaf::new(&[SERVER]));
    let server = ServerTls::new(&server_options(), &secrets(&issued, &ca)).unwrap();
    let anonymous = UpstreamTls { certificate: None, ..client_options(SERVER) };
    let client = ClientTls::new(&anonymous, &secrets(&issued, &ca)).unwrap();
    let (refused, client) = shake(&server, &client).await;
    assert!(refused.unwrap_err().reason.contains("presented no certificate"));
    assert!(client.is_err());

    let (mut near, far): (DuplexStream, _) = tokio::io::duplex(1 << 16);
    near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let error = server.accept(far, "client", None).await.unwrap_err();
    assert!(error.reason.contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let ca = Authority::new("root");
    let server = ServerTls::new(&server_options(), &secrets(&ca.issue(Leaf::new(&[SERVER])), &ca)).unwrap();
    let (_near, far) = tokio::io::duplex(64);
    let error = server.accept(far, "client", Some(Duration::from_millis(20))).await.unwrap_err();
    assert!(error.reason.contains("not finished within 20ms"));
}

#[tokio::test]
async fn new_secrets_are_used_at_once_and_old_roots_no_longer_count() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server_secrets = secrets(&old.issue(Leaf::new(&[SERVER])), &old);
    let server = ServerTls::new(&server_options(), &server_secrets).unwrap();
    let client =
        ClientTls::new(&client_options(SERVER), &secrets(&old.issue(Leaf::new(&[CLIENT])), &old)).unwrap();
    let (first, _) = shake(&server, &client).await;
    first.unwrap();
    // The client now has a session that it could resume; the new bundle must not accept it.
    install(&server_secrets, &new.issue(Leaf::new(&[SERVER])), &new);
    let (second, refused) = shake(&server, &client).await;
    assert!(second.is_err() && refused.is_err());
}

#[test]
fn a_context_that_would_verify_nobody_is_refused() {
    let secrets = Secrets::new();
    let error = ServerTls::new(&DownstreamTls { trust: None, ..server_options() }, &secrets).unwrap_err();
    assert_eq!(error.path, "require_client_certificate");
    let other =
        UpstreamTls { certificate: Some(CertificateSource::Sds("other".into())), ..client_options(SERVER) };
    assert!(ClientTls::new(&other, &secrets).unwrap_err().reason.contains("\"other\" is not known here"));
}

#[tokio::test]
async fn without_an_identity_a_handshake_fails_on_our_side() {
    let client = ClientTls::new(&client_options(SERVER), &Secrets::new()).unwrap();
    let (near, _far) = tokio::io::duplex(64);
    let error = client.connect(near, "server", None).await.unwrap_err();
    assert_eq!(error.blame, base::Blame::Local);
    assert!(error.reason.contains("no certificate yet"));
}
