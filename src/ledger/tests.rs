//! What was written is read back, by whoever may read it, and nothing else.

mod care;
mod million;
mod story;
mod torn;
mod views;

use super::*;
use crate::engine::{Failure, Lease, Record};
use crate::frontier::results::TrialStatus;
use crate::outcome::{Known, Level};
use crate::plan::TaskKey;
use crate::plan::facts::Facts;
use crate::trust::Trust;
use story::Story;
use tempfile::{TempDir, tempdir};

fn lease(task: u8, attempt: u32) -> Lease {
    Lease { task: TaskKey([task; 32]), attempt }
}

/// One record at least of every shape there is.
fn records() -> Vec<Record> {
    let failed = |failure, message: &str, fatal| Record::Failed {
        lease: lease(4, 1),
        worker: "w".into(),
        failure,
        message: message.into(),
        fatal,
    };
    vec![
        Record::Leased { lease: lease(1, 1), worker: "host-1.cpu_0".into() },
        Record::Leased { lease: lease(2, u32::MAX), worker: "w".into() },
        Record::Released { lease: lease(2, u32::MAX), why: "worker left".into() },
        Record::Released { lease: lease(2, 1), why: String::new() },
        Record::Committed { lease: lease(1, 1), worker: "w".into(), epochs: Some(vec![1, 5, 20]) },
        Record::Committed { lease: lease(1, 2), worker: "w".into(), epochs: Some(vec![]) },
        Record::Committed { lease: lease(3, 7), worker: "w".into(), epochs: None },
        failed(Failure::Diverged, "loss became NaN", true),
        failed(Failure::OutOfMemory, "a \"quoted\" line\nand a second one", false),
        failed(Failure::BadInput, "träge, 数, \u{0}", false),
        failed(Failure::Preempted, "", false),
        failed(Failure::LostWorker, "nothing was heard of it", true),
        failed(Failure::Bug, "{}", false),
        Record::Revived { task: TaskKey([4; 32]) },
        Record::Withdrawn { task: TaskKey([1; 32]), epochs: Some(vec![5]) },
        Record::Withdrawn { task: TaskKey([3; 32]), epochs: None },
    ]
}

fn history(ledger: &Ledger) -> Vec<Record> {
    let mut records = Vec::new();
    ledger.replay(|record| records.push(record)).expect("the history is readable");
    records
}

fn write(ledger: &mut Ledger, records: &[Record]) {
    for record in records {
        ledger.append(record, 1).unwrap();
    }
    ledger.commit().unwrap();
}

/// A ledger with all of `records()`.
fn filled() -> (TempDir, Ledger) {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    write(&mut ledger, &records());
    (dir, ledger)
}

// ---- the history -----------------------------------------------------------------------------------

#[test]
fn every_record_is_read_back_as_it_was_written() {
    let (dir, ledger) = filled();
    assert_eq!(history(&ledger), records());
    drop(ledger);
    assert_eq!(history(&Ledger::open(dir.path()).unwrap()), records(), "also by the next process");
}

#[test]
fn what_was_not_committed_never_happened() {
    let (dir, mut ledger) = filled();
    ledger.append(&Record::Revived { task: TaskKey([9; 32]) }, 1).unwrap();
    drop(ledger);
    assert_eq!(history(&Ledger::open(dir.path()).unwrap()), records());
}

#[test]
fn committing_nothing_is_free() {
    let (_dir, mut ledger) = filled();
    ledger.commit().unwrap();
    ledger.commit().unwrap();
    assert_eq!(history(&ledger), records());
}

#[test]
fn replayed_through_the_engine_the_history_gives_the_live_state() {
    let mut story = Story::new();
    story.run_some(7);
    story.fail_next(Failure::Bug, 3);
    story.run_some(2);
    let held = story.acquire();
    assert_eq!(held.len(), 1, "one lease is out when the coordinator dies");
    assert_eq!(story.recovered_statuses(), story.statuses());
    story.run_some(1000);
    assert_eq!(story.recovered_statuses(), story.statuses());
}

#[test]
fn an_unreadable_row_is_named_by_its_number() {
    for (damage, said) in [
        ("detail = '{' WHERE seq = 5", "history row 5: EOF"),
        ("event = 'forgotten' WHERE seq = 3", "history row 3: unknown event \"forgotten\""),
        ("detail = NULL WHERE seq = 8", "history row 8: a failure without its kind"),
        ("task = x'0102' WHERE seq = 1", "history row 1: "),
        ("worker = NULL WHERE seq = 2", "history row 2: "),
        ("attempt = -1 WHERE seq = 4", "history row 4: "),
    ] {
        let (_dir, ledger) = filled();
        ledger.connection.execute(&format!("UPDATE history SET {damage}"), []).unwrap();
        let seq = damage.rsplit(' ').next().unwrap();
        let damaged = ledger.replay(|_| {}).unwrap();
        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].to_string(), format!("table history, row {seq}"));
        // A row that is as it was written, and still makes no sense: that is no damage, but another program's.
        ledger.connection.execute_batch(&sums::HISTORY.fill()).unwrap();
        let error = ledger.replay(|_| {}).unwrap_err();
        assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

// ---- opening ---------------------------------------------------------------------------------------

#[test]
fn only_one_may_write_at_a_time() {
    let (dir, ledger) = filled();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Locked { .. })));
    drop(ledger);
    assert!(Ledger::open(dir.path()).is_ok());
}

#[test]
fn readers_see_what_is_committed_while_somebody_writes() {
    let (dir, mut ledger) = filled();
    ledger.append(&Record::Revived { task: TaskKey([9; 32]) }, 1).unwrap();
    let reader = Ledger::read(dir.path()).unwrap();
    assert_eq!(history(&reader), records());
    ledger.commit().unwrap();
    assert_eq!(history(&reader).len(), records().len() + 1);
}

#[test]
fn a_reader_finds_what_a_killed_writer_left_in_its_journal() {
    let (dir, _still_open) = filled();
    let copy = tempdir().unwrap();
    for file in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    assert_eq!(history(&Ledger::read(copy.path()).unwrap()), records());
}

#[test]
fn a_ledger_of_another_version_is_refused() {
    let later = (SCHEMA_VERSION + 1).to_string();
    for found in [later.as_str(), "0", "banana"] {
        let (dir, ledger) = filled();
        ledger.connection.execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [found]).unwrap();
        drop(ledger);
        for opened in [Ledger::open(dir.path()), Ledger::read(dir.path())] {
            let error = opened.unwrap_err();
            assert!(matches!(&error, LedgerError::Version { found: version, .. } if version == found), "{error:?}");
        }
    }
}

#[test]
fn a_database_of_something_else_is_refused() {
    let dir = tempdir().unwrap();
    let other = Connection::open(path_in(dir.path())).unwrap();
    other.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    drop(other);
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Version { .. })));
    std::fs::write(path_in(dir.path()), "this was never a database").unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Damaged { .. })));
}

#[test]
fn there_is_nothing_to_read_where_nothing_was_written() {
    let dir = tempdir().unwrap();
    assert!(matches!(Ledger::read(dir.path()), Err(LedgerError::Missing { .. })));
    let empty = Ledger::open(dir.path()).unwrap();
    assert!(matches!(empty.find_sweep(None), Err(LedgerError::NoSweep { .. })));
}

// ---- sweeps and answers ----------------------------------------------------------------------------

#[test]
fn a_sweep_is_read_back_and_its_newest_revision_counts() {
    let mut story = Story::new();
    let first = story.sweep;
    assert_eq!(story.stored().yaml, story::YAML);
    assert_eq!(story.stored().data, story.plan.data);
    story.submit();
    let stored = story.stored();
    assert_ne!(stored.id, first);
    assert_eq!(stored.state, "running");
    assert_eq!(story.ledger.sweeps().unwrap().len(), 1);
    let states: Vec<String> = story.column("SELECT state FROM sweeps ORDER BY id");
    assert_eq!(states, ["replaced", "running"]);
}

#[test]
fn the_first_answer_stays() {
    let mut story = Story::new();
    let answer = |level| EvaluateAnswer {
        family: TaskKey([7; 32]),
        epsilons: vec![0.1, 0.2],
        first: 0,
        levels: vec![Level(level); 3],
        witnesses: None,
        trust: None,
    };
    let checkpoint = |loss| CheckpointAnswer {
        epoch: 1,
        train_loss: loss,
        train_seconds: 1.0,
        artifact: "a".into(),
        bytes: 3,
        facts: Facts::default(),
    };
    for again in [1, 2] {
        story.ledger.store_levels(TaskKey([1; 32]), &answer(again)).unwrap();
        story.ledger.store_checkpoints(TaskKey([2; 32]), &[checkpoint(f64::from(again))]).unwrap();
    }
    let known = story.ledger.known(TaskKey([7; 32])).unwrap();
    assert_eq!(known, [Known { epsilons: vec![0.1, 0.2], levels: vec![Level(1); 3] }]);
    assert_eq!(story.column::<f64>("SELECT train_loss FROM train_answers"), [1.0]);
    assert_eq!(story.ledger.checkpoint(TaskKey([2; 32]), 1).unwrap().as_deref(), Some("a"));
    assert_eq!(story.ledger.checkpoint(TaskKey([2; 32]), 2).unwrap(), None);
}

#[test]
fn a_trial_is_done_when_everything_of_it_is_answered() {
    let mut story = Story::new();
    assert!(story.trial_statuses().iter().all(|status| *status == TrialStatus::Pending));
    story.run_some(1000);
    assert!(story.trial_statuses().iter().all(|status| *status == TrialStatus::Done));
    let results = story.results();
    assert_eq!((results.answered, results.tasks), (story.plan.tasks.len(), story.plan.tasks.len()));
    assert_eq!(results.costs.len(), story.plan.tasks.len());
    assert_eq!(results.workers.len(), 1);
    assert_eq!((results.failures.len(), results.retries), (0, 0));
}

#[test]
fn a_trial_fails_with_its_training_or_with_an_evaluation() {
    for answered_before in [0, 5] {
        let mut story = Story::new();
        story.run_some(answered_before);
        let failed = story.fail_next(Failure::Bug, 3);
        story.run_some(1000);
        let expected = TrialStatus::Failed("it hurts".into());
        let trial = story.plan.tasks.iter().find(|task| task.key == failed).unwrap().trial;
        for (position, status) in story.trial_statuses().into_iter().enumerate() {
            assert_eq!(status == expected, position as u32 == trial, "trial {position}: {status:?}");
        }
        let results = story.results();
        assert_eq!(results.retries, 2, "two of three attempts were repeated");
        assert_eq!(results.failures.len(), 1);
        assert_eq!(results.failures[0].task, failed);
    }
}

#[test]
fn a_revived_task_is_no_longer_failed() {
    let mut story = Story::new();
    story.fail_next(Failure::Bug, 3);
    story.submit();
    assert!(story.trial_statuses().iter().all(|status| *status == TrialStatus::Pending));
    story.run_some(1000);
    assert!(story.trial_statuses().iter().all(|status| *status == TrialStatus::Done));
}

#[test]
fn a_cancelled_sweep_keeps_what_it_has() {
    let mut story = Story::new();
    story.run_some(story.tasks_of_trial(0));
    story.ledger.end_sweep(story.sweep, "cancelled", 2).unwrap();
    story.ledger.commit().unwrap();
    let statuses = story.trial_statuses();
    assert_eq!(statuses.iter().filter(|status| **status == TrialStatus::Done).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == TrialStatus::Cancelled).count(), 3);
}

#[test]
fn the_failure_of_more_epochs_that_another_sweep_wanted_changes_no_result() {
    let mut story = Story::new();
    story.run_some(1000);
    let train = story.plan.trials[0].key;
    let failed = Record::Failed {
        lease: Lease { task: train, attempt: 2 },
        worker: "w".into(),
        failure: Failure::Bug,
        message: "it hurts".into(),
        fatal: true,
    };
    write(
        &mut story.ledger,
        &[Record::Leased { lease: Lease { task: train, attempt: 2 }, worker: "w".into() }, failed],
    );
    assert_eq!(story.trial_statuses()[0], TrialStatus::Done);
    assert_eq!(story.results().failures, []);
}

#[test]
fn answers_from_before_the_submission_are_counted() {
    let mut story = Story::new();
    story.run_some(3);
    assert_eq!(story.ledger.answered_before(&story.stored()).unwrap(), 0);
    story.submit();
    assert_eq!(story.ledger.answered_before(&story.stored()).unwrap(), 3);
}

#[test]
fn facts_are_read_back() {
    let (_dir, mut ledger) = filled();
    let train = TaskKey([1; 32]);
    let facts = Facts { epoch: Some(3), collapsed: Some(2), ..Facts::default() };
    let checkpoint = |epoch, facts: &Facts| CheckpointAnswer {
        epoch,
        train_loss: 1.0,
        train_seconds: 1.0,
        artifact: "a".into(),
        bytes: 3,
        facts: facts.clone(),
    };
    ledger.store_checkpoints(train, &[checkpoint(4, &Facts::default()), checkpoint(5, &facts)]).unwrap();
    ledger.commit().unwrap();
    assert_eq!(ledger.facts(train, 5).unwrap(), facts);
    assert_eq!(ledger.facts(train, 4).unwrap(), Facts::default());
}

#[test]
fn witnesses_and_trust_are_read_back() {
    let (_dir, mut ledger) = filled();
    let trust = Trust { attacked: 2, softmax_outputs: true, ..Trust::default() };
    let answer = EvaluateAnswer {
        family: TaskKey([7; 32]),
        epsilons: vec![0.1],
        first: 5,
        levels: vec![Level(1), Level(2)],
        witnesses: Some(WitnessAnswer { artifact: "a".into(), count: 1, bytes: 90 }),
        trust: Some(trust.clone()),
    };
    ledger.store_levels(TaskKey([1; 32]), &answer).unwrap();
    ledger.commit().unwrap();
    let stored = StoredWitnesses {
        task: TaskKey([1; 32]),
        artifact: "a".into(),
        count: 1,
        bytes: 90,
        epsilons: vec![0.1],
        first: 5,
        levels: answer.levels,
    };
    assert_eq!(ledger.witness_files().unwrap(), [stored]);
    assert_eq!(ledger.trust(TaskKey([1; 32])).unwrap(), Some(trust));
}
