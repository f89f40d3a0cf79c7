//! Networks and weights that a sweep brings along: from the file to the tables, killed or not.

use crate::harness::{Folder, path};
use std::path::Path;

const GIVEN: &str = "name: given
dataset: digits
trial: {epochs: 2, batch_size: 256}
grid:
  - model: [{torchscript: nets/cnn.pt}, {torchscript: nets/cnn.pt}, linear]
    method: [pretrained, natural, pretrained]
    weights: [none, none, nets/state_dict.pt]
seeds: 2
evaluate: {epsilons: [0, 0.1, 0.2], attacks: [{pgd: {steps: 5}}], test_examples: 128}
";

/// A folder with `yaml` and the test models under `nets`.
fn folder(yaml: &str) -> Folder {
    let folder = Folder::with(yaml);
    let nets = path(&folder, "nets");
    std::fs::create_dir_all(&nets).unwrap();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, nets.join(file.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn given_networks_run_beside_trained_ones_and_any_fleet_writes_the_same_bytes() {
    let one = folder(GIVEN);
    let plan = one.epsweep(&["plan", "sweep.yaml", "--json"]).expect(0);
    assert!(plan.stdout.contains("\"trials\": 4"), "{}", plan.stdout);
    one.epsweep(&["run", "sweep.yaml", "--workers", "1"]).expect(0);
    let trials = one.read("runs/given/report/trials.csv");
    // Pretrained once each, at epoch 0; the seeds are for the trained one.
    assert_eq!(trials.lines().count(), 1 + 4, "{trials}");
    assert!(trials.contains("torchscript=nets/cnn.pt,pretrained"), "{trials}");
    let two = folder(GIVEN);
    let mut running = two.start(&["run", "sweep.yaml", "--workers", "2"]);
    two.wait_for("an answer", || !two.log_lines("runs/given", &["\"committed\""]).is_empty());
    running.kill();
    // The files may go: the run has their content.
    std::fs::remove_dir_all(path(&two, "nets")).unwrap();
    two.epsweep(&["run", "sweep.yaml", "--workers", "2"]).expect(2).says(&["nets/cnn.pt", "sweep file's folder"]);
    let back = folder(GIVEN);
    std::fs::rename(path(&back, "nets"), path(&two, "nets")).unwrap();
    two.epsweep(&["run", "sweep.yaml", "--workers", "2"]).expect(0);
    assert_eq!(one.results("runs/given/report"), two.results("runs/given/report"));
    // What a file holds is part of a question; where it lies is not.
    std::fs::rename(path(&two, "nets"), path(&two, "copy")).unwrap();
    two.write("sweep.yaml", &GIVEN.replace("nets/", "copy/"));
    two.epsweep(&["run", "sweep.yaml"]).expect(0).says(&["8 tasks, 8 of them already answered"]);
}

#[test]
fn files_that_do_not_fit_fail_their_trial_with_the_reason_and_no_other() {
    let lines: String = ["three_channels.pt", "seven_classes.pt", "state_dict.pt", "cnn.pt"]
        .map(|name| format!("{{torchscript: nets/{name}}}, "))
        .concat();
    let folder = folder(&format!(
        "name: given\ndataset: digits\ntrial: {{method: pretrained}}\ngrid:\n  - model: [{lines}]\n\
         evaluate: {{epsilons: [0, 0.1], attacks: [fgsm], test_examples: 64}}\n"
    ));
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1"]).expect(3);
    let trials = folder.read("runs/given/report/trials.csv");
    for words in ["does not take images", "the data set has 10 classes", "it holds tensors but no code"] {
        assert!(trials.contains(words), "{words}: {trials}");
    }
    assert_eq!(trials.matches(",done,").count(), 1, "{trials}");
    folder.write(
        "sweep.yaml",
        "dataset: digits\ntrial: {method: pretrained, model: linear, weights: nets/missing_bias.pt}\n\
         evaluate: {epsilons: [0, 0.1]}\n",
    );
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1"]).expect(3);
    let trials = folder.read("runs/sweep/report/trials.csv");
    assert!(trials.contains("1 missing: fc.bias"), "{trials}");
}
