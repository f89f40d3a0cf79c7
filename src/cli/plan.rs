//! `epsweep plan FILE`: what a sweep would compute.

use super::printer;
use crate::coordinator::Prepared;
use crate::engine::{Admission, Engine, Event, Settings, Status};
use crate::ledger::{self, Ledger};
use crate::plan::{Plan, Work};
use crate::program::{Exit, Failure};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file
    file: PathBuf,
    /// The run's directory, to see what is already answered [default: runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Slots to estimate the time for [default: the cores of this machine]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// List every trial
    #[arg(long)]
    trials: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much of a plan is left to do.
#[derive(Debug, serde::Serialize)]
struct Summary {
    sweep: String,
    data: String,
    test_examples: u32,
    grid: crate::spec::GridCounts,
    seeds_per_config: f64,
    trials: usize,
    train_tasks: usize,
    evaluate_tasks: usize,
    answered: usize,
    epsilons: usize,
    attacks: Vec<String>,
    /// Estimated seconds on one slot, and with `workers` slots.
    slot_seconds: f64,
    workers: u32,
    wall_seconds: f64,
}

pub fn plan(args: &Args) -> Result<Exit, Failure> {
    let prepared = prepare(&args.file)?;
    let plan = &prepared.plan;
    let out = args.out.clone().unwrap_or_else(|| default_dir(&plan.sweep.name));
    let done = answered(plan, &out)?;
    let summary = summarise(plan, &done, args.workers.unwrap_or_else(cores));
    if args.json {
        let trials = plan.trials.iter().zip(&plan.sweep.trials).map(|(planned, trial)| {
            let axes: serde_json::Map<_, _> =
                plan.sweep.axes.iter().cloned().zip(trial.axes.iter().map(|v| v.clone().into())).collect();
            serde_json::json!({"trial": planned.key.short(), "config": planned.config, "axes": axes, "seed": trial.seed, "key": planned.key})
        });
        let mut value = serde_json::to_value(&summary).expect("a summary is plain data");
        value["trial_list"] = trials.collect();
        printer::json(&value);
        return Ok(Exit::Done);
    }
    print(&summary);
    if args.trials {
        printer::line("");
        let header: Vec<&str> =
            ["trial"].into_iter().chain(plan.sweep.axes.iter().map(String::as_str)).chain(["seed"]).collect();
        let rows: Vec<Vec<String>> = plan
            .trials
            .iter()
            .zip(&plan.sweep.trials)
            .map(|(planned, trial)| {
                [planned.key.short()]
                    .into_iter()
                    .chain(trial.axes.iter().cloned())
                    .chain([trial.seed.to_string()])
                    .collect()
            })
            .collect();
        printer::table(&header, &rows);
    }
    Ok(Exit::Done)
}

/// Reads, validates and plans a sweep file; shows what is odd about it.
///
/// # Errors
/// When the file cannot be read, or it or its data are wrong.
pub fn prepare(file: &Path) -> Result<Prepared, Failure> {
    let (yaml, base_dir) = read(file)?;
    let mut prepared = Prepared::new(yaml, file.display().to_string(), &base_dir).map_err(Failure::usage)?;
    for warning in std::mem::take(&mut prepared.warnings) {
        eprintln!("{:?}", miette::Report::new(warning));
    }
    Ok(prepared)
}

/// A sweep file's text, and the folder its relative paths start at.
///
/// # Errors
/// When it cannot be read.
pub fn read(file: &Path) -> Result<(String, PathBuf), Failure> {
    let read = || -> std::io::Result<(String, PathBuf)> {
        let text = std::fs::read_to_string(file)?;
        let path = file.canonicalize()?;
        Ok((text, path.parent().map(Path::to_path_buf).unwrap_or_default()))
    };
    read().map_err(|error| Failure::usage(miette::miette!("cannot read {}: {error}", file.display())))
}

/// Where a run's files go unless said otherwise.
pub fn default_dir(name: &str) -> PathBuf {
    Path::new("runs").join(name)
}

pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Which tasks of the plan the ledger in `dir` has answered, by position.
fn answered(plan: &Plan, dir: &Path) -> Result<Vec<bool>, Failure> {
    if !ledger::path_in(dir).exists() {
        return Ok(vec![false; plan.tasks.len()]);
    }
    let ledger = Ledger::read(dir).map_err(Failure::internal)?;
    // The same replay and admission that a run would begin with.
    let mut engine = Engine::new(Settings::default());
    ledger.replay(|record| engine.replay(&record, 0)).map_err(Failure::internal)?;
    engine.apply(Event::Admit(Admission::of(plan, 0, false)), 0);
    let statuses: std::collections::HashMap<_, _> = engine.statuses(0).collect();
    Ok(plan.tasks.iter().map(|task| statuses.get(&task.key) == Some(&Status::Done)).collect())
}

fn summarise(plan: &Plan, done: &[bool], workers: u32) -> Summary {
    let sweep = &plan.sweep;
    let open = plan.tasks.iter().zip(done).filter(|(_, done)| !**done);
    let (mut slot_seconds, mut longest) = (0.0f64, 0.0f64);
    for (task, _) in open {
        slot_seconds += f64::from(task.seconds);
        longest = longest.max(f64::from(task.seconds));
    }
    let train_tasks = plan.tasks.iter().filter(|task| task.work == Work::Train).count();
    Summary {
        sweep: sweep.name.clone(),
        data: plan.data.id.name.clone(),
        test_examples: plan.examples,
        grid: sweep.counts,
        seeds_per_config: plan.trials.len() as f64 / sweep.counts.configs.max(1) as f64,
        trials: plan.trials.len(),
        train_tasks,
        evaluate_tasks: plan.tasks.len() - train_tasks,
        answered: done.iter().filter(|done| **done).count(),
        epsilons: sweep.evaluate.epsilons.len(),
        attacks: sweep.evaluate.attacks.iter().map(|attack| attack.name.clone()).collect(),
        slot_seconds,
        workers,
        wall_seconds: (slot_seconds / f64::from(workers.max(1))).max(longest),
    }
}

fn print(summary: &Summary) {
    let Summary { grid, .. } = summary;
    let mut dropped = Vec::new();
    for (count, what) in [
        (grid.excluded, "excluded"),
        (grid.merged, "merged as duplicates"),
        (grid.unsampled, "left out by sample"),
        (grid.included, "added by include"),
    ] {
        if count > 0 {
            dropped.push(format!("{count} {what}"));
        }
    }
    let dropped = if dropped.is_empty() { String::new() } else { format!(" ({})", dropped.join(", ")) };
    let total = summary.train_tasks + summary.evaluate_tasks;
    printer::line(format!("sweep      {}", summary.sweep));
    printer::line(format!("data       {}, {} test examples", summary.data, summary.test_examples));
    printer::line(format!("grid       {} points -> {} configurations{dropped}", grid.points, grid.configs));
    printer::line(format!("trials     {} ({} seeds each)", summary.trials, summary.seeds_per_config));
    printer::line(format!("evaluate   {} at {} epsilons", summary.attacks.join(", "), summary.epsilons));
    printer::line(format!("tasks      {total}: {} train, {} evaluate", summary.train_tasks, summary.evaluate_tasks));
    printer::line(format!("answered   {} of {total}", summary.answered));
    printer::line(format!(
        "estimate   {} on one slot, {} on {} (a rough figure until something has run)",
        printer::duration(summary.slot_seconds),
        printer::duration(summary.wall_seconds),
        summary.workers
    ));
}
