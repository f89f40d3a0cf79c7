//! From a file's text to a plan, for new sweeps and for those the ledger remembers.

use super::core::Handle;
use super::worker_service::LARGEST_ARTIFACT;
use crate::artifacts::{ArtifactError, ArtifactId};
use crate::data::{DataInfo, Given};
use crate::ledger::StoredSweep;
use crate::plan::{Plan, PlanError};
use crate::spec::{self, SpecError, Sweep, Warning};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sweep that has been read, validated and planned, ready to be admitted.
#[derive(Debug)]
pub struct Prepared {
    pub yaml: String,
    pub source: String,
    pub base_dir: String,
    pub plan: Arc<Plan>,
    /// What is valid but probably not meant.
    pub warnings: Vec<Warning>,
    /// The content of the files that the sweep brings along; workers fetch it by its hash.
    pub given: Vec<Vec<u8>>,
    /// Its weight when slots are shared out; `None` is that of the sweep whose place it takes.
    pub priority: Option<u32>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PrepareError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] crate::data::DataError),
    #[error("cannot read {}, which the sweep names as `{}`", .path.display(), .role)]
    #[diagnostic(help("a relative path starts at the sweep file's folder"))]
    Given { path: PathBuf, role: &'static str, source: std::io::Error },
    #[error("the sweep file lies in {dir:?}, a path that is not valid UTF-8")]
    #[diagnostic(help("move it to a folder with an ordinary name: the path is stored and sent as text"))]
    Path { dir: String },
    #[error(transparent)]
    #[diagnostic(code(epsweep::plan))]
    Plan(#[from] PlanError),
}

impl Prepared {
    /// Reads and plans a file's text. Opens the data set for its digest: slow, so not on the core thread.
    ///
    /// # Errors
    /// When the file, the data or the plan is wrong.
    pub fn new(yaml: String, source: String, base_dir: &Path) -> Result<Prepared, PrepareError> {
        if base_dir.to_str().is_none() {
            return Err(PrepareError::Path { dir: base_dir.display().to_string() });
        }
        let (sweep, mut warnings) = spec::parse_with_warnings(&yaml, &source, base_dir)?;
        let sweep = Arc::new(sweep);
        let (names, given) = read_given(&sweep)?;
        let data = DataInfo { given: names, ..crate::data::identify(&sweep.dataset)? };
        warnings.extend(spec::doubts(&sweep, data.classes, &source, &yaml));
        let plan = Arc::new(Plan::new(sweep, data)?);
        Ok(Prepared { yaml, source, base_dir: base_dir.display().to_string(), plan, warnings, given, priority: None })
    }
}

impl Handle {
    /// Stores the files that a sweep brings along, for workers to fetch; before the sweep is submitted.
    ///
    /// # Errors
    /// When the folder, or the bucket, cannot be written.
    pub async fn keep_given(&self, prepared: &Prepared) -> Result<(), ArtifactError> {
        for content in &prepared.given {
            self.store.settle(&self.store.put(content)?).await?;
        }
        Ok(())
    }

    /// Waits for the bucket, if that is what is amiss.
    pub async fn bucket_or(&self, error: &ArtifactError) {
        if let (ArtifactError::Bucket(_), Some(bucket), false) = (error, self.store.bucket(), error.is_gone()) {
            self.wait_for(bucket, error.to_string()).await;
        }
    }
}

/// Files by path.
type Names = BTreeMap<String, Given>;

/// The files that a sweep brings along: what they are by path, and their content.
fn read_given(sweep: &Sweep) -> Result<(Names, Vec<Vec<u8>>), PrepareError> {
    let (mut names, mut contents) = (Names::new(), Vec::new());
    for trial in &sweep.trials {
        for file in trial.recipe.files() {
            let Some(path) = file.path() else { continue };
            let Some(name) = path.to_str() else { return Err(PrepareError::Path { dir: path.display().to_string() }) };
            if names.contains_key(name) {
                continue;
            }
            let role = if trial.recipe.weights.as_ref() == Some(file) { "weights" } else { "torchscript" };
            let content = read_file(path).map_err(|source| PrepareError::Given { path: path.into(), role, source })?;
            let digest = ArtifactId::of(&content).to_string();
            names.insert(name.to_string(), Given { digest, bytes: content.len() as u64 });
            contents.push(content);
        }
    }
    Ok((names, contents))
}

/// Reads a file to its end, which it must have: a client names it, and /dev/zero is a path too.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    if found.len() > LARGEST_ARTIFACT {
        return Err(std::io::Error::other("it is larger than 8 GiB"));
    }
    std::fs::read(path)
}

/// Rebuilds the plan of a stored sweep, from its text and what was known of its data.
///
/// # Errors
/// When the stored text is no longer valid for this version of the program.
pub fn replan(stored: &StoredSweep) -> Result<Plan, PrepareError> {
    let sweep = Arc::new(spec::parse(&stored.yaml, &stored.source, Path::new(&stored.base_dir))?);
    Ok(Plan::new(sweep, stored.data.clone())?)
}
