//! Which evaluations of a sweep have witnesses: for those who export or audit them.

use super::prepare::{PrepareError, replan};
use crate::ledger::{Ledger, LedgerError, StoredSweep, StoredWitnesses};
use crate::plan::{EvaluateQuestion, Plan, Question, Work};
use std::collections::HashMap;

/// A sweep of the ledger with its plan, and the answered evaluations that were asked for witnesses.
#[derive(Debug)]
pub struct Kept {
    pub plan: Plan,
    /// In plan order: trials, epochs, attacks, shards.
    pub evaluations: Vec<KeptEvaluation>,
}

/// One answered evaluation task.
#[derive(Debug)]
pub struct KeptEvaluation {
    /// Position in the plan's trials.
    pub trial: u32,
    pub epoch: u32,
    /// Position in the sweep's attacks.
    pub attack: u16,
    pub question: EvaluateQuestion,
    /// `None` where the ledger has lost the row.
    pub stored: Option<StoredWitnesses>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum KeptError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the stored sweep {sweep:?} is no longer valid for this version of epsweep")]
    Stale { sweep: String, source: PrepareError },
}

/// Looks a sweep's witnesses up. A sweep without any has an empty list.
///
/// # Errors
/// When the ledger cannot be read, or the sweep's file is no longer valid.
pub fn kept(ledger: &Ledger, sweep: &StoredSweep) -> Result<Kept, KeptError> {
    let plan = replan(sweep).map_err(|source| KeptError::Stale { sweep: sweep.name.clone(), source })?;
    if plan.sweep.evaluate.witnesses.is_none() {
        return Ok(Kept { plan, evaluations: Vec::new() });
    }
    let mut files: HashMap<_, _> = ledger.witness_files()?.into_iter().map(|file| (file.task, file)).collect();
    let answered = ledger.answered_evaluations()?;
    let mut evaluations = Vec::new();
    for (position, task) in plan.tasks.iter().enumerate() {
        let (Work::Evaluate { epoch, attack, .. }, true) = (task.work, answered.contains(&task.key)) else { continue };
        let Question::Evaluate(question) = plan.question(position as u32) else { continue };
        let stored = files.remove(&task.key);
        evaluations.push(KeptEvaluation { trial: task.trial, epoch, attack, question, stored });
    }
    Ok(Kept { plan, evaluations })
}
