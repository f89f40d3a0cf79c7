//! CIFAR-10 and CIFAR-100 in their binary formats: records of one or two label bytes and 3,072
//! pixels (32 by 32, the red plane, then green, then blue). Read from the `.bin` files in a folder
//! or in the folder that their archive makes, or from the archive itself.

use super::{DataError, DataSet, Examples, Pixels};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

const SIDE: u32 = 32;
const PIXELS: usize = 3 * 32 * 32;

/// One of the two formats, and which of its labels is learnt.
pub(super) struct Format {
    name: &'static str,
    /// What each byte before the pixels says, and how many values it has.
    labels: &'static [(&'static str, u8)],
    /// Position in `labels`.
    learnt: usize,
    train: &'static [&'static str],
    test: &'static str,
    /// The archive, and the folder inside it.
    archive: &'static str,
    folder: &'static str,
}

pub(super) const TEN: Format = Format {
    name: "cifar10",
    labels: &[("label", 10)],
    learnt: 0,
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    archive: "cifar-10-binary.tar.gz",
    folder: "cifar-10-batches-bin",
};

pub(super) const HUNDRED: Format = Format {
    name: "cifar100",
    labels: &[("coarse label", 20), ("fine label", 100)],
    learnt: 1,
    train: &["train.bin"],
    test: "test.bin",
    archive: "cifar-100-binary.tar.gz",
    folder: "cifar-100-binary",
};

pub(super) const HUNDRED_COARSE: Format = Format { learnt: 0, ..HUNDRED };

pub(super) fn load(format: &Format, dir: &Path) -> Result<DataSet, DataError> {
    if !dir.is_dir() {
        return Err(DataError::NoFolder { dir: dir.to_path_buf() });
    }
    let mut files = Files::find(format, dir)?;
    let train = files.examples(format, format.train)?;
    let test = files.examples(format, &[format.test])?;
    Ok(DataSet::new(format.name, format.labels[format.learnt].1.into(), train, test))
}

/// Where the batches are.
enum Files {
    Folder(PathBuf),
    /// The archive's path, and its batches, unpacked.
    Archive(PathBuf, HashMap<String, Vec<u8>>),
}

impl Files {
    fn find(format: &Format, dir: &Path) -> Result<Files, DataError> {
        let places = [dir.to_path_buf(), dir.join(format.folder)];
        if let Some(place) = places.into_iter().find(|place| place.join(format.test).is_file()) {
            return Ok(Files::Folder(place));
        }
        let archive = dir.join(format.archive);
        if archive.is_file() {
            let batches = unpack(format, &archive)?;
            return Ok(Files::Archive(archive, batches));
        }
        let what = format!(
            "has neither {test} nor {folder}/{test} nor {archive}",
            test = format.test,
            folder = format.folder,
            archive = format.archive
        );
        let help = format!(
            "put the binary version there (not the one for Python), packed or unpacked; `epsweep data fetch {}` gets it",
            format.name
        );
        Err(DataError::unusable(dir, what, help))
    }

    /// A batch, and what to call it in messages.
    fn batch(&mut self, name: &str) -> Result<(PathBuf, Vec<u8>), DataError> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok((path, bytes)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(DataError::unusable(
                        folder.as_path(),
                        format!("has no {name}"),
                        "all batches of the binary version belong in one folder; unpack the archive again",
                    )),
                    Err(source) => Err(DataError::Unreadable { path, source }),
                }
            }
            Files::Archive(archive, batches) => match batches.remove(name) {
                Some(bytes) => Ok((archive.join(name), bytes)),
                None => Err(DataError::unusable(
                    archive.as_path(),
                    format!("holds no {name}"),
                    "take the archive of the binary version, whole",
                )),
            },
        }
    }

    fn examples(&mut self, format: &Format, names: &[&str]) -> Result<Examples, DataError> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for name in names {
            let (path, bytes) = self.batch(name)?;
            append(format, &path, &bytes, &mut pixels, &mut labels)?;
        }
        Ok(Examples { channels: 3, height: SIDE, width: SIDE, pixels: Pixels::bytes(pixels), labels })
    }
}

fn append(
    format: &Format,
    path: &Path,
    bytes: &[u8],
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u8>,
) -> Result<(), DataError> {
    let record = format.labels.len() + PIXELS;
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.to_path_buf() });
    }
    if !bytes.len().is_multiple_of(record) {
        let broken = bytes.len() / record;
        return Err(DataError::BrokenRecord { path: path.to_path_buf(), found: bytes.len(), record, broken });
    }
    pixels.reserve(bytes.len());
    for (position, record) in bytes.chunks_exact(record).enumerate() {
        let (head, image) = record.split_at(format.labels.len());
        for (&value, &(what, values)) in head.iter().zip(format.labels) {
            if value >= values {
                let (path, largest) = (path.to_path_buf(), values - 1);
                return Err(DataError::BadRecord { path, record: position, what, value, largest });
            }
        }
        labels.push(head[format.learnt]);
        pixels.extend_from_slice(image);
    }
    Ok(())
}

/// The batches in the archive, by name.
fn unpack(format: &Format, archive: &Path) -> Result<HashMap<String, Vec<u8>>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: archive.to_path_buf(), source };
    let file = std::io::BufReader::new(std::fs::File::open(archive).map_err(unreadable)?);
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(file));
    let mut batches = HashMap::new();
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if format.test == name || format.train.contains(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unreadable)?;
            batches.insert(name.to_string(), bytes);
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;
    use std::io::Write;
    use tempfile::TempDir;

    /// `count` records; label bytes count up, pixels depend on `salt`.
    fn batch(format: &Format, count: usize, salt: usize) -> Vec<u8> {
        let record = |at: usize| {
            let labels = format.labels.iter().map(move |&(_, values)| ((at + salt) % usize::from(values)) as u8);
            labels.chain((0..PIXELS).map(move |pixel| ((at * 31 + pixel * 7 + salt) % 256) as u8))
        };
        (0..count).flat_map(record).collect()
    }

    fn names(format: &'static Format) -> impl Iterator<Item = &'static str> {
        format.train.iter().copied().chain([format.test])
    }

    fn folder(format: &'static Format, count: usize) -> TempDir {
        let dir = TempDir::new().expect("a temporary folder");
        for (salt, name) in names(format).enumerate() {
            std::fs::write(dir.path().join(name), batch(format, count, salt)).expect("writable");
        }
        dir
    }

    fn complaint(format: &Format, dir: &TempDir) -> String {
        let error = load(format, dir.path()).expect_err("must be refused");
        let help = error.help().expect("every error has a remedy").to_string();
        format!("{error}\n{help}").replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn batches_are_read_in_order_and_planes_are_channels() {
        let dir = folder(&TEN, 4);
        let set = load(&TEN, dir.path()).expect("readable");
        assert_eq!((set.train.count(), set.test.count(), set.classes), (20, 4, 10));
        assert_eq!((set.train.channels, set.train.height, set.train.width), (3, 32, 32));
        assert_eq!(set.train.labels[..8], [0, 1, 2, 3, 1, 2, 3, 4], "batch 1, then batch 2");
        assert_eq!(set.test.labels, [5, 6, 7, 8]);
        // Example 1 of batch 2 (salt 1), first pixel of the green plane.
        let green = set.train.gather([5])[1024];
        assert_eq!(green, ((31 + 1024 * 7 + 1) % 256) as f32 / 255.0);
    }

    #[test]
    fn cifar100_has_fine_and_coarse_labels() {
        let dir = folder(&HUNDRED, 25);
        let fine = load(&HUNDRED, dir.path()).expect("readable");
        let coarse = load(&HUNDRED_COARSE, dir.path()).expect("readable");
        assert_eq!((fine.classes, fine.train.labels[21]), (100, 21));
        assert_eq!((coarse.classes, coarse.train.labels[21]), (20, 1));
        assert_eq!(fine.train.pixels, coarse.train.pixels);
        assert_ne!(fine.digest, coarse.digest);
    }

    #[test]
    fn the_unpacked_folder_and_the_archive_are_the_same_data() {
        let plain = folder(&TEN, 3);
        let expected = load(&TEN, plain.path()).expect("plain");
        let dir = TempDir::new().expect("a temporary folder");
        let file = std::fs::File::create(dir.path().join(TEN.archive)).expect("writable");
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        tar.append_dir_all(TEN.folder, plain.path()).expect("packed");
        tar.into_inner().and_then(flate2::write::GzEncoder::finish).and_then(|mut f| f.flush()).expect("packed");
        assert_eq!(load(&TEN, dir.path()).expect("archive"), expected);

        let whole = std::fs::read(dir.path().join(TEN.archive)).expect("readable");
        std::fs::write(dir.path().join(TEN.archive), &whole[..whole.len() / 2]).expect("writable");
        assert!(complaint(&TEN, &dir).contains("cannot read DIR/cifar-10-binary.tar.gz"));
        std::fs::remove_file(dir.path().join(TEN.archive)).expect("removable");
        std::fs::create_dir(dir.path().join(TEN.folder)).expect("writable");
        for name in names(&TEN) {
            std::fs::copy(plain.path().join(name), dir.path().join(TEN.folder).join(name)).expect("copied");
        }
        assert_eq!(load(&TEN, dir.path()).expect("unpacked"), expected);
    }

    #[test]
    fn a_corrupt_batch_is_named_with_record_and_value() {
        let dir = folder(&TEN, 3);
        let path = dir.path().join("data_batch_2.bin");
        let whole = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("writable");
        insta::assert_snapshot!(complaint(&TEN, &dir), @r"
        DIR/data_batch_2.bin has 9218 bytes, not a multiple of the 3073 of a record: record 2 (from 0) is incomplete
        the download probably broke off, or this is not a binary batch of CIFAR; fetch it again
        ");
        let mut wrong = whole.clone();
        wrong[3073] = 10;
        std::fs::write(&path, wrong).expect("writable");
        insta::assert_snapshot!(complaint(&TEN, &dir), @r"
        record 1 (from 0) of DIR/data_batch_2.bin has the label 10; these are 0 to 9
        the file is damaged, or of the other CIFAR (CIFAR-100's records begin with two labels, CIFAR-10's with one)
        ");
        std::fs::write(&path, b"").expect("writable");
        assert!(complaint(&TEN, &dir).contains("data_batch_2.bin holds no examples"));
        std::fs::remove_file(&path).expect("removable");
        assert!(complaint(&TEN, &dir).contains("DIR: has no data_batch_2.bin"));
        let dir = folder(&HUNDRED, 2);
        let mut wrong = batch(&HUNDRED, 2, 0);
        wrong[1] = 100;
        std::fs::write(dir.path().join("train.bin"), wrong).expect("writable");
        assert!(complaint(&HUNDRED_COARSE, &dir).contains("record 0 (from 0) of DIR/train.bin has the fine label 100"));
    }

    #[test]
    fn an_empty_folder_says_what_belongs_there() {
        let dir = TempDir::new().expect("a temporary folder");
        insta::assert_snapshot!(complaint(&TEN, &dir), @r"
        DIR: has neither test_batch.bin nor cifar-10-batches-bin/test_batch.bin nor cifar-10-binary.tar.gz
        put the binary version there (not the one for Python), packed or unpacked; `epsweep data fetch cifar10` gets it
        ");
    }
}
