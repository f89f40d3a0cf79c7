//! `DIR/slurm`: what a launched sweep's jobs read and write, for this user alone.

use super::script::Scripts;
use super::{Launch, TLS_NAME};
use crate::transport::{CertsError, make_certs};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How long the certificates of a sweep are good; the same launch again renews them.
const DAYS: i64 = 365;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum FolderError {
    #[error("cannot write {}", .path.display())]
    #[diagnostic(help("--out names a folder on a file system that this machine and all nodes share"))]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Certs(#[from] CertsError),
}

/// The folder and what stands in it.
#[derive(Debug, Clone)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn of(launch: &Launch) -> Folder {
        Folder { path: launch.out.join("slurm") }
    }

    /// Where the coordinator says that it listens.
    pub fn address(&self) -> PathBuf {
        self.path.join("address")
    }

    pub fn certs(&self, role: &str) -> PathBuf {
        self.path.join("certs").join(role)
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn coordinator_script(&self) -> PathBuf {
        self.path.join("coordinator.sbatch")
    }

    pub fn workers_script(&self) -> PathBuf {
        self.path.join("workers.sbatch")
    }

    /// For `. DIR/slurm/env`: then status, watch, why and logs find the coordinator.
    pub fn env(&self) -> PathBuf {
        self.path.join("env")
    }

    /// There once nothing is left to do.
    pub fn ended(&self) -> PathBuf {
        self.path.join("ended")
    }

    /// What the coordinator's job needs in order to submit workers itself.
    pub fn fleet(&self) -> PathBuf {
        self.path.join("fleet.json")
    }

    /// Makes the folder with certificates and scripts; what was there is written anew, under the same CA.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn write(&self, launch: &Launch, scripts: &Scripts) -> Result<(), FolderError> {
        let dir = |path: &Path| {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            let made = made.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)));
            made.map_err(|source| FolderError::Write { path: path.into(), source })
        };
        std::fs::create_dir_all(&launch.out)
            .map_err(|source| FolderError::Write { path: launch.out.clone(), source })?;
        dir(&self.path)?;
        dir(&self.logs())?;
        match std::fs::remove_file(self.ended()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FolderError::Write { path: self.ended(), source });
            }
            _ => {}
        }
        if !launch.one_job {
            make_certs(&self.path.join("certs"), &[TLS_NAME.to_string()], &[], DAYS)?;
            write(&self.env(), &self.env_text())?;
        }
        write(&self.coordinator_script(), &scripts.coordinator)?;
        if let Some(workers) = &scripts.workers {
            write(&self.workers_script(), workers)?;
        }
        Ok(())
    }

    fn env_text(&self) -> String {
        let line = |name: &str, value: String| format!("export {name}={}\n", super::script::quoted(&value));
        [
            line("EPSWEEP_COORDINATOR", format!("@{}", self.address().display())),
            line("EPSWEEP_TLS_DIR", self.certs("client").display().to_string()),
            line("EPSWEEP_TLS_NAME", TLS_NAME.into()),
        ]
        .concat()
    }
}

/// Whole or not at all, for this user alone.
pub(super) fn write(path: &Path, text: &str) -> Result<(), FolderError> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?; // mode 0600
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| FolderError::Write { path: path.into(), source })
}
