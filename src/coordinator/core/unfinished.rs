//! States of unfinished training runs: kept for the next attempt, and dropped when the run has ended.

use super::{Core, Handle};
use crate::artifacts::ArtifactId;
use crate::engine::Lease;
use crate::ledger::Unfinished;
use crate::plan::TaskKey;

impl Handle {
    /// A state has been uploaded; a run is to name it soon. Heard while nothing can be written, too.
    pub async fn state_uploaded(&self, id: ArtifactId) {
        let noted = move |core: &mut Core| core.unnamed.insert(id.to_string(), core.now());
        let _ = self.ask(false, noted).await; // the next start removes it otherwise
    }
}

impl Core {
    /// Removes states that were uploaded and not named within the time of two leases: whoever did it has died.
    pub(super) fn drop_stale_states(&mut self) {
        let (now, patience) = (self.now(), 2 * self.settings.lease_ms);
        let stale = self.unnamed.extract_if(|_, since| *since + patience < now);
        for (artifact, _) in stale.collect::<Vec<_>>() {
            self.drop_state(&artifact);
        }
    }

    /// Keeps the state that a run under `lease` has reached, if it is the furthest. An `Err` says why it cannot be one.
    pub fn save_training(&mut self, worker: &str, lease: Lease, state: Unfinished) -> Result<(), String> {
        let id = ArtifactId::parse(&state.artifact).ok_or("it names no artifact")?;
        if !self.store.training().contains(&id) {
            return Err(format!("the state {id} was never uploaded"));
        }
        self.unnamed.remove(&state.artifact);
        let earlier = self.unfinished(lease.task);
        let further = earlier.as_ref().is_none_or(|earlier| earlier.step < state.step);
        if !further || !self.engine.holds(worker, lease) {
            // A late copy of what is known, or of a run that has ended meanwhile.
            self.drop_state(&state.artifact);
            return Ok(());
        }
        let written = self.ledger.store_unfinished(lease.task, &state);
        self.keep(written);
        if let Some(earlier) = earlier {
            self.drop_state(&earlier.artifact);
        }
        Ok(())
    }

    /// The state that the next attempt at a training run can go on from.
    pub(super) fn unfinished(&mut self, task: TaskKey) -> Option<Unfinished> {
        let found = self.ledger.unfinished(task);
        self.keep(found)
    }

    /// Removes states that no run can go on from: they were uploaded, in part or whole, and whoever did it died before it said
    /// what they were. Before anybody uploads anew.
    pub(super) fn drop_unnamed_states(&self) {
        for file in std::fs::read_dir(self.store.training().dir()).into_iter().flatten().flatten() {
            let path = file.path();
            let artifact = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if matches!(self.ledger.names_unfinished(artifact), Ok(false))
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(%error, file = %path.display(), "a training state that nobody needs stays on the disk");
            }
        }
    }

    /// A training run has been answered.
    pub(super) fn forget_unfinished(&mut self, task: TaskKey) {
        if let Some(state) = self.unfinished(task) {
            let written = self.ledger.remove_unfinished(task);
            self.keep(written);
            self.drop_state(&state.artifact);
        }
    }

    /// Removes a state, unless the ledger names it, or cannot say: what a worker says must not cost another its state.
    fn drop_state(&mut self, artifact: &str) {
        let unneeded = self.ledger.names_unfinished(artifact).map(|named| !named);
        if self.keep(unneeded)
            && let Some(id) = ArtifactId::parse(artifact)
            && let Err(error) = self.store.training().remove(&id)
        {
            tracing::warn!(%error, "a training state that nobody needs stays on the disk");
        }
    }
}
