//! A bound on folders of artifacts that can be fetched again.

use super::{ArtifactError, ArtifactId, Store};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A file of a store, by when it was last used.
struct Kept {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Store {
    /// Notes that an artifact was of use just now. That it cannot be noted is of no consequence but to [`trim`].
    pub fn note_use(&self, id: &ArtifactId) {
        let _ = File::open(self.path(id)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    fn kept(&self) -> Result<Vec<Kept>, ArtifactError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.io(source))?,
        };
        let mut kept = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.io(source))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let artifact = name.strip_suffix(self.ending).and_then(|name| name.strip_suffix('.'));
            if artifact.is_none_or(|id| ArtifactId::parse(id).is_none()) {
                continue; // on its way in, or not ours
            }
            // Others with the same folder may have removed it since.
            if let Ok(file) = fs::metadata(&path) {
                kept.push(Kept { used: file.modified().unwrap_or(SystemTime::UNIX_EPOCH), path, bytes: file.len() });
            }
        }
        Ok(kept)
    }
}

/// Removes what was not used for longest until the stores hold at most `most` bytes together. What was used within
/// `recent` stays whatever it takes: a task may be about to read it. Returns the bytes that were removed.
///
/// # Errors
/// When a folder cannot be read, or a file in it cannot be removed.
pub fn trim(stores: &[Store], most: u64, recent: Duration) -> Result<u64, ArtifactError> {
    let mut kept = Vec::new();
    for store in stores {
        kept.extend(store.kept()?.into_iter().map(|file| (store, file)));
    }
    kept.sort_by_key(|(_, file)| file.used);
    let mut bytes: u64 = kept.iter().map(|(_, file)| file.bytes).sum();
    let before = bytes;
    let still_needed = SystemTime::now().checked_sub(recent).unwrap_or(SystemTime::UNIX_EPOCH);
    for (store, file) in kept {
        if bytes <= most || file.used > still_needed {
            break;
        }
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(store.io(error)),
            _ => bytes -= file.bytes,
        }
    }
    Ok(before - bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("checkpoints")).unwrap();
        let ago = |seconds: u64| SystemTime::now() - Duration::from_secs(seconds);
        let put = |store: &Store, content: &[u8], used: SystemTime| {
            let id = store.put(content).unwrap();
            File::open(store.path(&id)).unwrap().set_modified(used).unwrap();
            id
        };
        let (old, older) = (put(&store, &[1; 100], ago(5000)), put(&store, &[2; 100], ago(6000)));
        let oldest = put(&store.witnesses(), &[3; 100], ago(7000));
        let new = put(&store, &[4; 100], ago(10));
        let foreign = dir.path().join("checkpoints/notes.safetensors");
        fs::write(&foreign, [5; 1000]).unwrap();
        let all = [store.clone(), store.witnesses()];
        let recent = Duration::from_secs(600);
        assert_eq!(trim(&all, 400, recent).unwrap(), 0, "they fit");
        store.note_use(&older);
        assert_eq!(trim(&all, 200, recent).unwrap(), 200);
        assert!(!store.witnesses().contains(&oldest) && !store.contains(&old));
        assert_eq!(trim(&all, 0, recent).unwrap(), 0, "the others are in use");
        assert!(store.contains(&older) && store.contains(&new) && foreign.exists());
    }
}
