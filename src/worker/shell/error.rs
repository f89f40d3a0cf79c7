//! Why a worker ends before it is told to.

use super::link::LinkError;
use epsweep::artifacts::{ArtifactError, Place, PlaceError};
use epsweep::telemetry::metrics::PageError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum WorkerError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    #[diagnostic(help("--cache DIR names another folder"))]
    Cache(#[from] ArtifactError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Place(#[from] PlaceError),
    #[error("{place} is not where the coordinator keeps its artifacts")]
    #[diagnostic(help(
        "name the folder or bucket of `epsweep serve --artifacts` as this machine sees it; is the folder shared with this machine? Without --artifacts they travel through the coordinator"
    ))]
    NotShared { place: Place },
    #[error("cannot keep answers in {cache}", cache = .cache.display())]
    #[diagnostic(help("--cache DIR names another folder, --name another worker"))]
    Answers { cache: PathBuf, source: std::io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Metrics(#[from] PageError),
}
