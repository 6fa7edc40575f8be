use super::*;
use crate::testing::TestClock;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose};
use rustls_pki_types::ServerName;
use std::path::PathBuf;
use tls::{PeerRules, RootPin, ServerVerifier, Trust};

/// One authority of an operator's chain.
struct Link {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key_pem: String,
}

fn link(name: &str, above: Option<&Link>) -> Link {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = match above {
        None => params.self_signed(&key),
        Some(above) => params.signed_by(&key, &above.issuer),
    };
    Link { pem: certificate.unwrap().pem(), key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) }
}

/// An operator's folder, and the data directory that it goes to.
fn folder(signer: &Link, chain: Option<String>, root: &Link) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let (from, data) = (place.path().join("from"), place.path().join("data"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join(KEY), &signer.key_pem).unwrap();
    fs::set_permissions(from.join(KEY), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(from.join(CERTIFICATE), &signer.pem).unwrap();
    fs::write(from.join(ROOT), &root.pem).unwrap();
    if let Some(chain) = chain {
        fs::write(from.join(CHAIN), chain).unwrap();
    }
    (place, from, data)
}

/// Signs a workload's CSR and verifies the chain as a workload does on first contact: by the root's pin.
fn signs(authority: &Authority, length: usize) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let caller = "spiffe://cluster.local/ns/production/sa/payment".parse().unwrap();
    let chain = authority.sign(&csr, &caller, None).unwrap().chain;
    assert_eq!(chain.len(), length, "leaf, intermediates, root");
    let der: Vec<_> =
        chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let rules = Arc::new(PeerRules::workload_of("cluster.local"));
    let verifier = ServerVerifier::new(provider, Trust::Pin(RootPin(*authority.pin())), rules);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (name, now) = (ServerName::try_from("x").unwrap(), UnixTime::since_unix_epoch(since));
    use rustls::client::danger::ServerCertVerifier;
    verifier.verify_server_cert(&der[0], &der[1..], &name, &[], now).unwrap();
    assert!(verifier.verify_server_cert(&der[0], &der[der.len() - 1..], &name, &[], now).is_err());
}

#[test]
fn an_intermediate_signs_and_the_whole_chain_is_sent() {
    let root = link("root", None);
    let first = link("first", Some(&root));
    let second = link("second", Some(&first));
    for (signer, chain, length) in [
        (&first, None, 3),
        (&first, Some(format!("{}{}", first.pem, root.pem)), 3),
        (&second, Some(format!("{}{}{}", second.pem, first.pem, root.pem)), 4),
    ] {
        let (_place, from, data) = folder(signer, chain, &root);
        let made = plug_in(&from, &data, "cluster.local", TestClock::new()).unwrap();
        signs(&made, length);
        let again = Authority::load_or_create(&data, "cluster.local", TestClock::new()).unwrap();
        assert_eq!((again.pin(), again.trust_domain()), (made.pin(), "cluster.local"));
        signs(&again, length);
        assert!(matches!(
            plug_in(&from, &data, "cluster.local", TestClock::new()),
            Err(AuthorityError::Exists(_))
        ));
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused_before_they_are_kept() {
    let (root, other) = (link("root", None), link("other", None));
    let first = link("first", Some(&root));
    let second = link("second", Some(&first));
    let stranger = Link { key_pem: other.key_pem.clone(), ..link("first", Some(&root)) };
    for (signer, chain, root, reason) in [
        (&second, None, &root, "does not lead to root-cert.pem"),
        (&first, None, &other, "does not lead to root-cert.pem"),
        (&stranger, None, &root, "does not belong to the key in ca-key.pem"),
        (&first, Some("nonsense".to_owned()), &root, "holds no PEM certificate"),
    ] {
        let (_place, from, data) = folder(signer, chain, root);
        let error = plug_in(&from, &data, "cluster.local", TestClock::new()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("/from/"), "{error} does not say {reason:?}");
        assert!(!data.join("ca").exists());
    }
    let (_place, from, data) = folder(&first, None, &root);
    fs::write(from.join(ROOT), format!("{}{}", root.pem, other.pem)).unwrap();
    let error = plug_in(&from, &data, "cluster.local", TestClock::new()).unwrap_err().to_string();
    assert!(error.contains("holds 2 certificates where one belongs"), "{error}");
    fs::remove_file(from.join(ROOT)).unwrap();
    let error = plug_in(&from, &data, "cluster.local", TestClock::new()).unwrap_err().to_string();
    assert!(error.contains("root-cert.pem"), "{error}");
}
