//! Token files: one token, or several with names and roles.
//!
//! ```text
//! # NAME    ROLES          TOKEN
//! cluster   worker         8n1iKQ...
//! laptop    client         q5yZrP...
//! wall      read-only      Zm0bFt...
//! ```
//!
//! A file of one line that is not of this form is one token, which opens everything. Two lines may share
//! a name while a token is being replaced. Workers and clients may be given the whole file, or their line of it.

use super::AccessError;
use super::error::What;
use super::fresh::{Contents, Fresh, read};
use super::roles::{Caller, Role, Roles, is_name};
use std::collections::HashMap;
use std::path::Path;

/// The name of a token that stands alone.
const UNNAMED: &str = "token";
const SHORTEST: usize = 16;
const LONGEST: usize = 4096;

/// A line of a token file.
struct Entry {
    caller: Caller,
    secret: String,
}

/// What a coordinator knows of its tokens: their digests.
pub struct Tokens {
    by_digest: HashMap<[u8; 32], Caller>,
}

impl Tokens {
    /// One token under a name, for the workers of one run.
    pub fn one(name: &str, roles: Roles, secret: &str) -> Tokens {
        let caller = Caller { name: name.into(), roles };
        Tokens { by_digest: [(*blake3::hash(secret.as_bytes()).as_bytes(), caller)].into() }
    }

    /// Whose token this is. Looked up by digest, so that the time taken says nothing about how much was right.
    pub fn find(&self, secret: &str) -> Option<&Caller> {
        self.by_digest.get(blake3::hash(secret.as_bytes()).as_bytes())
    }

    /// A coordinator's token file, which may change.
    ///
    /// # Errors
    /// When it cannot be read, or a line is not a token.
    pub fn from_file(path: &Path) -> Result<Fresh<Tokens>, AccessError> {
        watched(path, |contents| {
            let entries = parse(contents)?;
            let by_digest =
                entries.into_iter().map(|entry| (*blake3::hash(entry.secret.as_bytes()).as_bytes(), entry.caller));
            Ok(Tokens { by_digest: by_digest.collect() })
        })
    }
}

/// The token that a peer in `role` presents: its file's first one for that role (for a client that may
/// only look, the first one for looking), or else its first.
///
/// # Errors
/// When the file cannot be read, or a line is not a token.
pub fn secret_for(path: &Path, role: Role) -> Result<Fresh<String>, AccessError> {
    watched(path, move |contents| {
        let mut entries = parse(contents)?;
        let first = |role| entries.iter().position(|entry| entry.caller.roles.has(role));
        let looking = || if role == Role::Client { first(Role::ReadOnly) } else { None };
        let fitting = first(role).or_else(looking).unwrap_or(0);
        Ok(entries.swap_remove(fitting).secret)
    })
}

fn watched<T>(
    path: &Path,
    parse: impl Fn(&Contents) -> Result<T, AccessError> + Send + Sync + 'static,
) -> Result<Fresh<T>, AccessError> {
    let path = path.to_path_buf();
    Fresh::new(move || Ok(vec![(path.clone(), read(&path, What::Tokens)?)]), parse)
}

/// The file's tokens, at least one.
fn parse(contents: &Contents) -> Result<Vec<Entry>, AccessError> {
    let (path, content) = &contents[0];
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().map(str::trim).enumerate();
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    let mut entries: Vec<Entry> = Vec::new();
    for &(index, line) in &lines {
        let wrong = |problem: String| AccessError::Token { path: path.clone(), line: index + 1, problem };
        let entry = parse_line(line, lines.len() == 1).map_err(wrong)?;
        for other in &entries {
            if other.secret == entry.secret {
                return Err(wrong("this token stands there twice".into()));
            }
            if other.caller.name == entry.caller.name && other.caller.roles != entry.caller.roles {
                return Err(wrong(format!("{} has other roles in another line", entry.caller.name)));
            }
        }
        entries.push(entry);
    }
    if entries.is_empty() { Err(AccessError::NoToken { path: path.clone() }) } else { Ok(entries) }
}

fn parse_line(line: &str, alone: bool) -> Result<Entry, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let named = match words[..] {
        [name, roles, secret] => Roles::parse(roles).map(|roles| (name, roles, secret)),
        _ => None,
    };
    let (name, roles, secret) = match named {
        Some(named) => named,
        None if alone => (UNNAMED, Roles::ALL, line),
        None => return Err("this is not NAME ROLES TOKEN".into()),
    };
    if !is_name(name) {
        return Err(format!("the name {name:?} is not 1 to 64 letters, digits, '-', '_' and '.'"));
    }
    if !(SHORTEST..=LONGEST).contains(&secret.len()) {
        return Err(format!("a token has {SHORTEST} to {LONGEST} characters, not {}", secret.len()));
    }
    if !secret.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err("the token is not plain ASCII".into());
    }
    Ok(Entry { caller: Caller { name: name.into(), roles }, secret: secret.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# for the cluster\ncluster worker wwwwwwwwwwwwwwww\n\n\
        laptop client cccccccccccccccc\nlaptop client CCCCCCCCCCCCCCCC\nwall read-only rrrrrrrrrrrrrrrr\n";

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_line_names_its_holder_and_what_it_may() {
        let (_dir, path) = written(FILE);
        let tokens = Tokens::from_file(&path).unwrap().get();
        let find = |secret| tokens.find(secret).map(|caller| (caller.name.to_string(), caller.roles));
        assert_eq!(find("wwwwwwwwwwwwwwww"), Some(("cluster".into(), Roles::of(Role::Worker))));
        assert_eq!(find("CCCCCCCCCCCCCCCC"), Some(("laptop".into(), Roles::of(Role::Client))), "old and new at once");
        assert_eq!(find("wwwwwwwwwwwwwwwx"), None);
        let secret = |role| secret_for(&path, role).unwrap().get().to_string();
        assert_eq!(secret(Role::Worker), "wwwwwwwwwwwwwwww");
        assert_eq!(secret(Role::Client), "cccccccccccccccc");
        let (_dir, path) = written("a worker wwwwwwwwwwwwwwww\nb read-only rrrrrrrrrrrrrrrr\n");
        assert_eq!(*secret_for(&path, Role::Client).unwrap().get(), "rrrrrrrrrrrrrrrr");
    }

    #[test]
    fn a_plain_token_opens_everything() {
        for token in ["correct-horse-battery", "correct horse battery"] {
            let (_dir, path) = written(&format!("{token}\n"));
            let tokens = Tokens::from_file(&path).unwrap().get();
            assert_eq!(tokens.find(token).unwrap().roles, Roles::ALL);
            assert_eq!(*secret_for(&path, Role::Worker).unwrap().get(), token);
        }
    }

    #[test]
    fn what_is_no_token_is_named_by_its_line() {
        let long = "x".repeat(LONGEST + 1);
        for (text, line, says) in [
            ("short", 1, "16 to 4096 characters, not 5"),
            (long.as_str(), 1, "not 4097"),
            ("# a\na b", 2, "not 3"),
            ("a worker aaaaaaaaaaaaaaaa\na admin aaaaaaaaaaaaaaaa", 2, "NAME ROLES TOKEN"),
            ("../x worker aaaaaaaaaaaaaaaa", 1, "\"../x\""),
            ("a worker aaaaaaaaaaaaaaaa\nb client aaaaaaaaaaaaaaaa", 2, "twice"),
            ("a worker aaaaaaaaaaaaaaaa\na client bbbbbbbbbbbbbbbb", 2, "other roles"),
            ("a worker ääääääääääääääää", 1, "ASCII"),
        ] {
            let (_dir, path) = written(text);
            match Tokens::from_file(&path) {
                Err(AccessError::Token { line: found, problem, .. }) => {
                    assert_eq!(found, line);
                    assert!(problem.contains(says), "{problem}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        let (_dir, path) = written("# nothing\n");
        assert!(matches!(Tokens::from_file(&path), Err(AccessError::NoToken { .. })));
    }
}
