//! Where artifacts are kept: with the ledger, in a shared folder, or in a bucket.
//!
//! A shared folder is linked into the state directory, so that everything that reads a run (reports, audits, backups)
//! finds its files where they always are.

use super::{ArtifactError, Bucket, BucketError, Store, new_mark};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A file that says which folder this is.
const MARK: &str = ".epsweep-artifacts";
/// The folders that lie elsewhere; states of unfinished runs stay with the ledger.
const FOLDERS: [&str; 2] = ["checkpoints", "witnesses"];

#[derive(Debug, Clone)]
pub enum Place {
    /// With the ledger.
    Own,
    Folder(PathBuf),
    Bucket(Bucket),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Own => f.write_str("the state directory"),
            Place::Folder(folder) => folder.display().fmt(f),
            Place::Bucket(bucket) => f.write_str(bucket.place()),
        }
    }
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PlaceError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Bucket(#[from] BucketError),
    #[error("cannot use {folder} for artifacts", folder = .folder.display())]
    #[diagnostic(help("it must be a folder that this user can write"))]
    Folder { folder: PathBuf, source: io::Error },
    #[error("{there} holds artifacts already, and --artifacts names another place", there = .there.display())]
    #[diagnostic(help("move them: mv {there}/* {to}/ && rmdir {there}", there = .there.display(), to = .to.display()))]
    Occupied { there: PathBuf, to: PathBuf },
    #[error(transparent)]
    Store(#[from] ArtifactError),
}

impl Place {
    /// What `--artifacts` says: nothing, a folder (made if it is not there), or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn open(text: Option<&str>) -> Result<Place, PlaceError> {
        match text {
            None => Ok(Place::Own),
            Some(place) if Bucket::is_meant_by(place) => Ok(Place::Bucket(Bucket::open(place).await?)),
            Some(folder) => {
                let unusable = |source| PlaceError::Folder { folder: folder.into(), source };
                let folder = std::path::absolute(folder).map_err(unusable)?;
                mark(&folder).map_err(unusable)?;
                Ok(Place::Folder(folder))
            }
        }
    }

    /// The store of a state directory whose artifacts are kept here.
    ///
    /// # Errors
    /// When the folder cannot be made, or artifacts lie elsewhere already.
    pub fn store(&self, state: &Path) -> Result<Store, PlaceError> {
        if let Place::Folder(folder) = self {
            for name in FOLDERS {
                link(&state.join(name), &folder.join(name))?;
            }
        }
        let store = Store::open(&state.join(FOLDERS[0]))?;
        Ok(match self {
            Place::Bucket(bucket) => store.before(bucket.clone()),
            Place::Own | Place::Folder(_) => store,
        })
    }

    /// The checkpoints as a worker sees them, with a folder of its own as the cache of a bucket.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn seen_from(&self, cache: &Path) -> Result<Store, ArtifactError> {
        match self {
            Place::Own => Store::open(&cache.join(FOLDERS[0])),
            Place::Folder(folder) => Store::open(&folder.join(FOLDERS[0])),
            Place::Bucket(bucket) => Ok(Store::open(&cache.join(FOLDERS[0]))?.before(bucket.clone())),
        }
    }

    /// What the place is known by: whoever finds the same mark looks at the same artifacts. `None` where nobody else
    /// can reach it.
    ///
    /// # Errors
    /// When the mark cannot be read.
    pub async fn mark(&self) -> Result<Option<String>, PlaceError> {
        match self {
            Place::Own => Ok(None),
            Place::Folder(folder) => {
                mark(folder).map(Some).map_err(|source| PlaceError::Folder { folder: folder.clone(), source })
            }
            Place::Bucket(bucket) => Ok(Some(bucket.mark().await?)),
        }
    }
}

/// The folder's mark, made by whoever comes first.
fn mark(folder: &Path) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    let path = folder.join(MARK);
    if !path.exists() {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut file, new_mark().as_bytes())?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
    }
    fs::read_to_string(path)
}

/// Makes `link` lead to `folder`, unless it does.
fn link(link: &Path, folder: &Path) -> Result<(), PlaceError> {
    let unusable = |source| PlaceError::Folder { folder: folder.into(), source };
    fs::create_dir_all(folder).map_err(unusable)?;
    if fs::read_link(link).is_ok_and(|to| to == folder) {
        return Ok(());
    }
    let occupied = || PlaceError::Occupied { there: link.into(), to: folder.into() };
    match fs::symlink_metadata(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
        // Succeeds where it is empty only, and not for a link to another place.
        Ok(_) => fs::remove_dir(link).map_err(|_| occupied())?,
    }
    symlink(folder, link).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &Path) -> Place {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Place::open(folder.to_str())).unwrap()
    }

    #[test]
    fn a_shared_folder_is_found_where_files_always_are() {
        let dir = tempfile::tempdir().unwrap();
        let (state, shared) = (dir.path().join("state"), dir.path().join("shared"));
        fs::create_dir_all(state.join("checkpoints")).unwrap();
        let place = opened(&shared);
        let store = place.store(&state).unwrap();
        let (id, images) = (store.put(b"weights").unwrap(), store.witnesses().put(b"images").unwrap());
        assert!(shared.join(format!("checkpoints/{id}.safetensors")).exists());
        assert!(shared.join(format!("witnesses/{images}.safetensors.gz")).exists());
        // Again, and from another state directory: the same files.
        assert!(place.store(&state).unwrap().contains(&id));
        fs::create_dir_all(dir.path().join("other")).unwrap();
        assert!(place.store(&dir.path().join("other")).unwrap().contains(&id));
        assert!(Store::open(&state.join("checkpoints")).unwrap().training().put(b"state").is_ok());
        assert!(state.join("unfinished").exists() && !shared.join("unfinished").exists());
    }

    #[test]
    fn artifacts_that_lie_elsewhere_are_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        Store::open(&state.join("checkpoints")).unwrap().put(b"weights").unwrap();
        let place = opened(&dir.path().join("shared"));
        assert!(matches!(place.store(&state), Err(PlaceError::Occupied { .. })));
    }

    #[test]
    fn a_place_keeps_its_mark_and_another_has_another() {
        let dir = tempfile::tempdir().unwrap();
        let marks = ["a", "b", "a"].map(|name| mark(&dir.path().join(name)).unwrap());
        assert_eq!(marks[0], marks[2]);
        assert_ne!(marks[0], marks[1]);
    }
}
