//! An operator's own authority: an intermediate signs, every chain is sent whole, and the mesh works as with a root.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tests::mixed::calls::calls;
use tests::mixed::{Mesh, named};
use tests::{get, until};

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, KeyPair::generate().unwrap())
}

/// Root, intermediate and a second intermediate below it, which signs; by Istio's file names.
fn write_chain(folder: &Path) {
    let (root, root_key) = authority("an operator's root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let (first, first_key) = authority("first intermediate");
    let first_pem = first.signed_by(&first_key, &root).unwrap().pem();
    let first = Issuer::new(first, first_key);
    let (second, second_key) = authority("second intermediate");
    let second_pem = second.signed_by(&second_key, &first).unwrap().pem();
    for (name, text) in [
        ("root-cert.pem", root_pem.clone()),
        ("ca-cert.pem", second_pem.clone()),
        ("ca-key.pem", second_key.serialize_pem()),
        ("cert-chain.pem", format!("{second_pem}{first_pem}{root_pem}")),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn a_mesh_whose_authority_is_two_intermediates_below_its_root() {
    let operator = tempfile::tempdir().unwrap();
    write_chain(operator.path());
    let mesh = Mesh::with_authority(96, operator.path());
    until("the first answer", || calls(mesh.payment_service(), "/pay", "", 1).only(200).then_some(()));
    let tally = calls(mesh.payment_service(), "/pay", "", 100);
    assert!(tally.only(200), "{tally:?}");
    let caller = "URI=spiffe://cluster.local/ns/production/sa/frontend";
    assert!(tally.last.contains(caller), "no {caller} in {}", tally.last);
    let page = get(mesh.admin(&named("frontend")), "/certs").unwrap();
    let page: serde_json::Value =
        serde_json::from_str(&page[page.find('{').unwrap()..=page.rfind('}').unwrap()]).unwrap();
    let certificates = &page["certificates"][0];
    let length = |field: &str| certificates[field].as_array().unwrap().len();
    assert_eq!((length("cert_chain"), length("ca_cert")), (3, 1), "leaf and two intermediates, one root");
    let stranger =
        calls(mesh.address(&named("stranger"), 15080), "http://payment-service.production:8080/pay", "", 5);
    assert!(stranger.only(403), "{stranger:?}");
}
