//! Tulle's own `tulle.v1.Observe`, written by hand: a reverse stream. A proxy opens it beside ADS and answers questions
//! that the control plane asks on behalf of users, so that a proxy behind NAT can be asked as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::codegen::{Body, BoxFuture, StdError, http, tokio_stream::Stream};
use tonic::{Request, Response, Status, Streaming};

use crate::envoy::envoy::config::core::v3::Node;

/// Full name of the service.
pub const SERVICE_NAME: &str = "tulle.v1.Observe";
const ATTACH: &str = "/tulle.v1.Observe/Attach";

/// What a proxy sends: first who it is, then answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromProxy {
    /// Who it is; only in the first message.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// An answer; in every other message.
    #[prost(message, optional, tag = "2")]
    pub answer: Option<Answer>,
}

/// A question of the control plane.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Question {
    /// Chosen by the asker; the answer repeats it.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is known about requests with this `x-request-id`.
    #[prost(string, tag = "2")]
    pub request_id: String,
}

/// The answer to a question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The question's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The request passed here, whether or not its story was kept.
    #[prost(bool, tag = "2")]
    pub seen: bool,
    /// The stories that were kept, in the order in which they ended.
    #[prost(message, repeated, tag = "3")]
    pub stories: Vec<Story>,
}

/// What became of one request in one proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Story {
    /// When it came, microseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub began: u64,
    /// `inbound` or `outbound`.
    #[prost(string, tag = "2")]
    pub direction: String,
    /// Method.
    #[prost(string, tag = "3")]
    pub method: String,
    /// Host.
    #[prost(string, tag = "4")]
    pub authority: String,
    /// Path without query: a query may hold what is nobody's business.
    #[prost(string, tag = "5")]
    pub path: String,
    /// Protocol.
    #[prost(string, tag = "6")]
    pub protocol: String,
    /// Status that the client got; 0: none.
    #[prost(uint32, tag = "7")]
    pub status: u32,
    /// Envoy's response flags; `-` for none.
    #[prost(string, tag = "8")]
    pub flags: String,
    /// Envoy's response code details.
    #[prost(string, tag = "9")]
    pub details: String,
    /// Why no connection to the upstream could be made.
    #[prost(string, tag = "10")]
    pub transport_failure: String,
    /// The route's origin, `VirtualService/production/payment-service#http[1]`.
    #[prost(string, tag = "11")]
    pub route: String,
    /// Cluster.
    #[prost(string, tag = "12")]
    pub cluster: String,
    /// The upstream host that was tried last.
    #[prost(string, tag = "13")]
    pub upstream: String,
    /// Tries made.
    #[prost(uint32, tag = "14")]
    pub attempts: u32,
    /// The caller's address.
    #[prost(string, tag = "15")]
    pub peer_address: String,
    /// The caller's verified SPIFFE id.
    #[prost(string, tag = "16")]
    pub peer: String,
    /// Parts of the time, microseconds since `began`: the request's last byte read; the last try sent; the response's
    /// head; the end. 0: it did not come to that.
    #[prost(uint64, tag = "17")]
    pub request_read: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "18")]
    pub sent: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "19")]
    pub answered: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "20")]
    pub ended: u64,
    /// Bytes of the request's body.
    #[prost(uint64, tag = "21")]
    pub request_bytes: u64,
    /// Bytes of the response's body.
    #[prost(uint64, tag = "22")]
    pub response_bytes: u64,
}

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
