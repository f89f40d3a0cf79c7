//! From a file's text to a plan, for new sweeps and for those the ledger remembers.

use crate::ledger::StoredSweep;
use crate::plan::{Plan, PlanError};
use crate::spec::{self, SpecError, Warning};
use std::path::Path;
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
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PrepareError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] crate::data::DataError),
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
        let (sweep, warnings) = spec::parse_with_warnings(&yaml, &source, base_dir)?;
        let sweep = Arc::new(sweep);
        let data = crate::data::identify(&sweep.dataset)?;
        let plan = Arc::new(Plan::new(sweep, data)?);
        Ok(Prepared { yaml, source, base_dir: base_dir.display().to_string(), plan, warnings })
    }
}

/// Rebuilds the plan of a stored sweep, from its text and what was known of its data.
///
/// # Errors
/// When the stored text is no longer valid for this version of the program.
pub fn replan(stored: &StoredSweep) -> Result<Plan, PrepareError> {
    let sweep = Arc::new(spec::parse(&stored.yaml, &stored.source, Path::new(&stored.base_dir))?);
    Ok(Plan::new(sweep, stored.data.clone())?)
}
