//! Retries that wait: a task that has failed wherever it could be tried rests before it is tried there again, four times
//! as long each time. A file server that is away for a minute does not use its retries up.
//!
//! A worker that has not failed at it gets it at once. Not durable: a restart forgives.

use super::{Effect, Engine, Failure, Millis, TaskId};

/// So much longer is each rest than the one before it.
const FACTOR: Millis = 4;

impl Engine {
    /// An attempt has failed, and not for good.
    pub(super) fn rest(&mut self, id: TaskId, failure: Failure, now: Millis) {
        let before = self.tasks[id.0 as usize].failures.of(failure).saturating_sub(1);
        let rest = self.settings.retry_ms.saturating_mul(FACTOR.saturating_pow(before));
        if failure.may_be_the_workers() && rest > 0 {
            self.rests.insert(id, now + rest);
        }
    }

    /// How long a task still rests.
    pub(super) fn rests_for(&self, id: TaskId) -> Option<Millis> {
        self.rests.get(&id).and_then(|until| until.checked_sub(self.now)).filter(|&rest| rest > 0)
    }

    /// Tasks that have rested: workers may ask again.
    pub(super) fn end_rests(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let before = self.rests.len();
        self.rests.retain(|_, until| *until > now);
        if self.rests.len() < before {
            out.push(Effect::Wake);
        }
    }
}
