//! Who may call: on loopback anybody; beyond it, only holders of the token. Both ends stand here.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The rule that a listener applies to every call. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    token: Option<Arc<str>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.token.is_some() { "Access(token)" } else { "Access(open)" })
    }
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TokenError {
    #[error("cannot read the token file {path}")]
    #[diagnostic(help("make one with: head -c 32 /dev/urandom | base64 > {path}; chmod 600 {path}"))]
    Unreadable { path: String, source: std::io::Error },
    #[error("the token in {path} is shorter than 16 characters")]
    #[diagnostic(help("make one with: head -c 32 /dev/urandom | base64 > {path}; chmod 600 {path}"))]
    Short { path: String },
    #[error("the token in {path} is not plain ASCII")]
    #[diagnostic(help("make one with: head -c 32 /dev/urandom | base64 > {path}; chmod 600 {path}"))]
    NotAscii { path: String },
}

/// Reads a token: the file's first line, so that it never stands on a command line.
///
/// # Errors
/// When the file cannot be read or the token is too short to be one.
pub fn read_token(path: &Path) -> Result<String, TokenError> {
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: shown.clone(), source })?;
    let token = text.lines().next().unwrap_or_default().trim().to_string();
    if token.len() < 16 { Err(TokenError::Short { path: shown }) } else { Ok(token) }
}

/// A token for one run, in a file that only this user can read. The file goes when this is dropped.
///
/// Loopback is not private: on a login node everybody can reach it.
#[derive(Debug)]
pub struct RunToken {
    pub token: String,
    file: NamedTempFile,
}

impl RunToken {
    /// # Errors
    /// When the operating system gives no random bytes, or `dir` cannot be written.
    pub fn new(dir: &Path) -> std::io::Result<RunToken> {
        let mut secret = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let token = blake3::Hash::from_bytes(secret).to_hex().to_string();
        let mut file = tempfile::Builder::new().prefix(".token-").tempfile_in(dir)?; // mode 0600
        writeln!(file, "{token}")?;
        Ok(RunToken { token, file })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Access {
    /// Anybody who can connect.
    pub fn open() -> Access {
        Access { token: None }
    }

    /// Only calls that carry `authorization: Bearer TOKEN`.
    pub fn token(token: String) -> Access {
        Access { token: Some(token.into()) }
    }

    pub fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// The check, as tonic wants it.
    #[allow(clippy::result_large_err)] // tonic's own signature
    pub fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.token else { return Ok(request) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match given.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(given) if same(given.as_bytes(), token.as_bytes()) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the token is not this coordinator's; see --token-file")),
            None => Err(Status::unauthenticated("this coordinator wants a token; see --token-file")),
        }
    }
}

/// The caller's side: adds the token to every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// The token in `path`, or none.
    ///
    /// # Errors
    /// When the file cannot be read or holds no token.
    pub fn from_file(path: Option<&Path>) -> Result<Bearer, TokenError> {
        let Some(path) = path else { return Ok(Bearer(None)) };
        let value = format!("Bearer {}", read_token(path)?).parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| TokenError::NotAscii { path: path.display().to_string() })?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Compares digests instead of texts, so that the time taken says nothing about how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b) // blake3's comparison takes constant time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(header: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        request
    }

    #[test]
    fn only_the_right_token_opens_the_door() {
        let access = Access::token("correct horse battery".into());
        assert!(access.check(call(Some("Bearer correct horse battery"))).is_ok());
        for wrong in [None, Some("Bearer correct horse batterz"), Some("correct horse battery"), Some("Bearer ")] {
            assert!(access.check(call(wrong)).is_err(), "{wrong:?}");
        }
        assert!(Access::open().check(call(None)).is_ok());
    }
}
