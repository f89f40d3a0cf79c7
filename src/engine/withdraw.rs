//! Answers that are gone: a damaged row, a checkpoint that the disk has lost. What they said is computed again.

use super::{Effect, Engine, Millis, Record};
use crate::plan::TaskKey;

impl Engine {
    /// Takes back that a task was answered; of a training run, that it has the checkpoints after `epochs`.
    pub(super) fn withdraw(&mut self, task: TaskKey, epochs: Option<Vec<u32>>, now: Millis, out: &mut Vec<Effect>) {
        let Some(id) = self.find(task) else { return };
        let news = match &epochs {
            Some(epochs) => {
                self.trains.get(&id).is_some_and(|train| epochs.iter().any(|epoch| train.have.contains(epoch)))
            }
            None => self.tasks[id.0 as usize].answered,
        };
        if news {
            self.record(Record::Withdrawn { task, epochs }, now, out);
            self.settle(id, out);
        }
    }

    pub(super) fn on_withdrawn(&mut self, task: TaskKey, epochs: Option<&[u32]>) {
        let id = self.find_or_add(task);
        self.tasks[id.0 as usize].answered = false;
        if let (Some(epochs), Some(train)) = (epochs, self.trains.get_mut(&id)) {
            train.have.retain(|epoch| !epochs.contains(epoch));
            self.tasks[id.0 as usize].answered = !train.have.is_empty();
        }
        self.reconsider(id);
        if epochs.is_some() {
            self.reconsider_dependents(id);
        }
    }
}
