//! `--artifacts s3://...` of the commands that read a run: what lies only in the bucket is copied into the run's directory
//! first, so that they find all files where they always are.

use crate::artifacts::{ArtifactId, Bucket, Store};
use crate::program::{Failure, note};
use std::path::Path;
use tokio::task::JoinSet;

/// Objects that travel at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Artifacts {
    /// The bucket, s3://BUCKET/PREFIX, that the artifacts are in [default: the directory's own folders, shared
    /// ones included]
    #[arg(long, value_name = "PLACE", env = "EPSWEEP_ARTIFACTS")]
    artifacts: Option<String>,
}

/// Which sorts of artifacts are wanted, by their hashes.
#[derive(Debug, Default)]
pub struct Wanted {
    pub checkpoints: Vec<String>,
    pub witnesses: Vec<String>,
}

impl Artifacts {
    /// The bucket, where one is meant: a shared folder is linked into the directory.
    pub fn bucket(&self) -> Result<Option<Bucket>, Failure> {
        match &self.artifacts {
            Some(place) if Bucket::is_meant_by(place) => Bucket::named(place).map(Some).map_err(Failure::usage),
            _ => Ok(None),
        }
    }

    /// Copies what is `wanted` and not in `dir` from the bucket, if there is one. What is missing or damaged there
    /// is said, and left to whoever reads next.
    pub async fn bring(&self, dir: &Path, wanted: &Wanted) -> Result<(), Failure> {
        let Some(bucket) = self.bucket()? else { return Ok(()) };
        let store = Store::open(&dir.join("checkpoints"));
        let checkpoints = store.map_err(|error| Failure::usage(miette::Report::msg(error)))?.before(bucket.clone());
        let witnesses = checkpoints.witnesses();
        let mut brought = 0;
        for (store, ids) in [(&checkpoints, &wanted.checkpoints), (&witnesses, &wanted.witnesses)] {
            brought += bring_all(store, ids).await?;
        }
        if brought > 0 {
            let files = super::printer::count(brought, "file");
            note(format_args!("{files} copied from {} to {}", bucket.place(), dir.display()));
        }
        Ok(())
    }
}

async fn bring_all(store: &Store, ids: &[String]) -> Result<u64, Failure> {
    let missing: Vec<_> = ids.iter().filter_map(|id| ArtifactId::parse(id)).filter(|id| !store.is_here(id)).collect();
    let mut brought = 0;
    for part in missing.chunks(AT_ONCE) {
        let mut travels = JoinSet::new();
        for id in part {
            let (store, id) = (store.clone(), id.clone());
            travels.spawn(async move { store.copy_here(&id).await });
        }
        for arrived in travels.join_all().await {
            match arrived {
                Ok(()) => brought += 1,
                Err(error) if error.is_gone() => note(format_args!("{error}")),
                Err(error) => return Err(Failure::usage(miette::Report::from_err(error))),
            }
        }
    }
    Ok(brought)
}
