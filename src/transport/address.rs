//! Where a coordinator is: an address, or a file that says it.
//!
//! A coordinator that a batch system starts learns its host when it runs. It writes where it listens to a file that
//! all sides see; workers and clients are given `@FILE`, wait for it, and look again at every new connection.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// More is not an address.
const LARGEST: u64 = 4096;

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    At { host: String, port: u16 },
    In(PathBuf),
}

impl Place {
    /// `HOST:PORT` or `@FILE`.
    pub fn parse(text: &str) -> Option<Place> {
        match text.strip_prefix('@') {
            Some("") => None,
            Some(file) => Some(Place::In(file.into())),
            None => split(text).map(|(host, port)| Place::At { host, port }),
        }
    }

    /// Host and port, as they are now.
    ///
    /// # Errors
    /// When the file is not there (yet), or holds no address.
    pub async fn find(&self) -> io::Result<(String, u16)> {
        match self {
            Place::At { host, port } => Ok((host.clone(), *port)),
            Place::In(path) => {
                let path = path.clone();
                crate::blocking::run(move || read(&path)).await.map_err(io::Error::other)?
            }
        }
    }
}

fn read(path: &Path) -> io::Result<(String, u16)> {
    use std::io::Read;
    let named = |error: io::Error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "not there yet: the coordinator writes it when it listens".to_string(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("{}: {why}", path.display()))
    };
    let mut text = String::new();
    std::fs::File::open(path).map_err(named)?.take(LARGEST).read_to_string(&mut text).map_err(named)?;
    let wrong = || io::Error::new(ErrorKind::InvalidData, format!("{} holds no HOST:PORT", path.display()));
    split(text.trim()).ok_or_else(wrong)
}

fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // `http://` in front is a likely mistake, and would be taken for a host's name.
    let is_host = !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    is_host.then_some((host.to_string(), port.parse().ok()?))
}

/// The file that a coordinator writes; it goes when this is dropped, unless another has written it since.
#[derive(Debug)]
pub struct AddressFile {
    path: PathBuf,
    text: String,
}

impl AddressFile {
    /// Writes it whole or not at all, readable by this user alone: who can change it decides where workers go.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn write(path: &Path, host: &str, port: u16) -> io::Result<AddressFile> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let text = format!("{host}:{port}\n");
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?; // mode 0600
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(AddressFile { path: path.into(), text })
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn addresses_and_files_are_told_apart() {
        let at = |host: &str, port| Some(Place::At { host: host.into(), port });
        assert_eq!(Place::parse("head:7070"), at("head", 7070));
        assert_eq!(Place::parse("[::1]:7070"), at("::1", 7070));
        assert_eq!(Place::parse("@runs/a:b/address"), Some(Place::In("runs/a:b/address".into())));
        for wrong in ["", "@", "head", "head:", ":7070", "head:70700", "http://head:7070", "he ad:7070"] {
            assert_eq!(Place::parse(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_file_is_private_waited_for_and_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/address");
        let place = Place::In(path.clone());
        let absent = place.find().await.unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        assert!(absent.to_string().contains("below/address: not there yet"), "{absent}");
        let first = AddressFile::write(&path, "node1", 7070).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(place.find().await.unwrap(), ("node1".to_string(), 7070));
        let second = AddressFile::write(&path, "fe80::2", 7071).unwrap();
        drop(first);
        assert_eq!(place.find().await.unwrap(), ("fe80::2".to_string(), 7071), "the successor's stays");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(place.find().await.unwrap_err().to_string().contains("holds no HOST:PORT"));
    }
}
