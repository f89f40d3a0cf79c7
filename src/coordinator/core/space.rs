//! A full disk, or a bucket that does not answer: nothing more is changed until that is over.
//!
//! Whatever could not be written has not happened: the core goes back to what the ledger holds, and whoever asked
//! hears UNAVAILABLE and asks again. Reading goes on. Nothing is lost, and nobody need restart anything.

use super::handle::{Handle, Unanswered};
use super::{Core, Notice, Stop};
use crate::artifacts::Bucket;
use crate::ledger::LedgerError;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at the disk.
const RETRY: Duration = Duration::from_secs(1);
/// It goes on when so much is free, in bytes.
const ROOM: u64 = 1 << 20;

/// What must be so before anything is changed again.
#[derive(Debug)]
enum Until {
    /// So many bytes are free where the folder is.
    Space { dir: PathBuf, need: u64 },
    /// The bucket answers; [`Handle::wait_for`] looks.
    Bucket,
}

/// Why nothing is changed at present, and until when.
#[derive(Debug)]
pub(super) struct Waiting {
    reason: Arc<str>,
    until: Until,
    tried: Instant,
    /// What had been asked before has been made durable, or undone.
    pub settled: bool,
}

impl Waiting {
    fn new(dir: PathBuf, what: &Path, need: u64, settled: bool) -> Waiting {
        let reason = format!(
            "the disk that holds {} is full; free some space, and it goes on by itself with nothing lost",
            what.display()
        );
        Waiting { reason: reason.into(), until: Until::Space { dir, need }, tried: Instant::now(), settled }
    }

    fn for_bucket(why: &str) -> Waiting {
        let reason = format!("{why}; it goes on by itself with nothing lost when it can be used again");
        Waiting { reason: reason.into(), until: Until::Bucket, tried: Instant::now(), settled: false }
    }

    pub fn why(&self) -> Unanswered {
        Unanswered::Waits(self.reason.clone())
    }
}

impl Core {
    /// Undoes a group that could not be written: callers hear the returned reason. Everything but a lack of space
    /// ends the core.
    pub(super) fn start_over(&mut self, error: LedgerError) -> Result<Unanswered, Stop> {
        let Some(path) = lacks_space(&error, self.ledger.dir()) else { return Err(self.stop(error)) };
        if let Err(error) = self.rebuild() {
            return Err(self.stop(error));
        }
        let waiting = Waiting::new(self.ledger.dir().into(), &path, ROOM, true);
        Ok(self.wait(waiting))
    }

    fn stop(&mut self, error: LedgerError) -> Stop {
        // Nobody is told anything that is not on disk: the replies are dropped, and the callers see us gone.
        let _ = self.notices.send(Notice::Broken(error));
        Stop
    }

    fn wait(&mut self, waiting: Waiting) -> Unanswered {
        if self.waiting.is_none() {
            tracing::error!(reason = &*waiting.reason, "nothing is leased or taken in");
        }
        let why = waiting.why();
        self.waiting = Some(waiting);
        self.woken = true; // watchers want to know
        why
    }

    /// An artifact could not be stored after `written` bytes of it.
    pub fn storage_failed(&mut self, dir: PathBuf, source: std::io::Error, written: u64) {
        if is_full(&source) {
            let what = dir.clone();
            self.wait(Waiting::new(dir, &what, written + ROOM, false));
        } else {
            self.broken.get_or_insert(LedgerError::Unwritable { dir, source });
        }
    }

    /// The bucket cannot be used. Returns whether that is news, so that somebody must look when it can.
    fn bucket_failed(&mut self, why: &str) -> bool {
        let news = !matches!(self.waiting, Some(Waiting { until: Until::Bucket, .. }));
        if news {
            self.wait(Waiting::for_bucket(why));
        }
        news
    }

    fn bucket_is_back(&mut self) {
        if matches!(self.waiting, Some(Waiting { until: Until::Bucket, .. })) {
            self.waiting = None;
            self.woken = true;
            tracing::info!("the bucket can be used again: going on");
        }
    }

    /// The group that ran out of space for artifacts is durable itself.
    pub(super) fn settle_waiting(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.settled = true;
        }
    }

    /// Looks now and then whether there is space again.
    pub(super) fn try_to_go_on(&mut self) -> Result<(), Stop> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        if waiting.tried.elapsed() < RETRY {
            return Ok(());
        }
        waiting.tried = Instant::now();
        let Until::Space { dir, need } = &waiting.until else { return Ok(()) };
        if free_bytes(dir).is_some_and(|free| free < *need) {
            return Ok(());
        }
        let undone = self.ledger.is_writing();
        match self.ledger.try_to_write() {
            Ok(()) => {
                self.waiting = None;
                self.woken = true;
                tracing::info!("there is space again: going on");
                Ok(())
            }
            Err(error) if undone => self.start_over(error).map(drop),
            Err(error) if lacks_space(&error, self.ledger.dir()).is_some() => {
                self.ledger.roll_back().map_err(|error| self.stop(error))
            }
            Err(error) => Err(self.stop(error)),
        }
    }

    /// Why nothing is leased at present, in words; empty when it is.
    pub fn waits(&self) -> String {
        self.waiting.as_ref().map(|waiting| waiting.reason.to_string()).unwrap_or_default()
    }
}

impl Handle {
    /// Nothing is leased or taken in until the bucket can be used.
    pub async fn wait_for(&self, bucket: &Bucket, why: String) {
        if !self.ask(false, move |core| core.bucket_failed(&why)).await.unwrap_or(false) {
            return; // somebody looks already, or the program ends
        }
        let (handle, bucket) = (self.clone(), bucket.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                if bucket.probe().await.is_ok() {
                    let _ = handle.ask(false, Core::bucket_is_back).await;
                    return;
                }
            }
        });
    }
}

/// What could not be written for lack of space. SQLite says only that writing failed where a quota is exhausted.
fn lacks_space(error: &LedgerError, dir: &Path) -> Option<PathBuf> {
    match error {
        LedgerError::Full { path, .. } => Some(path.clone()),
        LedgerError::Write { path, .. } => {
            let probe = tempfile::tempfile_in(dir).and_then(|mut file| {
                file.write_all(&vec![1; 1 << 18])?;
                file.sync_all()
            });
            probe.is_err_and(|error| is_full(&error)).then(|| path.clone())
        }
        _ => None,
    }
}

/// Whether waiting for space may help.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What an unprivileged program may still write there; unknown where the system does not say.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}
