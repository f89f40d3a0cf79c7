//! `epsweep launch` without a cluster: what is rendered, and what is refused before anything is submitted.

use crate::harness::{Folder, SMALL};
use std::process::Command;

fn render(folder: &Folder, extra: &[&str]) -> serde_json::Value {
    let args = [&["launch", "slurm", "sweep.yaml", "--workers", "3", "--render-only", "--json"], extra].concat();
    let done = folder.epsweep(&args).expect(0);
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn the_jobs_are_rendered_with_all_that_was_asked_for_and_nothing_secret() {
    let folder = Folder::with(SMALL);
    #[rustfmt::skip]
    let told = render(&folder, &[
        "--out", "it's shared", "--partition", "gpu", "--account", "lab", "--qos", "long", "--constraint", "a100&ib",
        "--time", "4:00:00", "--gpus-per-worker", "2", "--cpus-per-worker", "1", "--mem-per-worker", "8G",
        "--sbatch-arg=--exclude=node7", "--sbatch-arg=--comment=two words", "--setup", "module load cuda",
        "--coordinator-partition", "cpu", "--port", "7070",
    ]);
    assert_eq!(told["submitted"], false);
    let workers = folder.read("it's shared/slurm/workers.sbatch");
    for line in [
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --qos=long",
        "#SBATCH --constraint=a100&ib",
        "#SBATCH --time=4:00:00",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --mem=8G",
        "#SBATCH --exclude=node7",
        "#SBATCH \"--comment=two words\"",
        "#SBATCH --requeue",
        "module load cuda",
        "export OMP_NUM_THREADS=1",
    ] {
        assert!(workers.lines().any(|found| found == line), "no {line:?} in:\n{workers}");
    }
    assert!(workers.contains("--device cuda --slots 2"), "{workers}");
    let coordinator = folder.read("it's shared/slurm/coordinator.sbatch");
    assert!(coordinator.contains("#SBATCH --partition=cpu") && !coordinator.contains("--gres"), "{coordinator}");
    assert!(coordinator.contains("#SBATCH --signal=B:USR1@90\n") && !workers.contains("--signal"), "{coordinator}");
    assert!(coordinator.contains("--listen 0.0.0.0:7070"), "{coordinator}");
    let key = folder.read("it's shared/slurm/certs/worker/key.pem");
    let key = key.lines().nth(1).unwrap();
    assert!(!workers.contains(key) && !coordinator.contains(key));
    for script in ["workers", "coordinator"] {
        let path = format!("it's shared/slurm/{script}.sbatch");
        let checked = Command::new("bash").args(["-n", &path]).current_dir(folder.path()).status().unwrap();
        assert!(checked.success(), "{script} is a script");
    }
    // The environment that finds the coordinator is one that a shell can read.
    let mut shell = Command::new("bash");
    shell.args(["-c", ". \"it's shared/slurm/env\"; echo \"$EPSWEEP_COORDINATOR\""]).current_dir(folder.path());
    let shown = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    assert!(shown.trim_end().ends_with("it's shared/slurm/address") && shown.starts_with('@'), "{shown}");
}

#[test]
fn a_node_that_does_not_see_the_folder_says_so() {
    let folder = Folder::with(SMALL);
    render(&folder, &["--out", "shared"]);
    std::fs::copy(folder.path().join("shared/slurm/workers.sbatch"), folder.path().join("job")).unwrap();
    std::fs::rename(folder.path().join("shared"), folder.path().join("elsewhere")).unwrap();
    let job = Command::new("bash").arg("job").current_dir(folder.path()).env("SLURM_JOB_ID", "1").output().unwrap();
    let said = String::from_utf8_lossy(&job.stderr);
    assert_eq!(job.status.code(), Some(2), "{said}");
    for words in ["does not see", "shared/slurm", "--out must lie on a file system that all nodes share"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_worker_waits_for_the_address_and_follows_it() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let worker = folder.worker("@below/address", "w", &["--connect-timeout", "60"]);
    let open = ["run", "sweep.yaml", "--out", "out", "--listen", "127.0.0.1:0", "--address-file", "below/address"];
    let coordinator = folder.start(&open);
    folder.wait_for("a first answer", || !folder.log_lines("out", &["\"committed\""]).is_empty());
    // Its successor listens on another port; SIGUSR1 is how a batch system says that the time is over.
    coordinator.signal(nix::sys::signal::Signal::SIGUSR1);
    let first = coordinator.wait();
    if first.code != Some(0) {
        assert_eq!(first.code, Some(130), "{}", first.stderr);
        assert!(first.stderr.contains("--listen 127.0.0.1:0 --address-file below/address"), "{}", first.stderr);
        assert!(!folder.path().join("below/address").exists(), "nobody listens there any more");
        folder.epsweep(&open).expect(0);
    }
    worker.wait().expect(0);
    assert_eq!(folder.results("out/report"), folder.results("calm/report"));
}

#[test]
fn a_worker_leaves_before_its_time_is_over_and_when_it_is_idle() {
    let folder = Folder::with(SMALL);
    let (_coordinator, address) = folder.serve(&[]);
    let began = std::time::Instant::now();
    folder
        .worker(&address, "ending", &["--time-left", "16"])
        .wait()
        .expect(0)
        .says(&["the time of this worker is over"]);
    folder.worker(&address, "idle", &["--idle-exit", "0.5"]).wait().expect(0).says(&["nothing to do"]);
    assert!(began.elapsed().as_secs() < 60);
    // A training for which it has not the time is not begun; `why` names both numbers.
    folder.write("long.yaml", &SMALL.replace("name: small", "name: long").replace("epochs: 3,", "epochs: 90000,"));
    folder.epsweep(&["submit", "long.yaml", "--to", &address]).expect(0);
    let _brief = folder.worker(&address, "brief", &["--time-left", "40"]);
    folder.wait_for("why", || {
        let why = folder.epsweep(&["why", "long", "--to", &address]).stdout;
        let numbers = why.split("waits for a worker with more time: it needs ").nth(1).and_then(|rest| {
            let (needed, rest) = rest.split_once(" s, and no worker has more than ")?;
            Some((needed.parse::<u64>().ok()?, rest.split_once(' ')?.0.parse::<u64>().ok()?))
        });
        numbers.is_some_and(|(needed, left)| needed > left && left > 0 && left < 40)
    });
}

#[test]
fn one_job_has_the_gpus_of_all_its_workers() {
    let folder = Folder::with(SMALL);
    render(&folder, &["--one-job", "--out", "run", "--gpus-per-worker", "2"]);
    let job = folder.read("run/slurm/coordinator.sbatch");
    assert!(job.contains("#SBATCH --gres=gpu:6\n") && job.contains("#SBATCH --cpus-per-task=6\n"), "{job}");
    assert!(job.contains("--workers 6 --device cuda\n"), "{job}");
}

#[test]
fn what_cannot_be_launched_is_refused_with_a_remedy() {
    let folder = Folder::with(SMALL);
    let refused = |extra: &[&str], words: &[&str]| {
        let args = [&["launch", "slurm", "sweep.yaml"], extra].concat();
        let mut command = folder.command(&args);
        command.env("PATH", folder.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in:\n{said}"));
        assert!(!folder.path().join("runs").exists(), "nothing was written");
    };
    refused(&["--workers", "2"], &["sbatch is not on the PATH", "--render-only"]);
    refused(&["--workers", "0"], &["--workers", "0"]);
    refused(&["--workers", "2", "--gpus-per-worker", "two"], &["--gpus-per-worker", "two"]);
    refused(&["--workers", "2", "--time", "4h"], &["--time \"4h\"", "HOURS:MINUTES:SECONDS"]);
    refused(&["--workers", "2", "--time", "0:15"], &["--time 0:15", "too short for any task", "sweep.yaml", "15s"]);
    refused(&["--workers", "2", "--sbatch-arg", "exclusive"], &["exclusive", "--sbatch-arg=--"]);
    refused(&["--workers", "2", "--setup", "one\ntwo"], &["one\\ntwo"]);
    folder.write("sweep.yaml", "name: [");
    refused(&["--workers", "2"], &["sweep.yaml"]);
}
