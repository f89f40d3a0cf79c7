//! proto/epsweep/v1/client.proto, served from the core.

use super::PRIORITIES;
use super::core::{Core, Handle, Refused, no_such_sweep};
use super::prepare::{PrepareError, Prepared};
use super::wire;
use super::worker_service::artifact_status;
use crate::blocking;
use crate::proto::client_service_server::ClientService;
use crate::proto::{
    CancelRequest, CancelResponse, ListRequest, ListResponse, LogsRequest, LogsResponse, PauseRequest, PauseResponse,
    ResumeRequest, ResumeResponse, RetryRequest, RetryResponse, SetPriorityRequest, SetPriorityResponse, StatusRequest,
    StatusResponse, SubmitRequest, SubmitResponse, SweepStatus, WatchRequest, WatchResponse, WhyRequest, WhyResponse,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Watchers hear at most this often.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// And at least this often, since an estimate changes with time alone.
const WATCH_REFRESH: Duration = Duration::from_secs(5);

/// Sweeps that are planned at a time: a large one takes seconds and memory.
const SUBMISSIONS: usize = 4;

#[derive(Debug, Clone)]
pub struct Clients {
    core: Handle,
    planning: Arc<Semaphore>,
}

impl Clients {
    pub fn new(core: Handle) -> Clients {
        Clients { core, planning: Arc::new(Semaphore::new(SUBMISSIONS)) }
    }

    async fn find(&self, name: String) -> Result<SweepStatus, Status> {
        let wanted = name.clone();
        self.core.read(move |core| core.status(&wanted)).await?.ok_or_else(|| Status::not_found(no_such_sweep(&name)))
    }

    /// Steers a sweep on the core thread.
    async fn steer<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core) -> Result<R, Refused> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        answer(self.core.call(f).await?)
    }
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn answer<R>(answered: Result<R, Refused>) -> Result<Response<R>, Status> {
    answered.map(Response::new).map_err(|refused| {
        let message = refused.to_string();
        match refused {
            Refused::NoSuchSweep(_) | Refused::NoSuchTask { .. } => Status::not_found(message),
            Refused::Ended { .. } => Status::failed_precondition(message),
            Refused::Priority { .. } | Refused::NotAnId(_) => Status::invalid_argument(message),
            Refused::Ledger(_) => Status::internal(message),
        }
    })
}

#[tonic::async_trait]
impl ClientService for Clients {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        wire::submission(&request)?;
        let SubmitRequest { yaml, source, base_dir, priority } = request;
        if priority != 0 && !PRIORITIES.contains(&priority) {
            return Err(Status::invalid_argument(Refused::Priority { asked: priority }.to_string()));
        }
        let _turn = self.planning.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
        let prepare = move || -> Result<Prepared, Status> {
            let prepared = Prepared::new(yaml, source, Path::new(&base_dir));
            let mut prepared = prepared.map_err(|error| Status::invalid_argument(render(&error)))?;
            prepared.priority = (priority != 0).then_some(priority);
            Ok(prepared)
        };
        let prepared = blocking::run(prepare).await.map_err(|error| Status::internal(error.to_string()))??;
        if let Err(error) = self.core.keep_given(&prepared).await {
            self.core.bucket_or(&error).await;
            return Err(artifact_status(&error));
        }
        Ok(Response::new(self.core.call(move |core| core.submit(&prepared)).await?))
    }

    async fn list(&self, _request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(ListResponse { sweeps: self.core.read(Core::list).await? }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.find(request.into_inner().sweep).await?;
        Ok(Response::new(StatusResponse { status: Some(status) }))
    }

    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let sweep = self.find(request.into_inner().sweep).await?.sweep;
        let clients = self.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let woken = clients.core.wake.next();
                let status = clients.find(sweep.clone()).await;
                let ended =
                    status.as_ref().map_or(true, |status| !matches!(status.state.as_str(), "running" | "paused"));
                let message = status.map(|status| WatchResponse { status: Some(status) });
                if sender.send(message).await.is_err() || ended {
                    return;
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
                let _ = tokio::time::timeout(WATCH_REFRESH, woken).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let name = request.into_inner().sweep;
        let wanted = name.clone();
        let cancelled = self.core.call(move |core| core.cancel(&wanted)).await?;
        let cancelled = cancelled.ok_or_else(|| Status::not_found(no_such_sweep(&name)))?;
        Ok(Response::new(CancelResponse { cancelled }))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        let name = request.into_inner().sweep;
        self.steer(move |core| core.pause(&name)).await
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let name = request.into_inner().sweep;
        self.steer(move |core| core.resume(&name)).await
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<RetryResponse>, Status> {
        let name = request.into_inner().sweep;
        self.steer(move |core| core.retry_failed(&name)).await
    }

    async fn set_priority(
        &self,
        request: Request<SetPriorityRequest>,
    ) -> Result<Response<SetPriorityResponse>, Status> {
        let SetPriorityRequest { sweep, priority } = request.into_inner();
        let set =
            move |core: &mut Core| core.set_priority(&sweep, priority).map(|before| SetPriorityResponse { before });
        self.steer(set).await
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        let WhyRequest { sweep, task } = request.into_inner();
        answer(self.core.read(move |core| core.why(&sweep, &task)).await?)
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<LogsResponse>, Status> {
        let LogsRequest { sweep, task } = request.into_inner();
        answer(self.core.read(move |core| core.logs(&sweep, &task)).await?)
    }
}

/// The error as a person should see it at the other end, caret and remedy included, without colours.
fn render(error: &PrepareError) -> String {
    let mut text = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    match handler.render_report(&mut text, error) {
        Ok(()) => text,
        Err(_) => error.to_string(),
    }
}
