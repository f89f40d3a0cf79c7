//! The rule of a listener: who may call what.

use super::fresh::Fresh;
use super::limits::FAILURES;
use super::roles::{Caller, Role, Roles};
use super::tls::ServerTls;
use super::tokens::Tokens;
use super::{AccessError, Peer};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use tonic::Status;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::AUTHORIZATION;

/// Addresses whose failures are counted at a time.
const COUNTED: usize = 4096;

/// Cheap to clone.
#[derive(Clone)]
pub struct Access {
    tokens: Option<Arc<Fresh<Tokens>>>,
    tls: Option<Arc<Fresh<ServerTls>>>,
    failures: Arc<Mutex<Failures>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access(tokens: {}, tls: {})", self.tokens.is_some(), self.tls.is_some())
    }
}

/// Wrong proofs of the last minute, by address.
#[derive(Debug)]
struct Failures {
    by_address: HashMap<IpAddr, u32>,
    since: Instant,
    all: u64,
}

impl Access {
    /// Anybody who can connect. Only for loopback.
    pub fn open() -> Access {
        Access::new(None, None)
    }

    /// Holders of tokens in a file, of certificates that the CA in a folder has signed, or of both.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn from_files(tokens: Option<&Path>, tls: Option<&Path>) -> Result<Access, AccessError> {
        Ok(Access::new(tokens.map(Tokens::from_file).transpose()?, tls.map(ServerTls::from_dir).transpose()?))
    }

    /// The workers of one run, by its token.
    pub fn run(token: &RunToken) -> Access {
        let secret = token.secret.clone();
        let one = move |_: &_| Ok(Tokens::one("run", Roles::of(Role::Worker), &secret));
        Access::new(Fresh::new(|| Ok(Vec::new()), one).ok(), None)
    }

    fn new(tokens: Option<Fresh<Tokens>>, tls: Option<Fresh<ServerTls>>) -> Access {
        let failures = Failures { by_address: HashMap::new(), since: Instant::now(), all: 0 };
        Access { tokens: tokens.map(Arc::new), tls: tls.map(Arc::new), failures: Arc::new(Mutex::new(failures)) }
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.as_ref().map(|tls| tls.get())
    }

    /// Looks at the files; what has changed counts from now on.
    pub fn look(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.look();
        }
        if let Some(tls) = &self.tls {
            tls.look();
        }
    }

    /// Who calls. A certificate and a token must both be right where both are asked for, and allow
    /// no more than either does; a certificate that names no role leaves the roles to the token.
    #[allow(clippy::result_large_err)] // tonic's own error type
    pub fn who(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Caller, Status> {
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let Some(tokens) = &self.tokens else {
            return match certificate {
                Some(caller) => Ok(caller.clone()),
                None if self.has_tls() => Err(Status::permission_denied(
                    "the certificate names no role: make one with a URI epsweep://ROLE/NAME (`epsweep certs` does), or start the coordinator with --token-file",
                )),
                None => Ok(Caller { name: "anybody".into(), roles: Roles::ALL }),
            };
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Status::unauthenticated("this coordinator wants a token; see --token-file"));
        };
        let tokens = tokens.get();
        let Some(caller) = tokens.find(given) else {
            return Err(Status::unauthenticated("the token is not this coordinator's; see --token-file"));
        };
        Ok(match certificate {
            Some(holder) => Caller {
                name: format!("{}/{}", caller.name, holder.name).into(),
                roles: caller.roles.common(holder.roles),
            },
            None => caller.clone(),
        })
    }

    /// Counts a wrong proof; whether the address has had too many of them.
    pub fn failed(&self, address: IpAddr) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.since.elapsed() > Duration::from_secs(60) || failures.by_address.len() >= COUNTED {
            failures.by_address.clear();
            failures.since = Instant::now();
        }
        failures.all += 1;
        let count = failures.by_address.entry(address).or_default();
        *count += 1;
        *count > FAILURES
    }

    /// One line for all refusals since the last.
    pub(super) fn report(&self) {
        let refused = std::mem::take(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner).all);
        if refused > 0 {
            tracing::warn!(refused, "without a proof, or with a wrong one");
        }
    }
}

/// A token for one run, in a file that only this user can read. The file goes when this is dropped.
///
/// Loopback is not private: on a login node everybody can reach it.
pub struct RunToken {
    secret: String,
    file: NamedTempFile,
}

impl RunToken {
    /// # Errors
    /// When the operating system gives no random bytes, or `dir` cannot be written.
    pub fn new(dir: &Path) -> std::io::Result<RunToken> {
        let mut bytes = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let secret = blake3::Hash::from_bytes(bytes).to_hex().to_string();
        let mut file = tempfile::Builder::new().prefix(".token-").tempfile_in(dir)?; // mode 0600
        writeln!(file, "run worker {secret}")?;
        Ok(RunToken { secret, file })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }
}
