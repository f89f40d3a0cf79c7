//! What the fuzz targets in fuzz/ do with their bytes. The tests replay all that was ever found (tests/fuzz).
//!
//! A target must not panic, whatever it is given; where it can say more about what it got, it asserts that too.

use crate::coordinator::fuzzing::Peer;
use crate::data::fuzzing as data;
use crate::witness::WitnessFile;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

/// A sweep file, and the error that a person would see.
pub fn sweep_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match crate::spec::parse_with_warnings(text, "fuzz.yaml", Path::new("/nowhere")) {
        Ok((sweep, _)) => {
            let trials = sweep.trials.len();
            assert!(trials > 0, "a sweep without trials is an error");
        }
        Err(error) => drop(format!("{:?}", miette::Report::new(error))),
    }
}

/// A message of a worker or a client: its first byte says which.
pub fn message(bytes: &[u8]) {
    static PEER: LazyLock<Mutex<Peer>> = LazyLock::new(|| Mutex::new(Peer::new()));
    let Some((&kind, message)) = bytes.split_first() else { return };
    PEER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send(kind, message);
}

/// A row of the history, and what the engine makes of it.
pub fn record(bytes: &[u8]) {
    crate::ledger::fuzzing::record(bytes);
}

/// A file of witnesses. What can be read is written again, and read again, to the same.
pub fn witnesses(bytes: &[u8]) {
    let Ok((file, _)) = WitnessFile::decode(bytes) else { return };
    let (again, faults) = WitnessFile::decode(&file.encode()).expect("our own file");
    assert!(faults.is_empty() && again.witnesses.len() == file.witnesses.len());
}

/// A NumPy array.
pub fn array(bytes: &[u8]) {
    data::array(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    /// Runs a target over its folder: seeds, and whatever made it fail once.
    fn replay(folder: &str, target: impl Fn(&[u8])) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder)
            .expect("a folder of inputs")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            let bytes = std::fs::read(&input).expect("a readable file");
            // Every beginning too: what was cut off on its way.
            for end in (0..=bytes.len()).step_by(bytes.len() / 50 + 1) {
                target(&bytes[..end]);
            }
            target(&bytes);
        }
    }

    #[test]
    fn sweep_files() {
        replay("sweep_file", super::sweep_file);
    }

    #[test]
    fn messages() {
        replay("message", super::message);
    }

    #[test]
    fn records() {
        replay("record", super::record);
    }

    #[test]
    fn witnesses() {
        let packed = crate::witness::check::tests::file().encode();
        for end in (0..=packed.len()).step_by(7) {
            super::witnesses(&packed[..end]);
        }
        super::witnesses(&packed);
    }

    #[test]
    fn arrays() {
        replay("array", super::array);
    }
}
