//! What the layers around all services share: a service that hands every request to its layer.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tower::Service;

/// An answer that is being made.
pub type Answering<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

/// A service of gRPC that a layer can stand around.
pub trait Inner:
    Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error: Send + 'static,
        Future: Send + 'static,
    >
{
}

impl<S> Inner for S where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error: Send + 'static,
            Future: Send + 'static,
        >
{
}

/// What is done around each call.
pub trait Around {
    /// Answers a request: by the service, or in its place.
    fn answer<S: Inner>(&self, inner: &mut S, request: http::Request<Body>) -> Answering<S::Error>;
}

/// A service with something around it.
#[derive(Clone, Debug)]
pub struct Surrounded<A, S> {
    /// What is around it.
    pub around: A,
    /// The service.
    pub inner: S,
}

impl<A: Around, S: Inner> Service<http::Request<Body>> for Surrounded<A, S> {
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.around.answer(&mut self.inner, request)
    }
}
