//! The one place of this room that touches the file system.

use super::{SpecError, Sweep, Warning, parse_with_warnings};
use std::path::Path;

/// Reads and validates the sweep in the file `path`.
///
/// # Errors
/// When the file cannot be read, or is not a valid sweep.
pub fn load(path: &Path) -> Result<Sweep, SpecError> {
    load_with_warnings(path).map(|(sweep, _)| sweep)
}

/// As [`load`], with what is valid but probably not meant.
///
/// # Errors
/// When the file cannot be read, or is not a valid sweep.
pub fn load_with_warnings(path: &Path) -> Result<(Sweep, Vec<Warning>), SpecError> {
    let unreadable = |source| SpecError::Read { path: path.to_path_buf(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let base_dir = absolute.parent().unwrap_or(&absolute);
    parse_with_warnings(&text, &path.display().to_string(), base_dir)
}
