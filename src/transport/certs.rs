//! A certificate authority for tests and small clusters, and certificates for each role.

use super::roles::{Role, is_name};
use super::tls::SCHEME;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The issuer's name stands in every certificate: the same, so that a CA can be gone on with.
const CA_NAME: &str = "epsweep test CA";
const CA_DAYS: i64 = 3650;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CertsError {
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{host:?} is neither a host's name nor an address")]
    #[diagnostic(help("--host takes what clients and workers call the coordinator by, without its port"))]
    Host { host: String },
    #[error("{peer:?} is not ROLE/NAME")]
    #[diagnostic(help("roles are worker, client and read-only; a name has 1 to 64 letters, digits, '-', '_' and '.'"))]
    Peer { peer: String },
    #[error("{} holds no key that epsweep can sign with", .path.display())]
    #[diagnostic(help("name another folder with --out, or remove the files of the CA in this one"))]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("{} is there, but {} is not", .there.display(), .absent.display())]
    #[diagnostic(help("they belong together: name another folder with --out"))]
    Half { there: PathBuf, absent: PathBuf },
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// What there is now.
#[derive(Debug)]
pub struct MadeCerts {
    /// Whether the CA was there before.
    pub old_ca: bool,
    /// The folders for `--tls-dir`: the coordinator's first.
    pub folders: Vec<PathBuf>,
}

/// Makes a CA in `out` (or goes on with the one that is there), and beside it a folder for the
/// coordinator, called by `hosts` or from its own machine, and one for every peer (`ROLE/NAME`).
/// Certificates are good from yesterday (clocks differ) for `days` from now on.
///
/// # Errors
/// When a name is not one, or the folder cannot be written.
pub fn make_certs(out: &Path, hosts: &[String], peers: &[String], days: i64) -> Result<MadeCerts, CertsError> {
    let (issuer, ca, old_ca) = authority(out)?;
    let mut folders = Vec::new();
    let mut make = |folder: String, params: CertificateParams| -> Result<(), CertsError> {
        let dir = out.join(folder);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?;
        write(&dir.join("ca.pem"), &ca, 0o644)?;
        write(&dir.join("cert.pem"), &cert.pem(), 0o644)?;
        write(&dir.join("key.pem"), &key.serialize_pem(), 0o600)?;
        folders.push(dir);
        Ok(())
    };
    make("server".into(), server(hosts, days)?)?;
    for role in Role::ALL {
        make(role.name().into(), peer(role, role.name(), days)?)?;
    }
    for text in peers {
        let parsed = text.split_once('/').and_then(|(role, name)| Some((Role::parse(role)?, name)));
        let Some((role, name)) = parsed.filter(|(_, name)| is_name(name)) else {
            return Err(CertsError::Peer { peer: text.clone() });
        };
        make(format!("{role}-{name}"), peer(role, name, days)?)?;
    }
    Ok(MadeCerts { old_ca, folders })
}

/// The issuer, its certificate as PEM, and whether it was there before.
fn authority(out: &Path) -> Result<(Issuer<'static, KeyPair>, String, bool), CertsError> {
    let (cert_path, key_path) = (out.join("ca.pem"), out.join("ca-key.pem"));
    let mut params = params(CA_NAME, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    match (cert_path.exists(), key_path.exists()) {
        (true, true) => {
            let read = |path: &Path| {
                std::fs::read_to_string(path).map_err(|source| CertsError::Read { path: path.into(), source })
            };
            let (cert, key) = (read(&cert_path)?, read(&key_path)?);
            let key = KeyPair::from_pem(&key).map_err(|source| CertsError::Key { path: key_path, source })?;
            Ok((Issuer::new(params, key), cert, true))
        }
        (false, false) => {
            let key = KeyPair::generate()?;
            let cert = params.self_signed(&key)?.pem();
            write(&key_path, &key.serialize_pem(), 0o600)?;
            write(&cert_path, &cert, 0o644)?;
            Ok((Issuer::new(params, key), cert, false))
        }
        (true, false) => Err(CertsError::Half { there: cert_path, absent: key_path }),
        (false, true) => Err(CertsError::Half { there: key_path, absent: cert_path }),
    }
}

fn params(name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let (yesterday, last) = (day(-1), day(days));
    params.not_before = rcgen::date_time_ymd(yesterday.0, yesterday.1, yesterday.2);
    params.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
    if params.not_after <= params.not_before {
        let before = day(days - 1); // one that has expired already, for tests
        params.not_before = rcgen::date_time_ymd(before.0, before.1, before.2);
    }
    params
}

/// Today and `days` more, in UTC.
fn day(days: i64) -> (i32, u8, u8) {
    let seconds = jiff::Timestamp::now().as_second() + days * 86_400;
    let date = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year().into(), date.month() as u8, date.day() as u8)
}

fn server(hosts: &[String], days: i64) -> Result<CertificateParams, CertsError> {
    let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let loopback = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut names: Vec<SanType> = Vec::new();
    for host in hosts.iter().chain(&loopback) {
        names.push(host_name(host).ok_or_else(|| CertsError::Host { host: host.clone() })?);
    }
    names.extend(own.as_deref().and_then(host_name));
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    let mut params = params("epsweep coordinator", days);
    params.subject_alt_names = unique;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(leaf(params))
}

fn host_name(host: &str) -> Option<SanType> {
    if let Ok(address) = host.parse() {
        return Some(SanType::IpAddress(address));
    }
    rustls::pki_types::DnsName::try_from(host).ok()?;
    Some(SanType::DnsName(host.try_into().ok()?))
}

fn peer(role: Role, name: &str, days: i64) -> Result<CertificateParams, CertsError> {
    let mut params = params(name, days);
    params.subject_alt_names = vec![SanType::URI(format!("{SCHEME}{role}/{name}").try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(leaf(params))
}

fn leaf(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Whole or not at all, and never readable by others in between.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?; // mode 0600
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| CertsError::Write { path: path.into(), source })
}
