//! Partial training runs on disk, so that a killed worker loses seconds and not hours.
//!
//! A folder holds `state`, replaced as a whole by renaming, and one `epoch-N.safetensors` per
//! checkpoint already kept. `state` is 32 bytes of BLAKE3 followed by a safetensors file: weights,
//! optimizer state, and one metadata entry with everything else. Whatever is not exactly as written
//! (cut short, another question, another version) counts as absent: the run then starts over.

use super::Checkpoint;
use super::early::Best;
use crate::lab::weights::{self, Stored};
use epsweep::plan::facts::Facts;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::Tensor;

const VERSION: u32 = 1;
const METADATA: &str = "epsweep";
/// A good [`Place::every`]: less than anybody minds doing again.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Saving may take this share of the time.
const SHARE: f64 = 0.02;

/// Where a run saves its state and goes on from, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Folder for this question's state alone: created, continued from when valid, and left for the
    /// caller to remove once the answer is safe.
    pub dir: &'a Path,
    /// Shortest time between two saves, unless told to save now or saving costs too much of the time.
    pub every: Duration,
}

/// Where a run is, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    version: u32,
    /// Hexadecimal key of the question.
    question: String,
    /// Steps taken over the whole run.
    pub step: u64,
    /// Sum over the current epoch's batches of mean loss times examples.
    pub loss_sum: f64,
    /// Time spent training, over all attempts.
    pub seconds: f64,
    #[serde(default)]
    pub memory: Memory,
    kept: Vec<Kept>,
}

/// What the watches over a run remember.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    pub collapsed: Option<u32>,
    pub best: Option<Best>,
    pub waited: u32,
}

/// A checkpoint in a file of its own: it is written once, however often the state is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    epoch: u32,
    train_loss: f64,
    train_seconds: f64,
    #[serde(default)]
    facts: Facts,
    /// Hexadecimal BLAKE3 of the file.
    digest: String,
}

/// What a folder held.
pub struct Saved {
    pub progress: Progress,
    pub tensors: HashMap<String, Tensor>,
    pub kept: Vec<Checkpoint>,
}

/// How many steps the run in a folder has taken; `None` where there is no state that could be gone on from.
pub fn reached(folder: &Path) -> Option<u64> {
    let bytes = fs::read(folder.join("state")).ok()?;
    let (progress, _) = parse(&bytes).ok()?;
    (progress.version == VERSION).then_some(progress.step)
}

/// What a `state` file says and holds.
fn parse(bytes: &[u8]) -> Result<(Progress, HashMap<String, Tensor>), String> {
    let (digest, body) = bytes.split_at_checked(32).ok_or("cut short")?;
    if blake3::hash(body).as_bytes() != digest {
        return Err("its checksum does not match".to_string());
    }
    let Stored { tensors, mut metadata } = weights::decode(body).map_err(|error| error.to_string())?;
    let json = metadata.remove(METADATA).ok_or("no progress entry")?;
    Ok((serde_json::from_str(&json).map_err(|error| error.to_string())?, tensors))
}

/// The folder of one question.
pub struct Folder {
    path: PathBuf,
    question: String,
    last: Instant,
    every: Duration,
    interval: Duration,
    kept: Vec<Kept>,
}

impl Folder {
    /// Creates the folder if need be, and reads what it holds. `keep` are the epochs whose weights
    /// are wanted: a state that has passed one of them without keeping it is of no use.
    ///
    /// A folder that cannot be used is warned about, and costs the chance to resume, not the run.
    pub fn open(place: Place<'_>, question: &str, keep: &[u32], steps_per_epoch: u64) -> (Folder, Option<Saved>) {
        let mut folder = Folder {
            path: place.dir.to_path_buf(),
            question: question.to_string(),
            last: Instant::now(),
            every: place.every,
            interval: place.every,
            kept: Vec::new(),
        };
        folder.warn("folder", fs::create_dir_all(place.dir));
        let saved = folder.read(keep, steps_per_epoch).unwrap_or_else(|reason| {
            tracing::warn!(folder = %place.dir.display(), %reason, "partial training state is of no use, starting over");
            None
        });
        if let Some(saved) = &saved {
            folder.kept.clone_from(&saved.progress.kept);
        }
        (folder, saved)
    }

    /// Removes the state: it could not be taken over.
    pub fn forget(self) {
        self.warn("removal", fs::remove_file(self.path.join("state")));
    }

    fn read(&self, keep: &[u32], steps_per_epoch: u64) -> Result<Option<Saved>, String> {
        let bytes = match fs::read(self.path.join("state")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let (progress, tensors) = parse(&bytes)?;
        if progress.version != VERSION || progress.question != self.question {
            return Err("it belongs to another question or version".to_string());
        }
        let passed = |epoch: &u32| u64::from(*epoch) * steps_per_epoch <= progress.step;
        if let Some(missing) = keep.iter().find(|e| passed(e) && !progress.kept.iter().any(|k| k.epoch == **e)) {
            return Err(format!("it has passed epoch {missing} without keeping it"));
        }
        let kept = progress.kept.iter().map(|kept| self.read_checkpoint(kept)).collect::<Result<_, _>>()?;
        Ok(Some(Saved { progress, tensors, kept }))
    }

    fn read_checkpoint(&self, kept: &Kept) -> Result<Checkpoint, String> {
        let weights = fs::read(self.checkpoint_path(kept.epoch)).map_err(|error| error.to_string())?;
        if blake3::hash(&weights).to_hex().as_str() != kept.digest {
            return Err(format!("the checkpoint of epoch {} is damaged", kept.epoch));
        }
        let Kept { epoch, train_loss, train_seconds, ref facts, .. } = *kept;
        Ok(Checkpoint { epoch, train_loss, train_seconds, facts: facts.clone(), weights })
    }

    /// Whether enough time has passed since the last save.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval
    }

    /// Writes down a kept checkpoint.
    pub fn keep(&mut self, checkpoint: &Checkpoint) {
        let written = replace(&self.checkpoint_path(checkpoint.epoch), &checkpoint.weights);
        self.warn("checkpoint", written);
        let Checkpoint { epoch, train_loss, train_seconds, ref facts, ref weights } = *checkpoint;
        let digest = blake3::hash(weights).to_hex().to_string();
        self.kept.push(Kept { epoch, train_loss, train_seconds, facts: facts.clone(), digest });
    }

    /// Writes down the state.
    pub fn save(&mut self, step: u64, loss_sum: f64, seconds: f64, memory: Memory, tensors: &[(String, Tensor)]) {
        let started = Instant::now();
        let progress = Progress {
            version: VERSION,
            question: self.question.clone(),
            step,
            loss_sum,
            seconds,
            memory,
            kept: self.kept.clone(),
        };
        let json = serde_json::to_string(&progress).expect("losses of a run that goes on are finite");
        let body = weights::encode(tensors, Some(HashMap::from([(METADATA.to_string(), json)])));
        let mut bytes = blake3::hash(&body).as_bytes().to_vec();
        bytes.extend(body);
        let written = replace(&self.path.join("state"), &bytes);
        self.warn("state", written);
        self.last = Instant::now();
        self.interval = self.every.max((self.last - started).div_f64(SHARE));
    }

    fn warn(&self, what: &str, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(folder = %self.path.display(), %error, "cannot save the {what} of a training run");
        }
    }

    fn checkpoint_path(&self, epoch: u32) -> PathBuf {
        self.path.join(format!("epoch-{epoch}.safetensors"))
    }
}

/// Replaces a file as a whole. Not flushed to the disk: after a power failure the checksum tells.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}
