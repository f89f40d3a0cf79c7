//! Certificates: reading them, and what a peer's certificate says of it.
//!
//! TLS 1.3 alone, both ends with a certificate. Sessions are not resumed: each connection is judged by
//! the certificates and the clock of its own time.

use super::AccessError;
use super::error::What;
use super::fresh::{Contents, Fresh, read};
use super::roles::{Caller, Role, Roles, is_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The names a file may have: ours, and those of Kubernetes' secrets.
const FILES: [[&str; 2]; 3] = [["ca.pem", "ca.crt"], ["cert.pem", "tls.crt"], ["key.pem", "tls.key"]];
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const ALPN: &[u8] = b"h2";
/// A certificate says what its holder is by a URI among its alternative names: `epsweep://worker/NAME`.
/// (Not by its OU, which certificate authorities no longer write, and which our parser does not read.)
pub const SCHEME: &str = "epsweep://";

/// A coordinator's side.
pub struct ServerTls {
    pub config: Arc<ServerConfig>,
    /// Of the CA's file: when it changes, whoever was let in by the former one must prove itself anew.
    pub ca: blake3::Hash,
}

/// A worker's or client's side.
pub struct ClientTls {
    pub config: Arc<ClientConfig>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl ServerTls {
    /// From a folder whose files may change.
    ///
    /// # Errors
    /// When one of them is absent or not what it should be.
    pub fn from_dir(dir: &Path) -> Result<Fresh<ServerTls>, AccessError> {
        watched(dir, |dir, contents| {
            let Parts { roots, chain, key, ca } = Parts::of(contents)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| AccessError::Pem { path: contents[0].0.clone(), problem: error.to_string() })?;
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .and_then(|config| config.with_client_cert_verifier(verifier).with_single_cert(chain, key))
                .map_err(|error| AccessError::Pair { dir: dir.into(), problem: error.to_string() })?;
            config.alpn_protocols = vec![ALPN.to_vec()];
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(ServerTls { config: Arc::new(config), ca })
        })
    }
}

impl ClientTls {
    /// From a folder whose files may change.
    ///
    /// # Errors
    /// When one of them is absent or not what it should be.
    pub fn from_dir(dir: &Path) -> Result<Fresh<ClientTls>, AccessError> {
        watched(dir, |dir, contents| {
            let Parts { roots, chain, key, .. } = Parts::of(contents)?;
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .and_then(|config| config.with_root_certificates(roots).with_client_auth_cert(chain, key))
                .map_err(|error| AccessError::Pair { dir: dir.into(), problem: error.to_string() })?;
            config.alpn_protocols = vec![ALPN.to_vec()];
            config.resumption = rustls::client::Resumption::disabled();
            Ok(ClientTls { config: Arc::new(config) })
        })
    }
}

struct Parts {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: blake3::Hash,
}

impl Parts {
    fn of(contents: &Contents) -> Result<Parts, AccessError> {
        let [(ca_path, ca), (cert_path, cert), (key_path, key)] = &contents[..] else {
            unreachable!("three files are read")
        };
        let wrong = |path: &PathBuf, problem: String| AccessError::Pem { path: path.clone(), problem };
        let certificates = |path: &PathBuf, pem: &[u8]| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let found = found.map_err(|error| wrong(path, error.to_string()))?;
            if found.is_empty() { Err(wrong(path, "it holds no certificate".into())) } else { Ok(found) }
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(ca_path, ca)? {
            roots.add(root).map_err(|error| wrong(ca_path, error.to_string()))?;
        }
        let chain = certificates(cert_path, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(key_path, error.to_string()))?;
        Ok(Parts { roots, chain, key, ca: blake3::hash(ca) })
    }
}

fn watched<T>(
    dir: &Path,
    parse: impl Fn(&Path, &Contents) -> Result<T, AccessError> + Send + Sync + 'static,
) -> Result<Fresh<T>, AccessError> {
    let (dir, named) = (dir.to_path_buf(), dir.to_path_buf());
    let read_all = move || FILES.iter().map(|names| read_one(&dir, names)).collect();
    Fresh::new(read_all, move |contents| parse(&named, contents))
}

fn read_one(dir: &Path, names: &[&'static str; 2]) -> Result<(PathBuf, Vec<u8>), AccessError> {
    let found = names.iter().map(|name| dir.join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| AccessError::Absent { dir: dir.into(), wanted: names[0] })?;
    let content = read(&path, What::Certificates)?;
    Ok((path, content))
}

/// Who a verified certificate says its holder is; `None` when it names no role.
pub fn holder(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let named = parsed.valid_uri_names().filter_map(|uri| {
        let (role, name) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        is_name(name).then_some((Roles::of(Role::parse(role)?), name))
    });
    let mut holder: Option<Caller> = None;
    for (roles, name) in named {
        let before = holder.take().map_or(Roles::NONE, |holder| holder.roles);
        holder = Some(Caller { name: name.into(), roles: roles.and(before) });
    }
    holder
}
