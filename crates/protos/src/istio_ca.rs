//! Istio's certificate signing service, `istio.v1.auth.IstioCertificateService` (istio/api security/v1alpha1/ca.proto),
//! written by hand: two messages and one unary call.

use crate::envoy::google::protobuf::Struct;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::codegen::{Body, BoxFuture, StdError, http};
use tonic::{Request, Response, Status};

/// Full name of the service.
pub const SERVICE_NAME: &str = "istio.v1.auth.IstioCertificateService";
const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Asks for a certificate. The subject and SANs of the CSR are not trusted by the server.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// PEM of the certificate signing request.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Wanted lifetime in seconds; the server may shorten it.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Free-form; Istio's node agent puts `ImpersonatedIdentity` here.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// The signed chain.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM certificates: the leaf first, the root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// Caller of the service.
#[derive(Debug, Clone)]
pub struct IstioCertificateServiceClient<T> {
    inner: tonic::client::Grpc<T>,
}

impl<T> IstioCertificateServiceClient<T>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A client on an open channel.
    pub fn new(channel: T) -> Self {
        Self { inner: tonic::client::Grpc::new(channel) }
    }

    /// Has a CSR signed for the identity of the authenticated caller.
    pub async fn create_certificate(
        &mut self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.inner
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("certificate service: {}", error.into())))?;
        let codec = tonic_prost::ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
        self.inner.unary(request, path, codec).await
    }
}

/// What a server of the service does.
pub trait IstioCertificateService: Send + Sync + 'static {
    /// Signs a CSR for the authenticated caller.
    fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> impl Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send;
}

/// tonic server of the service.
#[derive(Debug)]
pub struct IstioCertificateServiceServer<S> {
    inner: Arc<S>,
}

impl<S> IstioCertificateServiceServer<S> {
    /// Serves `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl<S> Clone for IstioCertificateServiceServer<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S> tonic::server::NamedService for IstioCertificateServiceServer<S> {
    const NAME: &'static str = SERVICE_NAME;
}

struct CreateCertificate<S>(Arc<S>);

impl<S: IstioCertificateService> tonic::server::UnaryService<IstioCertificateRequest>
    for CreateCertificate<S>
{
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.create_certificate(request).await })
    }
}

impl<S, B> tonic::codegen::Service<http::Request<B>> for IstioCertificateServiceServer<S>
where
    S: IstioCertificateService,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            if request.uri().path() != CREATE_CERTIFICATE {
                return Ok(Status::unimplemented(format!("no method {}", request.uri().path())).into_http());
            }
            let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.unary(CreateCertificate(inner), request).await)
        })
    }
}
