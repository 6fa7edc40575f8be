use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::testing::TestClock;
use crate::token::{NewToken, create};
use protos::envoy::google::protobuf::{Struct, Value};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
const LEDGER: &str = "spiffe://cluster.local/ns/production/sa/ledger";

struct Fixture {
    data: tempfile::TempDir,
    clock: Arc<TestClock>,
    authority: Arc<Authority>,
    metrics: Arc<CertificateMetrics>,
    service: CertificateService,
}

fn fixture() -> Fixture {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let authority = Arc::new(Authority::create(data.path(), "cluster.local", clock.clone()).unwrap());
    let tokens = Tokens::new(data.path().to_owned(), authority.clone());
    let metrics = Arc::new(CertificateMetrics::default());
    let service = CertificateService::new(authority.clone(), tokens, metrics.clone());
    Fixture { data, clock, authority, metrics, service }
}

impl Fixture {
    fn token(&self, max_uses: Option<u64>) -> String {
        let wanted = NewToken {
            namespace: "production".into(),
            service_account: "payment".into(),
            lifetime: Duration::from_secs(3600),
            max_uses,
        };
        create(self.data.path(), &wanted, &self.authority).unwrap().to_string()
    }

    fn ask(&self, call: Call) -> Result<Vec<String>, Status> {
        self.service.answer(&call.request()).map(|response| response.cert_chain)
    }
}

#[derive(Default)]
struct Call {
    authorization: Option<String>,
    certificate: Option<(&'static str, SystemTime)>,
    name: Option<&'static str>,
    body: IstioCertificateRequest,
}

impl Call {
    fn with_token(token: &str) -> Call {
        Call { authorization: Some(format!("Bearer {token}")), ..Call::default() }
    }

    fn request(self) -> Request<IstioCertificateRequest> {
        let mut body = self.body;
        if body.csr.is_empty() {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.subject_alt_names =
                self.name.iter().map(|name| SanType::URI(Ia5String::try_from(*name).unwrap())).collect();
            body.csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        }
        let mut request = Request::new(body);
        if let Some(value) = self.authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        request.extensions_mut().insert(PeerIdentity {
            spiffe: self.certificate.map(|(name, _)| name.parse().unwrap()),
            not_after: self.certificate.map(|(_, not_after)| not_after),
            address: "127.0.0.1:4000".parse().unwrap(),
            tls: true,
        });
        request
    }
}

#[track_caller]
fn refused(result: Result<Vec<String>, Status>, code: Code, words: &[&str]) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    for word in words {
        assert!(status.message().contains(word), "no {word:?} in {:?}", status.message());
    }
}

#[test]
fn a_token_gets_a_chain_from_leaf_to_root() {
    let f = fixture();
    let chain = f.ask(Call { name: Some(PAYMENT), ..Call::with_token(&f.token(None)) }).unwrap();
    assert_eq!((chain.len(), chain[1].as_str()), (2, f.authority.pem()));
    assert_eq!((f.metrics.requests.get(), f.metrics.issued.get()), (1, 1));
}

#[test]
fn a_certificate_renews_itself_until_it_expires() {
    let f = fixture();
    let not_after = f.clock.now() + Duration::from_secs(60);
    let call = || Call { certificate: Some((PAYMENT, not_after)), ..Call::default() };
    f.ask(call()).unwrap();
    f.clock.advance(Duration::from_secs(60));
    refused(f.ask(call()), Code::Unauthenticated, &[PAYMENT, "expired at", "tulled token create"]);
    // The token of the same identity is the way back in.
    f.ask(Call { authorization: Some(format!("Bearer {}", f.token(None))), ..call() }).unwrap();
}

#[test]
fn strangers_are_told_what_to_show() {
    let f = fixture();
    refused(f.ask(Call::default()), Code::Unauthenticated, &["Bearer TOKEN"]);
    for text in ["Bearer", "Basic abc", "Bearer tulle1.x.y.z", "Bearer  "] {
        let call = Call { authorization: Some(text.to_owned()), ..Call::default() };
        refused(f.ask(call), Code::Unauthenticated, &[]);
    }
    assert_eq!((f.metrics.authentication_failures.get(), f.metrics.issued.get()), (5, 0));
}

#[test]
fn a_token_for_another_identity_is_refused_naming_both() {
    let f = fixture();
    let call = Call { name: Some(LEDGER), ..Call::with_token(&f.token(None)) };
    refused(f.ask(call), Code::PermissionDenied, &["join token", PAYMENT, LEDGER]);
    let not_after = f.clock.now() + Duration::from_secs(60);
    let call = Call { certificate: Some((LEDGER, not_after)), ..Call::with_token(&f.token(None)) };
    refused(f.ask(call), Code::PermissionDenied, &[PAYMENT, LEDGER]);
    let call = Call { name: Some(LEDGER), certificate: Some((PAYMENT, not_after)), ..Call::default() };
    refused(f.ask(call), Code::PermissionDenied, &["client certificate", PAYMENT, LEDGER]);
    assert_eq!(f.metrics.identity_refused.get(), 2);
}

#[test]
fn a_bad_csr_costs_no_use_of_the_token() {
    let f = fixture();
    let token = f.token(Some(1));
    let body = IstioCertificateRequest { csr: "nonsense".into(), ..Default::default() };
    refused(f.ask(Call { body, ..Call::with_token(&token) }), Code::InvalidArgument, &["CSR"]);
    f.ask(Call::with_token(&token)).unwrap();
    refused(f.ask(Call::with_token(&token)), Code::Unauthenticated, &["used up"]);
}

#[test]
fn what_is_not_given_is_named() {
    let f = fixture();
    let token = f.token(None);
    let body = IstioCertificateRequest { validity_duration: -1, ..Default::default() };
    refused(f.ask(Call { body, ..Call::with_token(&token) }), Code::InvalidArgument, &["validity_duration"]);
    let ask_metadata = |field: &str, text: &str| {
        let value = Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let metadata = Some(Struct { fields: [(field.to_owned(), value)].into() });
        f.ask(Call {
            body: IstioCertificateRequest { metadata, ..Default::default() },
            ..Call::with_token(&token)
        })
    };
    refused(ask_metadata("ImpersonatedIdentity", LEDGER), Code::PermissionDenied, &["ImpersonatedIdentity"]);
    refused(ask_metadata("CertSigner", "other"), Code::InvalidArgument, &["CertSigner"]);
    ask_metadata("CertSigner", "").unwrap();
}

#[test]
fn guessing_is_slowed_down_for_its_address() {
    let f = fixture();
    for _ in 0..FAILURES_BURST {
        refused(f.ask(Call::default()), Code::Unauthenticated, &[]);
    }
    refused(f.ask(Call::default()), Code::ResourceExhausted, &["127.0.0.1"]);
    f.clock.advance(Duration::from_secs(2));
    refused(f.ask(Call::default()), Code::Unauthenticated, &[]);
}

#[test]
fn a_guesser_locks_nobody_out_who_shares_its_address() {
    let f = fixture();
    for _ in 0..=FAILURES_BURST {
        assert!(f.ask(Call::default()).is_err());
    }
    f.ask(Call::with_token(&f.token(None))).unwrap();
    let not_after = f.clock.now() + Duration::from_secs(60);
    f.ask(Call { certificate: Some((PAYMENT, not_after)), ..Call::default() }).unwrap();
}
