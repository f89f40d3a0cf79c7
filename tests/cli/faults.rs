//! Calls of workers that are lost on their way, or whose answers are: of every sort, and the sweep none the worse for it.

use crate::chaos::committed_once;
use crate::harness::Folder;

/// Long enough for heartbeats and copies of training states, with checkpoints and witnesses to be carried.
const SWEEP: &str = "
name: lossy
dataset: digits
trial: {model: {mlp: {hidden: [64]}}, method: {pgd: {epsilon: 0.1, steps: 10}}, optimizer: {sgd: {lr: 0.05}}, epochs: 6, batch_size: 16}
seeds: 4
evaluate: {epochs: {every: 1}, epsilons: [0, 0.05, 0.1], attacks: [fgsm, {pgd: {steps: 20}}], witnesses: break}
";

/// A fifth of the requests, and a fifth of the answers; of this seed, the first two registrations are lost in either way.
const FAULTS: &str = "0.2:5174";

#[test]
fn lost_requests_and_lost_replies_change_nothing() {
    let folder = Folder::with(SWEEP);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let folder = folder.env("EPSWEEP_FAULTS", FAULTS);
    let (_coordinator, address) = folder.serve(&["--lease", "6"]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    let _workers = ["a", "b"].map(|name| folder.worker(&address, name, &["--save-every", "0.5"]));
    folder.epsweep(&["watch", "lossy", "--to", &address]).expect(0);
    folder.wait_for("the report", || {
        folder.epsweep(&["status", "lossy", "--to", &address]).stdout.contains("index.html")
    });
    assert_eq!(folder.results("state/reports/lossy"), folder.results("calm/report"));
    committed_once(&folder);
    let lost = |method: &str, lost: &str| {
        let words = ["lost on purpose", &format!("\"method\":\"{method}\""), &format!("\"lost\":\"{lost}\"")];
        folder.log_lines("state", &words).len()
    };
    for method in ["Register", "Acquire", "Heartbeat", "Commits", "PutArtifact", "GetArtifact", "SaveTraining"] {
        let (requests, replies) = (lost(method, "Request"), lost(method, "Reply"));
        assert!(requests > 0 && replies > 0, "{method}: {requests} requests and {replies} replies were lost");
    }
}
