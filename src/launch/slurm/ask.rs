//! Runs Slurm's programs, each with a deadline: a controller under load may answer after minutes.

use super::answers::{
    Queue, Submission, parse_hopeless, parse_max_array, parse_queue, parse_submission, parse_time_left,
};
use super::time::TimeLimit;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Longer than Slurm's own time-outs, which then say what happened.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SlurmError {
    #[error("sbatch is not on the PATH")]
    #[diagnostic(help(
        "run this on a login node of the cluster (maybe after `module load slurm`); --render-only writes the jobs and submits nothing"
    ))]
    NoSbatch,
    #[error("Slurm refuses {}: {said}", .script.display())]
    #[diagnostic(help("{}", remedy(.said)))]
    Refused { script: PathBuf, said: String },
    #[error("whether Slurm has taken {} is unknown: {said}", .script.display())]
    #[diagnostic(help("look with: squeue --name={name}; cancel with: scancel --name={name}"))]
    Unknown { script: PathBuf, said: String, name: String },
}

/// What to do about a refusal, by the words that Slurm's releases have in common.
fn remedy(said: &str) -> &'static str {
    let lower = said.to_lowercase();
    let has = |words: &str| lower.contains(words);
    if has("partition") && !has("account/partition") {
        return "`sinfo --summarize` lists the partitions; --partition (and --coordinator-partition) name one";
    }
    if has("gres") || has("generic resource") || has("gpu") {
        return "no node there has such a GPU: `sinfo --format='%P %G'` lists them by partition; without --gpus-per-worker it runs on CPUs";
    }
    if has("account") {
        return "`sacctmgr show associations user=$USER` lists your accounts; --account names one";
    }
    if has("qos") {
        return "`sacctmgr show qos` lists them; --qos names one. A QOS may also limit how many jobs you have: --workers, --max-pending";
    }
    if has("time limit") {
        return "`sinfo --format='%P %l'` lists the longest time of each partition; --time asks for less";
    }
    if has("node configuration") || has("memory") || has("cpu count") {
        return "no node has so much: `sinfo --format='%P %c %m'` lists CPUs and memory; see --cpus-per-worker, --mem-per-worker";
    }
    if has("array") {
        return "`scontrol show config | grep MaxArraySize` says how large an array may be; --workers asks for fewer";
    }
    if has("unrecognized option") || has("unknown option") || has("invalid option") {
        return "what --sbatch-arg adds must be options of this release's sbatch: `man sbatch`";
    }
    "the script stays where it is: it can be changed, and submitted with sbatch by hand"
}

/// The way to Slurm.
#[derive(Debug, Clone)]
pub struct Slurm {
    sbatch: PathBuf,
}

/// What a program said.
struct Said {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Slurm {
    /// Finds `sbatch`; its siblings are taken from the same folder.
    ///
    /// # Errors
    /// When it is not on the PATH.
    pub fn find() -> Result<Slurm, SlurmError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut found = std::env::split_paths(&path).map(|folder| folder.join("sbatch"));
        Ok(Slurm { sbatch: found.find(|program| program.is_file()).ok_or(SlurmError::NoSbatch)? })
    }

    /// Submits a script; returns the job's number.
    ///
    /// # Errors
    /// When Slurm refuses, or when it is not known whether it took the job.
    pub async fn submit(&self, script: &Path, options: &[String], name: &str) -> Result<u64, SlurmError> {
        match self.try_submit(script, options).await {
            Submission::Job(id) => Ok(id),
            Submission::Refused(said) => Err(SlurmError::Refused { script: script.into(), said }),
            Submission::Unknown(said) => Err(SlurmError::Unknown { script: script.into(), said, name: name.into() }),
        }
    }

    pub async fn try_submit(&self, script: &Path, options: &[String]) -> Submission {
        let mut args = vec!["--parsable".to_string()];
        args.extend_from_slice(options);
        args.push(script.display().to_string());
        match self.ask("sbatch", &args).await {
            Ok(said) => parse_submission(said.succeeded, &said.stdout, &said.stderr),
            Err(why) => Submission::Unknown(why),
        }
    }

    /// This user's jobs of that name.
    pub async fn queue(&self, name: &str) -> Queue {
        let user = nix::unistd::getuid().to_string();
        let args = ["--noheader".into(), format!("--user={user}"), format!("--name={name}"), "--format=%i %T".into()];
        match self.ask("squeue", &args).await {
            Ok(said) => parse_queue(said.succeeded, &said.stdout, &said.stderr),
            Err(why) => Queue::Unknown(why),
        }
    }

    /// Why this user's jobs of that name will never begin, if Slurm says so.
    pub async fn hopeless(&self, name: &str) -> Option<&'static str> {
        let user = nix::unistd::getuid().to_string();
        let args = ["--noheader".into(), format!("--user={user}"), format!("--name={name}"), "--format=%r".into()];
        parse_hopeless(&self.ask("squeue", &args).await.ok().filter(|said| said.succeeded)?.stdout)
    }

    /// How large an array may be; `None` while unknown.
    pub async fn max_array(&self) -> Option<u32> {
        let said = self.ask("scontrol", &["show".into(), "config".into()]).await.ok()?;
        parse_max_array(&said.stdout)
    }

    /// Cancels jobs, as far as it can.
    pub async fn cancel(&self, jobs: &[u64]) {
        let jobs: Vec<String> = jobs.iter().map(u64::to_string).collect();
        let _ = self.ask("scancel", &jobs).await;
    }

    /// What is left of a job's time; `None` while unknown.
    pub async fn time_left(&self, job: &str) -> Option<TimeLimit> {
        let args = ["--noheader".into(), format!("--jobs={job}"), "--format=%L".into()];
        let said = self.ask("squeue", &args).await.ok().filter(|said| said.succeeded)?;
        parse_time_left(&said.stdout)
    }

    async fn ask(&self, program: &str, args: &[String]) -> Result<Said, String> {
        let path = self.sbatch.with_file_name(program);
        let mut command = tokio::process::Command::new(&path);
        command
            .args(args)
            // Their formats and languages are what the parsers were written for.
            .env("LC_ALL", "C")
            .env_remove("SQUEUE_FORMAT")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        // Inside a job, what describes that job is not to be handed down to the next.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"SLURM_") && name != "SLURM_CONF" {
                command.env_remove(name);
            }
        }
        let child = command.output();
        let output = match tokio::time::timeout(PATIENCE, child).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("cannot start {}: {error}", path.display())),
            Err(_) => return Err(format!("{program} has not answered within {} s", PATIENCE.as_secs())),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { succeeded: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }
}
