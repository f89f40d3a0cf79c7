//! From the ledger to a core: when the program starts, and when a group could not be made durable.

use super::super::live::LiveSweep;
use super::super::log::remember;
use super::super::prepare::replan;
use super::{Core, LedgerError, unix_ms};
use crate::engine::{Admission, Engine, Event};
use crate::ledger::StoredSweep;
use crate::plan::Plan;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// What becomes of the sweeps and leases that a ledger holds when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// `serve`: sweeps go on, and workers may still be at work.
    Resume,
    /// `run`: its workers ended with it, and the file it is given says what to do.
    Fresh,
}

impl Core {
    pub(super) fn recover(&mut self, recovery: Recovery) -> Result<(), LedgerError> {
        let started = Instant::now();
        let records = self.replay()?;
        self.mend()?;
        self.drop_unnamed_states();
        if recovery == Recovery::Fresh {
            let now = self.now();
            let effects = self.engine.release_all(now);
            self.perform(effects);
        } else {
            for stored in self.ledger.sweeps()? {
                match replan(&stored) {
                    Ok(plan) => {
                        let plan = Arc::new(plan);
                        self.sweeps.insert(stored.id, self.remembered(&stored, plan.clone()));
                        self.readmit(&stored, &plan);
                    }
                    Err(error) => {
                        tracing::error!(sweep = stored.name, %error, "stored sweep is no longer valid; submit it anew")
                    }
                }
            }
        }
        if records > 0 {
            tracing::info!(records, seconds = started.elapsed().as_secs_f64(), "ledger replayed");
        }
        self.broken.take().map_or_else(|| self.ledger.commit(), Err)
    }

    /// Hands the history to the engine; returns how many records it has.
    fn replay(&mut self) -> Result<u64, LedgerError> {
        let now = self.now();
        let (engine, fatal) = (&mut self.engine, &mut self.fatal);
        let mut records = 0;
        self.damaged = self.ledger.replay(|record| {
            engine.replay(&record, now);
            remember(fatal, &record);
            records += 1;
        })?;
        Ok(records)
    }

    /// Rows that the disk has changed are told of and dropped; what they said is computed again.
    fn mend(&mut self) -> Result<(), LedgerError> {
        let mut damaged = std::mem::take(&mut self.damaged);
        damaged.extend(self.ledger.damaged_answers()?);
        let lost = self.ledger.drop_damaged(&damaged, unix_ms())?;
        let ledger = crate::ledger::path_in(self.ledger.dir());
        for row in &damaged {
            let task = row.task.map(|task| task.short()).unwrap_or_default();
            tracing::error!(
                ledger = %ledger.display(), %row, task,
                "a damaged row was dropped, and what it said counts as not answered; check the disk, and compare with a backup"
            );
        }
        for (task, epoch) in lost {
            self.step(Event::Withdraw { task, epochs: epoch.map(|epoch| vec![epoch]) });
        }
        Ok(())
    }

    /// Forgets everything that is not in the ledger, as if the program had been killed and started again: a path
    /// that the engine's tests walk by the million. Workers will have to register, and name what they hold.
    pub(super) fn rebuild(&mut self) -> Result<(), LedgerError> {
        self.ledger.roll_back()?;
        self.engine = Engine::new(self.settings);
        self.fatal.clear();
        self.ended.clear();
        self.halted.clear();
        self.replay()?;
        let stored: HashMap<_, _> = self.ledger.sweeps()?.into_iter().map(|sweep| (sweep.id, sweep)).collect();
        self.sweeps.retain(|id, _| stored.contains_key(id));
        let plans: Vec<_> = self.sweeps.values().map(|live| (live.id, live.plan.clone())).collect();
        for (id, plan) in plans {
            self.readmit(&stored[&id], &plan);
        }
        if self.draining {
            self.step(Event::Drain);
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Admits a sweep of the ledger as it stands there. One that has ended can be listed, and nothing of it runs.
    fn readmit(&mut self, stored: &StoredSweep, plan: &Plan) {
        let now = self.now();
        let effects = self.engine.apply(Event::Admit(Admission::of(plan, stored.id, false)), now);
        if stored.state == "running" {
            self.perform(effects);
            self.recall_steering(stored.id);
        } else {
            self.engine.apply(Event::Cancel(stored.id), now); // of no effect on one that is complete
        }
    }

    fn remembered(&self, stored: &StoredSweep, plan: Arc<Plan>) -> LiveSweep {
        let mut live = LiveSweep::new(stored.id, plan);
        if stored.state != "running" {
            let page = self.ledger.dir().join("reports").join(&stored.name).join("index.html");
            live.report = page.exists().then(|| page.display().to_string());
        }
        live
    }
}
