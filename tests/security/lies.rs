//! Nothing that a peer says is trusted: numbers, names, counts, paths, and what it claims to hold.

use crate::harness::{
    Desk, SWEEP, Safe, Worker, answer, client, commit, commits, hello, undisturbed, upload, work, worker,
};
use epsweep::coordinator::Handle;
use epsweep::proto::{
    AcquireRequest, CommitRequest, FailRequest, FailureKind, HeartbeatRequest, Lease, LeaseRef, LeaveRequest, Passes,
    PutArtifactRequest, RegisterRequest, SubmitRequest, commit_request, commit_response::Verdict,
};
use epsweep::transport::{Access, Proof};
use std::time::Duration;
use tonic::Code;

async fn acquire(worker: &mut Worker, name: &str) -> Lease {
    let ask = AcquireRequest {
        worker: name.into(),
        request: 1,
        free_slots: 1,
        prefetch: 0,
        wait_ms: 1000,
        seconds_left: None,
    };
    worker.acquire(ask).await.unwrap().into_inner().leases.remove(0)
}

/// The coordinator answers, and its ledger has taken no harm.
async fn lives(core: &Handle) {
    assert!(core.call(|core| core.list().len()).await.is_ok(), "the core has stopped");
}

#[tokio::test]
async fn an_answer_must_be_sound() {
    let desk = Desk::open(Access::open()).await;
    desk.submit().await;
    let mut w = worker(&desk.address(), &Proof::default());
    w.register(hello("liar")).await.unwrap();
    let lease = acquire(&mut w, "liar").await;
    let honest = answer(&mut w, "liar", &lease).await.unwrap();
    let train = |change: &dyn Fn(&mut epsweep::proto::TrainAnswer)| {
        let mut lie = honest.clone();
        let Some(commit_request::Answer::Train(answer)) = &mut lie.answer else { panic!("training comes first") };
        change(answer);
        lie
    };
    let with = |change: &dyn Fn(&mut CommitRequest)| {
        let mut lie = honest.clone();
        change(&mut lie);
        lie
    };
    let lies = [
        with(&|lie| lie.seconds = f64::NAN),
        with(&|lie| lie.seconds = f64::INFINITY),
        with(&|lie| lie.seconds = -1.0),
        with(&|lie| lie.seconds = 1e300),
        with(&|lie| lie.passes = Some(Passes { forwards: u64::MAX, backwards: 0, examples: 0 })),
        with(&|lie| lie.passes = Some(Passes { forwards: 0, backwards: 1 << 63, examples: 0 })),
        with(&|lie| lie.answer = None),
        with(&|lie| lie.lease = None),
        with(&|lie| lie.lease = Some(LeaseRef { task: vec![7; 31].into(), attempt: 1 })),
        train(&|answer| answer.checkpoints.clear()),
        train(&|answer| answer.checkpoints.push(answer.checkpoints[0].clone())),
        train(&|answer| answer.checkpoints[0].train_loss = f64::NAN),
        train(&|answer| answer.checkpoints[0].train_seconds = -1.0),
        train(&|answer| answer.checkpoints[0].train_seconds = f64::MAX),
        train(&|answer| answer.checkpoints[0].epoch = 99),
        train(&|answer| answer.checkpoints[0].artifact = "../../etc/passwd".into()),
        train(&|answer| answer.checkpoints[0].artifact = "0".repeat(64)),
        train(&|answer| answer.checkpoints[0].facts = "[".repeat(100_000)),
        train(&|answer| answer.checkpoints[0].facts = "{\"pgd_accuracy\": 7}".into()),
    ];
    for lie in &lies {
        let refused = commit(&mut w, lie.clone()).await;
        assert_eq!(refused.verdict(), Verdict::Refused, "{lie:?}: {refused:?}");
        assert!(!refused.reason.is_empty() && refused.reason.len() < 2000, "a refusal is short, and says why");
        lives(&desk.core).await;
    }
    let flood = commits(&mut w, vec![honest.clone(); 5000]).await.unwrap_err();
    assert_eq!(flood.code(), Code::InvalidArgument, "{flood}");
    // In one call, the truth is as welcome among lies.
    let (before, after) = (lies.clone(), lies);
    let truth = before.len();
    let mixed = before.into_iter().chain([honest.clone()]).chain(after).chain([honest]).collect();
    let verdicts = commits(&mut w, mixed).await.unwrap();
    let accepted = |at: &usize| verdicts[*at].verdict() == Verdict::Accepted;
    assert_eq!((0..verdicts.len()).filter(accepted).collect::<Vec<_>>(), [truth]);
    assert_eq!(verdicts.last().unwrap().verdict(), Verdict::Duplicate);
    assert_eq!(verdicts.iter().filter(|verdict| verdict.verdict() == Verdict::Refused).count(), 2 * truth);
    // `liar` stays silent from here on, and others finish.
    w.leave(LeaveRequest { worker: "liar".into() }).await.unwrap();
    let _worker = work(&desk.address(), Proof::default(), "w", Duration::ZERO);
    assert_eq!(desk.results().await, undisturbed().await);
}

#[tokio::test]
async fn levels_must_fit_the_shard_and_the_grid() {
    let desk = Desk::open(Access::open()).await;
    desk.submit().await;
    let mut w = worker(&desk.address(), &Proof::default());
    w.register(hello("liar")).await.unwrap();
    let training = acquire(&mut w, "liar").await;
    let trained = answer(&mut w, "liar", &training).await.unwrap();
    assert_eq!(commit(&mut w, trained).await.verdict(), Verdict::Accepted);
    let ask = AcquireRequest {
        worker: "liar".into(),
        request: 2,
        free_slots: 1,
        prefetch: 0,
        wait_ms: 1000,
        seconds_left: None,
    };
    let lease = w.acquire(ask).await.unwrap().into_inner().leases.remove(0);
    assert_eq!(lease.kind, "evaluate");
    let honest = answer(&mut w, "liar", &lease).await.unwrap();
    let change = |change: &dyn Fn(&mut epsweep::proto::EvaluateAnswer)| {
        let mut lie = honest.clone();
        let Some(commit_request::Answer::Evaluate(answer)) = &mut lie.answer else { panic!("an evaluation") };
        change(answer);
        lie
    };
    for lie in [
        change(&|answer| answer.levels[0] = 5),
        change(&|answer| answer.levels[0] = u32::MAX),
        change(&|answer| answer.levels.push(0)),
        change(&|answer| answer.levels.clear()),
        change(&|answer| answer.trust = br#"{"attacked": 18446744073709551615}"#.to_vec().into()),
        change(&|answer| answer.trust = br#"{"members": [{"name": "\u001b[2Jpgd"}]}"#.to_vec().into()),
        change(&|answer| answer.trust = vec![b'['; 1 << 20].into()),
    ] {
        let refused = commit(&mut w, lie).await;
        assert_eq!(refused.verdict(), Verdict::Refused, "{refused:?}");
        lives(&desk.core).await;
    }
    assert_eq!(commit(&mut w, honest).await.verdict(), Verdict::Accepted);
}

#[tokio::test]
async fn a_worker_commits_only_what_it_holds_and_under_its_own_name() {
    let safe = Safe::new();
    safe.write("tokens", "one worker 11111111111111111111\ntwo worker 22222222222222222222\n");
    safe.write("first", "11111111111111111111");
    safe.write("second", "22222222222222222222");
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    desk.submit().await;
    let mut one = worker(&desk.address(), &safe.proof(None, Some("first")));
    let mut two = worker(&desk.address(), &safe.proof(None, Some("second")));
    one.register(hello("one")).await.unwrap();
    two.register(hello("two")).await.unwrap();
    let lease = acquire(&mut one, "one").await;
    let good = answer(&mut one, "one", &lease).await.unwrap();

    let stolen = CommitRequest { worker: "two".into(), ..good.clone() };
    assert_eq!(commit(&mut two, stolen).await.verdict(), Verdict::Unwanted, "it was never given this");
    let id = lease.id.clone();
    let all = |error: tonic::Status| {
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert!(error.message().contains("another token or certificate"), "{error}");
    };
    let refused = commit(&mut two, good.clone()).await;
    assert_eq!(refused.verdict(), Verdict::Refused);
    assert!(refused.reason.contains("another token or certificate"), "{refused:?}");
    all(two.register(hello("one")).await.unwrap_err());
    all(two.leave(LeaveRequest { worker: "one".into() }).await.unwrap_err());
    let running = vec![id.clone().unwrap()];
    all(two
        .heartbeat(HeartbeatRequest { worker: "one".into(), running, ..HeartbeatRequest::default() })
        .await
        .unwrap_err());
    let kind = FailureKind::Diverged.into();
    all(two.fail(FailRequest { worker: "one".into(), lease: id, kind, ..FailRequest::default() }).await.unwrap_err());
    let ask =
        AcquireRequest { worker: "one".into(), request: 9, free_slots: 9, prefetch: 9, wait_ms: 0, seconds_left: None };
    all(two.acquire(ask).await.unwrap_err());
    assert_eq!(commit(&mut one, good).await.verdict(), Verdict::Accepted);
}

#[tokio::test]
async fn names_counts_and_texts_have_limits() {
    let desk = Desk::open(Access::open()).await;
    desk.submit().await;
    let mut w = worker(&desk.address(), &Proof::default());
    let lease = LeaseRef { task: vec![7; 32].into(), attempt: 1 };
    for lie in [
        hello(""),
        hello(".."),
        hello("a/b"),
        hello("a\u{1b}[2J"),
        hello("-rf"),
        hello(&"a".repeat(65)),
        RegisterRequest { slots: 0, ..hello("w") },
        RegisterRequest { slots: u32::MAX, ..hello("w") },
        RegisterRequest { host: "h\n{\"level\":\"ERROR\"}".into(), ..hello("w") },
        RegisterRequest { device: "c".repeat(1000), ..hello("w") },
        RegisterRequest { libtorch: "\u{7}".into(), ..hello("w") },
        RegisterRequest { running: vec![LeaseRef { task: vec![1].into(), attempt: 1 }], ..hello("w") },
        RegisterRequest { running: vec![lease.clone(); 300_000], ..hello("w") },
    ] {
        let refused = w.register(lie).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    w.register(hello("w")).await.unwrap();
    let bad = "x\r\n".to_string();
    assert_eq!(w.leave(LeaveRequest { worker: bad.clone() }).await.unwrap_err().code(), Code::InvalidArgument);
    let beat = HeartbeatRequest { worker: bad.clone(), running: vec![], ..HeartbeatRequest::default() };
    assert_eq!(w.heartbeat(beat).await.unwrap_err().code(), Code::InvalidArgument);
    // Sixteen for each slot, whatever is asked.
    let ask = AcquireRequest {
        worker: "w".into(),
        request: 1,
        free_slots: u32::MAX,
        prefetch: u32::MAX,
        wait_ms: u32::MAX,
        seconds_left: None,
    };
    let granted = w.acquire(ask).await.unwrap().into_inner().leases.len();
    assert!(granted <= 32, "{granted} leases for two slots");
    // What a failure says cannot paint on the terminal of whoever reads it.
    let mine = w
        .acquire(AcquireRequest {
            worker: "w".into(),
            request: 1,
            free_slots: 1,
            prefetch: 0,
            wait_ms: 0,
            seconds_left: None,
        })
        .await;
    for lease in mine.unwrap().into_inner().leases {
        let (message, kind) = ("\u{1b}]0;owned\u{7}boom".repeat(1000), FailureKind::Diverged.into());
        w.fail(FailRequest { worker: "w".into(), lease: lease.id, kind, message, ..FailRequest::default() })
            .await
            .unwrap();
    }
    let failures = desk.status().await.failures;
    assert!(!failures.is_empty());
    for line in failures {
        assert!(!line.chars().any(char::is_control) && line.contains("boom") && line.len() < 10_000, "{line:?}");
    }
}

#[tokio::test]
async fn uploads_are_what_they_say_and_land_nowhere_else() {
    let desk = Desk::open(Access::open()).await;
    let mut w = worker(&desk.address(), &Proof::default());
    let id = "a".repeat(64);
    let piece = |id: &str, chunk: Vec<u8>| PutArtifactRequest {
        id: id.into(),
        chunk: chunk.into(),
        ..PutArtifactRequest::default()
    };
    let sent = [
        (vec![], Code::InvalidArgument),
        (vec![piece("../../x", vec![1])], Code::InvalidArgument),
        (vec![piece(&id, vec![1])], Code::InvalidArgument),
        (vec![piece(&id, vec![0; 2 << 20])], Code::InvalidArgument),
        (vec![PutArtifactRequest { kind: "../x".into(), ..piece(&id, vec![1]) }], Code::InvalidArgument),
    ];
    for (pieces, code) in sent {
        let refused = w.put_artifact(tokio_stream::iter(pieces)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    upload(&mut w, b"good").await.unwrap();
    let files: Vec<_> = std::fs::read_dir(desk.dir().join("checkpoints")).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing is left of the others: {files:?}");
}

#[tokio::test]
async fn a_sweep_file_names_only_what_can_be_read_to_its_end() {
    let desk = Desk::open(Access::open()).await;
    let mut c = client(&desk.address(), &Proof::default());
    let base = desk.dir().display().to_string();
    let submit = |yaml: String, base_dir: String| SubmitRequest {
        yaml,
        source: "sweep.yaml".into(),
        base_dir,
        ..SubmitRequest::default()
    };
    let endless = SWEEP
        .replace("model: linear", "model: {torchscript: /dev/zero}")
        .replace("method: natural", "method: pretrained");
    for (request, says) in [
        (submit("x".repeat(5 << 20), base.clone()), "4 MiB"),
        (submit(SWEEP.into(), "relative".into()), "base_dir"),
        (submit(SWEEP.into(), format!("{base}\0")), "base_dir"),
        (SubmitRequest { source: "s\u{1b}[2J".into(), ..submit(SWEEP.into(), base.clone()) }, "source"),
        (submit(SWEEP.replace("name: small", "name: ../../etc"), base.clone()), "name"),
        (submit(endless, base.clone()), "/dev/zero"),
    ] {
        let refused = tokio::time::timeout(Duration::from_secs(20), c.submit(request)).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(says), "no {says:?} in {refused}");
    }
    let long = epsweep::proto::StatusRequest { sweep: "s".repeat(1 << 20) };
    let refused = c.status(long).await.unwrap_err();
    assert!(refused.message().len() < 1000, "{}", refused.message().len());
    lives(&desk.core).await;
}
