//! Clocks that are wrong: ten minutes make no difference; where they do, the error prints both clocks.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;
use tests::differential::tls::Anybody;
use tests::mixed::calls::calls;
use tests::mixed::{Dialect, Mesh, WORKLOADS, faketime, named};
use tests::{Process, free_address, get, until};

/// What is promised.
const TEN_MINUTES: i64 = 600;
/// Our authority dates certificates back by fifteen minutes.
const BACKDATED: i64 = 900;

/// One sidecar's clock is ten minutes early or late: it joins, calls and is called.
#[test]
fn a_sidecar_whose_clock_is_ten_minutes_off_is_one_of_the_mesh() {
    if faketime().is_none() {
        return;
    }
    for (block, skewed, off) in [
        (98, "frontend", -TEN_MINUTES),
        (99, "payment-stable-1", -TEN_MINUTES),
        (100, "frontend", TEN_MINUTES),
    ] {
        let mut mesh = Mesh::without_workloads(Path::new(""), block, Dialect::Delta);
        for workload in WORKLOADS {
            mesh.clock_is_off_by = if workload.name == skewed { off } else { 0 };
            mesh.start_with_program(&workload);
        }
        let pay = |count| calls(mesh.payment_service(), "/pay", "", count);
        until("the first answer", || pay(1).only(200).then_some(()));
        let tally = until("every instance answers", || Some(pay(60)).filter(|it| it.instances.len() == 3));
        assert!(tally.only(200), "{skewed} is off by {off} s: {tally:?}");
        let stranger = calls(
            mesh.address(&named("stranger"), 15080),
            "http://payment-service.production:8080/pay",
            "",
            5,
        );
        assert!(stranger.only(403), "{stranger:?}");
    }
}

/// Beyond it a sidecar cannot join, and says which clocks do not agree.
#[test]
fn a_sidecar_whose_clock_is_further_off_prints_both_clocks() {
    if faketime().is_none() {
        return;
    }
    let mut mesh = Mesh::without_workloads(Path::new(""), 101, Dialect::Delta);
    let frontend = named("frontend");
    let now = unix(SystemTime::now());
    for (off, words) in [(-BACKDATED - 300, "is valid from"), (40 * 86_400, "expired at")] {
        mesh.clock_is_off_by = off;
        mesh.start_tulle(&frontend);
        let page = until("it says why it is not ready", || {
            get(mesh.admin(&frontend), "/ready?verbose")
                .filter(|page| page.contains("this machine's clock says"))
        });
        let line = page.lines().find(|line| line.contains("this machine's clock says")).unwrap();
        for wanted in [words, "correct the clock that is wrong"] {
            assert!(line.contains(wanted), "no {wanted:?} in {line}");
        }
        let day = day_of(now.saturating_add_signed(off));
        assert!(line.contains(&format!("clock says {day}")), "not the clock of {day}: {line}");
        assert!(page.contains("INITIALIZING"), "{page}");
        mesh.stop("frontend");
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// `2026-01-31`, as `date` knows it.
fn day_of(seconds: u64) -> String {
    let words = ["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%d"];
    let output = std::process::Command::new("date").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new() -> Root {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Root { pem, issuer: Issuer::new(params, key) }
    }

    /// A leaf that an authority would sign whose clock is off by so many seconds.
    fn leaf(&self, off: i64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        let name = Ia5String::try_from("spiffe://cluster.local/ns/shop/sa/caller").unwrap();
        params.subject_alt_names = vec![SanType::URI(name)];
        let begin = unix(SystemTime::now()).saturating_add_signed(off - BACKDATED);
        params.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(begin)).into();
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(begin + 86_400)).into();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A proxy that wants certificates of `root`, and writes why a connection was refused to `log`.
fn server(folder: &Path, root: &Root, address: SocketAddr) -> Process {
    let (own, key) = root.leaf(0);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        json!({ "filename": path })
    };
    let (own, key) = (write("own.pem", &own.pem()), write("own.key", &key.serialize_pem()));
    let root = write("root.pem", &root.pem);
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let typed = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let log = json!({"name": "file", "typed_config": {
        "@type": typed("access_loggers.file.v3.FileAccessLog"), "path": folder.join("log"),
        "log_format": {"text_format_source": {"inline_string": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n"}},
    }});
    let bootstrap = json!({"static_resources": {"listeners": [{
        "name": "front", "address": socket(address), "access_log": [log],
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": typed("transport_sockets.tls.v3.DownstreamTlsContext"), "require_client_certificate": true,
                "common_tls_context": {
                    "tls_certificates": [{"certificate_chain": own, "private_key": key}],
                    "validation_context": {"trusted_ca": root},
                },
            }},
            "filters": [{"name": "manager", "typed_config": {
                "@type": typed("filters.network.http_connection_manager.v3.HttpConnectionManager"), "stat_prefix": "front",
                "route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]},
                "http_filters": [{"name": "router", "typed_config": {"@type": typed("filters.http.router.v3.Router")}}],
            }}],
        }],
    }]}});
    let file = folder.join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    Process::start("tulle-proxy", &["-c", file.to_str().unwrap(), "--concurrency", "1"], folder)
}

/// What a caller with that leaf hears.
fn call(address: SocketAddr, root: &Root, off: i64) -> std::io::Result<String> {
    let (leaf, key) = root.leaf(off);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let name = ServerName::try_from("server.shop").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // A peer that closes without the last word of TLS has answered all the same.
    let read = stream.read_to_string(&mut answer);
    if answer.is_empty() { read.map(|_| answer) } else { Ok(answer) }
}

/// The verifier's clock is right, the authority's is not.
#[test]
fn a_leaf_from_an_authority_ten_minutes_off_is_taken_and_one_from_further_off_is_not() {
    let (folder, root, address) = (tempfile::tempdir().unwrap(), Root::new(), free_address());
    let _server = server(folder.path(), &root, address);
    until("the listener is there", || TcpStream::connect(address).ok());
    for off in [TEN_MINUTES, -TEN_MINUTES, 0] {
        let answer = call(address, &root, off).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{off} s: {answer}");
    }
    // A minute is beyond doubt: what is signed now begins in a minute.
    let refused = call(address, &root, BACKDATED + 60);
    assert!(refused.is_err(), "{refused:?}");
    let log = until("the refusal is logged", || {
        let log = std::fs::read_to_string(folder.path().join("log")).ok()?;
        log.contains("is valid from").then_some(log)
    });
    let line = log.lines().find(|line| line.contains("is valid from")).unwrap();
    for wanted in ["the peer's certificate", "this machine's clock says", "correct the clock that is wrong"] {
        assert!(line.contains(wanted), "no {wanted:?} in {line}");
    }
}
