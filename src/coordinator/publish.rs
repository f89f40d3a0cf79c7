//! From the ledger to the files people read. Used while a coordinator runs and long after.

use super::prepare::{PrepareError, replan};
use crate::ledger::{Ledger, LedgerError, SweepResults};
use crate::report::{self, CostRow, Failure, Provenance, ReportError, WorkerLine};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A report that has been written.
#[derive(Debug)]
pub struct Published {
    pub dir: PathBuf,
    pub sweep: String,
    pub files: Vec<PathBuf>,
    /// Trials that are complete, and all of them.
    pub finished: usize,
    pub trials: usize,
    /// Trials that failed for good.
    pub failed: usize,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PublishError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the stored sweep is no longer valid for this version of epsweep")]
    Stale(#[from] PrepareError),
    #[error(transparent)]
    #[diagnostic(help(
        "the results are safe in the ledger: free some space or name another folder, then `epsweep report` again"
    ))]
    Report(#[from] ReportError),
}

/// Writes the report of a sweep (the latest when none is named) of the ledger in `state` into `into`.
///
/// # Errors
/// When there is no such ledger or sweep, or the folder cannot be written.
pub fn publish(state: &Path, sweep: Option<&str>, into: &Path) -> Result<Published, PublishError> {
    let ledger = Ledger::read(state)?;
    let stored = ledger.find_sweep(sweep)?;
    let plan = replan(&stored)?;
    let gathered = ledger.results(&stored, &plan)?;
    for damaged in &gathered.damaged {
        tracing::error!(
            ledger = %crate::ledger::path_in(state).display(), %damaged,
            "a stored answer is damaged and left out of the report; the next start of the coordinator has it computed again"
        );
    }
    let (first, last, busy) = ledger.busy(&stored)?.unwrap_or((stored.submitted_ms, stored.submitted_ms, 0.0));
    let reused = ledger.answered_before(&stored)?;
    let provenance = Provenance {
        yaml: stored.yaml.clone(),
        epsweep: env!("CARGO_PKG_VERSION").into(),
        libtorch: distinct(gathered.workers.iter().map(|worker| worker.libtorch.as_str())),
        algorithm: crate::plan::ALGORITHM_VERSION.to_string(),
        data: plan.data.id.name.clone(),
        data_digest: plan.data.id.digest.clone(),
        started: timestamp(first),
        finished: timestamp(last),
        wall_seconds: busy,
        workers: workers(&gathered),
        tasks: gathered.tasks as u64,
        reused,
        retries: gathered.retries,
        failures: failures(&gathered, &plan),
        command: format!("epsweep run {}", stored.source),
    };
    let costs: Vec<CostRow> = gathered
        .costs
        .iter()
        .map(|cost| CostRow {
            task: cost.task.short(),
            kind: cost.kind.clone(),
            worker: cost.worker.clone(),
            attempt: cost.attempt,
            seconds: cost.seconds,
            forwards: cost.forwards,
            backwards: cost.backwards,
            examples: cost.examples,
        })
        .collect();
    let written = report::write(into, &gathered.results, &costs, &provenance)?;
    for line in &written.contradictions {
        tracing::error!(certificate = line, "certified examples were broken: a bug, please report it");
    }
    Ok(Published {
        dir: into.into(),
        sweep: stored.name,
        files: written.files,
        finished: written.finished,
        trials: written.trials,
        failed: provenance.failures.len(),
    })
}

fn workers(gathered: &SweepResults) -> Vec<WorkerLine> {
    let mut tasks: HashMap<&str, u64> = HashMap::new();
    for cost in &gathered.costs {
        *tasks.entry(&cost.worker).or_default() += 1;
    }
    let line = |worker: &crate::ledger::WorkerInfo| WorkerLine {
        name: worker.worker.clone(),
        device: worker.device.clone(),
        slots: worker.slots,
        tasks: tasks.get(worker.worker.as_str()).copied().unwrap_or(0),
    };
    gathered.workers.iter().map(line).collect()
}

/// One line per trial, whichever of its tasks failed.
fn failures(gathered: &SweepResults, plan: &crate::plan::Plan) -> Vec<Failure> {
    let trial_of: HashMap<_, _> = plan.tasks.iter().map(|task| (task.key, task.trial)).collect();
    let mut seen = std::collections::BTreeMap::new();
    for failed in &gathered.failures {
        if let Some(&trial) = trial_of.get(&failed.task) {
            seen.entry(trial).or_insert_with(|| failed.message.clone());
        }
    }
    seen.into_iter().map(|(trial, reason)| Failure { trial: plan.trials[trial as usize].key.short(), reason }).collect()
}

fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(", ")
}

/// `2026-11-22 18:04:05 UTC`.
fn timestamp(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |at| at.strftime("%F %T UTC").to_string())
}
