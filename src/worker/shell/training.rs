//! Unfinished training runs: sent to the coordinator now and then, and taken over from there.
//!
//! The run saves its state on disk (`lab::training::resume`). A worker that stays away for good would take
//! that with it; so a copy goes to the coordinator every few minutes, and when the worker must go, and the
//! lease of the next attempt names it. What is sent is a tar file of the run's folder. A resumed run gives
//! the same bytes as an undisturbed one, so it does not matter which copy is taken, only how far it is.

use super::fetch::{self, Sort};
use super::link::{LinkError, bounded};
use super::run::{CALL_TIMEOUT, Worker};
use super::slots::Compute;
use epsweep::artifacts::ArtifactId;
use epsweep::blocking;
use epsweep::engine::Lease;
use epsweep::proto::SaveTrainingRequest;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often a run's state is looked at; it is sent when it has changed and `Options::save_every` has passed.
const LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// Sends the state of every training run that goes on, every so often.
    pub(super) async fn save_trainings(self, every: Duration) {
        let mut sent: HashMap<Lease, (tokio::time::Instant, Option<SystemTime>)> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK.min(every)).await;
            let held = self.held_leases();
            sent.retain(|lease, _| held.contains(lease));
            for lease in held {
                let folder = self.shared.training_folder(lease.task);
                let Ok(saved) = fs::metadata(folder.join("state")).and_then(|state| state.modified()) else { continue };
                let (last, seen) = *sent.entry(lease).or_insert((tokio::time::Instant::now(), None));
                if last.elapsed() < every || seen == Some(saved) {
                    continue;
                }
                sent.insert(lease, (tokio::time::Instant::now(), Some(saved)));
                if let Err(error) = self.save_training(lease).await {
                    tracing::warn!(task = lease.task.short(), %error, "cannot send the state of a training run");
                }
            }
        }
    }

    /// Sends the state of one run, if there is one.
    ///
    /// # Errors
    /// When the coordinator refuses it or is gone for too long.
    pub(super) async fn save_training(&self, lease: Lease) -> Result<(), LinkError> {
        let folder = self.shared.training_folder(lease.task);
        let compute = self.compute.clone();
        let packed = blocking::run(move || compute.reached(&folder).zip(pack(&folder).ok())).await;
        let Ok(Some((step, content))) = packed else { return Ok(()) };
        let id = ArtifactId::of(&content);
        fetch::upload(&self.link, Sort::Training, &id, &content).await?;
        let message = SaveTrainingRequest {
            worker: self.link.worker(),
            lease: Some(lease.into()),
            artifact: id.to_string(),
            step,
        };
        self.link
            .call(CALL_TIMEOUT, |mut client, timeout| {
                let message = message.clone();
                async move { client.save_training(bounded(message, timeout)).await }
            })
            .await?;
        tracing::info!(task = lease.task.short(), attempt = lease.attempt, step, "training state sent");
        Ok(())
    }

    /// Brings the state that an earlier attempt reached elsewhere, unless this worker has been further itself.
    /// Without it the run starts earlier, and comes to the same end.
    pub(super) async fn take_over(&self, lease: Lease, name: &str) {
        let taken = self.try_take_over(lease, name).await;
        match taken {
            Ok(Some(step)) => tracing::info!(task = lease.task.short(), step, "goes on where an earlier attempt was"),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(task = lease.task.short(), error, "an earlier attempt's state is of no use");
            }
        }
    }

    async fn try_take_over(&self, lease: Lease, name: &str) -> Result<Option<u64>, String> {
        let id = ArtifactId::parse(name).ok_or("the lease names no artifact")?;
        let store = self.shared.passing.clone();
        fetch::artifact(&self.link, &store, &id).await.map_err(|error| fetch::chain(&error))?;
        let content = store.get(&id).map_err(|error| error.to_string())?;
        let _ = store.remove(&id);
        let folder = self.shared.training_folder(lease.task);
        let compute = self.compute.clone();
        blocking::run(move || unpack(&content, &folder, &*compute))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

/// The state first: the checkpoints it lists were written before it.
fn pack(folder: &Path) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &Path| -> io::Result<()> {
        let content = fs::read(path)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = path.file_name().unwrap_or_default();
        archive.append_data(&mut header, name, content.as_slice())
    };
    add(&folder.join("state"))?;
    let mut kept: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|file| file.path()).collect();
    kept.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    kept.sort();
    kept.iter().try_for_each(|path| add(path))?;
    archive.into_inner()
}

/// Puts what was packed in the place of `folder` if it is further; returns how far.
fn unpack(content: &[u8], folder: &Path, compute: &dyn Compute) -> io::Result<Option<u64>> {
    let incoming = folder.with_extension("incoming");
    let _ = fs::remove_dir_all(&incoming);
    fs::create_dir_all(&incoming)?;
    for entry in tar::Archive::new(content).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') && !name.starts_with('.');
        if !plain || !entry.header().entry_type().is_file() {
            return Err(io::Error::other(format!("{name:?} is no file of a training run")));
        }
        io::copy(&mut entry, &mut fs::File::create(incoming.join(&name))?)?;
    }
    let (theirs, ours) = (compute.reached(&incoming), compute.reached(folder));
    if theirs.is_none() || theirs <= ours {
        fs::remove_dir_all(&incoming)?;
        return Ok(None);
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&incoming, folder)?;
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Computing, Job, Shared, Work};
    use super::*;
    use epsweep::plan::Question;

    /// Takes no state for whole.
    #[derive(Debug)]
    struct Nothing;

    impl Compute for Nothing {
        fn host(&self, _: usize, _: Work) {}

        fn answer<'a>(&'a self, _: usize, _: Question, _: &'a Job, _: &'a Shared) -> Computing<'a> {
            unreachable!("nothing is asked")
        }

        fn reached(&self, _: &Path) -> Option<u64> {
            None
        }
    }

    #[test]
    fn only_plain_files_are_unpacked_and_only_a_state_that_is_whole_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("state"), b"not a state").unwrap();
        fs::write(from.join("epoch-3.safetensors"), b"weights").unwrap();
        fs::write(from.join("state.tmp"), b"half").unwrap();
        let packed = pack(&from).unwrap();
        let names = |content: &[u8]| -> Vec<String> {
            let mut archive = tar::Archive::new(content);
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
        };
        assert_eq!(names(&packed), ["state", "epoch-3.safetensors"]);
        assert_eq!(unpack(&packed, &to, &Nothing).unwrap(), None);
        assert!(!to.exists() && !to.with_extension("incoming").exists());

        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..11].copy_from_slice(b"../escape.x");
        header.set_cksum();
        archive.append(&header, b"x".as_slice()).unwrap();
        assert!(unpack(&archive.into_inner().unwrap(), &to, &Nothing).is_err());
        assert!(!dir.path().join("escape.x").exists());
    }
}
