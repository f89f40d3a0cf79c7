//! What can be wrong with the files that prove who somebody is.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AccessError {
    #[error("cannot read {}", .path.display())]
    #[diagnostic(help("{}", remedy(*.what)))]
    Unreadable { path: PathBuf, what: What, source: std::io::Error },
    #[error("there is no {wanted} in {}", .dir.display())]
    #[diagnostic(help(
        "--tls-dir names a folder with ca.pem, cert.pem and key.pem (or ca.crt, tls.crt and tls.key); `epsweep certs --out DIR` makes some"
    ))]
    Absent { dir: PathBuf, wanted: &'static str },
    #[error("{} is larger than a file of secrets can be (1 MiB)", .path.display())]
    Huge { path: PathBuf },
    #[error("{}, line {line}: {problem}", .path.display())]
    #[diagnostic(help(
        "the file is one token, or lines NAME ROLES TOKEN with roles among worker, client and read-only (worker,client for both); a token has at least 16 characters: head -c 32 /dev/urandom | base64"
    ))]
    Token { path: PathBuf, line: usize, problem: String },
    #[error("{} holds no token", .path.display())]
    #[diagnostic(help("{}", remedy(What::Tokens)))]
    NoToken { path: PathBuf },
    #[error("{}: {problem}", .path.display())]
    #[diagnostic(help("certificates and keys are PEM; `epsweep certs --out DIR` makes some to compare with"))]
    Pem { path: PathBuf, problem: String },
    #[error("the certificate and the key in {} do not belong together, or cannot be used: {problem}", .dir.display())]
    Pair { dir: PathBuf, problem: String },
    #[error("{address:?} is not an address")]
    #[diagnostic(help("write HOST:PORT, such as 127.0.0.1:7070, without http://, or @FILE for a file that holds one"))]
    Address { address: String },
}

/// Which kind of file it is, for the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Tokens,
    Certificates,
}

fn remedy(what: What) -> &'static str {
    match what {
        What::Tokens => "make a token with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)",
        What::Certificates => "`epsweep certs --out DIR` makes certificates for a test",
    }
}
