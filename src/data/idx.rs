//! The IDX format of MNIST's files: a magic number, sizes as big-endian u32, then bytes.
//!
//! Files come from the network and from disks that fill up, so nothing in a header is believed
//! before the bytes are there.

use super::{DataError, MAX_SIDE};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file of images: `count` of `height` by `width` bytes each.
#[derive(Debug)]
pub(super) struct Images {
    pub path: PathBuf,
    pub count: u32,
    pub height: u32,
    pub width: u32,
    pub pixels: Vec<u8>,
}

/// A file of labels.
#[derive(Debug)]
pub(super) struct Labels {
    pub path: PathBuf,
    pub labels: Vec<u8>,
}

pub(super) fn read_images(path: &Path) -> Result<Images, DataError> {
    let bytes = read(path)?;
    let (sizes, pixels) = header::<3>(path, &bytes, "images (00 00 08 03)", [0, 0, 8, 3])?;
    let [count, height, width] = sizes;
    if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
        return Err(DataError::BadSize { path: path.to_path_buf(), height, width, most: MAX_SIDE });
    }
    let pixels = content(path, &bytes, pixels, u64::from(count) * u64::from(height) * u64::from(width))?;
    Ok(Images { path: path.to_path_buf(), count, height, width, pixels })
}

pub(super) fn read_labels(path: &Path) -> Result<Labels, DataError> {
    let bytes = read(path)?;
    let ([count], labels) = header::<1>(path, &bytes, "labels (00 00 08 01)", [0, 0, 8, 1])?;
    let labels = content(path, &bytes, labels, count.into())?;
    Ok(Labels { path: path.to_path_buf(), labels })
}

/// The file's bytes, unpacked if it is gzipped. That is seen by its first bytes: browsers like to
/// unpack a file and leave its name as it was.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    match flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked) {
        Ok(_) => Ok(unpacked),
        // What is there tells the header, and the header how much is missing: a better message.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !unpacked.is_empty() => Ok(unpacked),
        Err(error) => Err(unreadable(error)),
    }
}

/// The sizes in the header, and where the content begins.
fn header<const N: usize>(
    path: &Path,
    bytes: &[u8],
    expected: &'static str,
    magic: [u8; 4],
) -> Result<([u32; N], usize), DataError> {
    if !bytes.starts_with(&magic) {
        let found: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let found = if found.is_empty() { "nothing, it is empty".to_string() } else { found.join(" ") };
        return Err(DataError::WrongMagic { path: path.to_path_buf(), expected, found });
    }
    let length = 4 + 4 * N;
    let Some(sizes) = bytes.get(4..length) else {
        let found = bytes.len() as u64;
        return Err(DataError::Truncated { path: path.to_path_buf(), promised: length as u64, found });
    };
    let mut found = [0; N];
    for (size, bytes) in found.iter_mut().zip(sizes.chunks_exact(4)) {
        *size = bytes.iter().fold(0, |size, &byte| size << 8 | u32::from(byte));
    }
    Ok((found, length))
}

fn content(path: &Path, bytes: &[u8], start: usize, promised: u64) -> Result<Vec<u8>, DataError> {
    let path = path.to_path_buf();
    let content = &bytes[start..];
    let found = content.len() as u64;
    match found.cmp(&promised) {
        std::cmp::Ordering::Equal if found == 0 => Err(DataError::Empty { path }),
        std::cmp::Ordering::Equal => Ok(content.to_vec()),
        std::cmp::Ordering::Less => {
            Err(DataError::Truncated { path, promised: promised + start as u64, found: bytes.len() as u64 })
        }
        std::cmp::Ordering::Greater => Err(DataError::TooLong { path, excess: found - promised }),
    }
}
