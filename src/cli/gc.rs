//! `epsweep gc DIR...`: removes artifacts that no ledger names.
//!
//! They come from attempts whose answer was not taken, from answers that were found damaged, and from backups that
//! were put back. Whatever a ledger names stays, whichever sweep it belongs to.

use super::bucket::Artifacts;
use super::printer;
use crate::artifacts::{ArtifactId, Bucket, Listed, Place};
use crate::ledger::Ledger;
use crate::program::{Exit, Failure, note};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What artifacts lie in: the last one only beside the ledger.
const FOLDERS: [&str; 3] = ["checkpoints", "witnesses", "unfinished"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directories of `epsweep run --out` or `epsweep serve --state` that keep artifacts there: all of them, where
    /// several share a place
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    artifacts: Artifacts,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// A ledger that is gone for good, as the refusal names it: what only it named goes too
    #[arg(long, value_name = "LEDGER")]
    forget: Vec<String>,
    /// Leave out what is younger: an answer that will name it may be on its way
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    older_than: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One artifact that nobody names.
struct Garbage {
    file: Listed,
    folder: PathBuf,
}

pub async fn gc(args: Args) -> Result<Exit, Failure> {
    let (mut named, mut given) = (HashSet::new(), BTreeMap::new());
    for dir in &args.dirs {
        let ledger = Ledger::read(dir).map_err(Failure::usage)?;
        named.extend(ledger.named().map_err(Failure::internal)?);
        let at = dir.canonicalize().map_err(|error| Failure::usage(miette::Report::from_err(error)))?;
        given.extend(ledger.known_identity().map_err(Failure::internal)?.map(|identity| (identity, at)));
    }
    let age = Duration::try_from_secs_f64(args.older_than * 3600.0)
        .map_err(|_| Failure::usage(miette::miette!("--older-than {} is not a number of hours", args.older_than)))?;
    let limit = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let bucket = args.artifacts.bucket()?;
    let places = places(&args, bucket.as_ref())?;
    for place in &places {
        refuse_unless_all_are_given(&args, place, &given).await?;
    }
    let mut found = Vec::new();
    for (folder, file) in list(&args, bucket.as_ref()).await? {
        let id = file.name.split('.').next().and_then(ArtifactId::parse);
        if id.is_some_and(|id| !named.contains(id.as_str())) && file.modified <= limit {
            found.push(Garbage { file, folder });
        }
    }
    if !args.dry_run {
        remove(&found, bucket.as_ref()).await?;
        for (place, gone) in places.iter().flat_map(|place| args.forget.iter().map(move |gone| (place, gone))) {
            place.strike(gone).await.map_err(Failure::usage)?;
        }
    }
    show(&args, &found);
    Ok(Exit::Done)
}

/// The places that other ledgers may use too.
fn places(args: &Args, bucket: Option<&Bucket>) -> Result<Vec<Place>, Failure> {
    if let Some(bucket) = bucket {
        return Ok(vec![Place::Bucket(bucket.clone())]);
    }
    let linked = args.dirs.iter().map(|dir| Place::linked_from(dir)).collect::<Result<Vec<_>, _>>();
    let linked = linked.map_err(|error| Failure::usage(miette::Report::from_err(error)))?;
    Ok(linked.into_iter().flatten().collect())
}

/// What only an absent ledger names would be taken for nobody's. A copy of one that lies elsewhere (a backup) may be
/// older than the original, and does not count.
async fn refuse_unless_all_are_given(
    args: &Args,
    place: &Place,
    given: &BTreeMap<String, PathBuf>,
) -> Result<(), Failure> {
    let users = place.users().await.map_err(Failure::usage)?;
    for (identity, at) in users.into_iter().filter(|(identity, _)| !args.forget.contains(identity)) {
        let dir = at.split_once(':').map_or(at.as_str(), |(_, dir)| dir);
        if given.get(&identity).is_some_and(|given| given == Path::new(dir)) {
            continue;
        }
        let what = format!("{place} holds artifacts of the ledger {identity} too, last seen at {at}");
        if args.dry_run {
            note(format_args!("{what}; what it names is listed here as nobody's"));
            continue;
        }
        return Err(Failure::usage(miette::miette!(
            help = format!("name its directory as well; if it is gone for good: --forget {identity}"),
            "{what}: nothing was removed"
        )));
    }
    Ok(())
}

/// Every file of the folders, or every object of the bucket's.
async fn list(args: &Args, bucket: Option<&Bucket>) -> Result<Vec<(PathBuf, Listed)>, Failure> {
    let mut all = Vec::new();
    if let Some(bucket) = bucket {
        for folder in &FOLDERS[..2] {
            let objects = bucket.list(folder).await.map_err(Failure::internal)?;
            all.extend(objects.into_iter().map(|object| (PathBuf::from(folder), object)));
        }
        return Ok(all);
    }
    let mut seen = HashSet::new();
    for folder in args.dirs.iter().flat_map(|dir| FOLDERS.map(|name| dir.join(name))) {
        // Several directories may share it.
        let Ok(folder) = folder.canonicalize() else { continue };
        if seen.insert(folder.clone()) {
            let files = files(&folder)
                .map_err(|error| Failure::usage(miette::miette!("cannot read {}: {error}", folder.display())))?;
            all.extend(files.into_iter().map(|file| (folder.clone(), file)));
        }
    }
    Ok(all)
}

fn files(folder: &Path) -> std::io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(Listed { name, bytes: about.len(), modified: about.modified()? });
        }
    }
    Ok(files)
}

async fn remove(found: &[Garbage], bucket: Option<&Bucket>) -> Result<(), Failure> {
    for Garbage { file, folder } in found {
        let path = folder.join(&file.name);
        match bucket {
            Some(bucket) => bucket.remove(&path.to_string_lossy()).await.map_err(Failure::internal)?,
            None => std::fs::remove_file(&path)
                .map_err(|error| Failure::usage(miette::miette!("cannot remove {}: {error}", path.display())))?,
        }
    }
    Ok(())
}

fn show(args: &Args, found: &[Garbage]) {
    let bytes: u64 = found.iter().map(|one| one.file.bytes).sum();
    if args.json {
        let names: Vec<_> = found.iter().map(|one| one.folder.join(&one.file.name).display().to_string()).collect();
        return printer::json(&serde_json::json!({"artifacts": names, "bytes": bytes, "removed": !args.dry_run}));
    }
    if args.dry_run {
        found.iter().for_each(|one| printer::line(one.folder.join(&one.file.name).display()));
    }
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    printer::line(format!("{} {verb}, {:.1} MB", printer::count(found.len() as u64, "artifact"), bytes as f64 / 1e6));
}
