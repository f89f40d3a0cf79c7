//! Who uses a place that several ledgers share: `gc` must know of all before it removes what none of them names.

use super::{ArtifactError, Bucket, Place, PlaceError, new_mark};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// The folder, or the objects, with one entry for each ledger.
const LEDGERS: &str = "ledgers";

/// By identity: where the ledger said it was when it last used the place, `HOST:DIR`.
pub type Users = BTreeMap<String, String>;

/// A name for a ledger that has none yet.
pub fn new_identity() -> String {
    new_mark()
}

fn is_identity(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Place {
    /// Writes down that a ledger uses the place, and where it is; nothing where the artifacts lie with the ledger.
    ///
    /// # Errors
    /// When the place cannot be written.
    pub async fn enrol(&self, identity: &str, whereabouts: &str) -> Result<(), PlaceError> {
        match self {
            Place::Own => Ok(()),
            Place::Bucket(bucket) => Ok(bucket.write_note(&format!("{LEDGERS}/{identity}"), whereabouts).await?),
            Place::Folder(folder) => write(&folder.join(LEDGERS), identity, whereabouts)
                .map_err(|source| PlaceError::Folder { folder: folder.clone(), source }),
        }
    }

    /// The ledgers that use the place.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn users(&self) -> Result<Users, PlaceError> {
        match self {
            Place::Own => Ok(Users::new()),
            Place::Bucket(bucket) => Ok(users_of(bucket).await?),
            Place::Folder(folder) => {
                read(&folder.join(LEDGERS)).map_err(|source| PlaceError::Folder { folder: folder.clone(), source })
            }
        }
    }

    /// Strikes a ledger off the list.
    ///
    /// # Errors
    /// When the place cannot be written.
    pub async fn strike(&self, identity: &str) -> Result<(), PlaceError> {
        match self {
            Place::Own => Ok(()),
            Place::Bucket(bucket) => Ok(bucket.remove(&format!("{LEDGERS}/{identity}")).await?),
            Place::Folder(folder) => match fs::remove_file(folder.join(LEDGERS).join(identity)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(PlaceError::Folder { folder: folder.clone(), source: error })
                }
                _ => Ok(()),
            },
        }
    }

    /// The shared folder that a state directory's artifacts are linked to, if they are.
    ///
    /// # Errors
    /// Never for a directory that can be read.
    pub fn linked_from(state: &Path) -> Result<Option<Place>, ArtifactError> {
        let link = state.join("checkpoints");
        match fs::read_link(&link) {
            Ok(to) => Ok(to.parent().map(|folder| Place::Folder(folder.into()))),
            // No link, or nothing there at all.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => Ok(None),
            Err(source) => Err(ArtifactError::Io { dir: link, source }),
        }
    }
}

async fn users_of(bucket: &Bucket) -> Result<Users, super::BucketError> {
    let mut users = Users::new();
    for entry in bucket.list(LEDGERS).await?.into_iter().filter(|entry| is_identity(&entry.name)) {
        // It may have been struck off since.
        if let Some(text) = bucket.note(&format!("{LEDGERS}/{}", entry.name)).await? {
            users.insert(entry.name, text);
        }
    }
    Ok(users)
}

fn write(folder: &Path, identity: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(folder.join(identity))?;
    Ok(())
}

fn read(folder: &Path) -> io::Result<Users> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Users::new()),
        entries => entries?,
    };
    let mut users = Users::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_identity(&name) {
            users.insert(name.clone(), fs::read_to_string(folder.join(&name))?);
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    #[tokio::test]
    async fn ledgers_are_enrolled_found_and_struck_off() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Bucket::over(Arc::new(InMemory::new()), "lab".into(), "s3://sweeps/lab");
        for place in [Place::Folder(dir.path().into()), Place::Bucket(bucket)] {
            assert!(place.users().await.unwrap().is_empty());
            let (a, b) = ("0123456789abcdef", "00000000000000ff");
            place.enrol(a, "here:/state").await.unwrap();
            place.enrol(b, "there:/state").await.unwrap();
            place.enrol(a, "moved:/state").await.unwrap();
            let expected = [(b, "there:/state"), (a, "moved:/state")].map(|(id, at)| (id.into(), at.into()));
            assert_eq!(place.users().await.unwrap(), Users::from(expected));
            place.strike(a).await.unwrap();
            place.strike(a).await.unwrap();
            assert_eq!(place.users().await.unwrap().into_keys().collect::<Vec<_>>(), [b]);
        }
        assert!(is_identity(&new_identity()) && !is_identity("../checkpoints/x"));
    }

    #[test]
    fn a_state_directory_tells_which_shared_folder_it_is_linked_to() {
        let dir = tempfile::tempdir().unwrap();
        let (state, shared) = (dir.path().join("state"), dir.path().join("shared"));
        assert!(Place::linked_from(&state).unwrap().is_none());
        fs::create_dir_all(state.join("checkpoints")).unwrap();
        assert!(Place::linked_from(&state).unwrap().is_none());
        Place::Folder(shared.clone()).store(&state).unwrap();
        assert!(matches!(Place::linked_from(&state).unwrap(), Some(Place::Folder(folder)) if folder == shared));
    }
}
