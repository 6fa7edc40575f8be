//! The verifiers by themselves: what each refuses, and with which words.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};

use crate::error::unix;
use crate::testing::{Authority, Leaf};
use crate::{ClientVerifier, PeerRules, RootPin, ServerVerifier, Trust, pem};

const TULLED: &str = "spiffe://cluster.local/ns/istio-system/sa/tulled";
const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    pem::roots("test", std::slice::from_ref(&authority.certificate)).unwrap()
}

fn at(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(unix(time)))
}

fn call(trust: Trust, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<(), Error> {
    let rules = Arc::new(PeerRules::control_plane_of("cluster.local"));
    let name = ServerName::try_from("localhost").unwrap();
    let verifier = ServerVerifier::new(provider(), trust, rules);
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at(now)).map(|_| ())
}

fn text(result: Result<(), Error>) -> String {
    match result.unwrap_err() {
        Error::InvalidCertificate(CertificateError::Other(reason)) => reason.0.to_string(),
        other => other.to_string(),
    }
}

#[test]
fn first_contact_accepts_the_pinned_root_and_no_other() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let pin = RootPin::of_certificate(&ours.certificate).unwrap();
    let now = SystemTime::now();
    let good = ours.issue(Leaf::new(&[TULLED])).chain;
    call(Trust::Pin(pin), &good, now).unwrap();
    call(Trust::Roots(roots(&ours)), &good[..1], now).unwrap();

    assert!(text(call(Trust::Pin(pin), &good[..1], now)).contains("sent no root certificate"));
    let foreign = other.issue(Leaf::new(&[TULLED])).chain;
    assert!(text(call(Trust::Pin(pin), &foreign, now)).contains("the token is of another mesh"));
    // The right root beside a leaf that it did not sign.
    let mixed = [foreign[0].clone(), ours.certificate.clone()];
    assert!(call(Trust::Pin(pin), &mixed, now).is_err());
    let payment = ours.issue(Leaf::new(&[PAYMENT])).chain;
    let error = text(call(Trust::Pin(pin), &payment, now));
    assert_eq!(error, format!("the peer is {PAYMENT}; accepted here: {TULLED}"));
    let longer = format!("{TULLED}-2");
    let near = ours.issue(Leaf::new(&[&longer])).chain;
    assert!(text(call(Trust::Pin(pin), &near, now)).contains("accepted here"), "a prefix is not the name");
}

#[test]
fn a_chain_is_checked_before_its_names_and_has_a_bound() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let now = SystemTime::now();
    let stranger = other.issue(Leaf::new(&[PAYMENT])).chain;
    let error = call(Trust::Roots(roots(&ours)), &stranger, now).unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)), "{error}");
    let long = vec![ours.issue(Leaf::new(&[TULLED])).chain[0].clone(); 11];
    assert!(text(call(Trust::Roots(roots(&ours)), &long, now)).contains("11 certificates"));
}

#[test]
fn an_intermediate_is_followed_when_it_is_sent_and_only_then() {
    let root = Authority::new("root");
    let intermediate = root.intermediate("between");
    let leaf = intermediate.issue(Leaf::new(&[TULLED]));
    let now = SystemTime::now();
    let whole = [leaf.chain[0].clone(), intermediate.certificate.clone()];
    call(Trust::Roots(roots(&root)), &whole, now).unwrap();
    assert!(call(Trust::Roots(roots(&root)), &whole[..1], now).is_err());
    let pin = RootPin::of_certificate(&root.certificate).unwrap();
    let sent = [whole[0].clone(), whole[1].clone(), root.certificate.clone()];
    call(Trust::Pin(pin), &sent, now).unwrap();
}

#[test]
fn a_clock_that_is_wrong_within_the_leafs_bounds_works_and_beyond_it_does_not() {
    let ca = Authority::new("root");
    let chain = ca.issue(Leaf::new(&[TULLED])).chain;
    let now = SystemTime::now();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    // The leaf begins an hour ago.
    call(Trust::Roots(roots(&ca)), &chain, now - Duration::from_secs(600)).unwrap();
    call(Trust::Roots(roots(&ca)), &chain, now + Duration::from_secs(600)).unwrap();
    for late in [now - hours(2), now + hours(25)] {
        let error = call(Trust::Roots(roots(&ca)), &chain, late).unwrap_err();
        let expected = matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. }
            )
        );
        assert!(expected, "{error}");
    }
}

#[test]
fn a_caller_is_one_workload_of_the_trust_domain() {
    let ca = Authority::new("root");
    let rules = Arc::new(PeerRules::workload_of("cluster.local"));
    let verifier = ClientVerifier::new(provider(), roots(&ca), rules, false).unwrap();
    let check = |leaf: Leaf| {
        let chain = ca.issue(leaf).chain;
        verifier.verify_client_cert(&chain[0], &[], at(SystemTime::now())).map(|_| ())
    };
    check(Leaf::new(&[PAYMENT])).unwrap();
    let error = text(check(Leaf::new(&["spiffe://other.example/ns/a/sa/b"])));
    assert!(error.contains("other.example") && error.contains("\"cluster.local\""), "{error}");
    assert!(text(check(Leaf::new(&[]))).contains("0 URI names"));
    assert!(text(check(Leaf::new(&[PAYMENT, "spiffe://cluster.local/ns/a/sa/b"]))).contains("2 URI names"));
    assert!(text(check(Leaf::new(&["https://example.com/"]))).contains("not the SPIFFE id"));
}
