//! Handing answers in: written down, artifacts uploaded, committed; and what earlier processes left.

use super::answers::{self, Answers};
use super::fetch::{self, Sort};
use super::link::LinkError;
use super::run::Worker;
use super::slots::{Answer, Packed, Trained};
use epsweep::artifacts::{ArtifactId, Store};
use epsweep::engine::Lease;
use epsweep::proto::commit_response::Verdict;
use epsweep::proto::{self, CommitRequest, EvaluateAnswer, MeasureAnswer, TrainAnswer, commit_request};
use std::path::Path;

/// The artifacts of an answer, with their content.
type Blobs = Vec<(Sort, ArtifactId, Vec<u8>)>;

impl Worker {
    /// Hands a finished task in; it is on disk until that has been answered.
    pub(super) async fn hand_in(&self, lease: Lease, seconds: f64, answer: Answer) -> Result<(), LinkError> {
        let (message, blobs) = self.pack(lease, seconds, answer);
        for (sort, id, content) in &blobs {
            // Checkpoints stay: this worker will evaluate them first.
            if let Err(error) = self.folder(*sort).put(content) {
                tracing::warn!(%error, %id, "cannot keep an artifact in the local cache");
            }
        }
        if let Err(error) = self.answers.keep(lease, &message) {
            tracing::warn!(%error, "cannot keep an answer on disk: if this worker dies before it is handed in, it is lost");
        }
        let mut witnesses = Vec::new();
        for (sort, id, content) in blobs {
            self.send(sort, &id, &content).await?;
            witnesses.extend(matches!(sort, Sort::Witnesses).then_some(id));
        }
        self.commit(message).await?;
        self.done_with(&self.answers, lease, &witnesses);
        Ok(())
    }

    fn pack(&self, lease: Lease, seconds: f64, answer: Answer) -> (CommitRequest, Blobs) {
        let mut blobs = Blobs::new();
        let (answer, passes) = match answer {
            Answer::Train { checkpoints, passes } => {
                let checkpoints = checkpoints.into_iter().map(|checkpoint| describe(checkpoint, &mut blobs)).collect();
                (commit_request::Answer::Train(TrainAnswer { checkpoints }), passes)
            }
            Answer::Evaluate { levels, passes, trust, witnesses } => {
                let mut answer = EvaluateAnswer {
                    levels: levels.iter().map(|level| u32::from(level.0)).collect(),
                    trust: serde_json::to_vec(&trust).expect("facts are numbers and names").into(),
                    ..EvaluateAnswer::default()
                };
                if let Some(Packed { content, count }) = witnesses {
                    let id = ArtifactId::of(&content);
                    (answer.witness_count, answer.witness_bytes) = (count, content.len() as u64);
                    answer.witnesses = id.to_string();
                    blobs.push((Sort::Witnesses, id, content));
                }
                (commit_request::Answer::Evaluate(answer), passes)
            }
            Answer::Measure { answer, passes } => {
                let content = serde_json::to_vec(&answer).expect("answers hold finite numbers").into();
                (commit_request::Answer::Measure(MeasureAnswer { content }), passes)
            }
        };
        let message = CommitRequest {
            worker: self.link.worker(),
            lease: Some(lease.into()),
            seconds,
            passes: Some(passes),
            answer: Some(answer),
        };
        (message, blobs)
    }

    async fn commit(&self, message: CommitRequest) -> Result<(), LinkError> {
        let lease = message.lease.clone().unwrap_or_default();
        let response = self.post.send(message).await?;
        if response.verdict() == Verdict::Refused {
            return Err(self.link.refusal(response.reason));
        }
        tracing::debug!(task = ?lease.task, attempt = lease.attempt, verdict = ?response.verdict(), "handed in");
        Ok(())
    }

    /// Hands in what earlier processes with this cache could not, under the names they had.
    ///
    /// # Errors
    /// When the coordinator cannot be reached: then all of it stays where it is.
    pub(super) async fn hand_in_leftovers(&self, cache: &Path) -> Result<(), LinkError> {
        self.hand_in_all(&self.answers).await?;
        for abandoned in Answers::abandoned(cache) {
            self.hand_in_all(&abandoned).await?;
            abandoned.close();
        }
        Ok(())
    }

    async fn hand_in_all(&self, left: &Answers) -> Result<(), LinkError> {
        for message in left.all() {
            let Some(Ok(lease)) = message.lease.clone().map(Lease::try_from) else { continue };
            let (task, worker) = (lease.task.short(), message.worker.clone());
            match self.hand_in_again(&message).await {
                Err(error @ LinkError::Unreachable { .. }) => return Err(error),
                Ok(Ok(())) => tracing::info!(task, worker, "handed in what an earlier process had finished"),
                // Another coordinator, perhaps: this one never gave that task out.
                Ok(Err(reason)) => tracing::warn!(task, worker, reason, "an earlier process's answer is of no use"),
                Err(error) => tracing::warn!(task, worker, %error, "an earlier process's answer is of no use"),
            }
            let (_, witnesses) = answers::artifacts(&message);
            self.done_with(left, lease, witnesses.and_then(ArtifactId::parse).as_slice());
        }
        Ok(())
    }

    /// The inner error: something that it names is not here any more.
    async fn hand_in_again(&self, message: &CommitRequest) -> Result<Result<(), String>, LinkError> {
        let (checkpoints, witnesses) = answers::artifacts(message);
        let checkpoints = checkpoints.into_iter().map(|id| (Sort::Checkpoint, id));
        for (sort, id) in checkpoints.chain(witnesses.map(|id| (Sort::Witnesses, id))) {
            let Some(id) = ArtifactId::parse(id) else { return Ok(Err("it names no artifact".into())) };
            match self.folder(sort).get(&id) {
                Ok(content) => self.send(sort, &id, &content).await?,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        self.commit(message.clone()).await.map(Ok)
    }

    /// Forgets an answer, and witnesses with it: nobody reads them here.
    fn done_with(&self, answers: &Answers, lease: Lease, witnesses: &[ArtifactId]) {
        answers.remove(lease);
        for id in witnesses {
            let _ = self.folder(Sort::Witnesses).remove(id);
        }
    }

    /// Brings an artifact to where the coordinator finds it: into the bucket, if this worker reaches it, and else to
    /// the coordinator itself.
    async fn send(&self, sort: Sort, id: &ArtifactId, content: &[u8]) -> Result<(), LinkError> {
        let checkpoints = &self.shared.checkpoints;
        let name = match sort {
            Sort::Checkpoint => Some(checkpoints.name(id)),
            Sort::Witnesses => Some(checkpoints.witnesses().name(id)),
            Sort::Training => None,
        };
        if let (Some(bucket), Some(name)) = (checkpoints.bucket(), name) {
            match bucket.put(&name, &self.folder(sort).path(id)).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, %id, "cannot put an artifact into the bucket: through the coordinator")
                }
            }
        }
        fetch::upload(&self.link, sort, id, content).await
    }

    fn folder(&self, sort: Sort) -> Store {
        match sort {
            Sort::Checkpoint => self.shared.checkpoints.clone(),
            Sort::Witnesses | Sort::Training => self.shared.passing.clone(),
        }
    }
}

fn describe(checkpoint: Trained, blobs: &mut Blobs) -> proto::Checkpoint {
    let Trained { epoch, train_loss, train_seconds, facts, weights } = checkpoint;
    let id = ArtifactId::of(&weights);
    let described = proto::Checkpoint {
        epoch,
        train_loss,
        train_seconds,
        artifact: id.to_string(),
        bytes: weights.len() as u64,
        facts: serde_json::to_string(&facts).expect("facts hold finite numbers"),
    };
    blobs.push((Sort::Checkpoint, id, weights));
    described
}
