//! A coordinator that is killed, or a machine that loses power, may leave the journal cut anywhere.

use super::{history, lease, records, write};
use crate::engine::{Engine, Record, Settings};
use crate::ledger::{Ledger, path_in};
use std::path::Path;
use tempfile::tempdir;

/// SQLite's journal: a header, then frames of a header and a page.
const HEADER: usize = 32;
const FRAME: usize = 24 + 4096;

/// What a writer leaves behind when it dies: the file, its journal, and its history after each transaction.
struct Remains {
    file: Vec<u8>,
    journal: Vec<u8>,
    stages: Vec<Vec<Record>>,
}

fn remains() -> Remains {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let mut stages = vec![vec![], records()];
    write(&mut ledger, &records());
    for transaction in 1..=12u8 {
        let group: Vec<Record> = (1..=u32::from(transaction) % 4 * 9 + 1)
            .map(|attempt| Record::Leased { lease: lease(transaction, attempt), worker: "a-worker-with-a-name".into() })
            .collect();
        write(&mut ledger, &group);
        stages.push([stages.last().unwrap().as_slice(), &group].concat());
    }
    let read = |suffix: &str| {
        let mut path = path_in(dir.path()).into_os_string();
        path.push(suffix);
        std::fs::read(path).unwrap()
    };
    Remains { file: read(""), journal: read("-wal"), stages }
}

impl Remains {
    /// How many transactions a new coordinator finds when the journal looks like this.
    fn recovered_stage(&self, dir: &Path, journal: &[u8]) -> usize {
        for file in std::fs::read_dir(dir).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        std::fs::write(path_in(dir), &self.file).unwrap();
        std::fs::write(dir.join("ledger.sqlite-wal"), journal).unwrap();
        let mut ledger = Ledger::open(dir).expect("a torn journal is no error");
        let found = history(&ledger);
        let stage = self.stages.iter().position(|stage| *stage == found);
        let stage = stage.unwrap_or_else(|| panic!("{} records are no state that ever was durable", found.len()));
        let more = Record::Revived { task: lease(99, 0).task };
        write(&mut ledger, std::slice::from_ref(&more));
        assert_eq!(history(&ledger), [found.as_slice(), &[more]].concat(), "and the ledger goes on from there");
        stage
    }
}

#[test]
fn a_journal_cut_anywhere_recovers_to_a_state_that_once_was() {
    let (remains, dir) = (remains(), tempdir().unwrap());
    let length = remains.journal.len();
    let frames = (HEADER..=length).step_by(FRAME);
    let around_frames = frames.flat_map(|end| [end - 1, end, end + 1, end + 24]);
    let mut cuts: Vec<usize> = around_frames.chain((0..length).step_by(1499)).filter(|cut| *cut <= length).collect();
    cuts.sort_unstable();
    cuts.dedup();
    assert!(cuts.len() > 150, "{} positions", cuts.len());
    let stages: Vec<usize> =
        cuts.iter().map(|cut| remains.recovered_stage(dir.path(), &remains.journal[..*cut])).collect();
    assert!(stages.is_sorted(), "more of the journal never means less of the history");
    assert_eq!(*stages.last().unwrap(), remains.stages.len() - 1, "a whole journal loses nothing");
    let distinct = stages.chunk_by(|a, b| a == b).count();
    assert_eq!(distinct, remains.stages.len(), "every transaction was the last one once");
}

#[test]
fn a_damaged_journal_recovers_to_what_came_before_the_damage() {
    let (remains, dir) = (remains(), tempdir().unwrap());
    for position in (HEADER..remains.journal.len()).step_by(3 * FRAME + 517) {
        let mut journal = remains.journal.clone();
        journal[position] ^= 0x40;
        let before = remains.recovered_stage(dir.path(), &remains.journal[..position]);
        assert_eq!(remains.recovered_stage(dir.path(), &journal), before, "byte {position}");
    }
}

// ---- every byte ------------------------------------------------------------------------------------

/// A small page, so that every byte of the last transactions can be tried in seconds.
const SMALL_FRAME: usize = 24 + 512;

/// After a transaction: the length of the journal, and the history.
type Stage = (usize, Vec<Record>);

/// The file, its journal, and what was there after each transaction.
fn small_remains() -> (Vec<u8>, Vec<u8>, Vec<Stage>) {
    let dir = tempdir().unwrap();
    let empty = rusqlite::Connection::open(path_in(dir.path())).unwrap();
    empty.execute_batch("PRAGMA page_size = 512; VACUUM").unwrap();
    drop(empty);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    ledger.fold().unwrap();
    let read = |suffix: &str| {
        let mut path = path_in(dir.path()).into_os_string();
        path.push(suffix);
        std::fs::read(path).unwrap()
    };
    let (file, mut stages) = (read(""), vec![(0, Vec::new())]);
    for transaction in 0..6u8 {
        let group = match transaction {
            0 => records(),
            _ => vec![Record::Leased { lease: lease(20 + transaction, 1), worker: "w".into() }],
        };
        write(&mut ledger, &group);
        let so_far = [stages.last().unwrap().1.as_slice(), &group].concat();
        stages.push((read("-wal").len(), so_far));
    }
    assert_eq!((read("-wal").len() - HEADER) % SMALL_FRAME, 0);
    (file, read("-wal"), stages)
}

/// Opens what is left and demands the state after the last transaction that is whole.
fn expect(dir: &Path, (file, journal): (&[u8], &[u8]), expected: &[Record], what: &str) {
    let path = path_in(dir);
    std::fs::write(&path, file).unwrap();
    std::fs::write(dir.join("ledger.sqlite-wal"), journal).unwrap();
    let ledger = Ledger::read(dir).unwrap();
    let (mut engine, mut found) = (Engine::new(Settings::default()), Vec::new());
    let damaged = ledger.replay(|record| {
        engine.replay(&record, 0);
        found.push(record);
    });
    assert_eq!(damaged.unwrap(), [], "{what}");
    engine.sanity_check();
    assert_eq!(found, expected, "{what}");
    drop(ledger);
    let _ = std::fs::remove_file(dir.join("ledger.sqlite-shm"));
}

#[test]
fn cut_at_every_byte_of_its_last_transactions_the_ledger_holds_all_that_was_acknowledged() {
    let (file, journal, stages) = small_remains();
    let dir =
        tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() });
    let dir = dir.unwrap();
    let start = stages[stages.len() - 4].0;
    for cut in start..=journal.len() {
        let whole = stages.iter().rev().find(|(length, _)| *length <= cut).expect("the first is empty");
        expect(dir.path(), (&file, &journal[..cut]), &whole.1, &format!("cut at byte {cut}"));
    }
    for position in start..journal.len() {
        let mut flipped = journal.clone();
        flipped[position] ^= 1 << (position % 8);
        let whole = stages.iter().rev().find(|(length, _)| *length <= position).expect("the first is empty");
        expect(dir.path(), (&file, &flipped), &whole.1, &format!("a bit of byte {position} flipped"));
    }
}
