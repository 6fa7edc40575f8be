//! Istio's certificate service: who asks (a join token, or a certificate that is still valid), and what the answer is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Spiffe};
use protos::envoy::google::protobuf::value::Kind;
use protos::istio_ca::{
    IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceServer,
};
use tonic::{Code, Request, Response, Status};

use crate::bounded::Bounded;
use crate::ca::{Authority, SignError};
use crate::encoding::one_line;
use crate::metrics::CertificateMetrics;
use crate::peer::PeerIdentity;
use crate::rate::Limiter;
use crate::timestamp::rfc3339;
use crate::token::{TokenError, Tokens};

/// Failed attempts of one address: this many at once, then 1 a second.
const FAILURES_BURST: u32 = 60;
/// Certificates of one identity: this many at once, then 2 a second.
const CERTIFICATES_BURST: u32 = 200;

/// Bytes of a request, which is a CSR of at most 16 KiB and a few fields.
const REQUEST_BYTES: usize = 32 * 1024;

/// The service as tonic serves it, with a limit on the bytes of a request.
pub fn certificate_server(
    service: CertificateService,
) -> Bounded<IstioCertificateServiceServer<CertificateService>> {
    Bounded::new(IstioCertificateServiceServer::new(service), REQUEST_BYTES)
}

/// Answers `CreateCertificate`.
pub struct CertificateService {
    authority: Arc<Authority>,
    tokens: Tokens,
    metrics: Arc<CertificateMetrics>,
    failures: Limiter<IpAddr>,
    certificates: Limiter<Spiffe>,
}

/// An authenticated caller and what it showed.
struct Caller {
    identity: Spiffe,
    /// Id of the join token; `None`: its certificate.
    token: Option<String>,
}

impl Caller {
    fn credential(&self) -> String {
        match &self.token {
            Some(id) => format!("join token {id} for \"{}\"", self.identity),
            None => format!("client certificate of \"{}\"", self.identity),
        }
    }
}

impl CertificateService {
    /// A service that signs with `authority` and accepts `tokens`.
    pub fn new(authority: Arc<Authority>, tokens: Tokens, metrics: Arc<CertificateMetrics>) -> Self {
        let clock: Arc<dyn Clock> = authority.clock().clone();
        CertificateService {
            failures: Limiter::new(clock.clone(), FAILURES_BURST, 1.0),
            certificates: Limiter::new(clock, CERTIFICATES_BURST, 2.0),
            authority,
            tokens,
            metrics,
        }
    }

    fn answer(&self, request: &Request<IstioCertificateRequest>) -> Result<IstioCertificateResponse, Status> {
        self.metrics.requests.add_one();
        let peer = request
            .extensions()
            .get::<PeerIdentity>()
            .ok_or_else(|| Status::internal("the connection's peer is not known"))?;
        let address = peer.address.ip();
        let answer = match self.authenticate(request, peer) {
            Ok(caller) => self.certify(request.get_ref(), &caller),
            // Only failures are limited: an address is shared by all workloads of a machine, and a good token or
            // certificate must not be locked out by a neighbour's bad ones.
            Err(status) if status.code() != Code::Internal && !self.failures.take(address) => {
                return Err(Status::resource_exhausted(format!(
                    "too many refused certificate requests from {address}; wait some seconds"
                )));
            }
            Err(status) => Err(status),
        };
        if let Err(status) = &answer {
            let reason = one_line(status.message());
            tracing::warn!(peer = %peer.address, "certificate request refused: {reason}");
        }
        answer
    }

    fn authenticate(
        &self,
        request: &Request<IstioCertificateRequest>,
        peer: &PeerIdentity,
    ) -> Result<Caller, Status> {
        let caller = match bearer(request) {
            Ok(Some(token)) => self.by_token(token, peer),
            Ok(None) => self.by_certificate(peer),
            Err(status) => Err(status),
        };
        if caller.is_err() {
            self.metrics.authentication_failures.add_one();
        }
        caller
    }

    fn by_token(&self, token: &str, peer: &PeerIdentity) -> Result<Caller, Status> {
        let grant = self.tokens.check(token).map_err(|error| token_status(&error))?;
        if let Some(spiffe) = peer.spiffe.as_ref().filter(|spiffe| **spiffe != grant.identity) {
            return Err(Status::permission_denied(format!(
                "join token {} is for \"{}\", but the connection's client certificate is for \"{spiffe}\"; connect \
                 without a certificate, or use a token for that identity",
                grant.id, grant.identity
            )));
        }
        Ok(Caller { identity: grant.identity, token: Some(grant.id) })
    }

    fn by_certificate(&self, peer: &PeerIdentity) -> Result<Caller, Status> {
        let (Some(identity), Some(not_after)) = (peer.spiffe.clone(), peer.not_after) else {
            return Err(Status::unauthenticated(
                "no identity was shown: send `authorization: Bearer TOKEN` with a token from `tulled token create`, \
                 or connect with a certificate that is still valid",
            ));
        };
        if self.authority.clock().now() >= not_after {
            return Err(Status::unauthenticated(format!(
                "the client certificate of \"{identity}\" expired at {}; join again with a token from `tulled token \
                 create`",
                rfc3339(not_after)
            )));
        }
        Ok(Caller { identity, token: None })
    }

    fn certify(
        &self,
        request: &IstioCertificateRequest,
        caller: &Caller,
    ) -> Result<IstioCertificateResponse, Status> {
        let credential = caller.credential();
        if !self.certificates.take(caller.identity.clone()) {
            return Err(Status::resource_exhausted(format!(
                "{credential}: too many certificates; wait some seconds"
            )));
        }
        refuse_metadata(request, &credential)?;
        let validity = match u64::try_from(request.validity_duration) {
            Ok(0) => None,
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "{credential}: validity_duration is {} s; ask for 1 to 86400, or 0 for the default",
                    request.validity_duration
                )));
            }
        };
        let issued = self.authority.sign(&request.csr, &caller.identity, validity);
        let issued = issued.map_err(|error| self.sign_status(&credential, &error))?;
        // Counted when the certificate is there and before it is handed out: a bad CSR costs no use, and a race for the
        // last use has one winner.
        if let Some(id) = &caller.token {
            self.tokens.use_once(id).map_err(|error| token_status(&error))?;
        }
        self.metrics.issued.add_one();
        tracing::info!(
            identity = %caller.identity,
            by = if caller.token.is_some() { "join token" } else { "certificate" },
            until = %rfc3339(issued.not_after),
            "certificate issued"
        );
        Ok(IstioCertificateResponse { cert_chain: issued.chain })
    }

    fn sign_status(&self, credential: &str, error: &SignError) -> Status {
        let (code, count) = match error {
            SignError::Malformed(_) | SignError::NoProofOfPossession | SignError::Algorithm(_) => {
                (Code::InvalidArgument, &self.metrics.malformed)
            }
            SignError::OtherName { .. }
            | SignError::AsksForAuthority { .. }
            | SignError::Reserved(_)
            | SignError::OtherTrustDomain { .. } => (Code::PermissionDenied, &self.metrics.identity_refused),
            SignError::RootNotValid { .. } => (Code::FailedPrecondition, &self.metrics.sign_failures),
            SignError::Crypto(_) => (Code::Internal, &self.metrics.sign_failures),
        };
        count.add_one();
        Status::new(code, format!("{credential}: {error}"))
    }
}

impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.answer(&request).map(Response::new)
    }
}

/// The join token of `authorization: Bearer TOKEN`; `None` without that header.
fn bearer<T>(request: &Request<T>) -> Result<Option<&str>, Status> {
    let mut values = request.metadata().get_all("authorization").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = || Status::unauthenticated("the authorization header is not one `Bearer TOKEN`");
    if values.next().is_some() {
        return Err(bad());
    }
    let (scheme, token) = value.to_str().map_err(|_| bad())?.split_once(' ').ok_or_else(bad)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(bad());
    }
    Ok(Some(token.trim()))
}

/// Istio's node agents ask here for other identities and other signers. Neither is given, and neither is ignored.
fn refuse_metadata(request: &IstioCertificateRequest, credential: &str) -> Result<(), Status> {
    for (field, value) in request.metadata.iter().flat_map(|metadata| &metadata.fields) {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => {}
            Some(Kind::StringValue(text)) if text.is_empty() => {}
            Some(_) if field == "ImpersonatedIdentity" => {
                return Err(Status::permission_denied(format!(
                    "{credential}: metadata ImpersonatedIdentity: a caller gets a certificate for its own identity only"
                )));
            }
            Some(_) => {
                return Err(Status::invalid_argument(format!(
                    "{credential}: metadata {:.64}: not supported; leave it out",
                    field.escape_default().to_string()
                )));
            }
        }
    }
    Ok(())
}

fn token_status(error: &TokenError) -> Status {
    match error {
        TokenError::File(file) => {
            tracing::error!("join tokens cannot be read: {file}");
            Status::internal("the join tokens cannot be read; tulled's log says why")
        }
        TokenError::NoRandomness => Status::internal(error.to_string()),
        _ => Status::unauthenticated(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
