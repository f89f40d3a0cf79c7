//! A core with a ledger on a disk that fills up, and a worker that is told so.

use super::*;
use crate::artifacts::ArtifactId;
use crate::coordinator::Prepared;
use crate::engine::{Lease, Verdict};
use crate::ledger::{Unfinished, WorkerInfo};
use crate::plan::{Question, TaskKey};
use crate::proto;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Instant;

const YAML: &str = "
name: small
dataset: digits
trial: {model: linear, method: natural, epochs: 2, batch_size: 64}
seeds: 4
evaluate: {epsilons: [0, 0.05, 0.1], attacks: [fgsm, {pgd: {steps: 5}}], epochs: [1, final]}
";

fn prepared(yaml: &str) -> Prepared {
    Prepared::new(yaml.into(), "small.yaml".into(), Path::new("/")).expect("a valid file")
}

fn info() -> WorkerInfo {
    let text = || "w".to_string();
    WorkerInfo { worker: text(), host: text(), slots: 2, device: text(), version: text(), libtorch: text() }
}

/// A right answer, as far as the coordinator can tell.
fn answer(handle: &Handle, lease: &proto::Lease) -> proto::CommitRequest {
    use proto::commit_request::Answer;
    let answer = match serde_json::from_slice(&lease.question).expect("a question") {
        Question::Train(_) => {
            let artifact = handle.store.put(b"weights").expect("room").to_string();
            let checkpoint =
                |&epoch: &u32| proto::Checkpoint { epoch, artifact: artifact.clone(), ..Default::default() };
            Answer::Train(proto::TrainAnswer { checkpoints: lease.keep.iter().map(checkpoint).collect() })
        }
        Question::Evaluate(question) => {
            let levels = vec![1; (question.examples[1] - question.examples[0]) as usize];
            Answer::Evaluate(proto::EvaluateAnswer { levels, ..Default::default() })
        }
        other => panic!("nobody asked {other:?}"),
    };
    proto::CommitRequest { worker: "w".into(), lease: lease.id.clone(), answer: Some(answer), ..Default::default() }
}

/// What a worker does, as far as the core sees it: an unanswered request is asked again, unchanged.
struct Worker {
    handle: Handle,
    request: u64,
    held: BTreeMap<TaskKey, proto::Lease>,
    accepted: HashSet<TaskKey>,
    refusals: usize,
}

fn asked(request: u64, tasks: u32) -> proto::AcquireRequest {
    proto::AcquireRequest { worker: "w".into(), request, free_slots: tasks, prefetch: tasks, ..Default::default() }
}

impl Worker {
    fn new(handle: &Handle) -> Worker {
        Worker { handle: handle.clone(), request: 1, held: BTreeMap::new(), accepted: HashSet::new(), refusals: 0 }
    }

    fn refused<T>(&mut self, result: Result<T, Unanswered>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Unanswered::Waits(reason)) => {
                assert!(reason.contains("is full; free some space"), "{reason}");
                self.refusals += 1;
                None
            }
            Err(Unanswered::Gone) => panic!("the core has stopped"),
        }
    }

    async fn register(&mut self) {
        let running: Vec<Lease> =
            self.held.values().map(|lease| lease.id.clone().unwrap_or_default().try_into().expect("a lease")).collect();
        let registered = self.handle.call(move |core| core.register(info(), running)).await;
        self.refused(registered);
    }

    /// One round: asks for work, then hands one answer in. Returns false when there is nothing to do.
    async fn step(&mut self) -> bool {
        let request = self.request;
        let acquired = self.handle.call(move |core| core.acquire(&asked(request, 2))).await;
        let leases = match self.refused(acquired) {
            None => return true,
            Some(None) => {
                self.register().await;
                return true;
            }
            Some(Some(leases)) => leases,
        };
        self.request += u64::from(!leases.is_empty());
        let named = |lease: proto::Lease| {
            let id: Lease = lease.id.clone().unwrap_or_default().try_into().expect("a lease");
            (id.task, lease)
        };
        self.held.extend(leases.into_iter().map(named));
        let Some((&task, lease)) = self.held.iter().next() else { return false };
        let request = answer(&self.handle, lease);
        let committed = self.handle.call(move |core| core.commit(request)).await;
        if let Some(verdict) = self.refused(committed) {
            if verdict.expect("a valid answer") == Verdict::Accepted {
                assert!(self.accepted.insert(task), "accepted twice");
            }
            self.held.remove(&task);
        }
        true
    }
}

async fn limit(handle: &Handle, pages: Option<u32>) {
    let limited = handle.read(move |core| core.ledger.limit_pages(pages)).await;
    limited.expect("the core is there");
}

fn start(dir: &Path) -> (Handle, mpsc::UnboundedReceiver<Notice>) {
    Core::start(Ledger::open(dir).expect("a ledger"), Recovery::Resume, Settings::default()).expect("a core")
}

#[tokio::test]
async fn a_full_disk_stops_leases_and_work_goes_on_by_itself_when_there_is_space() {
    let dir = tempfile::tempdir().expect("a folder");
    let (handle, _notices) = start(dir.path());
    let sweep = prepared(YAML);
    let tasks = sweep.plan.tasks.len();
    handle.call(move |core| core.submit(&sweep)).await.expect("submitted");
    let mut worker = Worker::new(&handle);
    worker.register().await;
    // No page may be added: sooner or later a group does not fit.
    limit(&handle, Some(1)).await;
    while worker.refusals == 0 {
        assert!(worker.step().await, "everything fitted into the pages there were");
    }
    let before = worker.accepted.clone();
    assert!(before.len() < tasks);

    // Asked by whom it may be: reading goes on, and shows what is on the disk; nothing is changed.
    let status = handle.read(|core| core.status("small")).await.expect("readable").expect("there");
    assert!(status.waits.contains("is full"), "{}", status.waits);
    let done = status.train.unwrap_or_default().done + status.evaluate.unwrap_or_default().done;
    assert_eq!(done as usize, before.len());
    for _ in 0..3 {
        assert!(worker.step().await);
    }
    assert_eq!(worker.accepted, before);
    assert!(handle.call(|core| core.cancel("small")).await.is_err());

    limit(&handle, None).await;
    let since = Instant::now();
    while worker.step().await {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not go on");
    }
    assert_eq!(worker.accepted.len(), tasks, "every task was accepted once");
    let status = handle.read(|core| core.status("small")).await.expect("readable").expect("there");
    assert_eq!((status.state.as_str(), status.waits.as_str()), ("done", ""));
}

#[tokio::test]
async fn a_disk_that_is_full_again_and_again_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (handle, _notices) = start(dir.path());
    let sweep = prepared(&YAML.replace("seeds: 4", "seeds: 40"));
    let tasks = sweep.plan.tasks.len();
    handle.call(move |core| core.submit(&sweep)).await.expect("submitted");
    let mut worker = Worker::new(&handle);
    worker.register().await;
    for _ in 0..3 {
        limit(&handle, Some(1)).await;
        let refusals = worker.refusals;
        while worker.refusals == refusals && worker.step().await {}
        limit(&handle, None).await;
        let accepted = worker.accepted.len();
        while worker.accepted.len() < accepted + 3 && worker.step().await {}
    }
    assert!(worker.refusals > 3);
    while worker.step().await {}
    assert_eq!(worker.accepted.len(), tasks);
    drop((handle, worker));
    // Another process finds exactly what was acknowledged.
    let mut engine = Engine::new(Settings::default());
    let ledger = Ledger::read(dir.path()).expect("a ledger");
    ledger.replay(|record| engine.replay(&record, 0)).expect("a sound history");
    engine.sanity_check();
    let stored = ledger.find_sweep(Some("small")).expect("stored");
    assert_eq!(stored.state, "finished");
}

#[tokio::test]
async fn artifacts_that_do_not_fit_stop_leases_and_what_was_answered_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let (handle, _notices) = start(dir.path());
    let sweep = prepared(YAML);
    handle.call(move |core| core.submit(&sweep)).await.expect("submitted");
    let mut worker = Worker::new(&handle);
    worker.register().await;
    worker.step().await;
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let checkpoints = dir.path().join("checkpoints");
    handle.call(move |core| core.storage_failed(checkpoints, full, 10)).await.expect("told");
    assert!(handle.call(|core| core.drain()).await.is_err(), "nothing is changed now");
    let since = Instant::now();
    while worker.step().await {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not go on");
    }
    assert!(worker.refusals > 0);
}

#[tokio::test]
async fn a_worker_without_the_lease_can_neither_replace_nor_drop_anothers_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let (handle, _notices) = start(dir.path());
    let sweep = prepared(YAML);
    handle.call(move |core| core.submit(&sweep)).await.expect("submitted");
    let mut worker = Worker::new(&handle);
    worker.register().await;
    let leases = handle.call(|core| core.acquire(&asked(1, 1))).await.expect("answered").expect("known");
    let lease: Lease = leases[0].id.clone().unwrap_or_default().try_into().expect("a lease");
    let store = handle.store.training();
    let save = |worker: &'static str, lease: Lease, content: &'static [u8], step: u64| {
        let artifact = store.put(content).expect("room");
        let state = Unfinished { artifact: artifact.to_string(), step };
        let handle = handle.clone();
        async move {
            handle.call(move |core| core.save_training(worker, lease, state)).await.expect("answered").expect("valid");
            artifact
        }
    };
    let known = || handle.read(move |core| core.ledger.unfinished(lease.task));

    let first = save("w", lease, b"five steps", 5).await;
    // By another worker; under a lease that nobody holds; and not further than what is known.
    save("thief", lease, b"five steps", 9).await;
    save("w", Lease { attempt: lease.attempt + 1, ..lease }, b"five steps", 9).await;
    save("w", lease, b"five steps", 4).await;
    let late = save("w", lease, b"four steps", 4).await;
    assert_eq!(known().await.expect("there").expect("readable").expect("kept").step, 5);
    assert!(store.contains(&first), "the state that the next attempt goes on from");
    assert!(!store.contains(&late), "nobody needs it");

    let further = save("w", lease, b"seven steps", 7).await;
    assert!(store.contains(&further) && !store.contains(&first));
    let request = answer(&handle, &leases[0]);
    let verdict = handle.call(move |core| core.commit(request)).await.expect("answered");
    assert_eq!(verdict, Ok(Verdict::Accepted));
    assert!(!store.contains(&further), "the run has ended");
}

/// A worker with a lease of a training run, and a state of it that the ledger names.
async fn with_a_named_state(handle: &Handle) -> ArtifactId {
    let sweep = prepared(YAML);
    handle.call(move |core| core.submit(&sweep)).await.expect("submitted");
    Worker::new(handle).register().await;
    let leases = handle.call(|core| core.acquire(&asked(1, 1))).await.expect("answered").expect("known");
    let lease: Lease = leases[0].id.clone().unwrap_or_default().try_into().expect("a lease");
    let named = handle.store.training().put(b"five steps").expect("room");
    handle.state_uploaded(named.clone()).await;
    let state = Unfinished { artifact: named.to_string(), step: 5 };
    handle.call(move |core| core.save_training("w", lease, state)).await.expect("answered").expect("valid");
    named
}

#[tokio::test]
async fn states_that_were_uploaded_and_never_named_are_removed_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (handle, notices) = start(dir.path());
    let store = handle.store.training();
    let named = with_a_named_state(&handle).await;
    let unnamed = store.put(b"six steps").expect("room");
    let half = store.dir().join(".uploading-1");
    std::fs::write(&half, "seven").expect("room");
    drop((handle, notices));
    while Ledger::open(dir.path()).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await; // the core's thread still has it
    }
    let _restarted = start(dir.path());
    assert!(store.contains(&named) && !store.contains(&unnamed) && !half.exists());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_uploaded_and_is_not_named_soon_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a ledger");
    let store = Store::open(&dir.path().join("checkpoints")).expect("a store");
    let settings = Settings::default();
    let (handle, _notices) = Core::start_here(ledger, store.clone(), Recovery::Resume, settings).expect("it starts");
    let store = store.training();
    let named = with_a_named_state(&handle).await;
    let unnamed = store.put(b"six steps").expect("room");
    handle.state_uploaded(unnamed.clone()).await;
    tokio::time::sleep(Duration::from_millis(2 * settings.lease_ms - 2_000)).await;
    assert!(store.contains(&unnamed), "whoever sent it may still say so");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(store.contains(&named) && !store.contains(&unnamed));
}
