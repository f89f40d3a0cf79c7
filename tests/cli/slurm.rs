//! Sweeps as jobs of a real Slurm. `make test-slurm` runs these: they need root, Debian's Slurm packages and minutes.

use crate::harness::{Folder, SLOW, SMALL};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Long enough to be disturbed in the middle: tasks of a second or two.
const LONG: Duration = Duration::from_secs(150);

const ONE_SHORT_ONE_LONG: &str = "
name: times
dataset: digits
trial: {model: {mlp: {hidden: [16]}}, method: natural, optimizer: {sgd: {lr: 0.05}}, batch_size: 64}
grid:
  - epochs: [2, 200000]
evaluate:
  epsilons: [0, 0.05]
  attacks: [fgsm]
";

/// A Slurm on this machine, taken down with everything in it when dropped.
struct Slurm {
    dir: PathBuf,
    _below: tempfile::TempDir,
}

impl Slurm {
    /// `None`, with a message, where it was not asked for, or cannot be.
    fn start() -> Option<Slurm> {
        let Some(wanted) = std::env::var_os("EPSWEEP_TEST_SLURM") else {
            eprintln!("skipped: a real Slurm is started by `make test-slurm` only");
            return None;
        };
        let below = tempfile::tempdir().unwrap();
        let dir = below.path().join("slurm");
        let started = script().arg("start").arg(&dir).status().unwrap();
        let slurm = Slurm { dir, _below: below };
        match started.code() {
            Some(0) => Some(slurm),
            Some(77) => {
                eprintln!("skipped: no Slurm can be started here; why stands above");
                None
            }
            Some(_) if wanted == "if-possible" => {
                eprintln!("skipped: Slurm does not start here; why stands above");
                None
            }
            code => panic!("the private Slurm does not start: {code:?}"),
        }
    }

    fn command(&self, folder: &Folder, args: &[&str]) -> Command {
        let mut command = folder.command(args);
        command.env("SLURM_CONF", self.dir.join("slurm.conf"));
        command
    }

    /// Launches, and returns what was printed as JSON.
    fn launch(&self, folder: &Folder, extra: &[&str]) -> serde_json::Value {
        let args = [&["launch", "slurm", "sweep.yaml", "--out", "shared", "--json"], extra].concat();
        let output = self.command(folder, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// One of Slurm's programs; returns what it printed.
    fn ask(&self, words: &str) -> String {
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().unwrap());
        let output = command.args(words).env("SLURM_CONF", self.dir.join("slurm.conf")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().into()
    }

    /// As [`Folder::wait_for_long`], and shows what Slurm and the jobs said when it never happens.
    fn wait_for(&self, folder: &Folder, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            if began.elapsed() > LONG {
                let (queue, jobs) = (self.ask("squeue"), self.ask("scontrol show jobs"));
                panic!("never happened: {what}\n{queue}\n{jobs}\n{}", logs(folder));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Queues a job anew, and lets it begin soon. Slurm would wait for two minutes: what it hears of a job's first run
    /// once the second has begun ends the second. A few seconds are long enough here, after the first is gone.
    fn requeue(&self, folder: &Folder, job: &str) {
        let state = || self.ask(&format!("squeue --noheader --jobs={job} --format=%T"));
        self.ask(&format!("scontrol requeue {job}"));
        self.wait_for(folder, "it is queued again", || state() == "PENDING");
        std::thread::sleep(Duration::from_secs(5));
        self.wait_for(folder, "it runs again", || {
            self.ask(&format!("scontrol update JobId={job} StartTime=now"));
            std::thread::sleep(Duration::from_secs(1));
            state() != "PENDING"
        });
    }

    fn has_ended(&self, job: &str) -> bool {
        self.ask(&format!("squeue --noheader --jobs={job} --format=%T")).is_empty()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = script().arg("stop").arg(&self.dir).status();
    }
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private_slurm.sh"))
}

fn committed(folder: &Folder) -> usize {
    folder.log_lines("shared", &["\"committed\""]).len()
}

/// A client's command for a sweep whose coordinator is a job.
fn client<'a>(command: &'a str, sweep: &'a str) -> [&'a str; 8] {
    let (address, certs, name) = ("@shared/slurm/address", "shared/slurm/certs/client", "coordinator.epsweep.internal");
    [command, sweep, "--to", address, "--tls-dir", certs, "--tls-name", name]
}

/// Everything that the jobs have written, for a test that has failed.
fn logs(folder: &Folder) -> String {
    let Ok(files) = std::fs::read_dir(folder.path().join("shared/slurm/logs")) else { return "no logs".into() };
    let text =
        |path: PathBuf| format!("== {}\n{}\n", path.display(), std::fs::read_to_string(&path).unwrap_or_default());
    files.map(|file| text(file.unwrap().path())).collect()
}

fn wait_for_the_end(folder: &Folder, slurm: &Slurm, job: &str) {
    slurm.wait_for(folder, "the sweep ends", || slurm.has_ended(job));
}

#[test]
fn slurm_runs_a_sweep_and_neither_scancel_nor_requeue_changes_it() {
    let Some(slurm) = Slurm::start() else { return };
    // More tasks than the three workers can hold at once, so that some are left after each pause.
    let folder = Folder::with(&SLOW.replace("seeds: 3", "seeds: 12").replace("epochs: 9", "epochs: 3"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let told = slurm.launch(&folder, &["--workers", "3", "--time", "10"]);
    let (coordinator, workers) = (told["coordinator"].to_string(), told["workers"][0].to_string());
    let registered = |worker: &str| !folder.log_lines("shared", &["\"worker registered\"", worker]).is_empty();
    // Slurm takes its time to begin jobs. The sweep must not be over by then: whoever was first waits for the others.
    slurm.wait_for(&folder, "the coordinator", || folder.epsweep(&client("pause", "slow")).code == Some(0));
    slurm.wait_for(&folder, "all workers", || (0..3).all(|task| registered(&format!("slurm-{workers}-{task}-0"))));
    folder.epsweep(&client("resume", "slow")).expect(0);
    slurm.wait_for(&folder, "a first answer", || committed(&folder) >= 1);
    // Nobody else may read what the jobs are told, and none of it stands where ps shows it.
    let mode = |path: &str| {
        let path = folder.path().join("shared/slurm").join(path);
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!(mode("."), 0o700, "whatever its files allow");
    for secret in
        ["address", "certs/ca-key.pem", "certs/server/key.pem", "certs/worker/key.pem", "certs/client/key.pem"]
    {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    let again = ["launch", "slurm", "sweep.yaml", "--out", "shared", "--workers", "1"];
    let again = slurm.command(&folder, &again).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a second coordinator in the same folder");
    // The tasks at work are lost with their workers, and nobody takes another meanwhile.
    folder.epsweep(&client("pause", "slow")).expect(0);
    slurm.ask(&format!("scancel {workers}_0"));
    slurm.requeue(&folder, &format!("{workers}_1"));
    slurm.wait_for(&folder, "the worker is back", || registered(&format!("slurm-{workers}-1-1")));
    folder.epsweep(&client("resume", "slow")).expect(0);
    let before = committed(&folder);
    slurm.wait_for(&folder, "another answer", || committed(&folder) > before);
    // The coordinator goes while workers hold tasks. On a fast machine they would be done with all before it is gone.
    folder.epsweep(&client("pause", "slow")).expect(0);
    slurm.requeue(&folder, &coordinator);
    let begun = || folder.log_lines("shared", &["\"listening\""]).len();
    slurm.wait_for(&folder, "the coordinator is back", || begun() == 2);
    slurm.wait_for(&folder, "it is resumed", || folder.epsweep(&client("resume", "slow")).code == Some(0));
    wait_for_the_end(&folder, &slurm, &coordinator);
    assert!(folder.path().join("shared/report/curves.csv").exists(), "{}", logs(&folder));
    assert_eq!(folder.results("shared/report"), folder.results("calm/report"));
    // Who worked, and that the jobs were really disturbed.
    let left = folder.log_lines("shared", &["\"worker left\""]);
    assert!(left.iter().any(|line| line.contains(&format!("slurm-{workers}-0-0"))), "{left:?}");
    assert!(begun() >= 2, "the coordinator began twice");
    slurm.wait_for(&folder, "all workers leave by themselves", || slurm.has_ended(&workers));
}

#[test]
fn slurm_is_asked_for_workers_while_tasks_wait() {
    let Some(slurm) = Slurm::start() else { return };
    let folder = Folder::with(SLOW);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let elastic = ["--workers", "2", "--time", "10", "--elastic", "--max-pending", "1", "--idle-exit", "2"];
    let told = slurm.launch(&folder, &elastic);
    assert_eq!(told["workers"], serde_json::json!([]), "the coordinator submits them");
    wait_for_the_end(&folder, &slurm, &told["coordinator"].to_string());
    assert_eq!(folder.results("shared/report"), folder.results("calm/report"));
    let submitted = folder.log_lines("shared", &["\"workers submitted\""]);
    assert!(!submitted.is_empty(), "{}", logs(&folder));
    assert!(submitted.iter().all(|line| line.contains("\"jobs\":1")), "one may wait at a time: {submitted:?}");
    slurm.wait_for(&folder, "all workers leave by themselves", || slurm.ask("squeue --noheader").is_empty());
}

#[test]
fn slurm_jobs_with_a_minute_left_take_only_short_tasks() {
    let Some(slurm) = Slurm::start() else { return };
    let folder = Folder::with(ONE_SHORT_ONE_LONG);
    slurm.launch(&folder, &["--workers", "1", "--time", "1", "--coordinator-time", "10"]);
    slurm.wait_for(&folder, "the short trial", || committed(&folder) == 2);
    let why = || folder.epsweep(&client("why", "times")).expect(0).stdout;
    slurm.wait_for(&folder, "why", || why().contains("waits for a worker with more time: it needs"));
    eprintln!("{}", why());
    assert!(logs(&folder).contains("this job's time is limited seconds="), "{}", logs(&folder));
    let leased = folder.log_lines("shared", &["\"leased\""]);
    assert_eq!(leased.len(), 2, "the training run of an hour was never leased: {leased:?}");
    slurm.wait_for(&folder, "the worker leaves before its time is over", || {
        !folder.log_lines("shared", &["\"worker left\""]).is_empty()
    });
    assert!(logs(&folder).contains("the time of this worker is over: leaving"), "{}", logs(&folder));
}

#[test]
fn slurm_holds_everything_in_one_job_too() {
    let Some(slurm) = Slurm::start() else { return };
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let told = slurm.launch(&folder, &["--workers", "2", "--time", "5", "--one-job", "--setup", "export SET_UP=yes"]);
    assert_eq!(told["workers"], serde_json::json!([]));
    wait_for_the_end(&folder, &slurm, &told["coordinator"].to_string());
    assert_eq!(folder.results("shared/report"), folder.results("calm/report"));
}

#[test]
fn slurms_refusals_name_the_value_and_a_remedy() {
    let Some(slurm) = Slurm::start() else { return };
    let folder = Folder::with(SMALL);
    let refused = |extra: &[&str], words: &[&str]| {
        let args = [&["launch", "slurm", "sweep.yaml", "--workers", "2"], extra].concat();
        let output = slurm.command(&folder, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in:\n{said}"));
        assert_eq!(slurm.ask("squeue --noheader"), "", "nothing stays behind");
    };
    refused(&["--partition", "nowhere"], &["nowhere", "sinfo --summarize"]);
    refused(&["--gpus-per-worker", "1"], &["gres", "such a GPU", "workers.sbatch"]);
    refused(&["--sbatch-arg=--frobnicate"], &["--frobnicate", "--sbatch-arg"]);
    // Taken, and yet in vain: a partition whose jobs may run for an hour.
    let long = ["launch", "slurm", "sweep.yaml", "--workers", "1", "--time", "5-0"];
    let said = slurm.command(&folder, &long).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("will never begin (PartitionTimeLimit)"), "{said}");
}
