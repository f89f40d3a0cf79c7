//! MNIST, and any other data set in its four IDX files (Fashion-MNIST, a subset), from a folder.

use super::{DataError, DataSet, Examples, Pixels, idx};
use std::path::{Path, PathBuf};

const CLASSES: u32 = 10;

/// `name` is `mnist` or `fashion_mnist`: the format is the same.
pub(super) fn load(name: &str, dir: &Path) -> Result<DataSet, DataError> {
    if !dir.is_dir() {
        return Err(DataError::NoFolder { dir: dir.to_path_buf() });
    }
    let train = split(dir, "train", ["training images", "training labels"])?;
    let test = split(dir, "t10k", ["test images", "test labels"])?;
    if (train.height, train.width) != (test.height, test.width) {
        return Err(DataError::ShapeMismatch { train: (train.height, train.width), test: (test.height, test.width) });
    }
    Ok(DataSet::new(name, CLASSES, train, test))
}

fn split(dir: &Path, prefix: &str, [images_are, labels_are]: [&'static str; 2]) -> Result<Examples, DataError> {
    // Both files are looked for before one is read: a missing file should not cost a second.
    let images = find(dir, &format!("{prefix}-images"), "idx3-ubyte", images_are)?;
    let labels = find(dir, &format!("{prefix}-labels"), "idx1-ubyte", labels_are)?;
    let images = idx::read_images(&images)?;
    let labels = idx::read_labels(&labels)?;
    let count = u32::try_from(labels.labels.len()).unwrap_or(u32::MAX);
    if images.count != count {
        return Err(DataError::CountMismatch {
            images_path: images.path,
            images: images.count,
            labels_path: labels.path,
            labels: count,
        });
    }
    if let Some((example, &label)) = labels.labels.iter().enumerate().find(|(_, label)| u32::from(**label) >= CLASSES) {
        return Err(DataError::BadLabel { path: labels.path, example, label, largest: CLASSES - 1 });
    }
    let (height, width) = (images.height, images.width);
    Ok(Examples { channels: 1, height, width, pixels: Pixels::bytes(images.pixels), labels: labels.labels })
}

/// The file under one of the names that copies of MNIST use.
fn find(dir: &Path, stem: &str, kind: &str, what: &'static str) -> Result<PathBuf, DataError> {
    let tried: Vec<String> =
        ["-", "."].iter().flat_map(|dot| ["", ".gz"].map(|gz| format!("{stem}{dot}{kind}{gz}"))).collect();
    let found = tried.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or(DataError::Missing { dir: dir.to_path_buf(), what, tried })
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;
    use std::io::Write;
    use tempfile::TempDir;

    fn images(count: u32, height: u32, width: u32) -> Vec<u8> {
        let sizes = [count, height, width].into_iter().flat_map(u32::to_be_bytes);
        let pixels = (0..count * height * width).map(|i| (i * 37 % 256) as u8);
        [0, 0, 8, 3].into_iter().chain(sizes).chain(pixels).collect()
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        [0, 0, 8, 1].into_iter().chain((labels.len() as u32).to_be_bytes()).chain(labels.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("to memory");
        encoder.finish().expect("to memory")
    }

    /// A folder with 3 training and 2 test images of 4 by 5 pixels.
    fn folder() -> TempDir {
        let dir = TempDir::new().expect("a temporary folder");
        put(&dir, "train-images-idx3-ubyte", &images(3, 4, 5));
        put(&dir, "train-labels-idx1-ubyte", &labels(&[7, 0, 9]));
        put(&dir, "t10k-images-idx3-ubyte", &images(2, 4, 5));
        put(&dir, "t10k-labels-idx1-ubyte", &labels(&[1, 2]));
        dir
    }

    fn put(dir: &TempDir, name: &str, bytes: &[u8]) {
        std::fs::write(dir.path().join(name), bytes).expect("writable");
    }

    fn rename(dir: &TempDir, from: &str, to: &str) {
        std::fs::rename(dir.path().join(from), dir.path().join(to)).expect("renamable");
    }

    /// The message and remedy, with the folder written as DIR.
    fn complaint(dir: &TempDir) -> String {
        let error = load("mnist", dir.path()).expect_err("must be refused");
        let help = error.help().expect("every error has a remedy").to_string();
        format!("{error}\n{help}").replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn plain_gzipped_and_dotted_files_are_the_same_data() {
        let dir = folder();
        let plain = load("mnist", dir.path()).expect("plain");
        assert_eq!((plain.train.count(), plain.test.count(), plain.classes), (3, 2, 10));
        assert_eq!((plain.train.channels, plain.train.height, plain.train.width), (1, 4, 5));
        assert_eq!(plain.train.labels, [7, 0, 9]);
        assert_eq!(plain.train.gather([0])[..2], [0.0, 37.0 / 255.0]);

        put(&dir, "train-images-idx3-ubyte.gz", &gzip(&images(3, 4, 5)));
        std::fs::remove_file(dir.path().join("train-images-idx3-ubyte")).expect("removable");
        rename(&dir, "t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte");
        // Unpacked by a browser that kept the name.
        rename(&dir, "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz");
        assert_eq!(load("mnist", dir.path()).expect("mixed"), plain);
    }

    #[test]
    fn a_missing_file_is_named_with_all_names_that_were_tried() {
        let dir = folder();
        std::fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).expect("removable");
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR has no test labels; looked for t10k-labels-idx1-ubyte, t10k-labels-idx1-ubyte.gz, t10k-labels.idx1-ubyte, t10k-labels.idx1-ubyte.gz
        put MNIST's four files there: images and labels, of `train` and `t10k`, gzipped or not
        ");
        let gone = TempDir::new().expect("a temporary folder");
        let error = load("mnist", &gone.path().join("nowhere")).expect_err("no folder");
        assert!(matches!(error, DataError::NoFolder { .. }));
    }

    #[test]
    fn a_truncated_file_says_how_much_is_missing() {
        let dir = folder();
        put(&dir, "train-images-idx3-ubyte", &images(3, 4, 5)[..50]);
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR/train-images-idx3-ubyte is cut short: its header promises 76 bytes, 50 are there
        the download probably broke off; fetch the file again
        ");
        put(&dir, "train-images-idx3-ubyte", &images(3, 4, 5)[..9]);
        assert!(complaint(&dir).contains("its header promises 16 bytes, 9 are there"));
    }

    #[test]
    fn a_gzipped_file_that_broke_off_is_refused_unless_all_images_are_there() {
        let dir = folder();
        let complete = load("mnist", dir.path()).expect("plain");
        let whole = gzip(&images(3, 4, 5));
        for cut in 1..whole.len() {
            put(&dir, "train-images-idx3-ubyte", &whole[..cut]);
            // The last 8 bytes are gzip's checksum and length.
            let lost = cut < whole.len() - 8;
            match load("mnist", dir.path()) {
                Ok(set) => assert!(!lost && set == complete, "cut at {cut} of {}", whole.len()),
                Err(error) => assert!(lost, "cut at {cut} of {}: {error}", whole.len()),
            }
        }
    }

    #[test]
    fn a_header_is_not_believed() {
        let dir = folder();
        let mut huge = images(3, 4, 5);
        huge[4..8].copy_from_slice(&[255; 4]);
        put(&dir, "train-images-idx3-ubyte", &huge);
        assert!(complaint(&dir).contains("is cut short"));
        huge[8..16].copy_from_slice(&[255; 8]);
        put(&dir, "train-images-idx3-ubyte", &huge);
        assert!(complaint(&dir).contains("up to 1024 by 1024"));
    }

    #[test]
    fn swapped_files_are_recognised() {
        let dir = folder();
        put(&dir, "train-images-idx3-ubyte", &labels(&[1, 2, 3]));
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR/train-images-idx3-ubyte is not an IDX file of images (00 00 08 03): it begins with 00 00 08 01
        look whether images and labels were swapped, or a web page was saved instead of the file
        ");
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let dir = folder();
        put(&dir, "train-labels-idx1-ubyte", &labels(&[7, 0]));
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR/train-images-idx3-ubyte holds 3 images, but DIR/train-labels-idx1-ubyte holds 2 labels
        the two files do not belong together; take both from the same copy of the data set
        ");
        put(&dir, "train-labels-idx1-ubyte", &labels(&[7, 0, 10]));
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR/train-labels-idx1-ubyte gives example 2 the label 10; labels are 0 to 9
        this is not MNIST, or the file is damaged; fetch it again
        ");
        put(&dir, "train-labels-idx1-ubyte", &labels(&[7, 0, 9]));
        put(&dir, "t10k-images-idx3-ubyte", &images(2, 5, 5));
        insta::assert_snapshot!(complaint(&dir), @r"
        the training images are 4 by 5 pixels, the test images 5 by 5
        take all four files from the same copy of the data set
        ");
        put(&dir, "t10k-images-idx3-ubyte", &[&images(2, 4, 5)[..], b"tail"].concat());
        insta::assert_snapshot!(complaint(&dir), @r"
        DIR/t10k-images-idx3-ubyte has 4 bytes more than its header promises
        the file is damaged; fetch it again
        ");
    }

    /// The real files, where somebody has them.
    #[test]
    fn real_mnist_is_read() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/mnist10k");
        let dir = std::env::var_os("EPSWEEP_MNIST").map_or_else(|| PathBuf::from(beside), PathBuf::from);
        if !dir.is_dir() {
            eprintln!("skipped: no MNIST in {}; EPSWEEP_MNIST can name its folder", dir.display());
            return;
        }
        let set = load("mnist", &dir).expect("MNIST");
        assert_eq!((set.test.count(), set.test.height, set.test.width), (10_000, 28, 28));
        assert!(set.train.count() >= 10_000);
        let mean = |examples: &Examples| {
            examples.to_f32().iter().map(|&p| f64::from(p)).sum::<f64>() / examples.pixels.len() as f64
        };
        assert!((mean(&set.test) - 0.1325).abs() < 0.001, "{}", mean(&set.test));
        // The first test images of MNIST are a 7, a 2, a 1, a 0 and a 4.
        assert_eq!(set.test.labels[..5], [7, 2, 1, 0, 4]);
    }
}
