//! Downloads of published files: mirrors in turn, a broken download resumed, the digest checked
//! before a file gets its name.
//!
//! What has arrived lies in `NAME.part`; the next attempt, even that of another mirror or another
//! day, asks for the rest with `Range`. Proxies come from `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`
//! and `NO_PROXY`; `SSL_CERT_FILE` replaces the built-in certificate authorities, which networks need
//! that open TLS themselves.

use super::known::{PublishedFile, md5_of};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Times that one mirror may break off, as long as each time something arrived.
const ATTEMPTS: u32 = 5;
/// No published file of this field is larger; a mirror that never ends must.
const LARGEST: u64 = 4 << 30;

/// Fetches files over HTTP and HTTPS.
#[derive(Debug)]
pub struct Fetcher {
    agent: ureq::Agent,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It was there, as published.
    Present,
    Downloaded,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum FetchError {
    #[error("cannot write {}", path.display())]
    #[diagnostic(help("check the folder's permissions and the space on the disk; what has arrived is kept"))]
    Disk { path: PathBuf, source: std::io::Error },

    #[error("{} is there, but is not the published file: its MD5 is {found}, not {expected}", path.display())]
    #[diagnostic(help("move it away and fetch again"))]
    Different { path: PathBuf, found: String, expected: &'static str },

    #[error("cannot fetch {name}:{tried}")]
    #[diagnostic(help("{by_hand}"))]
    Nowhere { name: &'static str, tried: String, by_hand: String },

    #[error("SSL_CERT_FILE names {}, which holds no certificates that can be read", path.display())]
    #[diagnostic(help("name a file in PEM format, or unset SSL_CERT_FILE"))]
    Certificates { path: PathBuf },
}

/// Why one attempt failed.
enum Trouble {
    /// Said by the network or the mirror.
    Mirror(String),
    Disk(FetchError),
}

impl Fetcher {
    /// With proxies and certificates from the environment.
    ///
    /// # Errors
    /// When `SSL_CERT_FILE` names a file without certificates.
    pub fn from_environment() -> Result<Fetcher, FetchError> {
        let mut config = Fetcher::config();
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from) {
            let pem = std::fs::read(&path).unwrap_or_default();
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(FetchError::Certificates { path });
            }
            let roots = RootCerts::new_with_certs(&certificates);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Fetcher { agent: config.build().new_agent() })
    }

    /// Nothing waits for ever: a download that stalls breaks off, and is resumed.
    fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
        ureq::Agent::config_builder()
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .user_agent(concat!("epsweep/", env!("CARGO_PKG_VERSION")))
    }

    /// Puts `file` into `dir`, from the first of `mirrors` (URLs of folders) that gives it.
    /// `follow` hears how many bytes have arrived.
    ///
    /// # Errors
    /// When another file has its name, the disk refuses, or no mirror gives it; then the message
    /// says what to fetch by hand.
    pub fn fetch(
        &self,
        file: &PublishedFile,
        dir: &Path,
        mirrors: &[String],
        follow: &mut dyn FnMut(u64),
    ) -> Result<Fetched, FetchError> {
        let path = dir.join(file.name);
        let part = dir.join(format!("{}.part", file.name));
        let disk = |source| FetchError::Disk { path: part.clone(), source };
        std::fs::create_dir_all(dir).map_err(disk)?;
        if path.exists() {
            let found = md5_of(&path).map_err(disk)?;
            let same = found == file.md5;
            let expected = file.md5;
            return if same { Ok(Fetched::Present) } else { Err(FetchError::Different { path, found, expected }) };
        }
        let mut tried = String::new();
        for mirror in mirrors {
            let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
            match self.try_mirror(&url, file, &part, follow) {
                Ok(()) => {
                    std::fs::rename(&part, &path).map_err(disk)?;
                    return Ok(Fetched::Downloaded);
                }
                Err(Trouble::Mirror(reason)) => {
                    let _ = write!(tried, "\n  {url}: {reason}");
                }
                Err(Trouble::Disk(error)) => return Err(error),
            }
        }
        Err(FetchError::Nowhere { name: file.name, tried, by_hand: by_hand(file, dir, mirrors) })
    }

    /// All attempts at one mirror; afterwards `part` is the published file.
    fn try_mirror(
        &self,
        url: &str,
        file: &PublishedFile,
        part: &Path,
        follow: &mut dyn FnMut(u64),
    ) -> Result<(), Trouble> {
        let mut reason = String::new();
        for _ in 0..ATTEMPTS {
            let before = size(part);
            match self.attempt(url, part, follow) {
                Ok(()) => {
                    let found = md5_of(part).map_err(|source| at_disk(part, source))?;
                    if found == file.md5 {
                        return Ok(());
                    }
                    std::fs::remove_file(part).map_err(|source| at_disk(part, source))?;
                    reason = format!("what it gives has the MD5 {found}, not {}", file.md5);
                    // The beginning may have come from elsewhere; once more, from the start.
                    if before == 0 {
                        break;
                    }
                }
                Err(Trouble::Mirror(said)) => {
                    reason = said;
                    if size(part) <= before {
                        break;
                    }
                }
                Err(disk) => return Err(disk),
            }
        }
        Err(Trouble::Mirror(reason))
    }

    /// One request; appends to `part`, or begins it anew where the mirror cannot resume.
    fn attempt(&self, url: &str, part: &Path, follow: &mut dyn FnMut(u64)) -> Result<(), Trouble> {
        let have = size(part);
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(|error| Trouble::Mirror(error.to_string()))?;
        let resumes = |range: &header::HeaderValue| {
            range.to_str().is_ok_and(|range| range.trim().starts_with(&format!("bytes {have}-")))
        };
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if response.headers().get(header::CONTENT_RANGE).is_some_and(resumes) => have,
            // Nothing is left to send: all is there, or too much. The digest knows.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
            status => return Err(Trouble::Mirror(format!("it answers {status}"))),
        };
        let mut options = OpenOptions::new();
        let opened = match start {
            0 => options.write(true).create(true).truncate(true).open(part),
            _ => options.append(true).open(part),
        };
        let mut sink = opened.map_err(|source| at_disk(part, source))?;
        let mut body = response.body_mut().as_reader();
        let copied = copy(&mut body, &mut sink, part, start, follow);
        // What has arrived is kept in any case.
        sink.sync_all().map_err(|source| at_disk(part, source))?;
        copied
    }
}

fn copy(
    body: &mut dyn Read,
    sink: &mut File,
    part: &Path,
    mut have: u64,
    follow: &mut dyn FnMut(u64),
) -> Result<(), Trouble> {
    let mut block = vec![0; 1 << 16];
    loop {
        let read = body.read(&mut block).map_err(|error| Trouble::Mirror(format!("it broke off: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        have += read as u64;
        if have > LARGEST {
            return Err(Trouble::Mirror("it sends more than 4 GiB".to_string()));
        }
        sink.write_all(&block[..read]).map_err(|source| at_disk(part, source))?;
        follow(have);
    }
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn at_disk(path: &Path, source: std::io::Error) -> Trouble {
    Trouble::Disk(FetchError::Disk { path: path.to_path_buf(), source })
}

/// What a person without this program would do.
fn by_hand(file: &PublishedFile, dir: &Path, mirrors: &[String]) -> String {
    let url = mirrors.last().map(|mirror| format!("{}/{}", mirror.trim_end_matches('/'), file.name));
    format!(
        "behind a proxy, set HTTPS_PROXY (and SSL_CERT_FILE where it opens TLS); another copy: `--mirror URL`. \
By hand, on a machine with a network: get {url}, put it into {dir} as {name} (MD5 {md5}), then run `epsweep data verify`. \
The same command again goes on where this one stopped",
        url = url.unwrap_or_else(|| file.name.to_string()),
        dir = dir.display(),
        name = file.name,
        md5 = file.md5,
    )
}

#[cfg(test)]
mod tests;
