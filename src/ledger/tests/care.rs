//! Older ledgers, damaged ones, compacted ones, and copies of them.

use super::*;
use crate::ledger::sums::ANSWERS;
use std::collections::BTreeSet;

/// A ledger as the first release left it: its tables, and the records of `records()` that it knew.
fn first_release(dir: &Path) -> Vec<Record> {
    let old: Vec<Record> = records().into_iter().filter(|record| !matches!(record, Record::Withdrawn { .. })).collect();
    let new = tempdir().unwrap();
    let mut ledger = Ledger::open(new.path()).unwrap();
    write(&mut ledger, &old);
    let connection = Connection::open(path_in(dir)).unwrap();
    connection.execute_batch(include_str!("../schema.sql")).unwrap();
    connection.execute("INSERT INTO meta VALUES ('schema_version', '1'), ('created_by', 'epsweep 0.1.0')", []).unwrap();
    connection.execute("ATTACH ?1 AS new", [path_in(new.path()).to_str().unwrap()]).unwrap();
    connection
        .execute_batch(
            "INSERT INTO history SELECT seq, at_ms, event, task, attempt, worker, detail FROM new.history;
             INSERT INTO evaluate_answers VALUES (zeroblob(32), zeroblob(32), '[0.1,0.2]', 5, '[1,2]');
             INSERT INTO train_answers VALUES (zeroblob(32), 5, 0.25, 1.0, 'a', 3);",
        )
        .unwrap();
    old
}

#[test]
fn a_ledger_of_the_first_release_is_read_as_it_is_and_brought_up_to_date_by_whoever_writes() {
    let dir = tempdir().unwrap();
    let old = first_release(dir.path());
    let task = TaskKey([0; 32]);
    let check = |ledger: &Ledger| {
        assert_eq!(history(ledger), old);
        assert_eq!(ledger.known(task).unwrap(), [Known { epsilons: vec![0.1, 0.2], levels: vec![Level(1), Level(2)] }]);
        assert_eq!(ledger.checkpoint(task, 5).unwrap().as_deref(), Some("a"));
        assert_eq!((ledger.facts(task, 5).unwrap(), ledger.trust(task).unwrap()), (Facts::default(), None));
        assert_eq!(ledger.witness_files().unwrap(), []);
        assert_eq!(ledger.damaged_answers().unwrap(), []);
    };
    check(&Ledger::read(dir.path()).unwrap());
    check(&Ledger::open(dir.path()).unwrap());
    let mut now = Ledger::open(dir.path()).unwrap();
    check(&now);
    let version: String =
        now.connection.query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION.to_string());
    // From here on the rows are watched, the old ones as well.
    now.connection.execute("UPDATE evaluate_answers SET levels = '[1,1]'", []).unwrap();
    assert_eq!(now.damaged_answers().unwrap().len(), 1);
    write(&mut now, &[Record::Withdrawn { task, epochs: None }]);
    assert_eq!(history(&now).len(), old.len() + 1);
}

/// Everything that a report is made from.
fn told(story: &Story) -> String {
    let results = story.results();
    format!("{results:?} {:?}", story.ledger.busy(&story.stored()).unwrap())
}

/// A sweep with trouble on its way, at its end.
fn finished() -> Story {
    let mut story = Story::new();
    story.fail_next(Failure::Bug, 2);
    story.run_some(3);
    story.fail_next(Failure::OutOfMemory, 1);
    story.run_some(1000);
    story
}

#[test]
fn a_damaged_answer_is_found_whatever_of_it_was_hit() {
    for summed in ANSWERS {
        for column in summed.columns.split(", ") {
            let mut story = finished();
            let sql = format!(
                "UPDATE {0} SET {column} = CASE typeof({column}) WHEN 'blob' THEN zeroblob(length({column}))
                   WHEN 'text' THEN {column} || ' ' ELSE {column} + 1000 END
                 WHERE rowid_or_key",
                summed.table
            );
            let key = summed.key.split(", ").next().unwrap();
            let first = format!("{key} = (SELECT min({key}) FROM {})", summed.table);
            let hit = story.ledger.connection.execute(&sql.replace("rowid_or_key", &first), []).unwrap();
            if hit == 0 {
                continue; // this sweep has no rows of the kind
            }
            let damaged = story.ledger.damaged_answers().unwrap();
            assert_eq!(damaged.len(), hit, "{}.{column}", summed.table);
            assert!(damaged.iter().all(|row| row.table == summed.table));
            let results = story.results();
            assert_eq!(results.damaged, damaged, "the report's maker is told");
            let lost = story.ledger.drop_damaged(&damaged, 7).unwrap();
            assert!(!lost.is_empty(), "{}.{column}: nobody would compute it again", summed.table);
            assert_eq!(story.ledger.damaged_answers().unwrap(), []);
            assert_eq!(story.column::<String>("SELECT place FROM damage").len(), hit);
        }
    }
}

#[test]
fn compaction_changes_no_report_and_no_state() {
    let mut story = finished();
    let (before, statuses) = (told(&story), story.recovered_statuses());
    let records = history(&story.ledger).len();
    let compacted = story.ledger.compact().unwrap();
    story.ledger.commit().unwrap();
    assert_eq!((compacted.before, compacted.after), (records as u64, history(&story.ledger).len() as u64));
    assert_eq!(compacted.after as usize, story.plan.tasks.len(), "one record for each answered task");
    assert_eq!(story.ledger.replay(|_| {}).unwrap(), [], "its sums are right");
    assert_eq!((told(&story), story.recovered_statuses()), (before.clone(), statuses));
    let again = story.ledger.compact().unwrap();
    assert_eq!(again.before, again.after);
    story.ledger.shrink().unwrap();
    assert_eq!(told(&story), before);
}

#[test]
fn compaction_in_the_middle_of_a_sweep_leaves_what_is_open_alone() {
    let mut story = Story::new();
    story.fail_next(Failure::Bug, 2);
    story.run_some(4);
    story.acquire();
    let (before, statuses) = (told(&story), story.recovered_statuses());
    story.ledger.compact().unwrap();
    story.ledger.commit().unwrap();
    assert_eq!((told(&story), story.recovered_statuses()), (before, statuses));
    story.run_some(1000);
    assert!(story.trial_statuses().contains(&TrialStatus::Done));
}

#[test]
fn a_backup_is_a_ledger_of_its_own_taken_while_somebody_writes() {
    let story = finished();
    let (mut writer, to) = (story.ledger, tempdir().unwrap());
    let before = history(&writer);
    writer.append(&Record::Revived { task: TaskKey([9; 32]) }, 1).unwrap();
    let reader = Ledger::read(writer.dir()).unwrap();
    for _ in 0..2 {
        assert_eq!(reader.back_up(to.path()).unwrap(), before.len() as u64, "and again, over the first one");
    }
    writer.commit().unwrap();
    assert_eq!(history(&Ledger::open(to.path()).unwrap()), before);
    let files: BTreeSet<_> = std::fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().contains("partial")), "{files:?}");
    // A damaged ledger makes no backup, and the last sound one stays.
    writer.connection.execute("UPDATE history SET at_ms = 0 WHERE seq = 3", []).unwrap();
    let error = reader.back_up(to.path()).unwrap_err();
    assert!(error.to_string().contains("table history, row 3"), "{error}");
    assert_eq!(history(&Ledger::read(to.path()).unwrap()), before);
}

#[test]
fn what_is_readable_of_a_ledger_with_damaged_pages_is_salvaged() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let leased = |n: u32| {
        let task = TaskKey(*blake3::hash(&n.to_le_bytes()).as_bytes());
        Record::Leased { lease: Lease { task, attempt: 1 }, worker: "a-worker-with-a-name".into() }
    };
    let all: Vec<Record> = (0..3000).map(leased).collect();
    write(&mut ledger, &all);
    let place = |page: u32| (page as usize) * 4096;
    let root: u32 = ledger
        .connection
        .query_row("SELECT max(rootpage) FROM sqlite_master WHERE name = 'history'", [], |row| row.get(0))
        .unwrap();
    ledger.fold().unwrap();
    drop(ledger);
    let path = path_in(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // A leaf in the middle of the history: the fifth child of its root.
    let cell =
        place(root - 1) + usize::from(u16::from_be_bytes([bytes[place(root - 1) + 20], bytes[place(root - 1) + 21]]));
    let leaf = u32::from_be_bytes(bytes[cell..cell + 4].try_into().unwrap());
    bytes[place(leaf - 1)..place(leaf)].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();

    let broken = Ledger::open(dir.path()).unwrap();
    let error = broken.replay(|_| {}).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error:?}");
    drop(broken);
    let to = tempdir().unwrap();
    let mut salvaged = Ledger::open(to.path()).unwrap();
    let report = salvaged.salvage(dir.path()).unwrap();
    let of_history = report.iter().find(|table| table.table == "history").unwrap();
    assert!(of_history.incomplete);
    let found = history(&salvaged);
    assert!(found.len() as u64 == of_history.rows && found.len() > 2800 && found.len() < 3000, "{}", found.len());
    assert!(found.iter().all(|record| all.contains(record)));
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the damaged ledger is as it was");
    std::fs::write(&path, vec![0x5a; bytes.len()]).unwrap();
    let error = Ledger::open(tempdir().unwrap().path()).unwrap().salvage(dir.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error:?}");
}
