//! Blobs by content hash: checkpoints and witnesses, each sort in a folder of its own.
//!
//! A folder of files named by the BLAKE3 of their bytes. Writing goes through a temporary file and
//! a rename, so a name is either absent or complete; reading verifies, so a damaged file is found
//! and removed rather than believed. The folder may be a shared one ([`Place`]), or the cache of a bucket ([`Bucket`]).

mod bucket;
mod place;
mod reach;
mod trim;
mod users;

pub use bucket::{Bucket, BucketError, Listed};
pub use place::{Place, PlaceError};
pub use trim::trim;
pub use users::{Users, new_identity};

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// How files begin that are not whole yet.
const UPLOADING: &str = ".uploading-";

/// 64 hexadecimal digits: the BLAKE3 of the content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactId(String);

impl ArtifactId {
    pub fn of(content: &[u8]) -> ArtifactId {
        ArtifactId(blake3::hash(content).to_hex().to_string())
    }

    /// Accepts exactly what `Display` writes; a peer's text becomes a file name only through here.
    pub fn parse(text: &str) -> Option<ArtifactId> {
        let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| ArtifactId(text.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("artifact {id} is not in {dir}", dir = .dir.display())]
    Missing { id: ArtifactId, dir: PathBuf },
    #[error("artifact {id} in {dir} was damaged: its content hashes to {found}", dir = .dir.display())]
    Damaged { id: ArtifactId, dir: PathBuf, found: ArtifactId },
    #[error("the uploaded content hashes to {found}, not to {id}")]
    WrongHash { id: ArtifactId, found: ArtifactId },
    #[error("cannot use the artifact folder {dir}", dir = .dir.display())]
    Io { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl ArtifactError {
    /// Whether the artifact itself is gone, rather than out of reach.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            ArtifactError::Missing { .. }
                | ArtifactError::Damaged { .. }
                | ArtifactError::Bucket(BucketError::Missing { .. } | BucketError::Damaged { .. })
        )
    }
}

/// A folder of artifacts. Cheap to clone; several processes may share the folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// Of its files' names.
    ending: &'static str,
    /// What the folder is the cache of.
    bucket: Option<Bucket>,
}

impl Store {
    /// Removes what killed processes left of their uploads. For the one that owns the folder, before anybody uses it.
    ///
    /// # Errors
    /// When the folder cannot be read or changed.
    pub fn clean(&self) -> Result<(), ArtifactError> {
        for dir in [&self.dir, &self.witnesses().dir] {
            let entries = match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|source| self.io(source))?,
            };
            for entry in entries {
                let entry = entry.map_err(|source| self.io(source))?;
                if entry.file_name().to_string_lossy().starts_with(UPLOADING) {
                    fs::remove_file(entry.path()).map_err(|source| self.io(source))?;
                }
            }
        }
        Ok(())
    }

    /// Opens, and makes, a folder of checkpoints.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path) -> Result<Store, ArtifactError> {
        fs::create_dir_all(dir).map_err(|source| ArtifactError::Io { dir: dir.into(), source })?;
        Ok(Store { dir: dir.into(), ending: "safetensors", bucket: None })
    }

    /// The witnesses that belong to a folder of checkpoints: beside it, made when the first ones come.
    pub fn witnesses(&self) -> Store {
        Store { dir: self.dir.with_file_name("witnesses"), ending: "safetensors.gz", bucket: self.bucket.clone() }
    }

    /// The states of unfinished training runs, likewise; short-lived, so never in a bucket.
    pub fn training(&self) -> Store {
        Store { dir: self.dir.with_file_name("unfinished"), ending: "tar", bucket: None }
    }

    /// Removes an artifact that nobody needs any more.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, id: &ArtifactId) -> Result<(), ArtifactError> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    /// The file of an artifact, whether or not it is there.
    pub fn path(&self, id: &ArtifactId) -> PathBuf {
        self.dir.join(format!("{id}.{}", self.ending))
    }

    /// Whether it lies in the folder, or was seen in the bucket.
    pub fn contains(&self, id: &ArtifactId) -> bool {
        self.size(id).is_some()
    }

    /// How many bytes an artifact has; `None` when it is not there.
    pub fn size(&self, id: &ArtifactId) -> Option<u64> {
        let seen = || self.bucket.as_ref().and_then(|bucket| bucket.knows(&self.name(id)));
        fs::metadata(self.path(id)).ok().map(|file| file.len()).or_else(seen)
    }

    /// Stores `content` under its hash. Storing again is free.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn put(&self, content: &[u8]) -> Result<ArtifactId, ArtifactError> {
        let id = ArtifactId::of(content);
        if !self.contains(&id) {
            let mut upload = self.begin()?;
            upload.write(content)?;
            upload.finish(&id)?;
        }
        Ok(id)
    }

    /// Starts an upload that arrives in pieces.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn begin(&self) -> Result<Upload, ArtifactError> {
        let mut file = tempfile::Builder::new();
        fs::create_dir_all(&self.dir).map_err(|source| self.io(source))?;
        // As any new file: whoever may read the folder may read the checkpoint.
        file.prefix(UPLOADING).permissions(fs::Permissions::from_mode(0o666));
        let file = file.tempfile_in(&self.dir).map_err(|source| self.io(source))?;
        Ok(Upload { store: self.clone(), file, hasher: blake3::Hasher::new() })
    }

    /// Reads and verifies an artifact.
    ///
    /// # Errors
    /// When it is missing, or damaged (it is then removed, so that it can be made anew).
    pub fn get(&self, id: &ArtifactId) -> Result<Vec<u8>, ArtifactError> {
        let read = self.read(id);
        if let Err(ArtifactError::Damaged { .. }) = &read {
            fs::remove_file(self.path(id)).map_err(|source| self.io(source))?;
        }
        read
    }

    /// Reads and verifies an artifact, and leaves a damaged one where it is.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn read(&self, id: &ArtifactId) -> Result<Vec<u8>, ArtifactError> {
        let content = match fs::read(self.path(id)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { id: id.clone(), dir: self.dir.clone() });
            }
            Err(source) => return Err(self.io(source)),
        };
        let found = ArtifactId::of(&content);
        if found != *id {
            return Err(ArtifactError::Damaged { id: id.clone(), dir: self.dir.clone(), found });
        }
        Ok(content)
    }

    fn io(&self, source: io::Error) -> ArtifactError {
        ArtifactError::Io { dir: self.dir.clone(), source }
    }
}

/// Tells places apart; nothing depends on it being secret.
fn new_mark() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    blake3::hash(format!("{} {}", std::process::id(), now.as_nanos()).as_bytes()).to_hex()[..16].into()
}

/// An artifact on its way in. Dropped without [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    file: NamedTempFile,
    hasher: blake3::Hasher,
}

impl Upload {
    /// # Errors
    /// When the disk is full or fails.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ArtifactError> {
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|source| self.store.io(source))
    }

    /// Makes the artifact durable and visible.
    ///
    /// # Errors
    /// When the content is not what `id` says, or the disk fails.
    pub fn finish(self, id: &ArtifactId) -> Result<(), ArtifactError> {
        let found = ArtifactId(self.hasher.finalize().to_hex().to_string());
        if found != *id {
            return Err(ArtifactError::WrongHash { id: id.clone(), found });
        }
        self.file.as_file().sync_all().map_err(|source| self.store.io(source))?;
        self.file.persist(self.store.path(id)).map_err(|error| self.store.io(error.error))?;
        // The name must survive a power cut too: the ledger will soon rely on it.
        fs::File::open(&self.store.dir).and_then(|dir| dir.sync_all()).map_err(|source| self.store.io(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("checkpoints")).unwrap();
        (dir, store)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (_dir, store) = store();
        let id = store.put(b"weights").unwrap();
        assert_eq!(store.put(b"weights").unwrap(), id);
        assert_eq!(store.get(&id).unwrap(), b"weights");
    }

    #[test]
    fn witnesses_lie_beside_checkpoints_once_there_are_some() {
        let (dir, store) = store();
        let witnesses = store.witnesses();
        let folder = dir.path().join("witnesses");
        assert!(!folder.exists());
        let id = witnesses.put(b"images").unwrap();
        assert!(folder.join(format!("{id}.safetensors.gz")).exists());
        assert_eq!(witnesses.get(&id).unwrap(), b"images");
        assert!(!store.contains(&id));
    }

    #[test]
    fn a_damaged_file_is_found_and_removed() {
        let (_dir, store) = store();
        let id = store.put(b"weights").unwrap();
        fs::write(store.path(&id), b"w3ights").unwrap();
        assert!(matches!(store.get(&id), Err(ArtifactError::Damaged { .. })));
        assert!(matches!(store.get(&id), Err(ArtifactError::Missing { .. })));
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let (dir, store) = store();
        let id = store.put(b"weights").unwrap();
        let images = store.witnesses().put(b"images").unwrap();
        for folder in ["checkpoints", "witnesses"] {
            fs::write(dir.path().join(folder).join(".uploading-x"), b"half").unwrap();
        }
        store.clean().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path().join("witnesses")).unwrap().count(), 1);
        assert!(store.get(&id).is_ok() && store.witnesses().get(&images).is_ok());
    }

    #[test]
    fn an_upload_under_a_wrong_name_leaves_nothing() {
        let (dir, store) = store();
        let mut upload = store.begin().unwrap();
        upload.write(b"weights").unwrap();
        let id = ArtifactId::of(b"other weights");
        assert!(matches!(upload.finish(&id), Err(ArtifactError::WrongHash { .. })));
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 0);
    }

    #[test]
    fn only_hashes_become_file_names() {
        assert_eq!(ArtifactId::parse("../../etc/passwd"), None);
        assert_eq!(ArtifactId::parse(&"A".repeat(64)), None);
        assert!(ArtifactId::parse(&"a".repeat(64)).is_some());
    }
}
