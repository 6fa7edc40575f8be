//! A gRPC service whose requests are small: a larger body is cut off while it arrives, before it is buffered.

use std::task::{Context, Poll};

use http::Request;
use http_body_util::Limited;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

/// A service with a limit on the bytes of a request.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    service: S,
    most: usize,
}

impl<S> Bounded<S> {
    /// Limits the requests of `service` to `most` bytes.
    pub fn new(service: S, most: usize) -> Self {
        Bounded { service, most }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Limited<Body>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let most = self.most;
        self.service.call(request.map(|body| Limited::new(body, most)))
    }
}
