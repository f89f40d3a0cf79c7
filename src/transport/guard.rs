//! Stands before every service: which call needs what, and who makes it. What is not allowed is
//! refused before its message is read.

use super::access::Access;
use super::listener::{OpenCall, Peer, Register};
use super::roles::Role;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: probes carry no token.
    Nothing,
    /// Any role.
    Anybody,
    Role(Role),
}

/// By the path of the call. What is not listed needs the most.
pub fn need(path: &str) -> Need {
    match path.trim_start_matches('/').split_once('/') {
        Some(("grpc.health.v1.Health", _)) => Need::Nothing,
        Some(("grpc.reflection.v1.ServerReflection", _)) => Need::Anybody,
        Some(("epsweep.v1.WorkerService", _)) => Need::Role(Role::Worker),
        Some(("epsweep.v1.ClientService", "List" | "Status" | "Watch" | "Why" | "Logs")) => Need::Role(Role::ReadOnly),
        _ => Need::Role(Role::Client),
    }
}

/// The layer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    access: Access,
    register: Arc<Register>,
}

impl Guard {
    pub fn new(access: Access) -> Guard {
        Guard { access, register: Arc::new(Register::new()) }
    }

    pub fn register(&self) -> Arc<Register> {
        self.register.clone()
    }

    /// Lets a call pass, with its `Caller` among the extensions, or says why not.
    #[allow(clippy::result_large_err)] // tonic's own error type
    fn judge(&self, request: &mut http::Request<Body>) -> Result<(), Status> {
        let role = match need(request.uri().path()) {
            Need::Nothing => return Ok(()),
            Need::Anybody => None,
            Need::Role(role) => Some(role),
        };
        let peer = request.extensions().get::<Peer>().cloned();
        let caller = self.access.who(peer.as_ref(), request.headers()).inspect_err(|_| {
            if let Some(peer) = &peer
                && self.access.failed(peer.address.ip())
            {
                peer.close.cancel();
            }
        })?;
        if let Some(role) = role
            && !caller.roles.has(role)
        {
            return Err(Status::permission_denied(format!(
                "{} is {}, and this call needs {role}: use a token or certificate of that role (--token-file, --tls-dir)",
                caller.name, caller.roles
            )));
        }
        if let Some(peer) = &peer
            && !self.register.prove(peer)
        {
            peer.close.cancel();
            return Err(Status::unavailable("this coordinator has as many connections as it can"));
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

impl<S> tower::Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service behind the guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let open = request.extensions().get::<Peer>().map(Peer::begin_call);
        match self.guard.judge(&mut request) {
            Ok(()) => {
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Counted { body, _open: open }))) })
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// An answer on its way: the call is under way until its last byte has gone.
struct Counted {
    body: Body,
    _open: Option<OpenCall>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
