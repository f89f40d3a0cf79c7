//! `epsweep data`: the data sets this version reads, where they come from, and whether they are whole.

use super::printer;
use crate::data::fetch::{Fetched, Fetcher};
use crate::data::known::{PUBLISHED, Published, md5_of};
use crate::data::{self, DataInfo};
use crate::program::{Exit, Failure, note};
use crate::spec::{CifarLabels, Dataset};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Debug, clap::Subcommand)]
enum DataVerb {
    /// List the data sets that a sweep file can name
    List {
        /// Where to look for them, each in a folder of its name
        #[arg(long, value_name = "DIR", default_value = "data")]
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Download a data set, resume a broken download, check its digests
    Fetch {
        /// `mnist`, `fashion_mnist`, `cifar10` or `cifar100`
        name: String,
        /// Where to put it; data/NAME when absent
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The URL of a folder that holds the files, tried before the known ones; may be repeated
        #[arg(long, value_name = "URL")]
        mirror: Vec<String>,
        /// The URL of a folder that holds a folder NAME with the files, tried next
        #[arg(long, value_name = "URL", env = "EPSWEEP_MIRROR")]
        mirrors: Option<String>,
    },
    /// Read a data set, compare its files with the published ones, print its shape and digest
    Verify {
        /// The name in `dataset:`, such as `cifar10`
        name: String,
        /// Where it lies, for those that are not embedded; a file for `npz`
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Data sets that cannot be fetched: name, how a sweep names them, what they are.
const OTHERS: [(&str, &str, &str); 3] = [
    ("digits", "digits", "handwritten digits, embedded (UCI optical digits, CC BY 4.0)"),
    ("npz", "{npz: {file: FILE}}", "your own images and labels, saved by NumPy"),
    ("folder", "{folder: {dir: DIR}}", "your own PNG and JPEG files, in train/CLASS and test/CLASS"),
];

pub fn data(args: &Args) -> Result<Exit, Failure> {
    match &args.verb {
        DataVerb::List { dir, json } => list(dir, *json),
        DataVerb::Fetch { name, dir, mirror, mirrors } => fetch(name, dir.as_deref(), mirror, mirrors.as_deref())?,
        DataVerb::Verify { name, dir, json } => verify(name, dir.as_deref(), *json)?,
    }
    Ok(Exit::Done)
}

fn list(root: &Path, json: bool) {
    let mut rows = vec![row(OTHERS[0], "10", "1347", "450", "1x8x8", "in the program")];
    for published in &PUBLISHED {
        let place = root.join(published.name);
        let found = if place.is_dir() { place.display().to_string() } else { "-".to_string() };
        let dataset = format!("{{{}: {{dir: DIR}}}}", published.name);
        let [channels, height, width] = published.shape;
        let shape = format!("{channels}x{height}x{width}");
        let counts = [published.classes, published.train, published.test].map(|count| count.to_string());
        let kind = (published.name, dataset.as_str(), published.about);
        rows.push(row(kind, &counts[0], &counts[1], &counts[2], &shape, &found));
    }
    rows.extend(OTHERS[1..].iter().map(|other| row(*other, "-", "-", "-", "-", "-")));
    let header = ["name", "classes", "train", "test", "image", "dataset", "found", "description"];
    if json {
        let objects = rows.iter().map(|row| header.iter().zip(row).collect::<std::collections::BTreeMap<_, _>>());
        printer::json(&objects.collect::<Vec<_>>());
    } else {
        printer::table(&header, &rows);
    }
}

fn row(
    (name, dataset, about): (&str, &str, &str),
    classes: &str,
    train: &str,
    test: &str,
    shape: &str,
    found: &str,
) -> Vec<String> {
    [name, classes, train, test, shape, dataset, found, about].map(String::from).to_vec()
}

fn fetch(name: &str, dir: Option<&Path>, mirror: &[String], mirrors: Option<&str>) -> Result<(), Failure> {
    let Some(published) = Published::find(name) else {
        let names: Vec<&str> = PUBLISHED.iter().map(|published| published.name).collect();
        let error = miette::miette!(
            help = format!("these can be fetched: {}", names.join(", ")),
            "{name:?} is no data set that can be fetched"
        );
        return Err(Failure::usage(error));
    };
    let dir = dir.map_or_else(|| Path::new("data").join(name), Path::to_path_buf);
    let mut places = mirror.to_vec();
    places.extend(mirrors.map(|root| format!("{}/{name}", root.trim_end_matches('/'))));
    places.extend(published.mirrors.iter().map(ToString::to_string));
    let fetcher = Fetcher::from_environment().map_err(Failure::usage)?;
    for file in published.files {
        let bar = bar(file.name, file.bytes);
        let fetched = fetcher.fetch(file, &dir, &places, &mut |have| bar.set_position(have));
        bar.finish_and_clear();
        match fetched.map_err(Failure::internal)? {
            Fetched::Present => note(format_args!("{} is there, as published", file.name)),
            Fetched::Downloaded => note(format_args!("{} fetched, as published", file.name)),
        }
    }
    printer::line(dir.display());
    Ok(())
}

fn bar(name: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:32}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target).with_style(style.expect("a valid template"));
    bar.with_message(name.to_string())
}

/// The data set of a name on the command line.
fn named(name: &str, dir: Option<&Path>) -> Result<Dataset, Failure> {
    let dir = match (name, dir) {
        ("digits", None) => return Ok(Dataset::Digits {}),
        ("digits", Some(_)) => return Err(Failure::usage(miette::miette!("digits is embedded: leave --dir out"))),
        (_, None) if Published::find(name).is_some() || OTHERS.iter().any(|other| other.0 == name) => {
            let what =
                if name == "npz" { "is a file: name it with --dir FILE" } else { "lies in a folder: add --dir DIR" };
            return Err(Failure::usage(miette::miette!("{name} {what}")));
        }
        (_, dir) => dir.map_or_else(PathBuf::new, Path::to_path_buf),
    };
    Ok(match name {
        "mnist" => Dataset::Mnist { dir },
        "fashion_mnist" => Dataset::FashionMnist { dir },
        "cifar10" => Dataset::Cifar10 { dir },
        "cifar100" => Dataset::Cifar100 { dir, labels: CifarLabels::Fine },
        "npz" => Dataset::Npz { file: Some(dir), train: None, test: None, layout: None },
        "folder" => Dataset::Folder { dir, size: None },
        _ => {
            let error = miette::miette!("there is no data set {name:?}; `epsweep data list` shows them");
            return Err(Failure::usage(error));
        }
    })
}

fn verify(name: &str, dir: Option<&Path>, json: bool) -> Result<(), Failure> {
    let dataset = named(name, dir)?;
    let published = Published::find(name);
    let mut files = Vec::new();
    for file in published.map_or(&[][..], |published| published.files) {
        let path = dir.unwrap_or(Path::new("")).join(file.name);
        if path.is_file() {
            let md5 = md5_of(&path).map_err(|error| Failure::usage(miette::miette!("{}: {error}", path.display())))?;
            files.push((file.name, md5 == file.md5, md5));
        }
    }
    let info = data::identify(&dataset).map_err(Failure::usage)?;
    let whole = published.map(|known| [info.train_count, info.test_count] == [known.train, known.test]);
    if json {
        let files: Vec<_> = files
            .iter()
            .map(|(name, same, md5)| serde_json::json!({"file": name, "md5": md5, "as_published": same}))
            .collect();
        let mut object = serde_json::to_value(&info).expect("our own values are valid JSON");
        object["files"] = files.into();
        object["whole"] = whole.into();
        printer::json(&object);
        return Ok(());
    }
    for (name, same, md5) in &files {
        let verdict = if *same { "as published" } else { "NOT the published file" };
        printer::line(format!("{name}: MD5 {md5}, {verdict}"));
    }
    tell(&info);
    if let (Some(known), Some(false)) = (published, whole) {
        printer::line(format!("a part of it, or another set: published are {} and {}", known.train, known.test));
    }
    printer::line(format!("digest {}", info.id.digest));
    Ok(())
}

fn tell(info: &DataInfo) {
    printer::line(format!(
        "{}: {} training and {} test images of {}x{}x{}, {} classes",
        info.id.name, info.train_count, info.test_count, info.channels, info.height, info.width, info.classes
    ));
}
