//! proto/epsweep/v1/client.proto, served from the core.

use super::core::{Core, Handle, is_full};
use super::prepare::{PrepareError, Prepared};
use super::worker_service::waits;
use crate::artifacts::ArtifactError;
use crate::proto::client_service_server::ClientService;
use crate::proto::{
    CancelRequest, CancelResponse, ListRequest, ListResponse, StatusRequest, StatusResponse, SubmitRequest,
    SubmitResponse, SweepStatus, WatchRequest, WatchResponse,
};
use std::path::Path;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Watchers hear at most this often.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// And at least this often, since an estimate changes with time alone.
const WATCH_REFRESH: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Clients {
    pub core: Handle,
}

impl Clients {
    async fn find(&self, name: String) -> Result<SweepStatus, Status> {
        let wanted = name.clone();
        self.core.read(move |core| core.status(&wanted)).await?.ok_or_else(|| no_such_sweep(&name))
    }
}

fn no_such_sweep(name: &str) -> Status {
    Status::not_found(if name.is_empty() {
        "no sweep was submitted yet".to_string()
    } else {
        format!("there is no sweep called {name:?}; `epsweep list` shows those there are")
    })
}

#[tonic::async_trait]
impl ClientService for Clients {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let SubmitRequest { yaml, source, base_dir } = request.into_inner();
        let core = self.core.clone();
        let prepare = move || -> Result<Prepared, Status> {
            let prepared = Prepared::new(yaml, source, Path::new(&base_dir));
            let prepared = prepared.map_err(|error| Status::invalid_argument(render(&error)))?;
            core.keep_given(&prepared).map_err(|error| match &error {
                ArtifactError::Io { source, .. } if is_full(source) => waits(&format!("{error}: the disk is full")),
                _ => Status::internal(error.to_string()),
            })?;
            Ok(prepared)
        };
        let prepared =
            tokio::task::spawn_blocking(prepare).await.map_err(|error| Status::internal(error.to_string()))??;
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
            let mut wake = clients.core.wake.clone();
            loop {
                wake.mark_unchanged();
                let status = clients.find(sweep.clone()).await;
                let ended = status.as_ref().map_or(true, |status| status.state != "running");
                let message = status.map(|status| WatchResponse { status: Some(status) });
                if sender.send(message).await.is_err() || ended {
                    return;
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
                let _ = tokio::time::timeout(WATCH_REFRESH, wake.changed()).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let name = request.into_inner().sweep;
        let wanted = name.clone();
        let cancelled = self.core.call(move |core| core.cancel(&wanted)).await?;
        let cancelled = cancelled.ok_or_else(|| no_such_sweep(&name))?;
        Ok(Response::new(CancelResponse { cancelled }))
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
