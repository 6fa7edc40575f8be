//! A port that does not say what is spoken on it: requests are routed and judged as requests, other bytes pass as they
//! are and are judged as a connection.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tests::mixed::calls::calls;
use tests::mixed::{Dialect, Mesh};
use tests::{PATIENCE, until};

/// What comes back for bytes that are no HTTP; empty where the connection is closed without an answer.
fn bytes(mesh: &Mesh) -> String {
    let mut stream = TcpStream::connect(mesh.payment_service()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The peer may refuse while we write; what it answered is what counts.
    let _ = stream.write_all(b"\x01\x02 no request at all\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_are_routed_and_bytes_pass() {
    let mesh = Mesh::start(Path::new(""), 46, Dialect::Delta, &[]);
    until("requests are answered", || calls(mesh.payment_service(), "/pay", "", 1).only(200).then_some(()));
    let declared = bytes(&mesh);
    assert!(declared.starts_with("HTTP/1.1 400"), "the sidecar takes it for a bad request: {declared}");

    mesh.edit("production/services.yaml", "name: http, port: 8080", "port: 8080");
    // The policy lets methods in, and bytes have none.
    until("bytes are not let in", || bytes(&mesh).is_empty().then_some(()));
    let requests = calls(mesh.payment_service(), "/pay", "", 60);
    assert!(requests.only(200), "{requests:?}");
    assert!(requests.last.contains("URI=spiffe://cluster.local/ns/production/sa/frontend"), "{requests:?}");
    let canary = calls(mesh.payment_service(), "/pay", "x-canary-user: true", 20);
    assert_eq!((canary.only(200), canary.share("canary")), (true, 1.0), "{canary:?}");

    mesh.edit(
        "production/payment-callers.yaml",
        "- operation: {methods: [GET, POST]}",
        "- operation: {ports: [\"8080\"]}",
    );
    let answer = until("bytes reach the program, which answers them", || {
        Some(bytes(&mesh)).filter(|answer| answer.starts_with("HTTP/1.1 400"))
    });
    assert!(!answer.contains("istio-envoy"), "the sidecar answered: {answer}");
    assert!(calls(mesh.payment_service(), "/pay", "", 20).only(200));
}
