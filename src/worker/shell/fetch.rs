//! What a task needs before it can start: its checkpoint, and files that the sweep brings along.

use super::link::{Link, LinkError, bounded};
use epsweep::artifacts::{ArtifactError, ArtifactId, Store};
use epsweep::proto::{GetArtifactRequest, PutArtifactRequest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Uploads and downloads of one artifact may take this long.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);
const PIECE: usize = 512 * 1024;

/// Downloads under way: leases that need the same artifact wait for one of them.
#[derive(Default)]
pub struct Fetches(Mutex<HashMap<ArtifactId, Weak<OnceCell<()>>>>);

impl Fetches {
    /// As [`artifact`], and once for all who ask meanwhile.
    ///
    /// # Errors
    /// When the coordinator does not have it or cannot be reached.
    pub async fn artifact(&self, link: &Link, cache: &Store, id: &ArtifactId) -> Result<(), FetchError> {
        let fetched = self.under_way(id);
        fetched.get_or_try_init(|| artifact(link, cache, id)).await.map(drop)
    }

    fn under_way(&self, id: &ArtifactId) -> Arc<OnceCell<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, fetched| fetched.strong_count() > 0);
        all.get(id).and_then(Weak::upgrade).unwrap_or_else(|| {
            let fetched = Arc::default();
            all.insert(id.clone(), Arc::downgrade(&fetched));
            fetched
        })
    }
}

/// Brings an artifact into the local cache, unless it is there.
///
/// # Errors
/// When the coordinator does not have it or cannot be reached.
pub async fn artifact(link: &Link, cache: &Store, id: &ArtifactId) -> Result<(), FetchError> {
    match cache.bring(id).await {
        Ok(_) => {
            cache.note_use(id);
            return Ok(());
        }
        // The coordinator has it trained anew where it is gone, and says so where the bucket is away.
        Err(error) if cache.bucket().is_some() => tracing::debug!(%error, %id, "asking the coordinator"),
        Err(_) => {}
    }
    let content = link
        .call(TRANSFER_TIMEOUT, |mut client, timeout| {
            let request = bounded(GetArtifactRequest { id: id.to_string() }, timeout);
            async move {
                let mut stream = client.get_artifact(request).await?.into_inner();
                let mut content = Vec::new();
                while let Some(piece) = stream.message().await? {
                    content.extend_from_slice(&piece.chunk);
                }
                Ok(tonic::Response::new(content))
            }
        })
        .await?;
    let mut upload = cache.begin()?;
    upload.write(&content)?;
    Ok(upload.finish(id)?)
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Call(#[from] LinkError),
    #[error(transparent)]
    Cache(#[from] ArtifactError),
}

/// What an artifact is, in the coordinator's words.
#[derive(Debug, Clone, Copy)]
pub enum Sort {
    Checkpoint,
    Witnesses,
    /// The state of an unfinished training run.
    Training,
}

impl Sort {
    fn word(self) -> String {
        match self {
            Sort::Checkpoint => "checkpoint".into(),
            Sort::Witnesses => "witnesses".into(),
            Sort::Training => "training".into(),
        }
    }
}

/// Stores an artifact at the coordinator, through outages.
///
/// # Errors
/// When the coordinator refuses it or is gone for too long.
pub async fn upload(link: &Link, sort: Sort, id: &ArtifactId, content: &[u8]) -> Result<(), LinkError> {
    let content = tonic::codegen::Bytes::copy_from_slice(content);
    link.call(TRANSFER_TIMEOUT, |mut client, timeout| {
        let (id, content) = (id.to_string(), content.clone());
        let pieces = (0..content.len().max(1)).step_by(PIECE).map(move |start| PutArtifactRequest {
            id: if start == 0 { id.clone() } else { String::new() },
            kind: if start == 0 { sort.word() } else { String::new() },
            chunk: content.slice(start..(start + PIECE).min(content.len())),
        });
        async move { client.put_artifact(bounded(tokio_stream::iter(pieces), timeout)).await }
    })
    .await
    .map(drop)
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
