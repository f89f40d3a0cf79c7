//! The jobs as `sbatch` reads them.

use super::{Folder, Launch, Request, TLS_NAME};
use std::fmt::Write;
use std::path::Path;

/// Slurm tells the coordinator's job this many seconds before its time is over (at most a minute earlier). Workers know
/// their end themselves, to the second, and work until shortly before it.
pub const WARNING_SECONDS: u32 = 90;
/// A worker waits so long for a coordinator: a requeued job waits for two minutes, and then for its turn.
const WAIT_SECONDS: u32 = 1800;

/// Texts of the scripts; one without workers does everything.
#[derive(Debug, Clone)]
pub struct Scripts {
    pub coordinator: String,
    pub workers: Option<String>,
}

impl Scripts {
    /// # Errors
    /// With the text that cannot stand in a script: it has control characters.
    pub fn render(launch: &Launch) -> Result<Scripts, String> {
        let folder = Folder::of(launch);
        let texts = [&launch.coordinator, &launch.worker].into_iter().flat_map(Request::texts);
        let paths =
            [&launch.file, &launch.out, &launch.epsweep, &launch.epsweep_worker].map(|path| path.display().to_string());
        let all = texts.chain(paths.iter().map(String::as_str)).chain(launch.setup.iter().map(String::as_str));
        if let Some(wrong) = all.into_iter().find(|text| text.chars().any(char::is_control)) {
            return Err(wrong.escape_default().to_string());
        }
        let workers = (!launch.one_job).then(|| workers(launch, &folder));
        Ok(Scripts { coordinator: coordinator(launch, &folder), workers })
    }
}

impl Request {
    /// Tasks at a time of a worker: one for each GPU, or one for each CPU.
    pub fn slots(&self) -> u32 {
        if self.gpus > 0 { self.gpus } else { self.cpus }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let named = [&self.partition, &self.account, &self.qos, &self.constraint, &self.time, &self.mem];
        named.into_iter().flatten().chain(&self.extra).map(String::as_str)
    }

    fn directives(&self) -> String {
        let mut text = String::new();
        let named = [
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("constraint", &self.constraint),
            ("time", &self.time),
            ("mem", &self.mem),
        ];
        let mut add = |option: String| writeln!(text, "#SBATCH {}", directive(&option)).expect("a string takes it");
        named.into_iter().for_each(|(name, value)| value.iter().for_each(|value| add(format!("--{name}={value}"))));
        ["--nodes=1".into(), "--ntasks=1".into(), format!("--cpus-per-task={}", self.cpus)]
            .into_iter()
            .for_each(&mut add);
        if self.gpus > 0 {
            add(format!("--gres=gpu:{}", self.gpus));
        }
        self.extra.iter().for_each(|option| add(option.clone()));
        text
    }
}

fn coordinator(launch: &Launch, folder: &Folder) -> String {
    let mut text =
        head(launch, &launch.coordinator, (&launch.job_name(), &log_pattern(folder, "coordinator-%j.log"), true));
    let (file, out) = (word(&launch.file), word(&launch.out));
    let program = word(&launch.epsweep);
    let workers = match launch.one_job {
        true => format!(
            "export EPSWEEP_WORKER={}\nrun {program} run {file} --out {out} --workers {}",
            word(&launch.epsweep_worker),
            launch.workers * launch.worker.gpus.max(1) // one for each GPU
        ),
        false => {
            let (address, certs) = (word(&folder.address()), word(&folder.certs("server")));
            let fleet = if launch.elastic.is_some() {
                format!(" --slurm-fleet {}", word(&folder.fleet()))
            } else {
                String::new()
            };
            format!(
                "run {program} run {file} --out {out} \\\n    --listen 0.0.0.0:{} --address-file {address} --tls-dir {certs}{fleet}",
                launch.port
            )
        }
    };
    let gpu = if launch.one_job && launch.coordinator.gpus > 0 { " --device cuda" } else { "" };
    // Without workers to come, a coordinator would wait in vain: whoever launched it launches it again.
    let requeue = if launch.one_job || launch.elastic.is_some() { REQUEUE } else { "" };
    // Elements of the array that begin later need not wait for a coordinator.
    let ended = if launch.one_job {
        String::new()
    } else {
        format!("case $code in 0|3) : > {} ;; esac\n", word(&folder.ended()))
    };
    write!(text, "{}{workers}{gpu}\n{ended}{requeue}exit \"$code\"\n", sees(folder)).expect("a string takes it");
    text
}

fn workers(launch: &Launch, folder: &Folder) -> String {
    let mut text =
        head(launch, &launch.worker, (&launch.workers_name(), &log_pattern(folder, "worker-%A_%a.log"), false));
    // Slurm shows a job the GPUs that it gave it.
    let device = if launch.worker.gpus > 0 { "cuda" } else { "cpu" };
    let slots = launch.worker.slots();
    let idle = launch.idle_exit.map(|seconds| format!(" --idle-exit {seconds}")).unwrap_or_default();
    let ended = word(&folder.ended());
    let (program, address, certs) =
        (word(&launch.epsweep_worker), word(&folder.address()), word(&folder.certs("worker")));
    write!(
        text,
        "{}\
         ended={ended}\n\
         if [ -e \"$ended\" ]; then\n    \
             echo 'epsweep: the sweep has ended'\n    \
             exit 0\n\
         fi\n\
         cache=$(mktemp -d \"${{TMPDIR:-/tmp}}/epsweep-XXXXXX\") || exit 1\n\
         job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}-${{SLURM_ARRAY_TASK_ID:-0}}\n\
         run {program} --connect @{address} --tls-dir {certs} --tls-name {TLS_NAME} \\\n    \
         --name \"slurm-$job-${{SLURM_RESTART_COUNT:-0}}\" --device {device} --slots {slots} --cache \"$cache\" \\\n    \
         --connect-timeout {WAIT_SECONDS} --reconnect-timeout {WAIT_SECONDS}{idle}\n\
         rm -rf -- \"$cache\"\n\
         exit \"$code\"\n",
        sees(folder),
    )
    .expect("a string takes it");
    text
}

/// Starts a program and stays until it has ended: what Slurm sends to the job is passed on to it. One that waits for a
/// coordinator would wait in vain once that has left its mark, `$ended`: it is told to leave.
const RUN: &str = "\
run() {
    \"$@\" &
    child=$!
    [ -z \"$ended\" ] || {
        until [ -e \"$ended\" ] || ! kill -0 \"$child\" 2>/dev/null; do sleep 2; done
        sleep 5
        kill -TERM \"$child\" 2>/dev/null
    } &
    trap 'kill -TERM \"$child\" 2>/dev/null' TERM
    trap 'warned=yes; kill -USR1 \"$child\" 2>/dev/null' USR1
    while :; do
        wait \"$child\"
        code=$?
        kill -0 \"$child\" 2>/dev/null || break
    done
}
";

/// A coordinator whose time is over goes on in the same job, queued anew.
const REQUEUE: &str = "\
if [ -n \"$warned\" ] && [ \"$code\" -ge 128 ]; then
    scontrol requeue \"$SLURM_JOB_ID\" && sleep 60
fi
";

fn head(launch: &Launch, request: &Request, (name, log, warned): (&str, &str, bool)) -> String {
    let signal = if warned { format!("#SBATCH --signal=B:USR1@{WARNING_SECONDS}\n") } else { String::new() };
    let setup: String = launch.setup.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "#!/bin/bash\n\
         # Written by `epsweep launch slurm`, and written anew by the next. Nothing secret stands here.\n\
         #SBATCH {}\n\
         #SBATCH {}\n\
         #SBATCH --open-mode=append\n\
         {}\
         #SBATCH --requeue\n\
         {signal}\
         {setup}\
         export OMP_NUM_THREADS=1\n\
         warned= code=0 ended=\n\
         {RUN}",
        directive(&format!("--job-name={name}")),
        directive(&format!("--output={log}")),
        request.directives(),
    )
}

/// A node that does not see the folder says so, instead of waiting for a file that never comes.
fn sees(folder: &Folder) -> String {
    format!(
        "if ! [ -d {path} ]; then\n    \
         echo \"epsweep: node $(hostname) does not see $(printf %s {path}): --out must lie on a file system that all nodes share\" >&2\n    \
         exit 2\nfi\n",
        path = word(&folder.path)
    )
}

/// In the name of a log file, Slurm replaces what follows a percent sign.
fn log_pattern(folder: &Folder, file: &str) -> String {
    format!("{}/{file}", folder.logs().display().to_string().replace('%', "%%"))
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// One word of a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// One option of a `#SBATCH` line, which has its own rules for quotes.
fn directive(option: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"'\\#".contains(c);
    if option.chars().all(plain) {
        option.into()
    } else {
        format!("\"{}\"", option.replace('\\', r"\\").replace('"', "\\\""))
    }
}
