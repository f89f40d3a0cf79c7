//! The connection of the steering verbs.

use crate::coordinator::WAITS;
use crate::program::Failure;
use crate::proto::client_service_client::ClientServiceClient;
use crate::transport::{Bearer, Credentials, Proof, Role, explain};
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A call that a coordinator at work answers within; planning a large sweep takes its time.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A request with a deadline.
pub fn bounded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Where the coordinator is, and how to prove that one may call it.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The coordinator, HOST:PORT, or @FILE for a file that says it
    #[arg(long, value_name = "ADDR", env = "EPSWEEP_COORDINATOR", default_value = "127.0.0.1:7070")]
    pub to: String,
    #[command(flatten)]
    pub proof: Proof,
}

pub type Client = ClientServiceClient<InterceptedService<Channel, Bearer>>;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum CallError {
    #[error("no coordinator answers at {to} ({reason})")]
    #[diagnostic(help("is `epsweep serve` running there? --to names another address"))]
    Unreachable { to: String, reason: String },
    #[error("the coordinator at {to} takes nothing in at present: {reason}")]
    #[diagnostic(help("the same command again, once there is space"))]
    Waits { to: String, reason: String },
    #[error("cannot talk to the coordinator at {to}: {reason}")]
    Shut { to: String, reason: String },
    #[error("{0}")]
    Refused(String),
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let credentials = Credentials::load(&self.proof, Role::Client).map_err(Failure::usage)?;
        let (endpoint, dialer) = credentials.endpoint(&self.to).map_err(Failure::usage)?;
        let channel = endpoint.connect_with_connector(dialer).await.map_err(|error| match explain(&error) {
            Some(reason) => Failure::usage(CallError::Shut { to: self.to.clone(), reason }),
            None => {
                let reason = innermost(&error);
                Failure::unreachable(CallError::Unreachable { to: self.to.clone(), reason })
            }
        })?;
        Ok(ClientServiceClient::with_interceptor(channel, credentials.bearer()).max_decoding_message_size(64 << 20))
    }

    /// What a refused call means for the exit code.
    pub fn failed(&self, status: &Status) -> Failure {
        let reason = status.message().to_string();
        if status.metadata().contains_key(WAITS) {
            return Failure::unreachable(CallError::Waits { to: self.to.clone(), reason });
        }
        if let Some(reason) = explain(status) {
            return Failure::usage(CallError::Shut { to: self.to.clone(), reason });
        }
        match status.code() {
            // Unknown and Internal are what a connection that breaks off looks like.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
                Failure::unreachable(CallError::Unreachable { to: self.to.clone(), reason })
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::Unauthenticated
            | Code::PermissionDenied => Failure::usage(CallError::Refused(status.message().to_string())),
            _ => Failure::internal(CallError::Refused(status.message().to_string())),
        }
    }
}

pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
