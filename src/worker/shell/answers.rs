//! Finished answers on disk, until the coordinator has taken them.
//!
//! A worker that is killed, or that gives up on a coordinator which stays away, has its work in
//! `CACHE/answers`; the next worker with the same cache hands it in, under the name that earned it. A
//! folder belongs to one process at a time, which holds a lock on it: workers may share a cache.
//!
//! A file is 32 bytes of BLAKE3 and an encoded `CommitRequest`. What it names by content hash lies in
//! the cache's artifact folders.

use epsweep::engine::Lease;
use epsweep::proto::{CommitRequest, commit_request};
use prost::Message;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const ENDING: &str = "answer";

/// The folder of one process.
#[derive(Debug)]
pub struct Answers {
    dir: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Answers {
    /// Makes the folder of the worker called `name`; an earlier process of that name may have left some.
    ///
    /// # Errors
    /// When it cannot be made, or another process with this name and cache is at work.
    pub fn open(cache: &Path, name: &str) -> io::Result<Answers> {
        // A name may hold what a file's name may not.
        let dir = cache.join("answers").join(&blake3::hash(name.as_bytes()).to_hex()[..16]);
        fs::create_dir_all(&dir)?;
        Answers::claim(dir)?.ok_or_else(|| {
            let why =
                format!("another worker called {name} is at work with this cache; give one of them another --name");
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        })
    }

    /// The folders of processes that have ended.
    pub fn abandoned(cache: &Path) -> Vec<Answers> {
        let Ok(folders) = fs::read_dir(cache.join("answers")) else { return Vec::new() };
        folders.flatten().filter_map(|folder| Answers::claim(folder.path()).ok().flatten()).collect()
    }

    fn claim(dir: PathBuf) -> io::Result<Option<Answers>> {
        let lock = File::create(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Answers { dir, _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes an answer down.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn keep(&self, lease: Lease, answer: &CommitRequest) -> io::Result<()> {
        let body = answer.encode_to_vec();
        let path = self.path(lease);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, [blake3::hash(&body).as_bytes().as_slice(), &body].concat())?;
        fs::rename(temporary, path)
    }

    /// The coordinator has dealt with it.
    pub fn remove(&self, lease: Lease) {
        let _ = fs::remove_file(self.path(lease)); // handed in twice is no harm
    }

    /// What is there, in order of name. A file that is not as it was written is removed.
    pub fn all(&self) -> Vec<CommitRequest> {
        let Ok(files) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
        paths.sort();
        paths.iter().filter_map(|path| read(path)).collect()
    }

    /// Gives up the folder for good, if it is empty.
    pub fn close(self) {
        if self.all().is_empty() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn path(&self, lease: Lease) -> PathBuf {
        self.dir.join(format!("{}-{}.{ENDING}", lease.task, lease.attempt))
    }
}

fn read(path: &Path) -> Option<CommitRequest> {
    let bytes = fs::read(path).ok()?;
    let whole = bytes.split_at_checked(32).filter(|(digest, body)| blake3::hash(body).as_bytes() == digest);
    let answer = whole.and_then(|(_, body)| CommitRequest::decode(body).ok());
    if answer.is_none() {
        tracing::warn!(file = %path.display(), "an answer on disk is damaged; its task will be done again");
        let _ = fs::remove_file(path);
    }
    answer
}

/// The artifacts that an answer names: checkpoints, and witnesses.
pub fn artifacts(answer: &CommitRequest) -> (Vec<&str>, Option<&str>) {
    match &answer.answer {
        Some(commit_request::Answer::Train(train)) => {
            (train.checkpoints.iter().map(|checkpoint| checkpoint.artifact.as_str()).collect(), None)
        }
        Some(commit_request::Answer::Evaluate(found)) => {
            (Vec::new(), Some(found.witnesses.as_str()).filter(|id| !id.is_empty()))
        }
        _ => (Vec::new(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use epsweep::plan::TaskKey;

    fn answer(attempt: u32) -> (Lease, CommitRequest) {
        let lease = Lease { task: TaskKey::of(b"a question"), attempt };
        (
            lease,
            CommitRequest { worker: "w".into(), lease: Some(lease.into()), seconds: 1.5, ..CommitRequest::default() },
        )
    }

    #[test]
    fn answers_outlive_their_process_and_are_whole_or_gone() {
        let cache = tempfile::tempdir().unwrap();
        let ((one, first), (two, second)) = (answer(1), answer(2));
        let answers = Answers::open(cache.path(), "a/b").unwrap();
        answers.keep(one, &first).unwrap();
        answers.keep(two, &second).unwrap();
        assert!(Answers::abandoned(cache.path()).is_empty(), "its process lives");
        assert!(Answers::open(cache.path(), "a/b").unwrap_err().to_string().contains("--name"));
        let damaged = answers.path(two);
        drop(answers);

        fs::write(&damaged, &fs::read(&damaged).unwrap()[..40]).unwrap();
        let mut left = Answers::abandoned(cache.path());
        assert_eq!(left.len(), 1);
        let left = left.remove(0);
        assert_eq!(left.all(), [first]);
        assert!(!damaged.exists());
        left.remove(one);
        left.close();
        assert_eq!(fs::read_dir(cache.path().join("answers")).unwrap().count(), 0);
    }
}
