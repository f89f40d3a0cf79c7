//! `epsweep plan FILE`: what a sweep would compute.

use super::printer;
use crate::coordinator::Prepared;
use crate::engine::{Admission, Engine, Event, Settings, Status};
use crate::ledger::{self, Ledger};
use crate::plan::{Plan, Work};
use crate::program::{Exit, Failure, note};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file
    file: PathBuf,
    /// The run's directory, to see what is already answered [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
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
    seeds_per_config: u64,
    trials: usize,
    train_tasks: usize,
    evaluate_tasks: usize,
    answered: usize,
    epsilons: usize,
    attacks: Vec<String>,
    certificates: Vec<String>,
    measures: Vec<String>,
    /// Estimated seconds on one slot, and with `workers` slots.
    slot_seconds: f64,
    workers: u32,
    wall_seconds: f64,
    /// Whether the estimate rests on tasks of this sweep that have run.
    measured: bool,
}

pub fn plan(args: &Args) -> Result<Exit, Failure> {
    let prepared = prepare(&args.file)?;
    let plan = &prepared.plan;
    let out = args.out.clone().unwrap_or_else(|| default_dir(&plan.sweep.name));
    let (done, ratios) = answered(plan, &out)?;
    let summary = summarise(plan, &done, ratios, args.workers.unwrap_or_else(cores));
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
        note(format_args!("{:?}", miette::Report::new(warning)));
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

/// Measured over estimated seconds of training runs and of evaluations, where some have run.
type Ratios = [Option<f64>; 2];

/// Which tasks of the plan the ledger in `dir` has answered, by position, and what they took.
fn answered(plan: &Plan, dir: &Path) -> Result<(Vec<bool>, Ratios), Failure> {
    if !ledger::path_in(dir).exists() {
        return Ok((vec![false; plan.tasks.len()], [None; 2]));
    }
    let ledger = Ledger::read(dir).map_err(Failure::internal)?;
    // The same replay and admission that a run would begin with.
    let mut engine = Engine::new(Settings::default());
    ledger.replay(|record| engine.replay(&record, 0)).map_err(Failure::internal)?;
    engine.apply(Event::Admit(Admission::of(plan, 0, false)), 0);
    let statuses: HashMap<_, _> = engine.statuses(0).collect();
    let done = plan.tasks.iter().map(|task| statuses.get(&task.key) == Some(&Status::Done)).collect();
    let costs: HashMap<_, _> =
        ledger.costs().map_err(Failure::internal)?.into_iter().map(|cost| (cost.task, cost.seconds)).collect();
    let mut sums = [(0.0, 0.0); 2];
    for task in &plan.tasks {
        if let Some(seconds) = costs.get(&task.key) {
            let (measured, estimated) = &mut sums[usize::from(task.work != Work::Train)];
            *measured += seconds;
            *estimated += f64::from(task.seconds);
        }
    }
    Ok((done, sums.map(|(measured, estimated)| (estimated > 0.0).then(|| measured / estimated))))
}

fn summarise(plan: &Plan, done: &[bool], ratios: Ratios, workers: u32) -> Summary {
    let sweep = &plan.sweep;
    let open = plan.tasks.iter().zip(done).filter(|(_, done)| !**done);
    let (mut slot_seconds, mut longest) = (0.0f64, 0.0f64);
    for (task, _) in open {
        let kind = usize::from(task.work != Work::Train);
        let ratio = ratios[kind].or(ratios[1 - kind]).unwrap_or(1.0);
        slot_seconds += f64::from(task.seconds) * ratio;
        longest = longest.max(f64::from(task.seconds) * ratio);
    }
    let train_tasks = plan.tasks.iter().filter(|task| task.work == Work::Train).count();
    Summary {
        sweep: sweep.name.clone(),
        data: plan.data.id.name.clone(),
        test_examples: plan.examples,
        grid: sweep.counts,
        seeds_per_config: (plan.trials.len() / sweep.counts.configs.max(1)) as u64,
        trials: plan.trials.len(),
        train_tasks,
        evaluate_tasks: plan.tasks.len() - train_tasks,
        answered: done.iter().filter(|done| **done).count(),
        epsilons: sweep.evaluate.epsilons.len(),
        attacks: sweep.evaluate.attacks.iter().map(|attack| attack.name.clone()).collect(),
        certificates: sweep.evaluate.certify.iter().map(|certificate| certificate.name.clone()).collect(),
        measures: sweep.measures.iter().map(|measure| measure.name.clone()).collect(),
        slot_seconds,
        workers,
        measured: ratios.iter().any(Option::is_some),
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
    let [points, configs] =
        [(grid.points, "point"), (grid.configs, "configuration")].map(|(n, what)| printer::count(n as u64, what));
    printer::line(format!("grid       {points} -> {configs}{dropped}"));
    printer::line(format!("trials     {} ({} each)", summary.trials, printer::count(summary.seeds_per_config, "seed")));
    let epsilons = printer::count(summary.epsilons as u64, "epsilon");
    printer::line(format!("evaluate   {} at {epsilons}", summary.attacks.join(", ")));
    if !summary.certificates.is_empty() {
        printer::line(format!("certify    {}", summary.certificates.join(", ")));
    }
    if !summary.measures.is_empty() {
        printer::line(format!("measure    {}", summary.measures.join(", ")));
    }
    printer::line(format!("tasks      {total}: {} train, {} evaluate", summary.train_tasks, summary.evaluate_tasks));
    printer::line(format!("answered   {} of {total}", summary.answered));
    if summary.answered == total {
        printer::line("estimate   nothing is left to do");
        return;
    }
    let basis = if summary.measured { "from what has run" } else { "a rough figure until something has run" };
    printer::line(format!(
        "estimate   {} on one slot, {} on {} ({basis})",
        printer::duration(summary.slot_seconds),
        printer::duration(summary.wall_seconds),
        summary.workers
    ));
}
