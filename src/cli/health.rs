//! `epsweep health`: asks the gRPC health service, as probes of containers and load balancers do.

use super::connect::{Target, innermost};
use super::printer;
use crate::program::{Exit, Failure};
use crate::transport::{Credentials, Role, explain};
use std::time::Duration;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A probe has little patience.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

pub async fn health(args: Args) -> Result<Exit, Failure> {
    let to = &args.target.to;
    let credentials = Credentials::load(&args.target.proof, Role::ReadOnly).map_err(Failure::usage)?;
    let (endpoint, dialer) = credentials.endpoint(to).map_err(Failure::usage)?;
    let endpoint = endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let channel = endpoint.connect_with_connector(dialer).await.map_err(|error| match explain(&error) {
        Some(reason) => Failure::usage(miette::miette!("cannot talk to the coordinator at {to}: {reason}")),
        None => Failure::unreachable(miette::miette!("no coordinator answers at {to} ({})", innermost(&error))),
    })?;
    let request = HealthCheckRequest { service: "epsweep.v1.WorkerService".into() };
    let unreachable = |status: tonic::Status| {
        Failure::unreachable(miette::miette!("the health service at {to} does not answer: {}", status.message()))
    };
    let answer = HealthClient::new(channel).check(request).await.map_err(unreachable)?.into_inner();
    match answer.status() {
        ServingStatus::Serving => {
            printer::line("serving");
            Ok(Exit::Done)
        }
        other => Err(Failure::unreachable(miette::miette!("the coordinator at {to} is {}", other.as_str_name()))),
    }
}
