//! The plan, not the fleet, fixes the numbers.

use crate::harness::{Folder, SLOW, SMALL, kill_pid};
use nix::sys::signal::Signal;

#[test]
fn one_worker_two_workers_and_a_served_sweep_write_the_same_bytes() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "one"]).expect(0);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "two"]).expect(0);
    let expected = folder.results("one/report");
    assert!(expected.0.lines().count() > 50, "a curve for every trial, epoch, attack and epsilon");
    assert_eq!(folder.results("two/report"), expected);

    let (mut coordinator, address) = folder.serve(&[]);
    let _workers = ["hand-1", "hand-2"].map(|name| folder.worker(&address, name, &[]));
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.epsweep(&["watch", "--to", &address]).expect(0);
    folder.wait_for("the report", || {
        let status = folder.epsweep(&["status", "--to", &address, "--json"]).expect(0);
        serde_json::from_str::<serde_json::Value>(&status.stdout).unwrap()["report"].is_string()
    });
    assert!(coordinator.is_running());
    assert_eq!(folder.results("state/reports/small"), expected);
    let workers: std::collections::BTreeSet<_> =
        folder.costs("state/reports/small").into_iter().map(|row| row["worker"].clone()).collect();
    assert_eq!(workers.into_iter().collect::<Vec<_>>(), ["hand-1", "hand-2"], "both took part");
}

#[test]
fn a_worker_killed_in_mid_training_changes_nothing() {
    let folder = Folder::with(SLOW);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "calm"]).expect(0);

    let run = folder.start(&["run", "sweep.yaml", "--workers", "2", "--out", "rough"]);
    folder.wait_for("some epochs", || folder.log_lines("rough", &["\"epoch\""]).len() >= 4);
    kill_pid(folder.worker_pids("rough")[0]);
    run.wait().expect(0);
    assert_eq!(folder.results("rough/report"), folder.results("calm/report"));
    assert_eq!(folder.log_lines("rough", &["lost_worker"]).len(), 1, "one attempt was lost");
    let retried = folder.costs("rough/report").iter().filter(|row| row["attempt"] != "1").count();
    assert_eq!(retried, 1, "and made again, once");
    // The replacement goes on from the dead worker's last epoch instead of starting over.
    let epochs = folder.log_lines("rough", &["\"message\":\"epoch\""]).len();
    assert!(epochs < 3 * 9 + 9, "{epochs} epochs were trained in all");
}

#[test]
fn a_worker_outlives_its_coordinator() {
    let folder = Folder::with(SLOW);
    let (mut coordinator, address) = folder.serve(&[]);
    let mut worker = folder.worker(&address, "patient", &["--log-file", "state/logs/patient.jsonl"]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    // Begun, not merely leased: a lease whose reply the kill cuts off is granted again, rightly.
    let epochs = || folder.log_lines("state", &["\"message\":\"epoch\""]).len();
    folder.wait_for("a training under way", || epochs() > 0);
    coordinator.kill();
    // `make chaos` makes it a minute.
    let down = std::env::var("EPSWEEP_DOWN_SECONDS").map_or(1.5, |text| text.parse().expect("seconds"));
    std::thread::sleep(std::time::Duration::from_secs_f64(down));
    assert!(worker.is_running(), "it waits");
    let mut coordinator = folder.start(&["serve", "--listen", &address, "--state", "state"]);
    folder.wait_for("the end of the sweep", || {
        let status = folder.epsweep(&["status", "--to", &address, "--json"]);
        status.stdout.contains("\"state\": \"done\"") && status.stdout.contains("index.html")
    });
    let costs = folder.costs("state/reports/slow");
    assert_eq!(costs.iter().filter(|row| row["kind"] == "train").count(), 3);
    assert!(costs.iter().all(|row| row["attempt"] == "1"), "nothing was done twice: {costs:?}");
    assert_eq!(epochs(), 3 * 9, "no epoch was trained twice");

    coordinator.kill();
    let _coordinator = folder.start(&["serve", "--listen", &address, "--state", "state"]);
    folder.wait_for("the sweep to be known after it has ended", || {
        let list = folder.epsweep(&["list", "--to", &address]);
        list.stdout.contains("slow") && list.stdout.contains("done")
    });
}

#[test]
fn what_a_dead_worker_had_finished_is_handed_in_by_the_next_with_its_cache() {
    let folder = Folder::with(SLOW);
    let (mut coordinator, address) = folder.serve(&[]);
    let mut worker = folder.worker(&address, "mortal", &["--log-file", "state/logs/mortal.jsonl"]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    let epochs = || folder.log_lines("state", &["\"message\":\"epoch\""]).len();
    folder.wait_for("a training under way", || epochs() > 0);
    coordinator.kill();
    let answers = || {
        let folders = std::fs::read_dir(folder.path().join("mortal/answers")).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "answer")).count()
    };
    folder.wait_for("an answer that nobody takes", || answers() == 1);
    worker.kill();
    assert_eq!(epochs(), 9, "one training has come to its end");

    let mut coordinator = folder.start(&["serve", "--listen", &address, "--state", "state"]);
    assert_eq!(coordinator.line(), format!("listening on {address}"));
    let extra = ["--cache", "mortal", "--log-file", "state/logs/heir.jsonl"];
    let _heir = folder.worker_with(&address, "heir", &extra);
    folder.epsweep(&["watch", "--to", &address]).expect(0);
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(epochs(), 3 * 9, "what was finished was not trained again");
    let costs = folder.costs("out");
    let of = |name: &str| costs.iter().filter(|row| row["kind"] == "train" && row["worker"] == name).count();
    assert_eq!((of("mortal"), of("heir")), (1, 2));
    assert_eq!(answers(), 0);
}

#[test]
fn a_training_goes_on_elsewhere_after_sigterm_and_after_kill() {
    // One training run, long enough to be stopped twice on any machine.
    let folder = Folder::with(&SLOW.replace("epochs: 9", "epochs: 27").replace("seeds: 3", "seeds: 1"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let (_coordinator, address) = folder.serve(&["--lease", "3"]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    let epochs = || folder.log_lines("state", &["\"message\":\"epoch\""]).len();
    // Whole ones; the killed worker may have sent another that it did not live to name.
    let is_whole = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let states = || {
        let entries = std::fs::read_dir(folder.path().join("state/unfinished"));
        entries.into_iter().flatten().flatten().filter(is_whole).count()
    };
    // Each with a cache of its own, as on another host.
    for (name, signal) in [("told", Signal::SIGTERM), ("killed", Signal::SIGKILL)] {
        let log = format!("state/logs/{name}.jsonl");
        let mut worker = folder.worker(&address, name, &["--save-every", "0.1", "--log-file", &log]);
        let before = epochs();
        folder.wait_for("a state that was sent after some epochs", || {
            let sent_yet = std::fs::read_to_string(folder.path().join(&log)).unwrap_or_default();
            epochs() >= before + 2 && sent_yet.contains("training state sent")
        });
        worker.signal(signal);
        folder.wait_for("its end", || !worker.is_running());
        assert!(states() >= 1, "the next worker's start");
    }
    let _last = folder.worker(&address, "last", &["--log-file", "state/logs/last.jsonl"]);
    folder.epsweep(&["watch", "--to", &address]).expect(0);
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(folder.results("out"), folder.results("calm/report"));
    assert!(epochs() <= 27 + 4, "{} epochs in all: what was reached elsewhere was used", epochs());
    assert_eq!(folder.log_lines("state", &["goes on where an earlier attempt was"]).len(), 2);
    folder.wait_for("states of finished runs, and what nobody named, to be dropped", || states() == 0);
}

#[test]
fn a_checkpoint_that_the_disk_has_lost_or_damaged_is_trained_anew() {
    let yaml = SLOW.replace("seeds: 3", "seeds: 1").replace("{steps: 20}", "{steps: 300}");
    let folder = Folder::with(&yaml.replace("epochs: 9", "epochs: 3"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    for (name, lose) in [("missing", None), ("damaged", Some(b"other weights".as_slice()))] {
        let state = format!("state-{name}");
        // The killed worker's lease is soon given up.
        let args = ["serve", "--listen", "127.0.0.1:0", "--lease", "2", "--state", &state];
        let mut coordinator = folder.start(&args);
        let line = coordinator.line();
        let address = line.strip_prefix("listening on ").unwrap();
        let mut first = folder.worker(address, &format!("first-{name}"), &[]);
        folder.epsweep(&["submit", "sweep.yaml", "--to", address]).expect(0);
        folder.wait_for("a trained network", || !folder.log_lines(&state, &["\"committed\"", "\"train\""]).is_empty());
        first.kill();
        let files =
            std::fs::read_dir(folder.path().join(&state).join("checkpoints")).unwrap().map(|f| f.unwrap().path());
        let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        match lose {
            None => std::fs::remove_file(&files[0]).unwrap(),
            Some(content) => std::fs::write(&files[0], content).unwrap(),
        }
        let _second = folder.worker(address, &format!("second-{name}"), &[]);
        folder.epsweep(&["watch", "--to", address]).expect(0);
        folder.epsweep(&["report", &state, "--out", name]).expect(0);
        assert_eq!(folder.results(name), folder.results("calm/report"));
        assert_eq!(folder.log_lines(&state, &["a checkpoint is gone from the disk"]).len(), 1);
        let trained = folder.log_lines(&state, &["\"committed\"", "\"train\""]).len();
        assert_eq!(trained, 2, "trained once more");
    }
}

#[test]
fn a_cancelled_sweep_stops_and_can_be_handed_in_again() {
    let folder = Folder::with(SLOW);
    let (_coordinator, address) = folder.serve(&[]);
    let _worker = folder.worker(&address, "w", &[]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.wait_for("a first answer", || !folder.log_lines("state", &["\"committed\""]).is_empty());
    folder.epsweep(&["cancel", "slow", "--to", &address]).expect(0);
    let list = folder.epsweep(&["list", "--to", &address]).expect(0);
    assert!(list.stdout.contains("cancelled"), "{}", list.stdout);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.epsweep(&["watch", "slow", "--to", &address]).expect(0);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    folder.epsweep(&["report", "state", "--out", "again"]).expect(0);
    assert_eq!(folder.results("again"), folder.results("calm/report"));
}
