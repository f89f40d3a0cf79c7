//! `epsweep data`, and sweeps over data that is not embedded.

use crate::harness::{Folder, SMALL, path};
use std::path::Path;

/// Little images of two classes, one bright above and one below, as PNG files.
fn write_images(folder: &Folder) {
    for (split, count) in [("train", 24), ("test", 8)] {
        for (class, bright) in [("above", 0..4), ("below", 4..8)] {
            let place = path(folder, "images").join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let pixel =
                    |_: u32, y: u32| image::Luma([if bright.contains(&y) { 200 + number } else { 40 + number }]);
                image::GrayImage::from_fn(8, 8, pixel).save(place.join(format!("{number:02}.png"))).unwrap();
            }
        }
    }
}

/// CIFAR-10 in its binary format, `count` records in each file.
fn write_cifar(dir: &Path, count: usize) {
    std::fs::create_dir_all(dir).unwrap();
    let names = (1..=5).map(|batch| format!("data_batch_{batch}.bin")).chain(["test_batch.bin".to_string()]);
    for (salt, name) in names.enumerate() {
        let record = |at: usize| {
            let label = (at % 10) as u8;
            std::iter::once(label).chain((0..3072).map(move |pixel| (pixel * usize::from(label) + at * 7 + salt) as u8))
        };
        std::fs::write(dir.join(name), (0..count).flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
}

/// A message without the line breaks and the margin of a narrow terminal.
fn flat(said: &str) -> String {
    said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn a_sweep_runs_on_a_folder_of_images() {
    let folder = Folder::with(&SMALL.replace("dataset: digits", "dataset: {folder: {dir: images}}"));
    folder.epsweep(&["run", "sweep.yaml"]).expect(2).says(&["images", "folder"]);
    write_images(&folder);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "out"]).expect(0);
    let curves = folder.read("out/report/curves.csv");
    assert!(curves.lines().nth(1).unwrap().contains(",16,"), "16 test images: {curves}");
    folder.epsweep(&["data", "verify", "folder", "--dir", "images"]).expect(0).says(&[]);
}

#[test]
fn a_corrupt_cifar_batch_stops_before_anything_runs() {
    let folder = Folder::with(&SMALL.replace("dataset: digits", "dataset: {cifar10: {dir: cifar}}"));
    write_cifar(&path(&folder, "cifar"), 6);
    folder.epsweep(&["plan", "sweep.yaml"]).expect(0);
    let batch = path(&folder, "cifar/data_batch_3.bin");
    let mut bytes = std::fs::read(&batch).unwrap();
    bytes[2 * 3073] = 77;
    std::fs::write(&batch, &bytes).unwrap();
    let said = flat(&folder.epsweep(&["run", "sweep.yaml"]).expect(2).stderr);
    for words in ["data_batch_3.bin has the label 77", "record 2", "0 to 9"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!path(&folder, "runs").exists(), "nothing was started");
}

#[test]
fn data_sets_are_listed_and_verified() {
    let folder = Folder::with(SMALL);
    write_cifar(&path(&folder, "data/cifar10"), 4);
    let list = folder.epsweep(&["data", "list"]).expect(0).stdout;
    for words in ["digits", "fashion_mnist", "data/cifar10", "{npz: {file: FILE}}"] {
        assert!(list.contains(words), "{words}: {list}");
    }
    let found = folder.epsweep(&["data", "verify", "cifar10", "--dir", "data/cifar10"]).expect(0).stdout;
    assert!(found.contains("20 training and 4 test images of 3x32x32") && found.contains("50000 and 10000"), "{found}");
    let json = folder.epsweep(&["data", "verify", "digits", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["train_count"], &json["classes"]), (&1347.into(), &10.into()));
    folder.epsweep(&["data", "verify", "cifar10"]).expect(2).says(&["--dir"]);
    folder.epsweep(&["data", "verify", "nonsense"]).expect(2).says(&["data list"]);
    folder.epsweep(&["data", "fetch", "imagenet"]).expect(2).says(&["mnist", "cifar100"]);
}

#[test]
fn without_a_network_fetch_says_what_to_do_by_hand() {
    let folder = Folder::with(SMALL);
    // A proxy where nobody listens: no request leaves this machine.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let mut command = folder.command(&["data", "fetch", "mnist", "--dir", "here", "--mirror", "http://mirror.test/m"]);
    for name in ["ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "EPSWEEP_MIRROR"] {
        command.env_remove(name);
    }
    let output = command.env("ALL_PROXY", nobody).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let flat = flat(&said);
    for words in
        ["train-images-idx3-ubyte.gz", "http://mirror.test/m", "HTTPS_PROXY", "f68b3c2dcbeaaa9fbdd348bbdeb94873"]
    {
        assert!(flat.contains(words), "{words}: {said}");
    }
}
