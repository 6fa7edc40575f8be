//! Tulle's own `tulle.v1.Observe`, written by hand: a reverse stream. A proxy opens it beside ADS and answers questions
//! that the control plane asks on behalf of users, so that a proxy behind NAT can be asked as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::codegen::{Body, BoxFuture, StdError, http, tokio_stream::Stream};
use tonic::{Request, Response, Status, Streaming};

mod messages;

pub use messages::*;

/// Full name of the service.
pub const SERVICE_NAME: &str = "tulle.v1.Observe";
const ATTACH: &str = "/tulle.v1.Observe/Attach";

/// Caller of the service: the proxy.
#[derive(Debug, Clone)]
pub struct ObserveClient<T> {
    inner: tonic::client::Grpc<T>,
}

impl<T> ObserveClient<T>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A client on an open channel. Questions larger than `limit` bytes are refused.
    pub fn new(channel: T, limit: usize) -> Self {
        Self { inner: tonic::client::Grpc::new(channel).max_decoding_message_size(limit) }
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// The server does not answer, or does not know the service.
    pub async fn attach(
        &mut self,
        messages: impl Stream<Item = FromProxy> + Send + 'static,
    ) -> Result<Response<Streaming<Question>>, Status> {
        self.inner
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("observe: {}", error.into())))?;
        let codec = tonic_prost::ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(ATTACH);
        self.inner.streaming(Request::new(messages), path, codec).await
    }
}

/// The questions of one stream.
pub type Questions = Pin<Box<dyn Stream<Item = Result<Question, Status>> + Send>>;

/// What a server of the service does: the control plane.
pub trait Observe: Send + Sync + 'static {
    /// Takes a proxy's stream and returns the questions for it.
    fn attach(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> impl Future<Output = Result<Response<Questions>, Status>> + Send;
}

/// tonic server of the service.
#[derive(Debug)]
pub struct ObserveServer<S> {
    inner: Arc<S>,
    limit: usize,
}

impl<S> ObserveServer<S> {
    /// Serves `inner`; answers larger than `limit` bytes are refused.
    pub fn new(inner: Arc<S>, limit: usize) -> Self {
        Self { inner, limit }
    }
}

impl<S> Clone for ObserveServer<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), limit: self.limit }
    }
}

impl<S> tonic::server::NamedService for ObserveServer<S> {
    const NAME: &'static str = SERVICE_NAME;
}

struct Attach<S>(Arc<S>);

impl<S: Observe> tonic::server::StreamingService<FromProxy> for Attach<S> {
    type Response = Question;
    type ResponseStream = Questions;
    type Future = BoxFuture<Response<Questions>, Status>;

    fn call(&mut self, request: Request<Streaming<FromProxy>>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.attach(request).await })
    }
}

impl<S, B> tonic::codegen::Service<http::Request<B>> for ObserveServer<S>
where
    S: Observe,
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
        let (inner, limit) = (self.inner.clone(), self.limit);
        Box::pin(async move {
            if request.uri().path() != ATTACH {
                return Ok(Status::unimplemented(format!("no method {}", request.uri().path())).into_http());
            }
            let codec = tonic_prost::ProstCodec::default();
            let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(limit);
            Ok(grpc.streaming(Attach(inner), request).await)
        })
    }
}
