//! Arrays that NumPy saved with `savez`: images as `uint8`, or as `float32` in `[0,1]`, with shape
//! `(n, height, width)`, `(n, channels, height, width)` or `(n, height, width, channels)`; labels as
//! whole numbers from 0, with shape `(n,)` or `(n, 1)`.

use super::npy::Array;
use super::{DataError, DataSet, Examples, MAX_CLASSES, MAX_SIDE, Pixels};
use crate::spec::Layout;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// More channels than this are a misread axis.
const MAX_CHANNELS: usize = 64;

/// Names of a split's images and labels: Keras's, and MedMNIST's.
const TRAIN: [[&str; 2]; 2] = [["x_train", "y_train"], ["train_images", "train_labels"]];
const TEST: [[&str; 2]; 2] = [["x_test", "y_test"], ["test_images", "test_labels"]];
const ALONE: [[&str; 2]; 2] = [["x", "y"], ["images", "labels"]];

/// One file with both splits.
pub(super) fn load_one(file: &Path, layout: Option<Layout>) -> Result<DataSet, DataError> {
    let mut archive = Archive::open(file)?;
    let train = archive.split(&TRAIN, layout)?;
    let test = archive.split(&TEST, layout)?;
    data_set(file, train, file, test)
}

/// A file for each split.
pub(super) fn load_two(train: &Path, test: &Path, layout: Option<Layout>) -> Result<DataSet, DataError> {
    let training = Archive::open(train)?.split(&ALONE, layout)?;
    let testing = Archive::open(test)?.split(&ALONE, layout)?;
    data_set(train, training, test, testing)
}

fn data_set(train_file: &Path, train: Examples, test_file: &Path, test: Examples) -> Result<DataSet, DataError> {
    let shape = |examples: &Examples| [examples.channels, examples.height, examples.width];
    if shape(&train) != shape(&test) {
        let what = format!(
            "the training images are {:?} (channels, height, width), the test images {:?}",
            shape(&train),
            shape(&test)
        );
        return Err(DataError::unusable(test_file, what, "both splits need images of one shape"));
    }
    let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let missing = (0..classes).find(|&class| !train.labels.iter().any(|&label| usize::from(label) == class));
    if let Some(missing) = missing {
        let what = format!("no training example has the label {missing}, but there are labels up to {}", classes - 1);
        return Err(DataError::unusable(train_file, what, "number the classes from 0 on without gaps"));
    }
    if let Some((example, label)) = test.labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= classes) {
        let what = format!("test example {example} has the label {label}; the training set has 0 to {}", classes - 1);
        return Err(DataError::unusable(test_file, what, "both splits need the same classes"));
    }
    Ok(DataSet::new("npz", classes as u32, train, test))
}

struct Archive {
    path: PathBuf,
    zip: zip::ZipArchive<BufReader<std::fs::File>>,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.to_path_buf(), source };
        // A client may name any path: opening a pipe would wait for whoever writes to it.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(DataError::unusable(path, "is not a file", "name the .npz file itself"));
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| {
            let what = format!("is not an .npz archive ({error})");
            DataError::unusable(path, what, "write it with `numpy.savez` or `numpy.savez_compressed`")
        })?;
        Ok(Archive { path: path.to_path_buf(), zip })
    }

    fn wrong(&self, what: String, help: &str) -> DataError {
        DataError::unusable(self.path.as_path(), what, help)
    }

    /// Images and labels under the first pair of names that is there.
    fn split(&mut self, names: &[[&'static str; 2]], layout: Option<Layout>) -> Result<Examples, DataError> {
        let held: Vec<String> = self.zip.file_names().map(|name| name.trim_end_matches(".npy").to_string()).collect();
        let there = |pair: &&[&str; 2]| pair.iter().all(|name| held.iter().any(|held| held == name));
        let Some(&[images_name, labels_name]) = names.iter().find(there) else {
            let wanted: Vec<String> = names.iter().map(|[x, y]| format!("`{x}` and `{y}`")).collect();
            let what = format!("has no arrays {}; it holds {}", wanted.join(", or "), held.join(", "));
            return Err(
                self.wrong(what, "name the arrays so, for example `numpy.savez(file, x_train=..., y_train=...)`")
            );
        };
        let labels = self.labels(labels_name)?;
        let images = self.array(images_name)?;
        let count = images.shape.first().copied().unwrap_or(0);
        if count != labels.len() || count == 0 {
            let what = format!("`{images_name}` has {count} images, `{labels_name}` {} labels", labels.len());
            return Err(self.wrong(what, "both need one entry per example, and at least one"));
        }
        let (shape, last) = self.image_shape(images_name, &images.shape, layout)?;
        let pixels = self.pixels(images_name, images, shape, last)?;
        let [channels, height, width] = shape.map(|side| side as u32);
        Ok(Examples { channels, height, width, pixels, labels })
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        let mut bytes = Vec::new();
        let read = self.zip.by_name(&format!("{name}.npy")).map_err(|error| error.to_string());
        let read = read.and_then(|mut file| file.read_to_end(&mut bytes).map_err(|error| error.to_string()));
        let array = match read {
            Ok(_) => Array::parse(&bytes),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        let array = array.map_err(|what| {
            self.wrong(
                format!("`{name}` {what}"),
                "the file is damaged or not NumPy's; write it again with `numpy.savez`",
            )
        })?;
        if array.fortran && array.shape.len() > 1 {
            let what = format!("`{name}` is stored column by column");
            return Err(self.wrong(what, "save `numpy.ascontiguousarray(a)`"));
        }
        Ok(array)
    }

    fn labels(&mut self, name: &str) -> Result<Vec<u8>, DataError> {
        let array = self.array(name)?;
        if !matches!(array.shape[..], [_] | [_, 1]) {
            let what = format!("`{name}` has shape {:?}, not one number per example", array.shape);
            return Err(self.wrong(what, "save classes, not one-hot rows: `y.argmax(axis=1)`"));
        }
        let Some(values) = array.integers() else {
            let what = format!("`{name}` holds {}, not whole numbers", array.dtype);
            return Err(self.wrong(what, "save it with `y.astype('int64')`"));
        };
        let outside = values.iter().enumerate().find(|(_, value)| !(0..MAX_CLASSES as i128).contains(*value));
        if let Some((example, value)) = outside {
            let what =
                format!("`{name}` gives example {example} the label {value}; labels are 0 to {}", MAX_CLASSES - 1);
            return Err(self.wrong(what, "number the classes from 0 on; at most 256 are supported"));
        }
        Ok(values.into_iter().map(|value| value as u8).collect())
    }

    /// Channels, height and width, and whether the channels come last.
    fn image_shape(
        &self,
        name: &str,
        shape: &[usize],
        layout: Option<Layout>,
    ) -> Result<([usize; 3], bool), DataError> {
        let few = |channels: usize| matches!(channels, 1 | 3);
        let found = match (shape, layout) {
            (&[_, height, width], _) => ([1, height, width], false),
            (&[_, channels, height, width], Some(Layout::Nchw)) => ([channels, height, width], false),
            (&[_, height, width, channels], Some(Layout::Nhwc)) => ([channels, height, width], true),
            (&[_, channels, height, width], None) if few(channels) && !few(width) => ([channels, height, width], false),
            (&[_, height, width, channels], None) if few(channels) && !few(height) => ([channels, height, width], true),
            (&[_, ..], _) if shape.len() == 4 => {
                let what = format!("`{name}` has shape {shape:?}, which does not say which axis the channels are");
                return Err(self.wrong(what, "add `layout: nchw` or `layout: nhwc` to `npz`"));
            }
            _ => {
                let what = format!("`{name}` has shape {shape:?}, which is not that of images");
                let help =
                    "shapes are (n, height, width), (n, channels, height, width) or (n, height, width, channels)";
                return Err(self.wrong(what, help));
            }
        };
        let [channels, height, width] = found.0;
        let fits = (1..=MAX_CHANNELS).contains(&channels)
            && [height, width].iter().all(|side| (1..=MAX_SIDE as usize).contains(side));
        if fits {
            return Ok(found);
        }
        let what = format!("`{name}` holds images of {channels} channels, {height} by {width}");
        Err(self.wrong(what, "at most 64 channels and 1024 by 1024 pixels are supported"))
    }

    fn pixels(&self, name: &str, images: Array, shape: [usize; 3], last: bool) -> Result<Pixels, DataError> {
        let size: usize = shape.iter().product();
        if let Some(floats) = images.floats() {
            // Not a number is in no range.
            if let Some((at, value)) = floats.iter().enumerate().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
                let what = format!("`{name}`, example {}, holds {value}; pixels lie in [0,1]", at / size);
                return Err(self.wrong(what, "divide by the largest value, or save bytes: `x.astype('uint8')`"));
            }
            return Ok(Pixels::Floats(if last { channels_first(&floats, shape) } else { floats }));
        }
        let dtype = images.dtype;
        let Some(bytes) = images.bytes() else {
            let what = format!("`{name}` holds {dtype}, not uint8 or float32");
            return Err(self.wrong(what, "save `x.astype('uint8')` (0 to 255) or `x.astype('float32')` (0 to 1)"));
        };
        Ok(Pixels::bytes(if last { channels_first(&bytes, shape) } else { bytes }))
    }
}

/// NHWC to NCHW; `shape` is channels, height, width.
fn channels_first<T: Copy>(values: &[T], [channels, height, width]: [usize; 3]) -> Vec<T> {
    let area = height * width;
    let mut turned = Vec::with_capacity(values.len());
    for image in values.chunks_exact(area * channels) {
        for channel in 0..channels {
            turned.extend(image.iter().skip(channel).step_by(channels).copied());
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::super::npy::encode;
    use super::*;
    use miette::Diagnostic;
    use std::io::Write;
    use tempfile::TempDir;

    fn write(path: &Path, arrays: &[(&str, Vec<u8>)]) {
        let mut zip = zip::ZipWriter::new(std::fs::File::create(path).expect("writable"));
        for (name, bytes) in arrays {
            zip.start_file(format!("{name}.npy"), zip::write::FileOptions::default()).expect("writable");
            zip.write_all(bytes).expect("writable");
        }
        zip.finish().expect("writable");
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Loads a file with two 2x2 training images, two labels, and one test image; parts are replaced.
    fn outcome(replaced: &[(&str, Vec<u8>)]) -> Result<DataSet, String> {
        let dir = TempDir::new().expect("a temporary folder");
        let path = dir.path().join("all.npz");
        let mut arrays = vec![
            ("x_train", encode("|u1", "(2, 2, 2)", &[0, 255, 51, 102, 1, 2, 3, 4])),
            ("y_train", encode("<i8", "(2,)", &[0i64.to_le_bytes(), 1i64.to_le_bytes()].concat())),
            ("x_test", encode("|u1", "(1, 2, 2)", &[9, 9, 9, 9])),
            ("y_test", encode("|u1", "(1, 1)", &[1])),
        ];
        for (name, bytes) in replaced {
            match arrays.iter_mut().find(|(held, _)| held == name) {
                Some(held) => held.1 = bytes.clone(),
                None => arrays.retain(|(held, _)| Some(*held) != name.strip_prefix('-')),
            }
        }
        write(&path, &arrays);
        load_one(&path, None).map_err(|error| {
            let help = error.help().expect("every error has a remedy").to_string();
            format!("{error}; {help}").replace(&path.display().to_string(), "FILE")
        })
    }

    fn refused(name: &str, array: Vec<u8>, words: &[&str]) {
        let error = outcome(&[(name, array)]).expect_err("must be refused");
        for word in words.iter().chain(&["FILE", name]) {
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn bytes_and_floats_in_every_layout_are_the_same_pixels() {
        let set = outcome(&[]).expect("readable");
        assert_eq!((set.train.count(), set.test.count(), set.classes), (2, 1, 2));
        assert_eq!((set.train.channels, set.train.height, set.train.width), (1, 2, 2));
        assert_eq!(set.train.gather([0]), [0.0, 1.0, 0.2, 0.4]);
        assert_eq!((set.train.labels, set.test.labels), (vec![0, 1], vec![1]));

        let dir = TempDir::new().expect("a temporary folder");
        let labels = encode("|u1", "(2,)", &[0, 1]);
        let save = |name: &str, shape: &str, values: &[f32]| {
            let path = dir.path().join(name);
            write(&path, &[("x", encode("<f4", shape, &floats(values))), ("y", labels.clone())]);
            path
        };
        let first: Vec<f32> = (0..24).map(|at| at as f32 / 32.0).collect();
        // The same two images of three channels, 2 by 2, with the channels last.
        let last: Vec<f32> = (0..24).map(|at| first[at / 12 * 12 + at % 3 * 4 + at % 12 / 3]).collect();
        let [first, last] = [save("first.npz", "(2, 3, 2, 2)", &first), save("last.npz", "(2, 2, 2, 3)", &last)];
        let set = load_two(&first, &last, None).expect("shapes say which axis the channels are");
        assert_eq!(set.train.pixels, set.test.pixels);
        assert_eq!(set.train.gather([1])[..2], [12.0 / 32.0, 13.0 / 32.0]);
        let forced = load_two(&first, &first, Some(Layout::Nhwc)).expect("as told");
        assert_eq!((forced.train.channels, forced.train.height, forced.train.width), (2, 3, 2));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let dir = TempDir::new().expect("a temporary folder");
        let error = load_one(dir.path(), None).expect_err("a folder").to_string();
        assert!(error.contains("is not a file"), "{error}");
    }

    #[test]
    fn what_numpy_writes_is_read() {
        // python3 -c "import numpy as n; x=(n.arange(32).reshape(2,4,4)*8).astype('uint8'); \
        //   n.savez_compressed('numpy.npz', x_train=x, y_train=[0,1], x_test=x[:1], y_test=[[1]])"
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/numpy.npz"));
        let set = load_one(path, None).expect("NumPy's own file");
        assert_eq!(set.train.gather([1])[15], 248.0 / 255.0);
        assert_eq!((set.train.labels, set.test.labels, set.test.height), (vec![0, 1], vec![1], 4));
    }

    #[test]
    fn labels_out_of_range_are_named() {
        let labels = |values: [i64; 2]| encode("<i8", "(2,)", &values.map(i64::to_le_bytes).concat());
        refused("y_train", labels([0, -1]), &["example 1 the label -1", "0 to 255"]);
        refused("y_train", labels([256, 0]), &["example 0 the label 256"]);
        let error = outcome(&[("y_train", labels([0, 2]))]).expect_err("a class is missing");
        assert!(error.contains("has the label 1") && error.contains("without gaps"), "{error}");
        let error = outcome(&[("y_test", encode("|u1", "(1,)", &[2]))]).expect_err("a class is new");
        assert!(error.contains("test example 0 has the label 2") && error.contains("0 to 1"), "{error}");
    }

    #[test]
    fn pixels_outside_the_unit_interval_are_named() {
        let image = |value: f32| encode("<f4", "(2, 2, 2)", &floats(&[0.0, 1.0, 0.5, 0.5, 0.1, value, 0.2, 0.3]));
        assert!(outcome(&[("x_train", image(0.7))]).is_ok());
        refused("x_train", image(f32::NAN), &["example 1", "NaN", "[0,1]"]);
        refused("x_train", image(1.001), &["example 1", "1.001", "divide"]);
        refused("x_train", image(-0.5), &["example 1", "-0.5"]);
    }

    #[test]
    fn wrong_types_and_shapes_say_what_to_save_instead() {
        refused("x_train", encode("<f8", "(2, 2, 2)", &[0; 64]), &["float64", "astype('float32')"]);
        refused("x_train", encode("<i4", "(2, 2, 2)", &[0; 32]), &["int32"]);
        refused("y_train", encode("<f4", "(2,)", &[0; 8]), &["float32", "astype('int64')"]);
        refused("y_train", encode("|u1", "(2, 10)", &[0; 20]), &["[2, 10]", "argmax"]);
        refused("x_train", encode("|u1", "(2, 4)", &[0; 8]), &["[2, 4]", "(n, height, width)"]);
        refused("x_train", encode("|u1", "(2, 3, 3, 3)", &[0; 54]), &["layout: nchw"]);
        refused("x_train", encode("|u1", "(3, 2, 2)", &[0; 12]), &["3 images", "2 labels"]);
        refused("x_train", encode("|u1", "(2, 2, 2)", &[0; 7]), &["cut short"]);
        let error = outcome(&[("x_test", encode("|u1", "(1, 2, 3)", &[0; 6]))]).expect_err("two shapes");
        assert!(error.contains("[1, 2, 2]") && error.contains("[1, 2, 3]"), "{error}");
        let error = outcome(&[("-y_test", Vec::new())]).expect_err("an array is missing");
        assert!(error.contains("`x_test` and `y_test`") && error.contains("x_train"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let dir = TempDir::new().expect("a temporary folder");
        let path = dir.path().join("x.npz");
        std::fs::write(&path, b"<html>").expect("writable");
        let error = load_one(&path, None).expect_err("no archive");
        assert!(error.to_string().contains("is not an .npz archive"), "{error}");
        assert!(matches!(load_one(&dir.path().join("y.npz"), None), Err(DataError::Unreadable { .. })));
    }
}
