//! Witnesses: kept, the same whoever computes them, exported, and audited after every kind of tampering.

use crate::harness::{Finished, Folder, SMALL, path};
use epsweep::artifacts::ArtifactId;
use epsweep::witness::{Witness, WitnessFile};
use std::collections::BTreeMap;

fn sweep(witnesses: &str) -> String {
    format!("{SMALL}  witnesses: {witnesses}\n")
}

/// The files of witnesses by name.
fn files(folder: &Folder, run: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path(folder, run).join("witnesses")).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn witnesses_are_the_same_whoever_computes_them_and_all_hold() {
    let folder = Folder::with(SMALL);
    folder.write("all.yaml", &sweep("all"));
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "none"]).expect(0);
    folder.epsweep(&["run", "all.yaml", "--workers", "1", "--out", "one"]).expect(0);
    folder.epsweep(&["run", "all.yaml", "--workers", "2", "--out", "two"]).expect(0);
    assert!(!path(&folder, "none").join("witnesses").exists());
    assert_eq!(files(&folder, "one"), files(&folder, "two"));
    let curves = |run: &str| folder.read(&format!("{run}/report/curves.csv"));
    assert_eq!(curves("none"), curves("one"), "keeping them changes no level");
    assert_eq!(folder.read("one/report/trust.csv"), folder.read("two/report/trust.csv"));

    let said = folder.epsweep(&["audit", "one", "--json"]).expect(0);
    let summary: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(summary["witnesses"], summary["hold"]);
    assert!(summary["witnesses"].as_u64().unwrap() > 500 && summary["checkpoints"] == 8, "{summary}");
    assert_eq!(summary["findings"].as_array().unwrap().len(), 0);

    folder.epsweep(&["witnesses", "one", "--out", "arrays"]).expect(0);
    let manifest: serde_json::Value = serde_json::from_str(&folder.read("arrays/manifest.json")).unwrap();
    let entries = manifest["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 16, "4 trials, 2 epochs, 2 attacks");
    let total: u64 = entries.iter().map(|entry| entry["witnesses"].as_u64().unwrap()).sum();
    assert_eq!(summary["witnesses"], total);
    for entry in entries {
        let array = |name: &str| {
            std::fs::read(path(&folder, "arrays").join(entry["folder"].as_str().unwrap()).join(name)).unwrap()
        };
        let (images, rows) = (array("x_adv.npy"), entry["witnesses"].as_u64().unwrap() as usize);
        assert!(images.starts_with(b"\x93NUMPY\x01\x00") && images.len() == 128 + rows * 64 * 4, "{}", images.len());
        assert_eq!(array("epsilon.npy").len(), 128 + rows * 8);
    }
}

/// A run with witnesses that can be tampered with.
struct Tampered {
    folder: Folder,
    task: Vec<u8>,
    artifact: String,
}

impl Tampered {
    fn new() -> Tampered {
        let folder = Folder::with(&sweep("break"));
        folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(0);
        let ledger = rusqlite::Connection::open(path(&folder, "out/ledger.sqlite")).unwrap();
        let sql = "SELECT task, artifact FROM witness_files ORDER BY count DESC, task LIMIT 1";
        let (task, artifact) = ledger.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        Tampered { folder, task, artifact }
    }

    fn execute(&self, sql: &str) {
        let ledger = rusqlite::Connection::open(path(&self.folder, "out/ledger.sqlite")).unwrap();
        assert_eq!(ledger.execute(sql, [&self.task]).unwrap(), 1, "{sql}");
    }

    /// Makes the ledger name another file, and gives the row the checksum that it would have been written with.
    fn name_file(&self, artifact: &str) {
        let ledger = rusqlite::Connection::open(path(&self.folder, "out/ledger.sqlite")).unwrap();
        let row = "SELECT task, count, bytes FROM witness_files WHERE task = ?1";
        let read = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (task, count, bytes): (Vec<u8>, i64, i64) = ledger.query_row(row, [&self.task], read).unwrap();
        // As in src/ledger/sums.rs: the table, then kind, length and content of each value.
        let mut summed = b"witness_files".to_vec();
        let (count, bytes) = (count.to_le_bytes(), bytes.to_le_bytes());
        for (kind, content) in [(4u8, &task[..]), (3, artifact.as_bytes()), (1, &count[..]), (1, &bytes[..])] {
            summed.push(kind);
            summed.extend_from_slice(&(content.len() as u64).to_le_bytes());
            summed.extend_from_slice(content);
        }
        let sum = i64::from_le_bytes(blake3::hash(&summed).as_bytes()[..8].try_into().unwrap());
        let sql = "UPDATE witness_files SET artifact = ?2, sum = ?3 WHERE task = ?1";
        assert_eq!(ledger.execute(sql, (&self.task, artifact, sum)).unwrap(), 1);
    }

    fn file(&self) -> std::path::PathBuf {
        path(&self.folder, "out/witnesses").join(format!("{}.safetensors.gz", self.artifact))
    }

    /// What an audit says while the file's first witness is changed and packed again, under the hash of
    /// its new content, which the ledger then names.
    fn repacked(&self, change: impl FnOnce(&mut Witness)) -> Finished {
        let (mut file, _) = WitnessFile::decode(&std::fs::read(self.file()).unwrap()).unwrap();
        change(&mut file.witnesses[0]);
        let packed = file.encode();
        let id = ArtifactId::of(&packed);
        let name = path(&self.folder, "out/witnesses").join(format!("{id}.safetensors.gz"));
        std::fs::write(&name, packed).unwrap();
        self.name_file(id.as_str());
        let said = self.audit();
        self.name_file(&self.artifact);
        std::fs::remove_file(name).unwrap();
        said
    }

    fn audit(&self) -> Finished {
        self.folder.epsweep(&["audit", "out"])
    }
}

#[track_caller]
fn lists(said: Finished, words: &[&str]) {
    let said = said.expect(3);
    for word in words {
        assert!(said.stdout.contains(word), "no {word:?} in:\n{}", said.stdout);
    }
}

#[test]
fn an_audit_finds_what_was_tampered_with() {
    let run = Tampered::new();
    run.audit().expect(0);

    let sound = std::fs::read(run.file()).unwrap();
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    std::fs::write(run.file(), flipped).unwrap();
    lists(run.audit(), &["the file is damaged", &run.artifact]);
    std::fs::write(run.file(), &sound).unwrap();

    // A bit of a pixel, in a file that is otherwise in order.
    let bit = |w: &mut Witness| w.pixels[20] = f32::from_bits(w.pixels[20].to_bits() ^ (1 << 30));
    lists(run.repacked(bit), &["outside"]);
    lists(run.repacked(|w| w.epsilon *= 1.01), &["claims epsilon", "but level"]);
    lists(run.repacked(|w| w.pixels[7] = 1.001), &["has a pixel of 1.001, 1.000e-3 outside [0,1]"]);
    lists(run.repacked(|w| w.label = (w.label + 1) % 10), &["is labelled", "the data set says"]);
    lists(run.repacked(|w| w.predicted = w.label), &["is classified as"]);
    lists(run.repacked(|w| w.level += 1), &["claims epsilon"]);
    run.audit().expect(0);
}

#[test]
fn an_audit_finds_what_the_ledger_and_the_folder_no_longer_say() {
    let run = Tampered::new();
    let sound = std::fs::read(run.file()).unwrap();
    std::fs::remove_file(run.file()).unwrap();
    lists(run.audit(), &["the file cannot be read", "No such file"]);
    run.folder.epsweep(&["witnesses", "out", "--out", "arrays"]).expect(1).says(&["cannot read", "audit"]);
    std::fs::write(run.file(), sound).unwrap();

    let set = |value: &str| run.execute(&format!("UPDATE evaluate_answers SET levels = {value} WHERE task = ?1"));
    set("replace(levels, '[', '[ ')"); // the same levels
    run.audit().expect(0);
    set("replace(levels, '3', '2')");
    lists(run.audit(), &["the ledger says broken from epsilon 0.1 on, and no witness shows it"]);
    set("replace(replace(levels, '2', '4'), '1', '4')");
    lists(run.audit(), &["the ledger says withstood all"]);

    let row = "SELECT artifact FROM train_answers LIMIT 1";
    let ledger = rusqlite::Connection::open(path(&run.folder, "out/ledger.sqlite")).unwrap();
    let id: String = ledger.query_row(row, [], |row| row.get(0)).unwrap();
    let checkpoint = path(&run.folder, "out/checkpoints").join(format!("{id}.safetensors"));
    let mut weights = std::fs::read(&checkpoint).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(&checkpoint, weights).unwrap();
    lists(run.audit(), &["the checkpoint", "is damaged"]);

    run.execute("DELETE FROM witness_files WHERE task = ?1");
    lists(run.audit(), &["the ledger names no file of witnesses"]);
}

#[test]
fn without_witnesses_there_is_nothing_to_audit() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["audit", "nowhere"]).expect(2).says(&["there is no ledger in nowhere"]);
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0);
    folder.epsweep(&["audit", "out"]).expect(2).says(&["out holds no witnesses", "witnesses: break"]);
    folder.epsweep(&["witnesses", "out", "--out", "arrays"]).expect(2).says(&["holds no witnesses"]);
    folder.epsweep(&["audit", "out", "--sweep", "other"]).expect(2).says(&["other", "it holds: small"]);
    folder.write("bad.yaml", &sweep("some"));
    folder.epsweep(&["plan", "bad.yaml"]).expect(2).says(&["bad.yaml:12:14", "unknown witnesses `some`"]);
    // Asked for later, they are found later: the same levels, and now each has its witness.
    let before = folder.read("out/report/curves.csv");
    folder.write("sweep.yaml", &sweep("break"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "out"]).expect(0);
    assert_eq!(folder.read("out/report/curves.csv"), before);
    folder.epsweep(&["audit", "out"]).expect(0);
}
