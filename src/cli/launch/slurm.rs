//! `epsweep launch slurm FILE`: renders the jobs, submits them, says how to watch.

use crate::cli::plan;
use crate::cli::printer::{self, quoted};
use crate::launch::local::find_worker;
use crate::launch::slurm::{
    Fleet, Folder, JobState, Launch, Queue, Request, Scripts, Slurm, SlurmError, TLS_NAME, TimeLimit, parse_time,
};
use crate::plan::Plan;
use crate::program::{Exit, Failure, note};
use std::path::{Path, PathBuf};

const COORDINATOR: &str = "The coordinator's job";
const JOBS: &str = "What the jobs ask for";
/// By then Slurm has looked at new jobs, and knows of some that they will never begin.
const SOON: std::time::Duration = std::time::Duration::from_secs(2);
/// Without work, a worker of an elastic fleet leaves after so long.
const IDLE_SECONDS: u64 = 300;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file
    file: PathBuf,
    /// Worker jobs, as elements of one array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    workers: u32,
    /// The run's directory, on a file system that this machine and all nodes share [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Everything in one job on one node, with that many worker processes
    #[arg(long)]
    one_job: bool,
    /// The coordinator submits worker jobs while tasks wait for them, and workers without work leave
    #[arg(long, conflicts_with = "one_job")]
    elastic: bool,
    /// With --elastic: worker jobs that may wait in the queue at a time [default: as many as --workers]
    #[arg(long, value_name = "N", requires = "elastic", value_parser = clap::value_parser!(u32).range(1..))]
    max_pending: Option<u32>,
    /// Workers without work leave after so long [default: 300 with --elastic, else they stay]
    #[arg(long, value_name = "SECONDS", conflicts_with = "one_job")]
    idle_exit: Option<u64>,
    /// Write the jobs to DIR/slurm, and submit nothing
    #[arg(long, visible_alias = "dry-run")]
    render_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A shell command before the programs start in each job, such as 'module load cuda'; may be repeated
    #[arg(long, value_name = "COMMAND")]
    setup: Vec<String>,
    /// Port that the coordinator listens on [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    coordinator: Coordinator,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = JOBS)]
struct Jobs {
    #[arg(long, value_name = "NAME", help = "Partition of all jobs")]
    partition: Option<String>,
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[arg(long, value_name = "NAME")]
    qos: Option<String>,
    #[arg(long, value_name = "FEATURES", help = "Features that the workers' nodes must have")]
    constraint: Option<String>,
    /// Longest time of a job, such as 4:00:00 or 1-00:00:00: no worker takes a task that it cannot finish
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// GPUs of a worker's job, on each of which it computes one task at a time; 0: it computes on CPUs
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    gpus_per_worker: u32,
    /// CPUs of a worker's job, at least one for each of its GPUs; without a GPU, it computes as many tasks at a time,
    /// one thread each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cpus_per_worker: u32,
    /// Memory of a worker's job, such as 4G
    #[arg(long, value_name = "SIZE")]
    mem_per_worker: Option<String>,
    /// A further option of sbatch, such as --sbatch-arg=--exclude=node7; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch_arg: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = COORDINATOR)]
struct Coordinator {
    /// [default: that of the workers]
    #[arg(long, value_name = "NAME")]
    coordinator_partition: Option<String>,
    /// [default: that of the workers]
    #[arg(long, value_name = "TIME")]
    coordinator_time: Option<String>,
    /// [default: what the cluster gives]
    #[arg(long, value_name = "SIZE")]
    coordinator_mem: Option<String>,
}

/// What a launch has come to.
struct Launched {
    coordinator: Option<u64>,
    workers: Vec<u64>,
}

pub async fn slurm(args: Args) -> Result<Exit, Failure> {
    let prepared = plan::prepare(&args.file)?;
    check(&args, &prepared.plan)?;
    let launch = describe(&args, &prepared.plan.sweep.name)?;
    let scripts = Scripts::render(&launch).map_err(|text| {
        Failure::usage(miette::miette!(
            help = "rename it, or write it otherwise",
            "'{text}' has characters that cannot stand in a job's script"
        ))
    })?;
    let slurm = if args.render_only { None } else { Some(Slurm::find().map_err(Failure::usage)?) };
    if let Some(slurm) = &slurm {
        refuse_a_second(slurm, &launch).await?;
    }
    let folder = Folder::of(&launch);
    folder.write(&launch, &scripts).map_err(Failure::usage)?;
    let launched = match &slurm {
        Some(slurm) => submit(slurm, &launch, &folder).await?,
        None => Launched { coordinator: None, workers: Vec::new() },
    };
    if let Some(slurm) = &slurm {
        tokio::time::sleep(SOON).await;
        let names = format!("{},{}", launch.job_name(), launch.workers_name());
        if let Some(reason) = slurm.hopeless(&names).await {
            note(format_args!(
                "Slurm has taken the jobs, but as they are they will never begin ({reason}): look with squeue, end them with \
                 scancel --me --name={names}, and ask for what the partition gives (sinfo --long)"
            ));
        }
    }
    match args.json {
        true => printer::json(&in_json(&launch, &folder, &launched)),
        false => print(&launch, &folder, &launched),
    }
    Ok(Exit::Done)
}

/// Mistakes that need no cluster to be seen.
fn check(args: &Args, plan: &Plan) -> Result<(), Failure> {
    let times = [("--time", &args.jobs.time), ("--coordinator-time", &args.coordinator.coordinator_time)];
    for (name, value) in times {
        if let Some(value) = value
            && parse_time(value).is_none_or(|limit| limit == TimeLimit::Seconds(0))
        {
            let help =
                "Slurm takes MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES:SECONDS";
            return Err(Failure::usage(miette::miette!(help = help, "{name} {value:?} is no time limit")));
        }
    }
    if let Some(option) = args.jobs.sbatch_arg.iter().find(|option| !option.starts_with('-')) {
        let help = "write it as one word: --sbatch-arg=--exclude=node7";
        return Err(Failure::usage(miette::miette!(help = help, "--sbatch-arg {option:?} is no option of sbatch")));
    }
    let estimates = plan.tasks.iter().map(|task| f64::from(task.seconds));
    let (shortest, longest) = estimates.fold((f64::INFINITY, 0.0_f64), |(low, high), s| (low.min(s), high.max(s)));
    let Some(TimeLimit::Seconds(limit)) = args.jobs.time.as_deref().and_then(parse_time) else { return Ok(()) };
    let (time, limit) = (args.jobs.time.as_deref().unwrap_or_default(), limit as f64);
    if crate::engine::fits(shortest, limit) {
        if !crate::engine::fits(longest, limit) {
            note(format_args!(
                "the longest task is expected to take {}, and would not fit into --time {time}: until it does, it waits \
                 (`epsweep why` says so; estimates get better as tasks are answered)",
                printer::duration(longest)
            ));
        }
        return Ok(());
    }
    let help = "ask for more with --time; fewer epochs per trial make training runs shorter";
    Err(Failure::usage(miette::miette!(
        help = help,
        "--time {time} is too short for any task of {}: the shortest is expected to take {}, and a worker keeps {} to end in order",
        args.file.display(),
        printer::duration(shortest),
        printer::duration(crate::engine::RESERVE_SECONDS)
    )))
}

fn describe(args: &Args, name: &str) -> Result<Launch, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| Failure::usage(miette::miette!("{}: {error}", path.display())))
    };
    let Jobs { partition, account, qos, constraint, time, .. } = &args.jobs;
    let worker = Request {
        partition: partition.clone(),
        account: account.clone(),
        qos: qos.clone(),
        constraint: constraint.clone(),
        time: time.clone(),
        mem: args.jobs.mem_per_worker.clone(),
        cpus: args.jobs.cpus_per_worker.max(args.jobs.gpus_per_worker),
        gpus: args.jobs.gpus_per_worker,
        extra: args.jobs.sbatch_arg.clone(),
    };
    let alone = Request {
        partition: args.coordinator.coordinator_partition.clone().or_else(|| partition.clone()),
        time: args.coordinator.coordinator_time.clone().or_else(|| time.clone()),
        mem: args.coordinator.coordinator_mem.clone(),
        cpus: 1,
        gpus: 0,
        constraint: None, // what the workers' nodes must have, it can do without
        ..worker.clone()
    };
    let coordinator = match args.one_job {
        true => Request {
            cpus: args.workers.saturating_mul(worker.cpus),
            gpus: args.workers.saturating_mul(worker.gpus),
            ..worker.clone()
        },
        false => alone,
    };
    let epsweep = std::env::current_exe()
        .map_err(|error| Failure::internal(miette::miette!("this program's own path is unknown: {error}")))?;
    Ok(Launch {
        name: name.into(),
        file: absolute(&args.file)?,
        out: absolute(&args.out.clone().unwrap_or_else(|| plan::default_dir(name)))?,
        workers: args.workers,
        worker,
        coordinator,
        one_job: args.one_job,
        setup: args.setup.clone(),
        epsweep,
        epsweep_worker: absolute(&find_worker().map_err(Failure::usage)?)?,
        idle_exit: args.idle_exit.or(args.elastic.then_some(IDLE_SECONDS)),
        elastic: args.elastic.then(|| args.max_pending.unwrap_or(args.workers)),
        port: args.port,
    })
}

/// Two coordinators cannot share a folder: the second would only say so in its log.
async fn refuse_a_second(slurm: &Slurm, launch: &Launch) -> Result<(), Failure> {
    let names = format!("{},{}", launch.job_name(), launch.workers_name());
    let Queue::Known(entries) = slurm.queue(&names).await else { return Ok(()) };
    let mut jobs: Vec<String> =
        entries.iter().filter(|e| e.state != JobState::Ended).map(|e| e.job.to_string()).collect();
    jobs.dedup();
    if jobs.is_empty() {
        return Ok(());
    }
    let help = format!("watch them, or end them with: scancel --me --name={names}");
    Err(Failure::usage(miette::miette!(
        help = help,
        "{} is launched already: jobs {} are in the queue",
        launch.out.display(),
        jobs.join(", ")
    )))
}

/// All jobs or none.
async fn submit(slurm: &Slurm, launch: &Launch, folder: &Folder) -> Result<Launched, Failure> {
    let most = slurm.max_array().await;
    if let Some(max_pending) = launch.elastic {
        let slots = launch.worker.slots();
        let (script, name) = (folder.workers_script(), launch.workers_name());
        let fleet = Fleet { script, name, workers: launch.workers, slots, max_pending, max_array: most };
        fleet.write(&folder.fleet()).map_err(Failure::usage)?;
    }
    let coordinator =
        slurm.submit(&folder.coordinator_script(), &[], &launch.job_name()).await.map_err(Failure::usage)?;
    let mut launched = Launched { coordinator: Some(coordinator), workers: Vec::new() };
    if launch.one_job || launch.elastic.is_some() {
        return Ok(launched);
    }
    // Where the limit is unknown, sbatch will say what it thinks of the array.
    let most = most.unwrap_or(u32::MAX).max(1);
    let mut left = launch.workers;
    while left > 0 {
        let elements = left.min(most);
        // Workers that nobody awaits would only wait themselves.
        let options = [format!("--dependency=after:{coordinator}"), format!("--array=0-{}", elements - 1)];
        match slurm.submit(&folder.workers_script(), &options, &launch.workers_name()).await {
            Ok(job) => launched.workers.push(job),
            Err(error) => {
                if matches!(error, SlurmError::Refused { .. }) {
                    slurm.cancel(&[launched.workers, vec![coordinator]].concat()).await;
                    note(format_args!("the jobs that had been submitted are cancelled"));
                }
                return Err(Failure::usage(error));
            }
        }
        left -= elements;
    }
    Ok(launched)
}

/// What a person may paste, with what it is for.
fn commands(launch: &Launch, folder: &Folder, launched: &Launched) -> Vec<(&'static str, String)> {
    let mut commands = Vec::new();
    let Some(coordinator) = launched.coordinator else {
        commands.push(("submit", format!("sbatch --parsable {}", quoted(&folder.coordinator_script()))));
        if !launch.one_job && launch.elastic.is_none() {
            commands.push((
                "submit workers",
                format!(
                    "sbatch --parsable --dependency=after:COORDINATOR --array=0-{} {}",
                    launch.workers - 1,
                    quoted(&folder.workers_script())
                ),
            ));
        }
        return commands;
    };
    let jobs: Vec<String> = launched.workers.iter().chain([&coordinator]).map(u64::to_string).collect();
    if !launch.one_job {
        commands.push(("connect", format!(". {}", quoted(&folder.env()))));
        commands.push(("watch", format!("epsweep watch {}", launch.name)));
        commands.push(("why", format!("epsweep why {}", launch.name)));
    }
    let names = format!("--name={},{}", launch.job_name(), launch.workers_name());
    match launch.elastic {
        Some(_) => commands.push(("queue", format!("squeue --me {names}"))),
        None => commands.push(("queue", format!("squeue --jobs={}", jobs.join(",")))),
    }
    commands
        .push(("log", format!("tail -F {}", quoted(&folder.logs().join(format!("coordinator-{coordinator}.log"))))));
    match launch.elastic {
        Some(_) => commands.push(("stop", format!("scancel --me {names}"))),
        None => commands.push(("stop", format!("scancel {}", jobs.join(" ")))),
    }
    commands
}

fn print(launch: &Launch, folder: &Folder, launched: &Launched) {
    match launched.coordinator {
        Some(coordinator) => {
            let workers: Vec<String> = launched.workers.iter().map(|job| format!(" and workers {job}")).collect();
            printer::line(format!("submitted coordinator {coordinator}{}", workers.concat()));
        }
        None => printer::line(format!("rendered {}", folder.path.display())),
    }
    let commands = commands(launch, folder, launched);
    let width = commands.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    for (what, command) in commands {
        note(format_args!("  {what:width$}  {command}"));
    }
    note(format_args!("  the report will be {}", launch.out.join("report").join("index.html").display()));
    note(format_args!(
        "  the same command again goes on where it stopped; jobs that end at once without a log in {} do not see that folder",
        folder.logs().display()
    ));
}

fn in_json(launch: &Launch, folder: &Folder, launched: &Launched) -> serde_json::Value {
    let commands: serde_json::Map<_, _> = commands(launch, folder, launched)
        .into_iter()
        .map(|(what, command)| (what.replace(' ', "_"), command.into()))
        .collect();
    let workers = (!launch.one_job).then(|| folder.workers_script());
    serde_json::json!({
        "sweep": launch.name,
        "out": launch.out,
        "folder": folder.path,
        "scripts": {"coordinator": folder.coordinator_script(), "workers": workers},
        "submitted": launched.coordinator.is_some(),
        "coordinator": launched.coordinator,
        "workers": launched.workers,
        "address": (!launch.one_job).then(|| format!("@{}", folder.address().display())),
        "tls_name": (!launch.one_job).then_some(TLS_NAME),
        "commands": commands,
    })
}
