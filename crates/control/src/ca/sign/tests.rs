use std::sync::Arc;

use super::*;
use crate::ca::authority::ROOT_LIFETIME;
use crate::testing::TestClock;
use base::Clock;
use rcgen::{BasicConstraints, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";

struct Fixture {
    _data: tempfile::TempDir,
    clock: Arc<TestClock>,
    authority: Authority,
    caller: Spiffe,
}

fn fixture() -> Fixture {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let authority = Authority::create(data.path(), "cluster.local", clock.clone()).unwrap();
    Fixture { _data: data, clock, authority, caller: PAYMENT.parse().unwrap() }
}

fn csr_with(key: &KeyPair, names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn csr(names: &[SanType]) -> String {
    csr_with(&KeyPair::generate().unwrap(), names, |_| {})
}

fn leaf_of(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap()
}

#[test]
fn a_leaf_says_who_the_caller_is_and_no_more() {
    let f = fixture();
    for names in [vec![], vec![uri(PAYMENT).unwrap()]] {
        let issued = f.authority.sign(&csr(&names), &f.caller, None).unwrap();
        assert_eq!(issued.chain.len(), 2);
        assert_eq!(issued.chain[1], f.authority.pem());
        let der = leaf_of(&issued);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(san.critical && leaf.subject().iter().next().is_none());
        assert_eq!(san.value.general_names, vec![GeneralName::URI(PAYMENT)]);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth && !usage.any && !leaf.is_ca());
        assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
        let (_, root) = X509Certificate::from_der(f.authority.certificate()).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
        let now = OffsetSeconds::of(f.clock.now());
        assert_eq!(leaf.validity().not_before.timestamp(), now.0 - 900);
        assert_eq!(leaf.validity().not_after.timestamp(), now.0 + 24 * 3600);
    }
}

struct OffsetSeconds(i64);

impl OffsetSeconds {
    fn of(time: SystemTime) -> Self {
        OffsetSeconds(whole_seconds(time).unix_timestamp())
    }
}

#[test]
fn serial_numbers_differ_for_the_same_key() {
    let f = fixture();
    let request = csr(&[]);
    let serial = || {
        let der = leaf_of(&f.authority.sign(&request, &f.caller, None).unwrap());
        X509Certificate::from_der(&der).unwrap().1.raw_serial_as_string()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn validity_is_clipped_to_what_was_asked_to_a_day_and_to_the_root() {
    let f = fixture();
    let sign = |validity| f.authority.sign(&csr(&[]), &f.caller, validity);
    let left = |issued: &Issued| issued.not_after.duration_since(f.clock.now()).unwrap().as_secs();
    assert_eq!(left(&sign(Some(Duration::from_secs(60))).unwrap()), 60);
    assert_eq!(left(&sign(Some(Duration::from_secs(10_000_000))).unwrap()), 24 * 3600);
    f.clock.advance(ROOT_LIFETIME - Duration::from_secs(90));
    assert_eq!(left(&sign(None).unwrap()), 90, "a leaf outlives its root");
    f.clock.advance(Duration::from_secs(90));
    let error = sign(None).unwrap_err();
    assert!(matches!(error, SignError::RootNotValid { .. }), "{error}");
}

#[test]
fn a_csr_for_somebody_elses_name_is_refused_naming_both() {
    let f = fixture();
    let dns = |name: &str| SanType::DnsName(Ia5String::try_from(name).unwrap());
    for (names, asked) in [
        (vec![uri("spiffe://cluster.local/ns/production/sa/ledger").unwrap()], "sa/ledger"),
        (vec![uri(PAYMENT).unwrap(), uri("spiffe://other/ns/a/sa/b").unwrap()], "spiffe://other"),
        (vec![dns("payment.example.com")], "payment.example.com"),
        (vec![SanType::IpAddress([10, 0, 0, 1].into())], "IP address"),
        (vec![SanType::Rfc822Name(Ia5String::try_from("a@b.c").unwrap())], "a@b.c"),
    ] {
        let error = f.authority.sign(&csr(&names), &f.caller, None).unwrap_err();
        assert!(matches!(error, SignError::OtherName { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(asked) && text.contains(PAYMENT), "{text}");
    }
    let key = KeyPair::generate().unwrap();
    let named =
        csr_with(&key, &[], |params| params.distinguished_name.push(DnType::CommonName, "root\r\nadmin"));
    let text = f.authority.sign(&named, &f.caller, None).unwrap_err().to_string();
    assert!(text.contains("common name") && !text.contains('\n'), "{text}");
    let own = csr_with(&key, &[], |params| params.distinguished_name.push(DnType::CommonName, PAYMENT));
    f.authority.sign(&own, &f.caller, None).unwrap();
}

#[test]
fn nobody_becomes_an_authority_or_the_control_plane() {
    let f = fixture();
    let key = KeyPair::generate().unwrap();
    let der = csr_with(&key, &[], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let error = f.authority.sign(&der, &f.caller, None).unwrap_err();
    assert!(matches!(error, SignError::AsksForAuthority { .. }), "{error}");
    let own = super::super::control_identity("cluster.local").unwrap();
    assert!(matches!(f.authority.sign(&csr(&[]), &own, None), Err(SignError::Reserved(_))));
    let foreign: Spiffe = "spiffe://other.example/ns/production/sa/payment".parse().unwrap();
    assert!(matches!(f.authority.sign(&csr(&[]), &foreign, None), Err(SignError::OtherTrustDomain { .. })));
}

#[test]
fn a_forged_signature_is_refused() {
    let f = fixture();
    let pem = csr(&[]);
    let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    // The last byte belongs to the signature's s.
    *der.last_mut().unwrap() ^= 1;
    let forged = pem_of(&der);
    assert_eq!(f.authority.sign(&forged, &f.caller, None).unwrap_err(), SignError::NoProofOfPossession);
    // Somebody else's public key under one's own signature.
    let (mine, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut der = CertificateSigningRequestDer::from_pem_slice(csr_with(&mine, &[], |_| {}).as_bytes())
        .unwrap()
        .to_vec();
    let at = der.windows(65).position(|window| window == mine.public_key_raw()).unwrap();
    der[at..at + 65].copy_from_slice(theirs.public_key_raw());
    assert_eq!(f.authority.sign(&pem_of(&der), &f.caller, None).unwrap_err(), SignError::NoProofOfPossession);
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn weak_or_foreign_keys_are_refused_and_named() {
    let f = fixture();
    let sign = |key: &KeyPair| f.authority.sign(&csr_with(key, &[], |_| {}), &f.caller, None);
    for (algorithm, named) in
        [(&rcgen::PKCS_ECDSA_P384_SHA384, "1.3.132.0.34"), (&rcgen::PKCS_ED25519, "1.3.101.112")]
    {
        let text = sign(&KeyPair::generate_for(algorithm).unwrap()).unwrap_err().to_string();
        assert!(text.contains(named) && text.contains("P-256"), "{text}");
    }
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let issued = sign(&rsa).unwrap();
    let der = leaf_of(&issued);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.public_key().subject_public_key.data, rsa.public_key_raw());
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let f = fixture();
    let good = CertificateSigningRequestDer::from_pem_slice(csr(&[]).as_bytes()).unwrap().to_vec();
    let mut texts = vec![
        String::new(),
        "hello".to_owned(),
        pem_of(b""),
        "x".repeat(CSR_LIMIT + 1),
        f.authority.pem().to_owned(),
        pem_of(&[good.clone(), vec![0]].concat()),
    ];
    texts.extend((0..good.len()).map(|length| pem_of(&good[..length])));
    for text in texts {
        let error = f.authority.sign(&text, &f.caller, None).unwrap_err();
        assert!(matches!(error, SignError::Malformed(_)), "{error}");
    }
}
