//! Interrupted sweeps go on; edited sweeps run only the difference.

use crate::harness::{Folder, SLOW, SMALL};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;

#[test]
fn a_killed_coordinator_trains_no_finished_trial_again() {
    let folder = Folder::with(SLOW);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "calm"]).expect(0);

    let mut run = folder.start(&["run", "sweep.yaml", "--workers", "2", "--out", "rough"]);
    let trained = || folder.log_lines("rough", &["\"committed\"", "\"kind\":\"train\""]).len();
    folder.wait_for("a first trained trial", || trained() >= 1);
    run.kill();
    let before = trained();
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "rough"]).expect(0);
    assert_eq!(folder.results("rough/report"), folder.results("calm/report"));
    assert_eq!(trained(), 3, "every trial was trained once, {before} of them before the kill");
    let costs = folder.costs("rough/report");
    let tasks: BTreeSet<_> = costs.iter().map(|row| &row["task"]).collect();
    assert_eq!(tasks.len(), costs.len(), "one accepted attempt per task");
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0);
    let (results, costs) = (folder.results("out/report"), folder.costs("out/report"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0).says(&["20 of them already answered"]);
    assert_eq!(folder.results("out/report"), results);
    assert_eq!(folder.costs("out/report"), costs, "no second row");
}

#[test]
fn an_edited_file_runs_only_what_is_new() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0);
    let before = folder.costs("out/report");

    let edited =
        SMALL.replace("seeds: 2", "seeds: 3").replace("[0, 0.05, 0.1, 0.2]", "[0, 0.05, 0.07, 0.1, 0.15, 0.2]");
    folder.write("edited.yaml", &edited);
    folder.epsweep(&["run", "edited.yaml", "--out", "out"]).expect(0);
    let after = folder.costs("out/report");
    let trains = |rows: &[std::collections::BTreeMap<String, String>]| -> BTreeSet<String> {
        rows.iter().filter(|row| row["kind"] == "train").map(|row| row["task"].clone()).collect()
    };
    assert_eq!((trains(&before).len(), trains(&after).len()), (4, 6), "two methods with one new seed each");
    assert!(trains(&before).is_subset(&trains(&after)), "the old answers are still in use");

    folder.epsweep(&["run", "edited.yaml", "--out", "fresh"]).expect(0);
    assert_eq!(folder.results("out/report"), folder.results("fresh/report"), "as if it had been asked at once");
    let passes = |report: &str, new: bool| -> u64 {
        let rows = folder.costs(report).into_iter().filter(|row| row["kind"] == "evaluate");
        let old: BTreeSet<_> = before.iter().map(|row| row["task"].clone()).collect();
        rows.filter(|row| !new || !old.contains(&row["task"])).map(|row| row["backwards"].parse::<u64>().unwrap()).sum()
    };
    // Old trials: two of five positive epsilons are new, and only for examples that are still undecided there.
    assert!(
        passes("out/report", true) * 10 < passes("fresh/report", false) * 8,
        "{} of {}",
        passes("out/report", true),
        passes("fresh/report", false)
    );
}

#[test]
fn what_was_asked_before_changes_no_answer() {
    let folder = Folder::with(&SMALL.replace("[0, 0.05, 0.1, 0.2]", "[0, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.5]"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0);
    folder.write("fewer.yaml", &SMALL.replace("[0, 0.05, 0.1, 0.2]", "[0, 0.05, 0.2, 0.5]"));
    folder.epsweep(&["run", "fewer.yaml", "--out", "out"]).expect(0);
    folder.epsweep(&["run", "fewer.yaml", "--out", "fresh"]).expect(0);
    assert_eq!(folder.results("out/report"), folder.results("fresh/report"));
}

#[test]
fn ctrl_c_says_how_to_go_on_and_keeps_what_there_is() {
    let folder = Folder::with(SLOW);
    let run = folder.start(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]);
    folder.wait_for("a first answer", || !folder.log_lines("out", &["\"committed\""]).is_empty());
    run.signal(Signal::SIGINT);
    let said = run.wait().expect(130);
    let said = said.says(&["go on with: epsweep run sweep.yaml --workers 2 --out out"]);
    assert!(!said.stderr.contains("panicked"));
    assert!(folder.read("out/report/trials.csv").lines().count() > 1);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(0);
    let repeated = folder.log_lines("out", &["\"level\":\"WARN\"", "\"failed"]);
    assert!(repeated.is_empty(), "an interruption is no failure: {repeated:?}");
}
