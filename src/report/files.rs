//! Files that appear whole or not at all: written beside their place, then renamed into it.

use super::input::ReportError;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub struct Files<'a> {
    dir: &'a Path,
    pub written: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    pub fn new(dir: &'a Path) -> Result<Files<'a>, ReportError> {
        std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
        Ok(Files { dir, written: Vec::new() })
    }

    pub fn write(&mut self, name: &str, content: &[u8]) -> Result<(), ReportError> {
        let path = self.dir.join(name);
        replace(self.dir, &path, content).map_err(|source| ReportError::Write { path: path.clone(), source })?;
        self.written.push(path);
        Ok(())
    }

    /// Removes files of these names, if there are any.
    pub fn remove(&mut self, names: &[&str]) -> Result<(), ReportError> {
        for path in names.iter().map(|name| self.dir.join(name)) {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ReportError::Write { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn replace(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    // A temporary file is private by default; a report is for others to read, as the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
