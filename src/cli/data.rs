//! `epsweep data`: the data sets this version reads.

use super::printer;
use crate::data;
use crate::program::{Exit, Failure};
use crate::spec::Dataset;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Debug, clap::Subcommand)]
enum DataVerb {
    /// List the data sets that a sweep file can name
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read a data set and print its shape and digest
    Verify {
        /// `digits` or `mnist`
        name: String,
        /// Where it lies, for those that are not embedded
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const KNOWN: [(&str, &str, &str); 2] = [
    ("digits", "embedded", "1,797 handwritten 8x8 digits (UCI optical digits, CC BY 4.0)"),
    ("mnist", "{mnist: {dir: DIR}}", "handwritten 28x28 digits, in MNIST's own IDX files, gzipped or plain"),
];

pub fn data(args: &Args) -> Result<Exit, Failure> {
    match &args.verb {
        DataVerb::List { json: true } => {
            let rows = KNOWN
                .map(|(name, place, what)| serde_json::json!({"name": name, "dataset": place, "description": what}));
            printer::json(&rows);
        }
        DataVerb::List { json: false } => {
            let rows = KNOWN.map(|(name, place, what)| [name, place, what].map(String::from).to_vec());
            printer::table(&["name", "dataset", "description"], &rows);
        }
        DataVerb::Verify { name, dir, json } => verify(name, dir.as_ref(), *json)?,
    }
    Ok(Exit::Done)
}

fn verify(name: &str, dir: Option<&PathBuf>, json: bool) -> Result<(), Failure> {
    let dataset = match (name, dir) {
        ("digits", None) => Dataset::Digits {},
        ("mnist", Some(dir)) => Dataset::Mnist { dir: dir.clone() },
        ("mnist", None) => return Err(Failure::usage(miette::miette!("mnist lies in a folder: add --dir DIR"))),
        ("digits", Some(_)) => return Err(Failure::usage(miette::miette!("digits is embedded: leave --dir out"))),
        _ => {
            return Err(Failure::usage(miette::miette!(
                "there is no data set {name:?}; `epsweep data list` shows them"
            )));
        }
    };
    let info = data::identify(&dataset).map_err(Failure::usage)?;
    if json {
        printer::json(&info);
        return Ok(());
    }
    printer::line(format!(
        "{}: {} training and {} test images of {}x{}x{}, {} classes",
        info.id.name, info.train_count, info.test_count, info.channels, info.height, info.width, info.classes
    ));
    printer::line(format!("digest {}", info.id.digest));
    Ok(())
}
