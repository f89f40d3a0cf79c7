//! A bucket of S3-compatible storage: where artifacts stay, with a folder before it as their cache.
//!
//! Objects bear the names of the files: `PREFIX/checkpoints/ID.safetensors`. What is read is hashed, so a damaged object is
//! found and never believed. Everything else about the service (credentials, endpoints, retries of single requests) is
//! `object_store`'s, and is configured by the environment variables that S3's own tools know.

use super::ArtifactId;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

/// Files travel in parts of this size; smaller ones with one request.
const PART: usize = 32 << 20;
/// One request; a part that takes longer is slower than 0.5 MB/s.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A server that cannot be connected to is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Passing troubles are waited out by whoever asked, who also says so; this only bridges a lost packet.
const RETRIES: usize = 2;
/// An object that is written, read and removed: whether the bucket can be used is known before any work is done.
const PROBE: &str = ".epsweep-probe";
/// An object that says which place this is: see [`Bucket::mark`].
const MARK: &str = ".epsweep-artifacts";

#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum BucketError {
    #[error("{place:?} is not a bucket: {reason}")]
    #[diagnostic(help("write s3://BUCKET or s3://BUCKET/PREFIX"))]
    Place { place: String, reason: String },
    #[error("{place} does not answer: {reason}")]
    #[diagnostic(help(
        "AWS_ENDPOINT_URL names the server where it is not Amazon's (AWS_ALLOW_HTTP=true where it speaks plain HTTP), AWS_REGION its region"
    ))]
    Away { place: String, reason: String },
    #[error("{place} may not be used: {reason}")]
    #[diagnostic(help(
        "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the role of the machine or pod; they must allow to get, put, delete and list objects there"
    ))]
    Denied { place: String, reason: String },
    #[error("there is no bucket for {place}")]
    #[diagnostic(help("make the bucket first, or correct its name"))]
    NoBucket { place: String },
    #[error("{name} is not in {place}")]
    Missing { place: String, name: String },
    #[error("{name} in {place} was damaged: its content hashes to {found}")]
    Damaged { place: String, name: String, found: ArtifactId },
    #[error("cannot read {file}", file = .file)]
    File { file: String, reason: String },
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// As the user wrote it.
    place: String,
    /// Objects that were seen there, and their bytes: each is looked for once.
    seen: Mutex<HashMap<String, u64>>,
}

/// An object that `gc` may look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its file's name, without the folder.
    pub name: String,
    pub bytes: u64,
    pub modified: SystemTime,
}

impl Bucket {
    /// Whether `place` names a bucket rather than a folder.
    pub fn is_meant_by(place: &str) -> bool {
        place.starts_with("s3://") || place.starts_with("s3a://")
    }

    /// Opens `s3://BUCKET/PREFIX`, as [`Bucket::named`], and tries it: writes a small object, reads it, removes it.
    ///
    /// # Errors
    /// When it cannot be used; the error says what to do.
    pub async fn open(place: &str) -> Result<Bucket, BucketError> {
        let bucket = Bucket::named(place)?;
        bucket.probe().await?;
        Ok(bucket)
    }

    /// `s3://BUCKET/PREFIX`, with credentials and endpoint from the environment; asks nobody yet.
    ///
    /// # Errors
    /// When that is no bucket's name, or the environment contradicts itself.
    pub fn named(place: &str) -> Result<Bucket, BucketError> {
        // reqwest takes the process's own provider; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |error: Error| BucketError::Place { place: place.into(), reason: innermost(&error) };
        let retries = RetryConfig { max_retries: RETRIES, retry_timeout: TIMEOUT, backoff: BackoffConfig::default() };
        let options = ClientOptions::new().with_timeout(TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
        let allow_http = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let store = AmazonS3Builder::from_env()
            .with_url(place)
            .with_retry(retries)
            .with_client_options(options.with_allow_http(allow_http))
            .build()
            .map_err(wrong)?;
        let prefix =
            place.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, prefix)| prefix);
        let prefix = Key::parse(prefix.trim_end_matches('/')).map_err(|error| wrong(error.into()))?;
        Ok(Bucket::over(Arc::new(store), prefix, place))
    }

    /// Over any object store; `place` is how it is called in messages.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: Key, place: &str) -> Bucket {
        Bucket(Arc::new(Inner { store, prefix, place: place.trim_end_matches('/').into(), seen: Mutex::default() }))
    }

    /// Whether it can be written and read at present.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), BucketError> {
        // A name of its own: several programs may share a bucket.
        let key = self.key(&format!("{PROBE}-{}", super::new_mark()));
        let failed = |error: &Error| match self.fails(error, "") {
            BucketError::Missing { place, .. } => BucketError::NoBucket { place },
            other => other,
        };
        self.0.store.put(&key, b"epsweep".as_slice().into()).await.map_err(|error| failed(&error))?;
        let read = self.0.store.get(&key).await.map_err(|error| failed(&error))?;
        read.bytes().await.map_err(|error| failed(&error))?;
        self.0.store.delete(&key).await.map_err(|error| failed(&error))
    }

    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// What this place is known by: whoever reads the same mark looks at the same objects. Made by whoever asks first.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn mark(&self) -> Result<String, BucketError> {
        if let Some(mark) = self.note(MARK).await? {
            return Ok(mark);
        }
        let mark = super::new_mark();
        self.write_note(MARK, &mark).await?;
        Ok(mark)
    }

    /// A small object of text; `None` where there is none.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn note(&self, name: &str) -> Result<Option<String>, BucketError> {
        match async { self.0.store.get(&self.key(name)).await?.bytes().await }.await {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fails(&error, name)),
        }
    }

    /// Writes a small object of text.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn write_note(&self, name: &str, text: &str) -> Result<(), BucketError> {
        let written = self.0.store.put(&self.key(name), text.to_string().into_bytes().into()).await;
        written.map(|_| ()).map_err(|error| self.fails(&error, name))
    }

    /// Whether the object was seen there; asks nobody.
    pub fn knows(&self, name: &str) -> Option<u64> {
        self.seen().get(name).copied()
    }

    /// The object's bytes, `None` where there is none. Asks once for each that is there.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, BucketError> {
        if let Some(bytes) = self.knows(name) {
            return Ok(Some(bytes));
        }
        match self.0.store.head(&self.key(name)).await {
            Ok(ObjectMeta { size, .. }) => {
                self.seen().insert(name.into(), size);
                Ok(Some(size))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fails(&error, name)),
        }
    }

    /// Uploads a file under `name`, unless an object of its size is there: names are hashes of contents.
    ///
    /// # Errors
    /// When the file cannot be read, or the bucket does not answer or refuses.
    pub async fn put(&self, name: &str, file: &Path) -> Result<(), BucketError> {
        let unreadable = |error: std::io::Error| {
            let file = file.display().to_string();
            BucketError::File { file, reason: error.to_string() }
        };
        let mut source = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let bytes = source.metadata().await.map_err(unreadable)?.len();
        if self.size(name).await? == Some(bytes) {
            return Ok(());
        }
        let mut sink = object_store::buffered::BufWriter::with_capacity(self.0.store.clone(), self.key(name), PART);
        let mut piece = vec![0; PART.min(bytes as usize + 1)];
        loop {
            let read = source.read(&mut piece).await.map_err(unreadable)?;
            if read == 0 {
                break;
            }
            sink.write_all(&piece[..read]).await.map_err(|error| self.broken(error, name))?;
        }
        sink.shutdown().await.map_err(|error| self.broken(error, name))?;
        self.seen().insert(name.into(), bytes);
        Ok(())
    }

    /// Reads and verifies an object; removes it when it is damaged, so that it can be made anew.
    ///
    /// # Errors
    /// When it is missing or damaged, or the bucket does not answer or refuses.
    pub async fn get(&self, name: &str, id: &ArtifactId) -> Result<Vec<u8>, BucketError> {
        let read = self.read(name, id).await;
        if let Err(BucketError::Damaged { .. }) = &read {
            self.remove(name).await?;
        }
        read
    }

    /// Reads and verifies an object, and leaves a damaged one where it is.
    ///
    /// # Errors
    /// When it is missing or damaged, or the bucket does not answer or refuses.
    pub async fn read(&self, name: &str, id: &ArtifactId) -> Result<Vec<u8>, BucketError> {
        let read = async { self.0.store.get(&self.key(name)).await?.bytes().await }.await;
        let content = read.map_err(|error| {
            let error = self.fails(&error, name);
            if matches!(error, BucketError::Missing { .. }) {
                self.seen().remove(name);
            }
            error
        })?;
        let found = ArtifactId::of(&content);
        if found != *id {
            return Err(BucketError::Damaged { place: self.0.place.clone(), name: name.into(), found });
        }
        Ok(content.into())
    }

    /// Removes an object that nobody needs.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn remove(&self, name: &str) -> Result<(), BucketError> {
        self.seen().remove(name);
        match self.0.store.delete(&self.key(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fails(&error, name)),
        }
    }

    /// All objects of a folder.
    ///
    /// # Errors
    /// When the bucket does not answer or refuses.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, BucketError> {
        let mut found = Vec::new();
        let mut objects = self.0.store.list(Some(&self.key(folder)));
        while let Some(object) = objects.next().await {
            let ObjectMeta { location, size, last_modified, .. } =
                object.map_err(|error| self.fails(&error, folder))?;
            let Some(name) = location.filename() else { continue };
            found.push(Listed { name: name.into(), bytes: size, modified: last_modified.into() });
        }
        Ok(found)
    }

    fn key(&self, name: &str) -> Key {
        self.0.prefix.parts().chain(Key::from(name).parts()).collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fails(&self, error: &Error, name: &str) -> BucketError {
        let (place, reason) = (self.0.place.clone(), innermost(error));
        match error {
            Error::NotFound { .. } => BucketError::Missing { place, name: name.into() },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => BucketError::Denied { place, reason },
            _ => BucketError::Away { place, reason },
        }
    }

    /// What a writer's error was before it became one of input and output.
    fn broken(&self, error: std::io::Error, name: &str) -> BucketError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => self.fails(inner, name),
            None => BucketError::Away { place: self.0.place.clone(), reason: error.to_string() },
        }
    }
}

/// The innermost cause says what happened ("connection refused"); those around it say where in the client.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
