//! What Kubernetes takes for a name, a size, an image.

use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// A label of DNS (RFC 1123), which most names must be.
pub fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A label made of any name: at most 30 characters of it.
pub fn label_of(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(30).collect();
    label.trim_matches('-').to_string()
}

/// A quantity of bytes.
pub fn is_size(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    number.parse::<u64>().is_ok_and(|number| number > 0) && ["", "M", "G", "T", "Mi", "Gi", "Ti"].contains(&unit)
}

/// A container image: a name with a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Image, String> {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        // A colon before the last slash belongs to a registry's port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((end, tag)) => (&rest[..last + end.len()], Some(tag)),
            None => (rest, None),
        };
        let name_ok = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:".contains(c))
        };
        let tag_ok = |tag: &str| {
            (1..=128).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let digest_ok = |digest: &str| {
            digest
                .strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
        };
        if !name.split('/').all(name_ok) || !tag.is_none_or(tag_ok) || !digest.is_none_or(digest_ok) {
            return Err("an image is NAME:TAG or NAME@sha256:DIGEST, its name in lower case".into());
        }
        if tag.is_none() && digest.is_none() {
            return Err("the image has neither a tag nor a digest: write which one, such as :0.1.0".into());
        }
        Ok(Image { name: name.into(), tag: tag.map(String::from), digest: digest.map(String::from) })
    }
}

impl Image {
    /// Kustomize's words for putting it where the manifests say `original`.
    pub fn replaces(&self, original: &str) -> Value {
        let mut image = json!({"name": original, "newName": self.name});
        // Where both are given, the digest counts.
        match (&self.digest, &self.tag) {
            (Some(digest), _) => image["digest"] = json!(digest),
            (None, Some(tag)) => image["newTag"] = json!(tag),
            (None, None) => {}
        }
        image
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}
