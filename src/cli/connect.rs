//! The connection of the steering verbs.

use crate::coordinator::{Bearer, WAITS};
use crate::program::Failure;
use crate::proto::client_service_client::ClientServiceClient;
use std::path::PathBuf;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
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
    /// The coordinator, HOST:PORT
    #[arg(long, value_name = "ADDR", env = "EPSWEEP_COORDINATOR", default_value = "127.0.0.1:7070")]
    pub to: String,
    /// File whose first line is the coordinator's token
    #[arg(long, value_name = "FILE", env = "EPSWEEP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
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
    #[error("{0:?} is not an address")]
    #[diagnostic(help("write HOST:PORT, such as 127.0.0.1:7070"))]
    Address(String),
    #[error("{0}")]
    Refused(String),
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let bearer = Bearer::from_file(self.token_file.as_deref()).map_err(Failure::usage)?;
        let endpoint = Endpoint::from_shared(format!("http://{}", self.to))
            .map_err(|_| Failure::usage(CallError::Address(self.to.clone())))?
            .connect_timeout(Duration::from_secs(5));
        let channel = endpoint.connect().await.map_err(|error| {
            let reason = innermost(&error);
            Failure::unreachable(CallError::Unreachable { to: self.to.clone(), reason })
        })?;
        Ok(ClientServiceClient::with_interceptor(channel, bearer).max_decoding_message_size(64 << 20))
    }

    /// What a refused call means for the exit code.
    pub fn failed(&self, status: &Status) -> Failure {
        let reason = status.message().to_string();
        if status.metadata().contains_key(WAITS) {
            return Failure::unreachable(CallError::Waits { to: self.to.clone(), reason });
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

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
