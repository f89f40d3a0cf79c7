//! A store whose artifacts stay in a bucket: what lies in the folder goes there, and comes back from there.

use super::{ArtifactError, ArtifactId, Bucket, Store};
use std::path::Path;

impl Store {
    /// The same folder, as the cache of a bucket.
    pub fn before(self, bucket: Bucket) -> Store {
        Store { bucket: Some(bucket), ..self }
    }

    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// As the object is called, and as files of other places are.
    pub fn name(&self, id: &ArtifactId) -> String {
        format!("{}/{id}.{}", self.folder(), self.ending)
    }

    /// What this sort of artifacts is called.
    pub fn folder(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts what lies in the folder into the bucket too, if there is one; once.
    ///
    /// # Errors
    /// When the bucket cannot take it at present.
    pub async fn settle(&self, id: &ArtifactId) -> Result<(), ArtifactError> {
        match &self.bucket {
            Some(bucket) if self.path(id).exists() => Ok(bucket.put(&self.name(id), &self.path(id)).await?),
            _ => Ok(()),
        }
    }

    /// Whether the artifact is in the folder or in the bucket; the bucket is asked once for each that it has.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub async fn look(&self, id: &ArtifactId) -> Result<bool, ArtifactError> {
        match &self.bucket {
            _ if self.contains(id) => Ok(true),
            Some(bucket) => Ok(bucket.size(&self.name(id)).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Reads and verifies an artifact, from the folder or else from the bucket; the folder keeps what came from there.
    ///
    /// # Errors
    /// When it is missing or damaged (it is then removed), or the bucket does not answer.
    pub async fn bring(&self, id: &ArtifactId) -> Result<Vec<u8>, ArtifactError> {
        let (store, wanted) = (self.clone(), id.clone());
        let here = blocking(move || store.get(&wanted)).await;
        let Some(bucket) = &self.bucket else { return here };
        match here {
            Err(ArtifactError::Missing { .. } | ArtifactError::Damaged { .. }) => {}
            other => return other,
        }
        let content = bucket.get(&self.name(id), id).await?;
        let store = self.clone();
        blocking(move || store.put(&content).map(|_| content)).await
    }

    /// Copies an artifact that is only in the bucket into the folder, verified; the bucket stays as it is.
    ///
    /// # Errors
    /// When it is missing or damaged, or the bucket does not answer.
    pub async fn copy_here(&self, id: &ArtifactId) -> Result<(), ArtifactError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let content = bucket.read(&self.name(id), id).await?;
        let store = self.clone();
        blocking(move || store.put(&content).map(|_| ())).await
    }

    /// Whether the folder holds it, whatever the bucket does.
    pub fn is_here(&self, id: &ArtifactId) -> bool {
        self.path(id).exists()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    crate::blocking::run(work).await.unwrap_or_else(|error| panic!("{error}"))
}
