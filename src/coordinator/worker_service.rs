//! proto/epsweep/v1/worker.proto, served from the core.

use super::core::{Core, Handle, Unanswered, is_full};
use super::wire::{self, Names};
use super::{PROTOCOL, ServerOptions, WAITS};
use crate::artifacts::{ArtifactError, ArtifactId, BucketError, Store};
use crate::blocking;
use crate::engine::{Failure, Lease, Verdict};
use crate::ledger::{Unfinished, WorkerInfo};
use crate::proto::worker_service_server::WorkerService;
use crate::proto::{
    AcquireRequest, AcquireResponse, CommitRequest, CommitResponse, CommitsRequest, CommitsResponse, FailRequest,
    FailResponse, FailureKind, GetArtifactRequest, GetArtifactResponse, HeartbeatRequest, HeartbeatResponse, LeaseRef,
    LeaveRequest, LeaveResponse, PutArtifactRequest, PutArtifactResponse, RegisterRequest, RegisterResponse,
    SaveTrainingRequest, SaveTrainingResponse, commit_request, commit_response,
};
use crate::transport::limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Extensions, Request, Response, Status, Streaming};

/// Artifacts travel in pieces of this size.
const PIECE: usize = 512 * 1024;
/// Nobody waits longer in one call, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Of one message of an upload, as the protocol says.
const LARGEST_PIECE: usize = 1 << 20;
/// The kind of an upload that is the state of an unfinished training run.
const TRAINING: &str = "training";
/// A guard against absurd uploads; the largest networks of the field are a tenth of it.
pub const LARGEST_ARTIFACT: u64 = 8 << 30;
/// Uploads, and downloads, under way at a time; further ones wait.
const TRANSFERS: usize = 64;
/// A peer that sends or takes nothing for so long in the middle of a transfer has gone.
const STALLED: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Workers {
    core: Handle,
    options: ServerOptions,
    names: Names,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl From<Unanswered> for Status {
    fn from(error: Unanswered) -> Status {
        match error {
            Unanswered::Gone => Status::unavailable(error.to_string()),
            Unanswered::Waits(_) => waits(&error.to_string()),
        }
    }
}

/// This coordinator cannot take anything in at present, and will later: nothing is lost by asking again.
pub(super) fn waits(why: &str) -> Status {
    let mut status = Status::unavailable(why);
    status.metadata_mut().insert(WAITS, MetadataValue::from_static("1"));
    status
}

fn unregistered() -> Status {
    Status::not_found("this worker is not registered; register again")
}

#[allow(clippy::result_large_err)] // tonic's own error type
pub(super) fn lease(sent: LeaseRef) -> Result<Lease, Status> {
    sent.try_into().map_err(Status::invalid_argument)
}

#[allow(clippy::result_large_err)]
fn artifact_id(text: &str) -> Result<ArtifactId, Status> {
    ArtifactId::parse(text).ok_or_else(|| Status::invalid_argument("an artifact id is 64 hexadecimal digits"))
}

pub(super) fn artifact_status(error: &ArtifactError) -> Status {
    match error {
        // Not NOT_FOUND: that is what a worker hears that must register first.
        ArtifactError::Missing { .. } => Status::failed_precondition(error.to_string()),
        ArtifactError::Damaged { .. } => Status::data_loss(error.to_string()),
        ArtifactError::WrongHash { .. } => Status::invalid_argument(error.to_string()),
        ArtifactError::Io { source, .. } if is_full(source) => waits(&format!("{error}: the disk is full")),
        ArtifactError::Io { .. } => Status::internal(error.to_string()),
        ArtifactError::Bucket(BucketError::Missing { .. }) => Status::failed_precondition(error.to_string()),
        ArtifactError::Bucket(BucketError::Damaged { .. }) => Status::data_loss(error.to_string()),
        ArtifactError::Bucket(_) => waits(&error.to_string()),
    }
}

fn verdict(judged: Result<Verdict, String>) -> CommitResponse {
    use commit_response::Verdict as Sent;
    let (verdict, reason) = match judged {
        Ok(Verdict::Accepted) => (Sent::Accepted, String::new()),
        Ok(Verdict::Duplicate) => (Sent::Duplicate, String::new()),
        Ok(Verdict::Unwanted) => (Sent::Unwanted, String::new()),
        Err(reason) => (Sent::Refused, wire::shortened(&reason)),
    };
    CommitResponse { verdict: verdict.into(), reason }
}

/// The next piece of an upload, which must come soon and be small.
async fn next_piece(stream: &mut Streaming<PutArtifactRequest>) -> Result<Option<PutArtifactRequest>, Status> {
    let piece = tokio::time::timeout(STALLED, stream.message()).await;
    let piece = piece.map_err(|_| Status::deadline_exceeded("the upload has stalled"))??;
    match piece {
        Some(piece) if piece.chunk.len() > LARGEST_PIECE => {
            Err(Status::invalid_argument("a piece of an upload has at most 1 MiB"))
        }
        piece => Ok(piece),
    }
}

impl Workers {
    pub fn new(core: Handle, options: ServerOptions) -> Workers {
        let semaphore = || Arc::new(Semaphore::new(TRANSFERS));
        Workers { core, options, names: Names::default(), uploads: semaphore(), downloads: semaphore() }
    }

    /// What to answer when the store cannot give an artifact. A checkpoint that is gone is trained anew.
    async fn lost(&self, id: ArtifactId, error: &ArtifactError) -> Result<Status, Status> {
        self.core.bucket_or(error).await;
        if error.is_gone() && self.core.call(move |core| core.lost_artifact(&id)).await? {
            return Ok(Status::data_loss(format!("{error}; it is trained anew")));
        }
        Ok(artifact_status(error))
    }

    /// Answers that may be judged, and why others cannot be any.
    fn check(&self, answers: Vec<CommitRequest>, caller: &Extensions) -> Vec<Result<CommitRequest, String>> {
        // Almost always they all come from one worker.
        let mut claimed = String::new();
        let mut claim = |answer: &CommitRequest| {
            if claimed.is_empty() || claimed != answer.worker {
                self.names.claim(&answer.worker, caller)?;
                claimed.clone_from(&answer.worker);
            }
            wire::answer(answer)
        };
        let checked = |answer| match claim(&answer) {
            Ok(()) => Ok(answer),
            Err(status) => Err(status.message().to_string()),
        };
        answers.into_iter().map(checked).collect()
    }

    /// Whether the store has the artifact, in its bucket too where it has one.
    async fn settled(&self, store: &Store, id: &ArtifactId) -> Result<bool, Status> {
        let found = async {
            store.settle(id).await?;
            store.look(id).await
        };
        match found.await {
            Ok(found) => Ok(found),
            Err(error) => {
                self.core.bucket_or(&error).await;
                Err(artifact_status(&error))
            }
        }
    }

    /// Looks for what the answers name: a worker may have put it into the bucket by itself.
    async fn look_for(&self, answers: &[CommitRequest]) -> Result<(), Status> {
        let store = &self.core.store;
        if store.bucket().is_none() {
            return Ok(());
        }
        for answer in answers {
            let (sort, names): (Store, Vec<&str>) = match &answer.answer {
                Some(commit_request::Answer::Train(sent)) => {
                    (store.clone(), sent.checkpoints.iter().map(|one| one.artifact.as_str()).collect())
                }
                Some(commit_request::Answer::Evaluate(sent)) => (store.witnesses(), vec![sent.witnesses.as_str()]),
                _ => continue,
            };
            for id in names.into_iter().filter_map(ArtifactId::parse) {
                self.settled(&sort, &id).await?;
            }
        }
        Ok(())
    }

    /// Takes an upload in. The outer error is the stream's, the inner one the store's, with the bytes it had written.
    async fn receive(
        &self,
        store: &Store,
        id: ArtifactId,
        first: PutArtifactRequest,
        mut rest: Streaming<PutArtifactRequest>,
    ) -> Result<Result<(), (ArtifactError, u64)>, Status> {
        let mut upload = match store.begin() {
            Ok(upload) => upload,
            Err(error) => return Ok(Err((error, 0))),
        };
        let is_state = first.kind == TRAINING;
        let mut piece = Some(first);
        let mut size = 0;
        while let Some(PutArtifactRequest { chunk, .. }) = piece {
            size += chunk.len() as u64;
            if size > LARGEST_ARTIFACT {
                return Err(Status::resource_exhausted("an artifact may have at most 8 GiB"));
            }
            if let Err(error) = upload.write(&chunk) {
                return Ok(Err((error, size)));
            }
            piece = next_piece(&mut rest).await?;
        }
        let core = self.core.clone();
        // To its end, even when the caller dies now: what has come in whole is noted.
        let finished = tokio::spawn(async move {
            let name = id.clone();
            let finished = blocking::run(move || upload.finish(&name)).await;
            if is_state {
                core.state_uploaded(id).await;
            }
            finished
        });
        let finished = finished.await.map_err(|error| Status::internal(error.to_string()))?;
        let finished = finished.map_err(|error| Status::internal(error.to_string()))?;
        Ok(finished.map_err(|error| (error, size)))
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let (_, caller, request) = request.into_parts();
        if request.protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "worker {:?} speaks protocol {}, this coordinator speaks {PROTOCOL}; use worker and coordinator of the same release",
                wire::shortened(&request.worker),
                request.protocol
            )));
        }
        let running = wire::introduction(&request)?;
        self.names.claim(&request.worker, &caller)?;
        let info = WorkerInfo {
            worker: request.worker,
            host: request.host,
            slots: request.slots,
            device: request.device,
            version: request.version,
            libtorch: request.libtorch,
        };
        self.core.call(|core| core.register(info, running)).await?;
        let lease_ms = self.options.settings.lease_ms as u32;
        let artifacts = self.options.artifacts.clone().unwrap_or_default();
        Ok(Response::new(RegisterResponse { heartbeat_ms: lease_ms / 6, lease_ms, artifacts }))
    }

    async fn acquire(&self, request: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
        let (_, caller, request) = request.into_parts();
        self.names.claim(&request.worker, &caller)?;
        wire::time_left(&request)?;
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
        loop {
            let woken = self.core.wake.next();
            let seconds_left = request.seconds_left.map(|left| (left - begun.elapsed().as_secs_f64()).max(0.0));
            let asked = AcquireRequest { seconds_left, ..request.clone() };
            let granted = self.core.call(move |core| (core.acquire(&asked), core.is_draining())).await?;
            let (Some(leases), drain) = granted else { return Err(unregistered()) };
            if drain || !leases.is_empty() {
                return Ok(Response::new(AcquireResponse { leases, drain }));
            }
            tokio::select! {
                biased;
                () = woken => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Response::new(AcquireResponse::default())),
            }
        }
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let (_, caller, request) = request.into_parts();
        self.names.claim(&request.worker, &caller)?;
        let (running, queued) = (wire::leases(&request.running)?, wire::leases(&request.queued)?);
        let beat = move |core: &mut Core| (core.heartbeat(&request.worker, running, queued), core.is_draining());
        let answer = self.core.call(beat).await?;
        let (Some(revoked), drain) = answer else { return Err(unregistered()) };
        Ok(Response::new(HeartbeatResponse { revoked: revoked.into_iter().map(Into::into).collect(), drain }))
    }

    async fn commits(&self, request: Request<CommitsRequest>) -> Result<Response<CommitsResponse>, Status> {
        let (_, caller, CommitsRequest { answers }) = request.into_parts();
        if answers.len() > limits::ANSWERS {
            let (sent, most) = (answers.len(), limits::ANSWERS);
            return Err(Status::invalid_argument(format!("{sent} answers in one call, at most {most} are allowed")));
        }
        self.look_for(&answers).await?;
        let checked = self.check(answers, &caller);
        let verdicts = self.core.call(move |core| core.commits(checked)).await?;
        Ok(Response::new(CommitsResponse { verdicts: verdicts.into_iter().map(verdict).collect() }))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<FailResponse>, Status> {
        let (_, caller, request) = request.into_parts();
        self.names.claim(&request.worker, &caller)?;
        let lease = lease(request.lease.unwrap_or_default())?;
        let failure = match FailureKind::try_from(request.kind) {
            Ok(FailureKind::Diverged) => Failure::Diverged,
            Ok(FailureKind::OutOfMemory) => Failure::OutOfMemory,
            Ok(FailureKind::BadInput) => Failure::BadInput,
            Ok(FailureKind::Preempted) => Failure::Preempted,
            _ => Failure::Bug,
        };
        let (message, log) = (wire::message(&request.message), wire::log(&request.log));
        self.core.call(move |core| core.fail(&request.worker, lease, failure, message, &log)).await?;
        Ok(Response::new(FailResponse {}))
    }

    async fn save_training(
        &self,
        request: Request<SaveTrainingRequest>,
    ) -> Result<Response<SaveTrainingResponse>, Status> {
        let (_, caller, SaveTrainingRequest { worker, lease: sent, artifact, step }) = request.into_parts();
        self.names.claim(&worker, &caller)?;
        wire::count("step", step)?;
        let lease = lease(sent.unwrap_or_default())?;
        let state = Unfinished { artifact, step };
        self.core
            .call(move |core| core.save_training(&worker, lease, state))
            .await?
            .map_err(Status::invalid_argument)?;
        Ok(Response::new(SaveTrainingResponse {}))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let (_, caller, LeaveRequest { worker }) = request.into_parts();
        self.names.claim(&worker, &caller)?;
        self.core.call(move |core| core.leave(&worker)).await?;
        Ok(Response::new(LeaveResponse {}))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<PutArtifactRequest>>,
    ) -> Result<Response<PutArtifactResponse>, Status> {
        let mut stream = request.into_inner();
        let first =
            next_piece(&mut stream).await?.ok_or_else(|| Status::invalid_argument("an upload begins with its id"))?;
        let id = artifact_id(&first.id)?;
        let store = match first.kind.as_str() {
            "" | "checkpoint" => self.core.store.clone(),
            "witnesses" => self.core.store.witnesses(),
            TRAINING => self.core.store.training(),
            other => return Err(Status::invalid_argument(format!("there are no artifacts of kind {other:?}"))),
        };
        if self.settled(&store, &id).await? {
            if first.kind == TRAINING {
                self.core.state_uploaded(id).await;
            }
            return Ok(Response::new(PutArtifactResponse {}));
        }
        let _turn = self.uploads.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
        match self.receive(&store, id.clone(), first, stream).await? {
            Ok(()) => {
                self.settled(&store, &id).await?;
                Ok(Response::new(PutArtifactResponse {}))
            }
            Err((error, written)) => {
                let status = artifact_status(&error);
                if let ArtifactError::Io { dir, source } = error {
                    // Leases whose answers cannot be stored are of no use: wait for space, or stop.
                    let _ = self.core.call(move |core| core.storage_failed(dir, source, written)).await;
                }
                Err(status)
            }
        }
    }

    type GetArtifactStream = ReceiverStream<Result<GetArtifactResponse, Status>>;

    async fn get_artifact(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> Result<Response<Self::GetArtifactStream>, Status> {
        let id = artifact_id(&request.into_inner().id)?;
        let store = Some(self.core.store.training()).filter(|store| store.contains(&id));
        let store = store.unwrap_or_else(|| self.core.store.clone());
        let turn = self.downloads.clone().acquire_owned().await;
        let turn = turn.map_err(|error| Status::internal(error.to_string()))?;
        let content = match store.bring(&id).await {
            Ok(content) => content,
            Err(error) => return Err(self.lost(id, &error).await?),
        };
        let content = tonic::codegen::Bytes::from(content);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let _turn = turn; // whole artifacts lie in memory meanwhile
            for start in (0..content.len()).step_by(PIECE) {
                let chunk = content.slice(start..(start + PIECE).min(content.len()));
                if sender.send_timeout(Ok(GetArtifactResponse { chunk }), STALLED).await.is_err() {
                    return; // the caller has gone
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
