//! Envoy's secret discovery service (SDS) for the one workload whose identity this process keeps: names `default` and
//! `ROOTCA`, state-of-the-world and delta; every renewal is pushed to who has asked.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, unfold};
use protos::Any;
use protos::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use protos::envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use protos::envoy::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use protos::envoy::google::rpc;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::identity::Identity;

/// The most names that one stream may ask for.
const MOST_NAMES: usize = 16;

/// What is served now; `None` until the first certificate is issued: then the answer waits.
pub type Current = watch::Receiver<Option<Arc<Identity>>>;

/// The service.
pub struct Secrets(pub Current);

/// A secret by its name, and its version.
fn secret(name: &str, identity: &Identity) -> Option<(Any, String)> {
    let inline = |text: &str| {
        let specifier = Some(Specifier::InlineBytes(text.as_bytes().to_vec()));
        Some(DataSource { specifier, ..Default::default() })
    };
    let (kind, versioned) = match name {
        "default" => {
            let certificate = TlsCertificate {
                certificate_chain: inline(&identity.chain_pem),
                private_key: inline(&identity.key_pem),
                ..Default::default()
            };
            (secret::Type::TlsCertificate(certificate), &identity.chain_pem)
        }
        "ROOTCA" => {
            let context = CertificateValidationContext {
                trusted_ca: inline(&identity.roots_pem),
                ..Default::default()
            };
            (secret::Type::ValidationContext(context), &identity.roots_pem)
        }
        _ => return None,
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, versioned.as_bytes());
    let version = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some((protos::any::pack(&Secret { name: name.to_owned(), r#type: Some(kind) }), version))
}

fn type_url() -> String {
    protos::any::type_url::<Secret>()
}

#[allow(clippy::result_large_err, reason = "the type is tonic's")]
fn check(asked: &str, names: usize, refusal: Option<&rpc::Status>) -> Result<(), Status> {
    if let Some(refusal) = refusal {
        tracing::warn!("a secret was refused: {}", refusal.message.escape_debug());
    }
    if !asked.is_empty() && asked != type_url() {
        return Err(Status::invalid_argument(format!("type_url is {asked}; this server has {}", type_url())));
    }
    if names > MOST_NAMES {
        return Err(Status::resource_exhausted(format!("a stream may ask for {MOST_NAMES} secrets")));
    }
    Ok(())
}

/// One dialect of the protocol: what a stream has asked for, and what it is answered.
trait Dialect: Default + Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// Takes a request; whether it must be answered.
    #[allow(clippy::result_large_err, reason = "the type is tonic's")]
    fn take(&mut self, request: Self::Request) -> Result<bool, Status>;
    /// A new identity is there.
    fn renewed(&mut self);
    /// The answer to everything open.
    fn answer(&mut self, identity: &Identity) -> Self::Response;
}

/// State of the world: every answer holds all that was asked for.
#[derive(Default)]
struct Whole {
    names: Vec<String>,
    nonce: u64,
}

impl Dialect for Whole {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(&mut self, request: DiscoveryRequest) -> Result<bool, Status> {
        check(&request.type_url, request.resource_names.len(), request.error_detail.as_ref())?;
        // The same names with the nonce of an answer: an ACK or NACK of it.
        let news = self.nonce == 0 || request.resource_names != self.names;
        self.names = request.resource_names;
        Ok(news && !self.names.is_empty())
    }

    fn renewed(&mut self) {}

    fn answer(&mut self, identity: &Identity) -> DiscoveryResponse {
        self.nonce += 1;
        let (resources, versions): (Vec<Any>, Vec<String>) =
            self.names.iter().filter_map(|name| secret(name, identity)).unzip();
        DiscoveryResponse {
            version_info: versions.join("."),
            resources,
            type_url: type_url(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        }
    }
}

/// Delta: an answer holds what is new.
#[derive(Default)]
struct Changes {
    names: BTreeSet<String>,
    open: BTreeSet<String>,
    nonce: u64,
}

impl Dialect for Changes {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<bool, Status> {
        let wanted = self.names.len() + request.resource_names_subscribe.len();
        check(&request.type_url, wanted, request.error_detail.as_ref())?;
        for name in &request.resource_names_unsubscribe {
            self.names.remove(name);
            self.open.remove(name);
        }
        self.names.extend(request.resource_names_subscribe.iter().cloned());
        self.open.extend(request.resource_names_subscribe);
        Ok(!self.open.is_empty())
    }

    fn renewed(&mut self) {
        self.open.clone_from(&self.names);
    }

    fn answer(&mut self, identity: &Identity) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        let (mut resources, mut removed_resources) = (Vec::new(), Vec::new());
        for name in std::mem::take(&mut self.open) {
            match secret(&name, identity) {
                Some((any, version)) => {
                    resources.push(Resource { name, version, resource: Some(any), ..Default::default() });
                }
                None => removed_resources.push(name),
            }
        }
        DeltaDiscoveryResponse {
            resources,
            removed_resources,
            type_url: type_url(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answers of one stream: to its requests, and unasked after a renewal.
fn answers<D: Dialect>(requests: Streaming<D::Request>, current: Current) -> Answers<D::Response> {
    let state = Some((requests, current, D::default(), false));
    Box::pin(unfold(state, async |state| {
        let (mut requests, mut current, mut dialect, mut open) = state?;
        loop {
            let identity = current.borrow_and_update().clone();
            if let Some(identity) = identity.filter(|_| open) {
                let answer = dialect.answer(&identity);
                return Some((Ok(answer), Some((requests, current, dialect, false))));
            }
            tokio::select! {
                request = requests.message() => match request.transpose()?.and_then(|it| dialect.take(it)) {
                    Ok(news) => open |= news,
                    Err(status) => return Some((Err(status), None)),
                },
                changed = current.changed() => {
                    // The sender is gone: the process stops.
                    changed.ok()?;
                    dialect.renewed();
                    open = true;
                }
            }
        }
    }))
}

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(Response::new(answers::<Changes>(request.into_inner(), self.0.clone())))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(Response::new(answers::<Whole>(request.into_inner(), self.0.clone())))
    }

    async fn fetch_secrets(
        &self,
        _request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are streamed: use GRPC or DELTA_GRPC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn identity(chain: &str) -> Identity {
        Identity {
            key_pem: "key".to_owned(),
            chain_pem: chain.to_owned(),
            roots_pem: "roots".to_owned(),
            spiffe: "spiffe://cluster.local/ns/a/sa/b".to_owned(),
            not_after: SystemTime::UNIX_EPOCH,
        }
    }

    fn asks(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            type_url: type_url(),
            ..Default::default()
        }
    }

    #[test]
    fn the_whole_dialect_answers_news_and_takes_an_ack_in_silence() {
        let mut stream = Whole::default();
        assert!(stream.take(asks(&["default"], "")).unwrap());
        let first = stream.answer(&identity("one"));
        assert_eq!((first.resources.len(), first.nonce.as_str()), (1, "1"));
        assert!(!stream.take(asks(&["default"], "1")).unwrap(), "an ACK was answered");
        assert!(stream.take(asks(&["default", "ROOTCA", "other"], "1")).unwrap());
        let second = stream.answer(&identity("two"));
        assert_eq!(second.resources.len(), 2, "there is no other");
        assert_ne!(first.version_info, second.version_info);
        let wrong = DiscoveryRequest { type_url: "other".to_owned(), ..asks(&["default"], "2") };
        assert!(stream.take(wrong).is_err());
        assert!(stream.take(asks(&["x"; MOST_NAMES + 1], "2")).is_err());
    }

    #[test]
    fn the_delta_dialect_sends_what_is_new_and_everything_after_a_renewal() {
        let mut stream = Changes::default();
        let subscribe = |names: &[&str]| DeltaDiscoveryRequest {
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        assert!(stream.take(subscribe(&["default", "other"])).unwrap());
        let first = stream.answer(&identity("one"));
        assert_eq!((first.resources.len(), first.removed_resources), (1, vec!["other".to_owned()]));
        assert!(!stream.take(subscribe(&[])).unwrap(), "an ACK was answered");
        assert!(stream.take(subscribe(&["ROOTCA"])).unwrap());
        assert_eq!(stream.answer(&identity("one")).resources[0].name, "ROOTCA");
        stream.renewed();
        assert_eq!(stream.answer(&identity("two")).resources.len(), 2);
    }
}
