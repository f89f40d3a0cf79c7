//! The bound on what a worker's cache holds of checkpoints and witnesses.

use epsweep::artifacts::{Store, trim};
use epsweep::blocking;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// How often the cache is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// A lease that names a checkpoint may wait for a slot; what was used since stays.
const RECENT: Duration = Duration::from_secs(600);

/// Keeps the stores of `cache` within so many bytes, as long as the handle lives. Without a bound it does nothing.
pub(super) fn keep_within(most: Option<u64>, checkpoints: &Store, cache: &Path) -> Option<AbortOnDropHandle<()>> {
    let (most, cache) = (most?, cache.to_path_buf());
    let stores = [checkpoints.clone(), checkpoints.witnesses()];
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (stores, cache) = (stores.clone(), cache.clone());
            let trimmed = blocking::run(move || if has_unsent(&cache) { Ok(0) } else { trim(&stores, most, RECENT) });
            match trimmed.await {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(bytes)) => tracing::info!(bytes, "removed from the cache what was not used for longest"),
                Ok(Err(error)) => tracing::warn!(%error, "the cache cannot be kept within --cache-size"),
            }
            tokio::time::sleep(EVERY).await;
        }
    })))
}

/// Whether answers wait to be handed in: what they name must not go before them.
fn has_unsent(cache: &Path) -> bool {
    let entries = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries(cache.join("answers")).flat_map(|folder| entries(folder.path())).any(|entry| entry.file_name() != "lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_were_not_handed_in_are_seen() {
        let cache = tempfile::tempdir().unwrap();
        assert!(!has_unsent(cache.path()));
        let folder = cache.path().join("answers/0123");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("lock"), "").unwrap();
        assert!(!has_unsent(cache.path()));
        std::fs::write(folder.join("4f38"), "an answer").unwrap();
        assert!(has_unsent(cache.path()));
    }
}
