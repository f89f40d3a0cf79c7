//! Image files in folders: `train/CLASS/NAME.png` and `test/CLASS/NAME.png` (also `.jpg`, `.jpeg`).
//!
//! Classes are the folders of `train`, by name. A split's order is the first file of every class,
//! then the second of every class and so on, by name, so that any prefix is a fair sample. All
//! images are grey (one channel), or some are in colour (then all get three).

use super::{DataError, DataSet, Examples, MAX_CLASSES, MAX_SIDE, Pixels};
use image::DynamicImage;
use image::imageops::FilterType;
use std::path::{Path, PathBuf};

const KINDS: [&str; 3] = ["png", "jpg", "jpeg"];

/// `size` is height and width.
pub(super) fn load(dir: &Path, size: Option<[u32; 2]>) -> Result<DataSet, DataError> {
    if !dir.is_dir() {
        return Err(DataError::NoFolder { dir: dir.to_path_buf() });
    }
    let classes = entries(&dir.join("train"), true)?;
    if classes.len() < 2 || classes.len() > MAX_CLASSES {
        let what = format!("has {} folders of classes", classes.len());
        let help = "put the images into `train/CLASS/` and `test/CLASS/`, with 2 to 256 classes";
        return Err(DataError::unusable(dir.join("train"), what, help));
    }
    let names: Vec<_> = classes.iter().filter_map(|path| path.file_name()).collect();
    for other in entries(&dir.join("test"), true)? {
        if !names.iter().any(|name| Some(*name) == other.file_name()) {
            let help = "both splits need the same classes, under the same names";
            return Err(DataError::unusable(other, "is a class that `train` does not have", help));
        }
    }
    let list = |split: &str| names.iter().map(|name| files(&dir.join(split).join(name))).collect::<Result<Vec<_>, _>>();
    let (train, test) = (interleave(&list("train")?), interleave(&list("test")?));
    // The first image says what the others must be.
    let mut images = Vec::with_capacity(train.len() + test.len());
    for (path, _) in train.iter().chain(&test) {
        images.push(read(path, size)?);
        let (first, last) = (&images[0], &images[images.len() - 1]);
        if (first.height(), first.width()) != (last.height(), last.width()) {
            let what = format!(
                "is {} by {} pixels, but {} is {} by {}",
                last.height(),
                last.width(),
                train[0].0.display(),
                first.height(),
                first.width()
            );
            let help = "make all images one size, or add `size: [height, width]`, which resizes them (bilinear)";
            return Err(DataError::unusable(path.as_path(), what, help));
        }
    }
    let colour = images.iter().any(|image| image.color().has_color());
    let test_images = images.split_off(train.len());
    let labels = |split: &[(PathBuf, u8)]| split.iter().map(|(_, class)| *class).collect();
    let (train, test) = (examples(images, labels(&train), colour), examples(test_images, labels(&test), colour));
    Ok(DataSet::new("folder", names.len() as u32, train, test))
}

/// The folders (or files) in a folder, by name, without hidden ones.
fn entries(dir: &Path, folders: bool) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => {
            let help = "image folders have `train/CLASS/` and `test/CLASS/`, with the same classes in both";
            DataError::unusable(dir, "is missing", help)
        }
        _ => DataError::Unreadable { path: dir.to_path_buf(), source },
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'));
        if !hidden && path.is_dir() == folders {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The images of a class.
fn files(class: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files = entries(class, false)?;
    for file in &files {
        let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !KINDS.contains(&kind.as_str()) {
            let help = "convert it to PNG, or move it away: nothing is skipped silently";
            return Err(DataError::unusable(file.as_path(), "is neither a PNG nor a JPEG file", help));
        }
    }
    if files.is_empty() {
        let help = "put at least one PNG or JPEG file there, or remove the class from `train` and `test`";
        return Err(DataError::unusable(class, "is a class without images", help));
    }
    Ok(files)
}

/// The first of every class, the second of every class and so on, with the class.
fn interleave(classes: &[Vec<PathBuf>]) -> Vec<(PathBuf, u8)> {
    let longest = classes.iter().map(Vec::len).max().unwrap_or(0);
    let row = |at: usize| {
        let present = classes.iter().enumerate().filter_map(move |(class, files)| Some((files.get(at)?, class)));
        present.map(|(file, class)| (file.clone(), class as u8))
    };
    (0..longest).flat_map(row).collect()
}

fn read(path: &Path, size: Option<[u32; 2]>) -> Result<DynamicImage, DataError> {
    let damaged = |error: String| {
        DataError::unusable(path, format!("cannot be decoded ({error})"), "the file is damaged; replace or remove it")
    };
    // By content: many a JPEG is called .png.
    let reader = image::ImageReader::open(path).and_then(image::ImageReader::with_guessed_format);
    let image = reader.map_err(|error| damaged(error.to_string()))?.decode();
    let image = image.map_err(|error| damaged(error.to_string()))?;
    if !matches!(image, DynamicImage::ImageLuma8(_) | DynamicImage::ImageRgb8(_)) {
        let what = format!("has pixels of type {:?}", image.color());
        let help = "convert it to 8 bits, grey or RGB, without transparency";
        return Err(DataError::unusable(path, what, help));
    }
    let image = match size {
        Some([height, width]) if (image.height(), image.width()) != (height, width) => {
            image.resize_exact(width, height, FilterType::Triangle)
        }
        _ => image,
    };
    if image.height().max(image.width()) > MAX_SIDE {
        let (path, height, width) = (path.to_path_buf(), image.height(), image.width());
        return Err(DataError::BadSize { path, height, width, most: MAX_SIDE });
    }
    Ok(image)
}

fn examples(images: Vec<DynamicImage>, labels: Vec<u8>, colour: bool) -> Examples {
    let (height, width) = (images[0].height(), images[0].width());
    let mut bytes = Vec::with_capacity(images.len() * (height * width) as usize * if colour { 3 } else { 1 });
    for image in images {
        if colour {
            let pixels = image.into_rgb8().into_raw();
            (0..3).for_each(|channel| bytes.extend(pixels.iter().skip(channel).step_by(3)));
        } else {
            bytes.extend(image.into_luma8().into_raw());
        }
    }
    Examples { channels: if colour { 3 } else { 1 }, height, width, pixels: Pixels::bytes(bytes), labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use miette::Diagnostic;
    use tempfile::TempDir;

    fn grey(dir: &TempDir, path: &str, side: u32, value: u8) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
        GrayImage::from_pixel(side, side, Luma([value])).save(path).expect("writable");
    }

    /// Two classes with two and one training images of 4x4, and one test image each.
    fn folder() -> TempDir {
        let dir = TempDir::new().expect("a temporary folder");
        for (path, value) in [
            ("train/cat/a.png", 10),
            ("train/cat/b.png", 20),
            ("train/dog/a.png", 30),
            ("test/cat/x.png", 40),
            ("test/dog/x.png", 50),
        ] {
            grey(&dir, path, 4, value);
        }
        dir
    }

    fn complaint(dir: &TempDir) -> String {
        let error = load(dir.path(), None).expect_err("must be refused");
        let help = error.help().expect("every error has a remedy").to_string();
        format!("{error}; {help}").replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn classes_take_turns_and_grey_images_have_one_channel() {
        let dir = folder();
        std::fs::write(dir.path().join("train/cat/.hidden"), b"x").expect("writable");
        let set = load(dir.path(), None).expect("readable");
        assert_eq!((set.train.channels, set.train.height, set.train.width, set.classes), (1, 4, 4, 2));
        assert_eq!((&set.train.labels[..], &set.test.labels[..]), (&[0, 1, 0][..], &[0, 1][..]));
        let first: Vec<f32> = (0..3).map(|example| set.train.gather([example])[0] * 255.0).collect();
        assert_eq!(first, [10.0, 30.0, 20.0]);
    }

    #[test]
    fn one_image_in_colour_gives_all_three_channels() {
        let dir = folder();
        let image = RgbImage::from_fn(4, 4, |x, _| Rgb([x as u8, 100, 200]));
        image.save(dir.path().join("train/dog/a.png")).expect("writable");
        let set = load(dir.path(), None).expect("readable");
        assert_eq!((set.train.channels, set.test.channels), (3, 3));
        let dog: Vec<f32> = set.train.gather([1]).iter().map(|value| value * 255.0).collect();
        assert_eq!((&dog[..4], dog[16], dog[32]), (&[0.0, 1.0, 2.0, 3.0][..], 100.0, 200.0));
    }

    #[test]
    fn jpegs_are_read_and_images_resized() {
        let dir = folder();
        RgbImage::from_pixel(8, 6, Rgb([90, 90, 90])).save(dir.path().join("train/cat/c.jpg")).expect("writable");
        assert!(complaint(&dir).contains("DIR/train/cat/c.jpg: is 6 by 8 pixels, but DIR/train/cat/a.png is 4 by 4"));
        assert!(complaint(&dir).contains("size: [height, width]"));
        let set = load(dir.path(), Some([3, 5])).expect("resized");
        assert_eq!((set.train.count(), set.train.height, set.train.width), (4, 3, 5));
        let close = |example: usize, value: f32| (set.train.gather([example])[7] * 255.0 - value).abs() < 3.0;
        assert!(close(0, 10.0) && close(3, 90.0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_remedy() {
        let dir = folder();
        std::fs::remove_file(dir.path().join("test/dog/x.png")).expect("removable");
        assert!(complaint(&dir).contains("DIR/test/dog: is a class without images"));
        std::fs::write(dir.path().join("test/dog/x.gif"), b"GIF89a").expect("writable");
        assert!(complaint(&dir).contains("x.gif: is neither a PNG nor a JPEG file"));
        std::fs::rename(dir.path().join("test/dog/x.gif"), dir.path().join("test/dog/x.png")).expect("renamable");
        assert!(complaint(&dir).contains("x.png: cannot be decoded"));
        let clear = image::RgbaImage::from_pixel(4, 4, image::Rgba([1, 2, 3, 4]));
        clear.save(dir.path().join("test/dog/x.png")).expect("writable");
        assert!(complaint(&dir).contains("without transparency"));
        std::fs::remove_dir_all(dir.path().join("test/dog")).expect("removable");
        assert!(complaint(&dir).contains("DIR/test/dog: is missing"));
        grey(&dir, "test/bird/x.png", 4, 1);
        assert!(complaint(&dir).contains("DIR/test/bird: is a class that `train` does not have"));
        std::fs::remove_dir_all(dir.path().join("train/dog")).expect("removable");
        assert!(complaint(&dir).contains("1 folders of classes"));
        std::fs::remove_dir_all(dir.path().join("train")).expect("removable");
        assert!(complaint(&dir).contains("DIR/train: is missing"));
    }
}
