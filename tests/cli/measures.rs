//! Measures in a sweep: the same bytes whoever computes them, and after a kill; odd sweeps.

use crate::harness::{Folder, kill_pid};
use std::collections::BTreeMap;

const MEASURED: &str = "
name: measured
dataset: digits
trial: {model: {mlp: {hidden: [16]}}, method: natural, optimizer: {sgd: {lr: 0.05}}, epochs: 3, batch_size: 64}
grid:
  - method: [natural, {pgd: {epsilon: 0.1, steps: 3}}]
seeds: 2
evaluate: {epochs: [1, final], epsilons: [0, 0.1], attacks: [fgsm]}
measure:
  - uncertainty: {radius: 0.2, samples: 2048, examples: 30}
  - uncertainty: {domain: plane, samples: 512, epochs: [final]}
  - regions: {points: 32}
";

type Row = BTreeMap<String, String>;

fn rows(folder: &Folder, file: &str) -> Vec<Row> {
    csv::Reader::from_reader(folder.read(file).as_bytes()).deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|error| panic!("{column} of {row:?}: {error}"))
}

#[test]
fn one_worker_two_workers_and_a_killed_run_measure_the_same() {
    let folder = Folder::with(MEASURED);
    let report = ["uncertainty.csv", "curves.csv", "uncertainty_features.parquet", "regions.csv", "regions.svg"];
    let read = |out: &str| report.map(|file| std::fs::read(folder.path().join(out).join("report").join(file)).unwrap());
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "one"]).expect(0);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "two"]).expect(0);
    assert!(read("one") == read("two"), "one worker and two");

    let mut run = folder.start(&["run", "sweep.yaml", "--workers", "2", "--out", "rough"]);
    let measured = || folder.log_lines("rough", &["\"committed\"", "\"kind\":\"measure\""]).len();
    folder.wait_for("a first measure", || measured() >= 1);
    kill_pid(folder.worker_pids("rough")[0]);
    folder.wait_for("another", || measured() >= 2);
    run.kill();
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "rough"]).expect(0);
    assert!(read("one") == read("rough"), "and after a worker and then all were killed");
    let tasks = rows(&folder, "rough/report/costs.csv").iter().filter(|row| row["kind"] == "measure").count();
    assert_eq!(tasks, 8 + 4 + 8, "boxes and maps at two epochs of four trials, planes at one");
    let maps = rows(&folder, "one/report/regions.csv");
    assert_eq!(maps.len(), 2 * 8, "before and after the attack");
    assert!(maps.iter().all(|row| row["points"] == "32" && number(row, "confidence") > 0.1));

    let table = rows(&folder, "one/report/uncertainty.csv");
    let count = |domain: &str| table.iter().filter(|row| row["domain"] == domain).count();
    assert_eq!(count("plane"), 4 * 11, "every class, and all of them");
    assert!(count("box") >= 8 * 9, "the classes that the first 30 digits have: {}", count("box"));
    for row in &table {
        let room = 3.0 * number(row, "product_se").hypot(number(row, "bound_se"));
        assert!(number(row, "product") >= number(row, "bound") - room, "{row:?}");
        assert!(number(row, "dx") > 0.0 && number(row, "dp") > 0.0 && number(row, "dp_se") > 0.0);
        assert_eq!(row["undefined"], "0");
    }
    let whole: Vec<&Row> = table.iter().filter(|row| row["domain"] == "box" && row["class"] == "all").collect();
    assert!(whole.iter().all(|row| row["units"] == "30" && row["radius"] == "0.2" && row["samples"] == "2048"));
    assert!(table.iter().filter(|row| row["domain"] == "plane").all(|row| row["radius"].is_empty()));
}

#[test]
fn measures_are_reused_and_a_loss_of_zero_fails_nothing() {
    let hinge = MEASURED.replace(
        "{radius: 0.2, samples: 2048, examples: 30}",
        "{radius: 0.01, samples: 64, examples: 60, loss: hinge}",
    );
    let strong =
        hinge.replace("lr: 0.05", "lr: 0.3").replace("epochs: 3,", "epochs: 30,").replace("seeds: 2", "seeds: 1");
    let folder = Folder::with(&strong);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "out"]).expect(0);
    let before = folder.read("out/report/uncertainty.csv");
    let undefined: f64 = rows(&folder, "out/report/uncertainty.csv").iter().map(|row| number(row, "undefined")).sum();
    assert!(undefined > 0.0, "some digits are beyond doubt, with no hinge in the whole box");
    assert!(!before.to_lowercase().contains("nan") && !before.contains("inf"), "{before}");
    folder
        .write("fewer.yaml", &strong.replace("\n  - uncertainty: {domain: plane, samples: 512, epochs: [final]}", ""));
    folder.epsweep(&["run", "fewer.yaml", "--out", "out"]).expect(0).says(&["14 tasks, 14 of them already answered"]);
}

#[test]
fn more_examples_than_there_are_are_refused() {
    let folder = Folder::with(&MEASURED.replace("examples: 30", "examples: 451"));
    folder
        .epsweep(&["plan", "sweep.yaml"])
        .expect(2)
        .says(&["examples=451) asks for 451 examples, but the test set of"]);
}
