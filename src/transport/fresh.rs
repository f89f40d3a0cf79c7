//! Values read from files, and read again when the files change.

use super::AccessError;
use super::error::What;
use super::limits::SECRET_FILE;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Files with their content, in the order in which they were asked for.
pub type Contents = Vec<(PathBuf, Vec<u8>)>;
type ReadFiles = Box<dyn Fn() -> Result<Contents, AccessError> + Send + Sync>;
type Parse<T> = Box<dyn Fn(&Contents) -> Result<T, AccessError> + Send + Sync>;

/// The newest good value of some files.
pub struct Fresh<T> {
    read: ReadFiles,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    looked: Mutex<Looked>,
}

/// What was found the last time. Several files are not replaced in one instant, so what is wrong is
/// complained about only when it still is at the next look.
struct Looked {
    digest: Option<blake3::Hash>,
    trouble: Trouble,
}

#[derive(PartialEq, Eq)]
enum Trouble {
    None,
    Seen,
    Told,
}

impl<T> std::fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh(..)") // the value is a secret
    }
}

impl<T> Fresh<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn new(
        read: impl Fn() -> Result<Contents, AccessError> + Send + Sync + 'static,
        parse: impl Fn(&Contents) -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Fresh<T>, AccessError> {
        let contents = read()?;
        let value = parse(&contents)?;
        let looked = Looked { digest: Some(digest(&contents)), trouble: Trouble::None };
        let current = RwLock::new(Arc::new(value));
        Ok(Fresh { read: Box::new(read), parse: Box::new(parse), current, looked: Mutex::new(looked) })
    }

    pub fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again. Where they have changed and are good, the new value is the current one
    /// from now on; where they are not, the old one stays, and the log says why.
    pub fn look(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = (self.read)();
        let found = contents.as_ref().ok().map(digest);
        if found == looked.digest && looked.trouble != Trouble::Seen {
            return;
        }
        let changed = found != looked.digest;
        looked.digest = found;
        match contents.and_then(|contents| Ok(((self.parse)(&contents)?, contents))) {
            Ok((value, contents)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                looked.trouble = Trouble::None;
                let files: Vec<_> = contents.iter().map(|(path, _)| path.display().to_string()).collect();
                tracing::info!(files = files.join(", "), "read again: changed");
            }
            Err(_) if changed => looked.trouble = Trouble::Seen,
            Err(error) => {
                looked.trouble = Trouble::Told;
                tracing::error!(error = chain(&error), "a changed file is not usable; what it held before stays");
            }
        }
    }
}

fn digest(contents: &Contents) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (path, content) in contents {
        hasher.update(path.as_os_str().as_encoded_bytes()).update(&[0]);
        hasher.update(&(content.len() as u64).to_le_bytes()).update(content);
    }
    hasher.finalize()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Reads a file that should be small.
///
/// # Errors
/// When it cannot be read, or is larger than any such file.
pub fn read(path: &Path, what: What) -> Result<Vec<u8>, AccessError> {
    let unreadable = |source| AccessError::Unreadable { path: path.into(), what, source };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(SECRET_FILE + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > SECRET_FILE {
        return Err(AccessError::Huge { path: path.into() });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_replaces_the_value_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let (named, broken) = (path.clone(), path.clone());
        let fresh = Fresh::new(
            move || Ok(vec![(named.clone(), read(&named, What::Tokens)?)]),
            move |contents| {
                let text = String::from_utf8_lossy(&contents[0].1).into_owned();
                text.parse::<u32>()
                    .map_err(|error| AccessError::Pem { path: broken.clone(), problem: error.to_string() })
            },
        )
        .unwrap();
        let after = |text: &str| {
            std::fs::write(&path, text).unwrap();
            fresh.look();
            fresh.look();
            *fresh.get()
        };
        assert_eq!(*fresh.get(), 1);
        assert_eq!(after("2"), 2);
        assert_eq!(after("what"), 2, "the old one stays");
        assert_eq!(after("3"), 3, "until there is a good one");
        std::fs::remove_file(&path).unwrap();
        fresh.look();
        fresh.look();
        assert_eq!(*fresh.get(), 3);
        assert_eq!(after("3"), 3);
        assert_eq!(after("4"), 4);
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        assert!(matches!(read(Path::new("/dev/zero"), What::Tokens), Err(AccessError::Huge { .. })));
    }
}
