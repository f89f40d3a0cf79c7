//! Why a data set cannot be used: which file, what was found there, what to do.

use miette::Diagnostic;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum DataError {
    #[error("there is no folder {}", dir.display())]
    #[diagnostic(help("`dir` names the folder that holds the data set; relative paths start at the sweep's file"))]
    NoFolder { dir: PathBuf },

    #[error("{} has no {what}; looked for {}", dir.display(), tried.join(", "))]
    #[diagnostic(help("put MNIST's four files there: images and labels, of `train` and `t10k`, gzipped or not"))]
    Missing { dir: PathBuf, what: &'static str, tried: Vec<String> },

    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check its permissions; a file that ends in .gz must be gzipped"))]
    Unreadable { path: PathBuf, source: std::io::Error },

    #[error("{} is not an IDX file of {expected}: it begins with {found}", path.display())]
    #[diagnostic(help("look whether images and labels were swapped, or a web page was saved instead of the file"))]
    WrongMagic { path: PathBuf, expected: &'static str, found: String },

    #[error("{} is cut short: its header promises {promised} bytes, {found} are there", path.display())]
    #[diagnostic(help("the download probably broke off; fetch the file again"))]
    Truncated { path: PathBuf, promised: u64, found: u64 },

    #[error("{} has {excess} bytes more than its header promises", path.display())]
    #[diagnostic(help("the file is damaged; fetch it again"))]
    TooLong { path: PathBuf, excess: u64 },

    #[error("{} holds no examples", path.display())]
    #[diagnostic(help("fetch the file again"))]
    Empty { path: PathBuf },

    #[error("{} holds images of {height} by {width} pixels; up to {most} by {most} are supported", path.display())]
    #[diagnostic(help("check that this is a file of images in MNIST's format"))]
    BadSize { path: PathBuf, height: u32, width: u32, most: u32 },

    #[error("{} holds {images} images, but {} holds {labels} labels", images_path.display(), labels_path.display())]
    #[diagnostic(help("the two files do not belong together; take both from the same copy of the data set"))]
    CountMismatch { images_path: PathBuf, images: u32, labels_path: PathBuf, labels: u32 },

    #[error("{} gives example {example} the label {label}; labels are 0 to {largest}", path.display())]
    #[diagnostic(help("this is not MNIST, or the file is damaged; fetch it again"))]
    BadLabel { path: PathBuf, example: usize, label: u8, largest: u32 },

    #[error("the training images are {} by {} pixels, the test images {} by {}", train.0, train.1, test.0, test.1)]
    #[diagnostic(help("take all four files from the same copy of the data set"))]
    ShapeMismatch { train: (u32, u32), test: (u32, u32) },

    #[error("{} has {found} bytes, not a multiple of the {record} of a record: record {broken} (from 0) is incomplete", path.display())]
    #[diagnostic(help("the download probably broke off, or this is not a binary batch of CIFAR; fetch it again"))]
    BrokenRecord { path: PathBuf, found: usize, record: usize, broken: usize },

    #[error("record {record} (from 0) of {} has the {what} {value}; these are 0 to {largest}", path.display())]
    #[diagnostic(help(
        "the file is damaged, or of the other CIFAR (CIFAR-100's records begin with two labels, CIFAR-10's with one)"
    ))]
    BadRecord { path: PathBuf, record: usize, what: &'static str, value: u8, largest: u8 },

    #[error("{}: {what}", path.display())]
    #[diagnostic(help("{help}"))]
    Unusable { path: PathBuf, what: String, help: String },

    #[error("the embedded digits are damaged: {reason}")]
    #[diagnostic(help("this is a fault of the program file; build or install it again"))]
    Embedded { reason: String },
}

impl DataError {
    /// What is wrong in a file, and what to do.
    pub(super) fn unusable(path: impl Into<PathBuf>, what: impl Into<String>, help: impl Into<String>) -> DataError {
        DataError::Unusable { path: path.into(), what: what.into(), help: help.into() }
    }
}
