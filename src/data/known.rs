//! Published data sets: their files with the digests their authors (or torchvision) publish, and
//! where copies lie.

use md5::{Digest, Md5};
use std::io::Read;
use std::path::Path;

/// A data set that can be fetched.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// The name in `dataset`.
    pub name: &'static str,
    pub about: &'static str,
    pub classes: u32,
    pub train: u32,
    pub test: u32,
    /// Channels, height, width.
    pub shape: [u32; 3],
    pub files: &'static [PublishedFile],
    /// Folders of the files on the web, tried in this order.
    pub mirrors: &'static [&'static str],
}

/// A file as it was published.
#[derive(Debug, Clone, Copy)]
pub struct PublishedFile {
    pub name: &'static str,
    /// Hexadecimal. MD5 is what was published; it guards against damage, not against forgery.
    pub md5: &'static str,
    pub bytes: u64,
}

const fn file(name: &'static str, md5: &'static str, bytes: u64) -> PublishedFile {
    PublishedFile { name, md5, bytes }
}

pub const PUBLISHED: [Published; 4] = [
    Published {
        name: "mnist",
        about: "handwritten digits, grey",
        classes: 10,
        train: 60_000,
        test: 10_000,
        shape: [1, 28, 28],
        files: &[
            file("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
            file("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
            file("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
            file("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
        ],
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://raw.githubusercontent.com/fgnt/mnist/master",
        ],
    },
    Published {
        name: "fashion_mnist",
        about: "articles of clothing, grey",
        classes: 10,
        train: 60_000,
        test: 10_000,
        shape: [1, 28, 28],
        files: &[
            file("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
            file("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
            file("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
            file("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
        ],
        mirrors: &[
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ],
    },
    Published {
        name: "cifar10",
        about: "photographs, in colour",
        classes: 10,
        train: 50_000,
        test: 10_000,
        shape: [3, 32, 32],
        files: &[file("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)],
        mirrors: &["https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"],
    },
    Published {
        name: "cifar100",
        about: "photographs, in colour; 100 fine or 20 coarse classes",
        classes: 100,
        train: 50_000,
        test: 10_000,
        shape: [3, 32, 32],
        files: &[file("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733)],
        mirrors: &["https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"],
    },
];

impl Published {
    pub fn find(name: &str) -> Option<&'static Published> {
        PUBLISHED.iter().find(|published| published.name == name)
    }
}

/// The MD5 of a file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn md5_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Md5::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
