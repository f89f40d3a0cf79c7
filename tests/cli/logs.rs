//! A sweep can be followed by its logs alone.

use crate::harness::{Folder, SMALL};
use serde_json::Value;

#[test]
fn the_json_lines_tell_every_tasks_story() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(0);
    let parse =
        |lines: Vec<String>| -> Vec<Value> { lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let leased = parse(folder.log_lines("out", &["\"message\":\"leased\""]));
    let committed = parse(folder.log_lines("out", &["\"message\":\"committed\""]));
    assert_eq!((leased.len(), committed.len()), (20, 20), "4 train and 16 evaluate tasks");
    for event in leased.iter().chain(&committed) {
        assert_eq!(event["sweep"], "small");
        for field in ["trial", "task", "worker", "kind"] {
            assert!(event[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {event}");
        }
        assert_eq!(event["attempt"], 1);
    }
    assert!(committed.iter().all(|event| event["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)));
    let epochs = parse(folder.log_lines("out", &["\"message\":\"epoch\""]));
    assert_eq!(epochs.len(), 4 * 3);
    assert!(epochs.iter().all(|event| event["train_loss"].is_number() && event["trial"].is_string()));
}

#[test]
fn stderr_speaks_json_when_asked_and_stdout_holds_data_only() {
    let folder = Folder::with(SMALL);
    let mut command = folder.command(&["run", "sweep.yaml", "--out", "out", "--log-format", "json", "--quiet"]);
    let output = command.env("RUST_LOG", "info").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let events: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(events.iter().any(|event| event["message"] == "committed"), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.trim_end(), "out/report/index.html");
}
