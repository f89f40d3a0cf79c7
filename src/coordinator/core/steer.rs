//! How people steer running sweeps: pause, resume, retry, priorities.

use super::super::prepare::Prepared;
use super::Core;
use crate::engine::{Event, SweepId, SweepState};
use crate::ledger::LedgerError;
use crate::proto;

/// Priorities that may be asked for.
pub const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=1000;

/// Why a sweep cannot be steered that way.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{}", no_such_sweep(.0))]
    NoSuchSweep(String),
    #[error(
        "sweep {name:?} is {state}: there is nothing to {verb}; submitting its file again goes on from what there is"
    )]
    Ended { name: String, state: &'static str, verb: &'static str },
    #[error("a priority is a number from {} to {}, not {asked}", PRIORITIES.start(), PRIORITIES.end())]
    Priority { asked: u32 },
    #[error("sweep {name:?} has no task or trial whose id begins with {prefix:?}; `epsweep why {name}` shows some")]
    NoSuchTask { name: String, prefix: String },
    #[error("a task's id is hexadecimal, unlike {0:?}; the logs and `epsweep why` show the ids")]
    NotAnId(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

pub fn no_such_sweep(name: &str) -> String {
    if name.is_empty() {
        "no sweep was submitted yet".to_string()
    } else {
        format!(
            "there is no sweep called {:?}; `epsweep list` shows those there are",
            super::super::wire::shortened(name)
        )
    }
}

impl Core {
    /// The newest sweep of that name. An empty one is an unset variable, and steers nothing.
    pub(super) fn named(&self, name: &str) -> Result<SweepId, Refused> {
        self.find(name).filter(|_| !name.is_empty()).ok_or_else(|| Refused::NoSuchSweep(name.into()))
    }

    fn running(&self, name: &str, verb: &'static str) -> Result<SweepId, Refused> {
        let id = self.named(name)?;
        let state = match self.engine.progress(id).map(|progress| progress.state) {
            Some(SweepState::Running) => return Ok(id),
            Some(SweepState::Cancelled) => "cancelled",
            _ => "finished",
        };
        Err(Refused::Ended { name: name.into(), state, verb })
    }

    /// Starts nothing more of a sweep. Pausing a paused one changes nothing.
    ///
    /// # Errors
    /// When there is no such sweep, or it has ended.
    pub fn pause(&mut self, name: &str) -> Result<proto::PauseResponse, Refused> {
        let id = self.running(name, "pause")?;
        self.step(Event::Pause(id));
        let shares = self.engine.shares();
        let running = shares.iter().find(|share| share.sweep == id).map_or(0, |share| share.running);
        self.set_paused(id, Some("by `epsweep pause`".into()));
        Ok(proto::PauseResponse { running })
    }

    /// # Errors
    /// When there is no such sweep, or it has ended.
    pub fn resume(&mut self, name: &str) -> Result<proto::ResumeResponse, Refused> {
        let id = self.running(name, "resume")?;
        let was_paused = self.sweeps.get(&id).is_some_and(|live| live.steering.paused.is_some());
        self.step(Event::Resume(id));
        if was_paused {
            self.set_paused(id, None);
        }
        Ok(proto::ResumeResponse { was_paused })
    }

    pub(super) fn set_paused(&mut self, id: SweepId, paused: Option<String>) {
        let Some(live) = self.sweeps.get_mut(&id) else { return };
        if live.steering.paused.is_some() && paused.is_some() {
            return; // the first reason stands
        }
        let sweep = live.plan.sweep.name.clone();
        match &paused {
            Some(why) => tracing::warn!(sweep, why, "sweep paused"),
            None => tracing::info!(sweep, "sweep resumed"),
        }
        live.steering.paused = paused;
        self.store_steering(id);
    }

    /// Returns the priority before.
    ///
    /// # Errors
    /// When there is no such sweep, it has ended, or the number is out of range.
    pub fn set_priority(&mut self, name: &str, priority: u32) -> Result<u32, Refused> {
        if !PRIORITIES.contains(&priority) {
            return Err(Refused::Priority { asked: priority });
        }
        let id = self.running(name, "put first")?;
        Ok(self.prioritise(id, priority))
    }

    pub(super) fn prioritise(&mut self, id: SweepId, priority: u32) -> u32 {
        let Some(live) = self.sweeps.get_mut(&id) else { return priority };
        let before = std::mem::replace(&mut live.steering.priority, priority);
        let sweep = live.plan.sweep.name.clone();
        if before != priority {
            tracing::info!(sweep, before, priority, "priority changed");
        }
        self.step(Event::Prioritise { sweep: id, priority });
        self.store_steering(id);
        before
    }

    fn store_steering(&mut self, id: SweepId) {
        let Some(live) = self.sweeps.get(&id) else { return };
        let written = self.ledger.steer(id, &live.steering);
        self.keep(written);
        self.woken = true;
    }

    /// After a restart: what people had asked for.
    pub(super) fn recall_steering(&mut self, id: SweepId) {
        let read = self.ledger.steering(id);
        let steering = self.keep(read);
        self.step(Event::Prioritise { sweep: id, priority: steering.priority });
        if steering.paused.is_some() {
            self.step(Event::Pause(id));
        }
        if let Some(live) = self.sweeps.get_mut(&id) {
            live.steering = steering;
        }
    }

    /// Gives a sweep's failed tasks another chance; one that has finished is admitted again for it.
    ///
    /// # Errors
    /// When there is no such sweep, or it was cancelled.
    pub fn retry_failed(&mut self, name: &str) -> Result<proto::RetryResponse, Refused> {
        let id = self.named(name)?;
        let (retried, diverged) = self.engine.failed(id);
        let response = proto::RetryResponse { retried, diverged };
        match self.engine.progress(id).map(|progress| progress.state) {
            Some(SweepState::Running) => drop(self.step(Event::Retry(id))),
            Some(SweepState::Finished) if retried > 0 => self.resubmit(id),
            Some(SweepState::Finished) => {}
            _ => return Err(Refused::Ended { name: name.into(), state: "cancelled", verb: "retry" }),
        }
        Ok(response)
    }

    /// Hands a sweep in again, from what the ledger has of it.
    fn resubmit(&mut self, id: SweepId) {
        let read = self.ledger.sweeps();
        let Some(stored) = self.keep(read).into_iter().find(|stored| stored.id == id) else { return };
        let Some(live) = self.sweeps.get(&id) else { return };
        self.submit(&Prepared {
            yaml: stored.yaml,
            source: stored.source,
            base_dir: stored.base_dir,
            plan: live.plan.clone(),
            warnings: Vec::new(),
            given: Vec::new(), // stored when it was first submitted
            priority: None,
        });
    }
}
