//! Checkpoints that the disk has lost: they are trained anew, and what needs them waits for that.

use super::Core;
use crate::artifacts::ArtifactId;
use crate::engine::Event;

impl Core {
    /// Somebody asked for an artifact, and the store has it no longer. Returns whether it comes back by itself: whether
    /// it was a checkpoint of a training run, which counts as not answered from now on.
    pub fn lost_artifact(&mut self, id: &ArtifactId) -> bool {
        if self.store.contains(id) {
            return true; // trained anew meanwhile
        }
        let found = self.ledger.checkpoints_in(id.as_str());
        let checkpoints = self.keep(found);
        for &(task, epoch) in &checkpoints {
            tracing::error!(task = task.short(), epoch, artifact = %id, "a checkpoint is gone from the disk: it is trained anew");
            let dropped = self.ledger.drop_answer(task, Some(epoch));
            self.keep(dropped);
            self.step(Event::Withdraw { task, epochs: Some(vec![epoch]) });
        }
        !checkpoints.is_empty()
    }
}
