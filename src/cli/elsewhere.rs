//! `epsweep run --listen`: the same run, with workers that others start, such as the jobs of a batch system.

use super::printer::option;
use crate::coordinator::{Handle, Server, ServerOptions};
use crate::engine::Settings;
use crate::launch::slurm::{Fleet, Slurm, keep_staffed};
use crate::program::Failure;
use crate::transport::{Access, AddressFile};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// Workers that were told to leave get this long: one that computes nothing hears of it at once.
const FAREWELL: Duration = Duration::from_secs(15);
const HEADING: &str = "Workers from elsewhere";

#[derive(Debug, Clone, clap::Args)]
pub struct Elsewhere {
    /// Start no worker, and take those that come: where to listen, HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["workers", "Compute"], help_heading = HEADING)]
    pub listen: Option<String>,
    /// Write where it listens to this file, for `epsweep-worker --connect @FILE`
    #[arg(long, value_name = "FILE", requires = "listen", help_heading = HEADING)]
    address_file: Option<PathBuf>,
    /// The host to write there [default: the one of --listen, or this machine's name]
    #[arg(long, value_name = "HOST", requires = "address_file", help_heading = HEADING)]
    advertise: Option<String>,
    /// File of tokens, as `epsweep serve` takes it
    #[arg(long, value_name = "FILE", requires = "listen", help_heading = HEADING)]
    token_file: Option<PathBuf>,
    /// Folder of certificates, as `epsweep serve` takes it; needed beyond loopback
    #[arg(long, value_name = "DIR", requires = "listen", help_heading = HEADING)]
    tls_dir: Option<PathBuf>,
    /// Submit workers as `epsweep launch slurm --elastic` has written to this file
    #[arg(long, value_name = "FILE", requires = "listen", hide = true)]
    slurm_fleet: Option<PathBuf>,
}

/// A coordinator that others may reach.
pub struct Open {
    server: Server,
    /// Says where it is, as long as this lives.
    _address: Option<AddressFile>,
    /// Submits workers, likewise.
    _staffing: Option<AbortOnDropHandle<()>>,
}

impl Elsewhere {
    /// Listens, and then says where; `artifacts` is the mark of their place.
    pub async fn open(&self, core: &Handle, listen: &str, artifacts: Option<String>) -> Result<Open, Failure> {
        let access = Access::from_files(self.token_file.as_deref(), self.tls_dir.as_deref()).map_err(Failure::usage)?;
        let options = ServerOptions { listen: listen.into(), access, settings: Settings::default(), artifacts };
        let server = Server::start(core.clone(), options).await.map_err(Failure::usage)?;
        let (ip, port) = (server.address.ip(), server.address.port());
        let host = match (&self.advertise, ip.is_unspecified()) {
            (Some(host), _) => host.clone(),
            (None, false) => ip.to_string(),
            (None, true) => own_name()?,
        };
        let write = |path: &PathBuf| {
            AddressFile::write(path, &host, port).map_err(|error| {
                let help = "--address-file names a file in a folder that the workers see too";
                Failure::usage(miette::miette!(help = help, "cannot write {}: {error}", path.display()))
            })
        };
        let address = self.address_file.as_ref().map(write).transpose()?;
        tracing::info!(address = %server.address, called = format!("{host}:{port}"), "listening");
        let staffing = self.slurm_fleet.as_deref().map(|path| staff(core, path)).transpose()?;
        Ok(Open { server, _address: address, _staffing: staffing })
    }

    /// The options again, for the command that goes on.
    pub fn again(&self) -> String {
        let Some(listen) = &self.listen else { return String::new() };
        let advertise = self.advertise.as_ref().map(|host| format!(" --advertise {host}")).unwrap_or_default();
        let files = [
            ("--address-file", &self.address_file),
            ("--token-file", &self.token_file),
            ("--tls-dir", &self.tls_dir),
            ("--slurm-fleet", &self.slurm_fleet),
        ];
        let files: String = files.iter().map(|(name, path)| option(name, path.as_deref())).collect();
        format!(" --listen {listen}{files}{advertise}")
    }
}

/// Submits worker jobs while there is work for them.
fn staff(core: &Handle, path: &Path) -> Result<AbortOnDropHandle<()>, Failure> {
    let fleet = Fleet::read(path)
        .map_err(|error| Failure::usage(miette::miette!("--slurm-fleet {}: {error}", path.display())))?;
    let slurm = Slurm::find().map_err(Failure::usage)?;
    let core = core.clone();
    let demand = move || {
        let core = core.clone();
        async move { core.read(|core| core.demand()).await.ok() }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(keep_staffed(fleet, slurm, demand))))
}

fn own_name() -> Result<String, Failure> {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).ok_or_else(|| {
        Failure::usage(miette::miette!("this machine has no name that can be written down: add --advertise HOST"))
    })
}

impl Open {
    /// Ends. `dismiss`: nothing is left to do, so workers are told to leave; else they wait for a successor.
    pub async fn close(self, core: &Handle, dismiss: bool) {
        if dismiss {
            let _ = core.call(|core| core.drain()).await;
            let deadline = tokio::time::Instant::now() + FAREWELL;
            while tokio::time::Instant::now() < deadline
                && matches!(core.read(|core| core.has_workers()).await, Ok(true))
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.server.stop().await;
    }
}
