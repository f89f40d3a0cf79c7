//! Pausing, resuming, retrying, and asking why.

use crate::harness::{Folder, SLOW, SMALL};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

#[test]
fn a_paused_sweep_waits_says_so_outlives_a_restart_and_goes_on() {
    let folder = Folder::with(SMALL);
    let (mut coordinator, address) = folder.serve(&[]);
    let to = ["--to", address.as_str()];
    let steer = |verb: &[&str]| folder.epsweep(&[verb, &to].concat());
    steer(&["submit", "sweep.yaml", "--priority", "30"]).expect(0);
    let waiting = steer(&["why", "small"]).expect(0).stdout;
    assert!(waiting.contains("no worker is connected") && waiting.contains("waits for its checkpoint"), "{waiting}");
    steer(&["pause", "small"]).expect(0);

    coordinator.kill();
    let _coordinator = folder.start(&["serve", "--listen", &address, "--state", "state"]);
    let _worker = folder.worker(&address, "w", &[]);
    folder.wait_for("the worker to be there", || steer(&["status", "small", "--json"]).stdout.contains("\"slots\": 1"));
    let status = json(&steer(&["status", "small", "--json"]).expect(0).stdout);
    assert_eq!((&status["state"], &status["priority"]), (&"paused".into(), &30.into()));
    assert_eq!(status["train"]["done"], 0, "{status}");
    let groups = json(&steer(&["why", "small", "--json"]).expect(0).stdout)["groups"].clone();
    let codes: Vec<_> = groups.as_array().unwrap().iter().map(|group| group["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"paused") && codes.contains(&"checkpoint"), "{groups}");
    let task = groups[0]["task"].as_str().unwrap();
    assert!(steer(&["why", "small", task]).expect(0).stdout.contains("paused"));

    assert!(steer(&["priority", "small", "5"]).expect(0).stdout.contains("30 before"));
    steer(&["resume", "small"]).expect(0);
    steer(&["watch", "small"]).expect(0);
    steer(&["pause", "small"]).expect(2).says(&["finished", "submitting its file again"]);
    let logs = json(&steer(&["logs", "small", task, "--json"]).expect(0).stdout);
    assert_eq!(logs[1]["event"], "committed", "{logs}");
}

#[test]
fn mistakes_in_steering_name_a_remedy() {
    let folder = Folder::with(SLOW);
    let (_coordinator, address) = folder.serve(&[]);
    let steer = |verb: &[&str]| folder.epsweep(&[verb, &["--to", &address]].concat());
    steer(&["pause", "slow"]).expect(2).says(&["no sweep called \"slow\"", "epsweep list"]);
    steer(&["submit", "sweep.yaml"]).expect(0);
    steer(&["why", "slow", "fffffff"]).expect(2).says(&["fffffff", "epsweep why slow"]);
    steer(&["logs", "slow", "task-1"]).expect(2).says(&["hexadecimal"]);
    steer(&["retry", "slow"]).expect(2).says(&["--failed"]);
    steer(&["priority", "slow", "0"]).expect(2).says(&["1..=1000"]);
    steer(&["cancel", "slow"]).expect(0);
    steer(&["resume", "slow"]).expect(2).says(&["cancelled"]);
    steer(&["retry", "--failed", "slow"]).expect(2).says(&["cancelled", "submitting its file again"]);
}

#[test]
fn a_sweep_whose_data_is_gone_pauses_itself_and_goes_on_when_it_is_back() {
    let folder = Folder::with(
        "
name: gone
dataset: {npz: {file: data.npz}}
trial: {model: linear, method: natural, epochs: 1, batch_size: 1}
seeds: 3
evaluate: {epsilons: [0, 0.1], attacks: [fgsm]}
",
    );
    let (data, away) = (folder.path().join("data.npz"), folder.path().join("away.npz"));
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/numpy.npz"), &data).unwrap();
    let (_coordinator, address) = folder.serve(&["--failure-budget", "0", "--retry-delay", "0"]);
    let steer = |verb: &[&str]| folder.epsweep(&[verb, &["--to", &address]].concat());
    steer(&["submit", "sweep.yaml"]).expect(0);
    std::fs::rename(&data, &away).unwrap();
    let _worker = folder.worker(&address, "w", &[]);
    folder.wait_for("the sweep to pause", || steer(&["status", "gone"]).stdout.contains("paused"));
    let why = steer(&["why", "gone"]).expect(0).stdout;
    assert!(why.contains("more than its budget of 0") && why.contains("bad_input"), "{why}");
    let status = steer(&["status", "gone"]).expect(0).stdout;
    assert!(status.contains("data.npz"), "{status}");

    std::fs::rename(&away, &data).unwrap();
    steer(&["retry", "--failed", "gone"]).expect(0);
    steer(&["resume", "gone"]).expect(0);
    steer(&["watch", "gone"]).expect(0);
    let status = json(&steer(&["status", "gone", "--json"]).expect(0).stdout);
    assert_eq!((&status["state"], &status["evaluate"]["done"]), (&"done".into(), &3.into()), "{status}");
}
