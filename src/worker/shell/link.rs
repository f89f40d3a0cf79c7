//! The connection to the coordinator: every call repeated until it is answered.

use epsweep::coordinator::{PROTOCOL, WAITS};
use epsweep::engine::Lease;
use epsweep::proto::worker_service_client::WorkerServiceClient;
use epsweep::proto::{self, RegisterRequest, RegisterResponse};
use epsweep::transport::{Bearer, Credentials, explain};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The shortest and the longest pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// No call but the long poll takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum LinkError {
    #[error("{address:?} is not a coordinator's address")]
    #[diagnostic(help("write HOST:PORT, as `epsweep serve` printed it"))]
    Address { address: String },
    #[error("no coordinator answers at {address} ({reason})")]
    #[diagnostic(help(
        "is `epsweep serve` running there, and can this machine reach it? Tried for {seconds} s; --connect-timeout waits longer"
    ))]
    Unreachable { address: String, seconds: u64, reason: String },
    #[error("the coordinator at {address} refused: {reason}")]
    Refused { address: String, reason: String },
}

type Client = WorkerServiceClient<InterceptedService<Channel, Bearer>>;

/// Who this worker is, as it tells the coordinator.
#[derive(Debug, Clone)]
pub struct Identity {
    pub worker: String,
    pub host: String,
    pub slots: u32,
    pub device: String,
    pub libtorch: String,
}

/// A patient connection. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    client: Client,
    address: String,
    identity: Identity,
    /// Leases to name when registering again.
    held: Arc<dyn Fn() -> Vec<Lease> + Send + Sync>,
    patience: Arc<Mutex<Patience>>,
    jitter: Arc<Mutex<u64>>,
    /// The last call was answered.
    answers: Arc<AtomicBool>,
}

/// How long silence is borne: short until the first answer, long from then on.
struct Patience {
    first: Duration,
    later: Duration,
    answered: bool,
}

impl Link {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(
        address: &str,
        credentials: &Credentials,
        identity: Identity,
        patience: (Duration, Duration),
        held: Arc<dyn Fn() -> Vec<Lease> + Send + Sync>,
    ) -> Result<Link, LinkError> {
        let (endpoint, dialer) =
            credentials.endpoint(address).map_err(|_| LinkError::Address { address: address.into() })?;
        // Acquire waits at the coordinator; all other calls are bounded one by one.
        let channel = endpoint.connect_with_connector_lazy(dialer);
        let client =
            WorkerServiceClient::with_interceptor(channel, credentials.bearer()).max_decoding_message_size(256 << 20);
        // The seed only spreads the retries of many workers; no result depends on it.
        let seed = blake3::hash(identity.worker.as_bytes()).as_bytes()[..8].try_into().map(u64::from_le_bytes);
        Ok(Link {
            client,
            address: address.into(),
            identity,
            held,
            patience: Arc::new(Mutex::new(Patience { first: patience.0, later: patience.1, answered: false })),
            jitter: Arc::new(Mutex::new(seed.unwrap_or(1) | 1)),
            answers: Arc::default(),
        })
    }

    /// Introduces this worker.
    ///
    /// # Errors
    /// When the coordinator refuses, or is not heard of for too long.
    pub async fn register(&self) -> Result<RegisterResponse, LinkError> {
        let request = || {
            let running = (self.held)().into_iter().map(Into::into).collect();
            RegisterRequest {
                protocol: PROTOCOL,
                worker: self.identity.worker.clone(),
                host: self.identity.host.clone(),
                pid: std::process::id(),
                slots: self.identity.slots,
                device: self.identity.device.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                libtorch: self.identity.libtorch.clone(),
                running,
            }
        };
        self.until_answered(|| {
            let (mut client, request) = (self.client.clone(), bounded(request(), CALL_TIMEOUT));
            async move { client.register(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// Makes a call until it is answered, registering again when the coordinator has forgotten us.
    ///
    /// # Errors
    /// When the coordinator refuses the call itself, or is not heard of for too long.
    pub async fn call<R, F, Fut>(&self, timeout: Duration, make: F) -> Result<R, LinkError>
    where
        F: Fn(Client, Duration) -> Fut,
        Fut: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        loop {
            let tried = self
                .until_answered_or(Code::NotFound, || {
                    let call = make(self.client.clone(), timeout);
                    async move { call.await.map(tonic::Response::into_inner) }
                })
                .await?;
            match tried {
                Ok(answer) => return Ok(answer),
                Err(_) => drop(self.register().await?),
            }
        }
    }

    async fn until_answered<R, Fut>(&self, make: impl FnMut() -> Fut) -> Result<R, LinkError>
    where
        Fut: Future<Output = Result<R, Status>>,
    {
        let answer = self.until_answered_or(Code::Ok, make).await?;
        answer.map_err(|status| self.refused(&status))
    }

    /// Repeats a call through outages. An answer with the code `special` is handed to the caller.
    async fn until_answered_or<R, Fut>(
        &self,
        special: Code,
        mut make: impl FnMut() -> Fut,
    ) -> Result<Result<R, Status>, LinkError>
    where
        Fut: Future<Output = Result<R, Status>>,
    {
        let mut started = Instant::now();
        let mut pause = BACKOFF.0;
        loop {
            let status = match make().await {
                Ok(answer) => {
                    self.patience.lock().expect("no panic holds it").answered = true;
                    self.answers.store(true, Ordering::Relaxed);
                    return Ok(Ok(answer));
                }
                Err(status) if status.code() == special => return Ok(Err(status)),
                Err(status) => status,
            };
            self.answers.store(status.metadata().contains_key(WAITS), Ordering::Relaxed);
            let (answered, patience) = {
                let patience = self.patience.lock().expect("no panic holds it");
                (patience.answered, if patience.answered { patience.later } else { patience.first })
            };
            let passing = match status.code() {
                // Who was let in once is so again when the new token or certificate has reached both ends.
                Code::Unauthenticated | Code::PermissionDenied => answered,
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
                    answered || explain(&status).is_none()
                }
                _ => false,
            };
            if !passing {
                return Err(self.refused(&status));
            }
            if status.metadata().contains_key(WAITS) {
                // It is there, and keeps what it knows; what is held here is handed in when it can take it.
                started = Instant::now();
                tracing::warn!(reason = status.message(), "the coordinator takes nothing in at present");
            }
            if started.elapsed() > patience {
                let reason = root_cause(&status);
                return Err(LinkError::Unreachable {
                    address: self.address.clone(),
                    seconds: patience.as_secs(),
                    reason,
                });
            }
            tracing::debug!(
                error = root_cause(&status),
                pause_ms = pause.as_millis() as u64,
                "coordinator does not answer"
            );
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    fn refused(&self, status: &Status) -> LinkError {
        self.refusal(explain(status).unwrap_or_else(|| status.message().to_string()))
    }

    /// The coordinator does not want what it was sent.
    pub fn refusal(&self, reason: String) -> LinkError {
        LinkError::Refused { address: self.address.clone(), reason }
    }

    /// Half to all of `pause`, so that a fleet does not come back in one instant.
    fn jittered(&self, pause: Duration) -> Duration {
        let mut state = self.jitter.lock().expect("no panic holds it");
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pause.mul_f64(0.5 + (*state >> 33) as f64 / (1u64 << 32) as f64)
    }

    /// Whether the coordinator answered the last call, if only to say that it waits.
    pub fn is_connected(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// A client for calls whose failures the caller handles itself.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn worker(&self) -> String {
        self.identity.worker.clone()
    }
}

/// A request with a deadline.
pub fn bounded<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// The innermost error says what happened ("connection refused"); the outer ones say "transport error".
fn root_cause(status: &Status) -> String {
    if let Some(text) = explain(status) {
        return text;
    }
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_string();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// The leases of a heartbeat as engine leases; malformed ones cannot come from our own coordinator.
pub fn parse_leases(sent: Vec<proto::LeaseRef>) -> Vec<Lease> {
    sent.into_iter().filter_map(|lease| lease.try_into().ok()).collect()
}
