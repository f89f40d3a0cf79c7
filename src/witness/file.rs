//! The file: gzipped safetensors, which NumPy and PyTorch read after `gunzip`.
//!
//! Tensors, one row per witness, ordered by example and then as they were found:
//! `x_adv` F32 `[n, channels, height, width]`, `index`, `label`, `predicted`, `level`, `member`,
//! `checksum` I64 `[n]`, `epsilon`, `distance` F64 `[n]`. The header's metadata has one entry, `epsweep`:
//! JSON with `format`, `question` (canonical, as text) and `members`. A checksum is the first eight
//! bytes of the BLAKE3 of a row's pixels: it finds what went wrong between verifying and packing.

use super::Witness;
use crate::plan::{EvaluateQuestion, Question, TaskKey};
use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Read, Write};

/// The layout described above.
const FORMAT: u32 = 1;

/// The witnesses of one evaluation task.
#[derive(Debug, Clone, PartialEq)]
pub struct WitnessFile {
    /// What was asked.
    pub question: EvaluateQuestion,
    /// Names of the cascade's attacks; [`Witness::member`] counts them.
    pub members: Vec<String>,
    /// Channels, height, width.
    pub shape: [usize; 3],
    pub witnesses: Vec<Witness>,
}

/// What does not fit on one line of the header's own format.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    question: String,
    members: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("not a gzip file, or a damaged one: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("not a file of witnesses: {0}")]
    Content(String),
    #[error("witness {row}, example {index}: the pixels are not those that were packed (their checksum differs)")]
    Checksum { row: usize, index: u32 },
}

fn content(what: impl Into<String>) -> WitnessError {
    WitnessError::Content(what.into())
}

impl WitnessFile {
    /// The task that the witnesses belong to.
    pub fn task(&self) -> TaskKey {
        Question::Evaluate(self.question.clone()).key()
    }

    /// Equal content gives equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.witnesses.len();
        let whole = |of: &dyn Fn(&Witness) -> i64| self.witnesses.iter().flat_map(|w| of(w).to_le_bytes()).collect();
        let real = |of: &dyn Fn(&Witness) -> f64| self.witnesses.iter().flat_map(|w| of(w).to_le_bytes()).collect();
        let [channels, height, width] = self.shape;
        let columns: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = vec![
            (
                "x_adv",
                Dtype::F32,
                vec![rows, channels, height, width],
                self.witnesses.iter().flat_map(|w| bytes(&w.pixels)).collect(),
            ),
            ("index", Dtype::I64, vec![rows], whole(&|w| w.index.into())),
            ("label", Dtype::I64, vec![rows], whole(&|w| w.label)),
            ("predicted", Dtype::I64, vec![rows], whole(&|w| w.predicted)),
            ("level", Dtype::I64, vec![rows], whole(&|w| w.level.into())),
            ("member", Dtype::I64, vec![rows], whole(&|w| w.member.into())),
            ("checksum", Dtype::I64, vec![rows], whole(&|w| checksum(&w.pixels))),
            ("epsilon", Dtype::F64, vec![rows], real(&|w| w.epsilon)),
            ("distance", Dtype::F64, vec![rows], real(&|w| w.distance)),
        ];
        let views = columns.iter().map(|(name, dtype, shape, data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).expect("as many bytes as the shape says"))
        });
        let question = String::from_utf8(Question::Evaluate(self.question.clone()).canonical());
        let question = question.expect("JSON is valid UTF-8");
        let header = Header { format: FORMAT, question, members: self.members.clone() };
        let header = serde_json::to_string(&header).expect("text and numbers");
        // One entry only: the order of several would be the hash map's.
        let metadata = HashMap::from([("epsweep".to_string(), header)]);
        let plain = serialize(views, Some(metadata)).expect("names and shapes make a valid header");
        // No name and no time, so that equal content stays equal.
        let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        packed.write_all(&plain).and_then(|()| packed.finish()).expect("a list in memory takes all")
    }

    /// Reads a file, and what can be said about each row's checksum: rows that differ are named after
    /// the file, so that everything else about them can still be checked.
    ///
    /// # Errors
    /// When the bytes are no such file.
    pub fn decode(packed: &[u8]) -> Result<(WitnessFile, Vec<WitnessError>), WitnessError> {
        let mut plain = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut plain)?;
        let (_, metadata) = SafeTensors::read_metadata(&plain)?;
        let header = metadata.metadata().as_ref().and_then(|entries| entries.get("epsweep"));
        let header: Header = serde_json::from_str(header.ok_or_else(|| content("it has no epsweep header"))?)
            .map_err(|error| content(format!("its header: {error}")))?;
        if header.format != FORMAT {
            return Err(content(format!("it has format {}, this epsweep reads format {FORMAT}", header.format)));
        }
        let Ok(Question::Evaluate(question)) = serde_json::from_str(&header.question) else {
            return Err(content("its question is not one of this version of epsweep"));
        };
        let tensors = SafeTensors::deserialize(&plain)?;
        let (shape, images) = images(&tensors)?;
        let (witnesses, damaged) = rows(&tensors, images)?;
        Ok((WitnessFile { question, members: header.members, shape, witnesses }, damaged))
    }
}

/// The images' size, and their pixels row by row.
fn images(tensors: &SafeTensors) -> Result<([usize; 3], Vec<Vec<f32>>), WitnessError> {
    let images = tensors.tensor("x_adv")?;
    let &[_, channels, height, width] = images.shape() else {
        return Err(content("x_adv is not NCHW"));
    };
    let size = channels * height * width;
    if images.dtype() != Dtype::F32 || size == 0 {
        return Err(content("x_adv does not hold 32-bit images"));
    }
    let image = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(([channels, height, width], images.data().chunks_exact(4 * size).map(image).collect()))
}

fn rows(tensors: &SafeTensors, images: Vec<Vec<f32>>) -> Result<(Vec<Witness>, Vec<WitnessError>), WitnessError> {
    let column = |name: &str, dtype: Dtype| -> Result<Vec<[u8; 8]>, WitnessError> {
        let column = tensors.tensor(name)?;
        if column.dtype() != dtype || column.shape() != [images.len()] {
            return Err(content(format!("{name} is not one number per witness")));
        }
        Ok(column.data().as_chunks::<8>().0.to_vec())
    };
    let whole = |name: &str| -> Result<Vec<i64>, WitnessError> {
        Ok(column(name, Dtype::I64)?.into_iter().map(i64::from_le_bytes).collect())
    };
    let real = |name: &str| -> Result<Vec<f64>, WitnessError> {
        Ok(column(name, Dtype::F64)?.into_iter().map(f64::from_le_bytes).collect())
    };
    let (index, label, predicted) = (whole("index")?, whole("label")?, whole("predicted")?);
    let (level, member, checksums) = (whole("level")?, whole("member")?, whole("checksum")?);
    let (epsilon, distance) = (real("epsilon")?, real("distance")?);
    let (mut witnesses, mut damaged) = (Vec::with_capacity(images.len()), Vec::new());
    for (row, pixels) in images.into_iter().enumerate() {
        let beyond = |_| content(format!("witness {row} has an index, a level or a member out of range"));
        let index = index[row].try_into().map_err(beyond)?;
        if checksum(&pixels) != checksums[row] {
            damaged.push(WitnessError::Checksum { row, index });
        }
        witnesses.push(Witness {
            index,
            label: label[row],
            predicted: predicted[row],
            level: level[row].try_into().map_err(beyond)?,
            epsilon: epsilon[row],
            distance: distance[row],
            member: member[row].try_into().map_err(beyond)?,
            pixels,
        });
    }
    Ok((witnesses, damaged))
}

fn bytes(pixels: &[f32]) -> Vec<u8> {
    pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect()
}

fn checksum(pixels: &[f32]) -> i64 {
    let hash = blake3::hash(&bytes(pixels));
    i64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::check::tests::{file, question};

    #[test]
    fn what_is_packed_is_unpacked_and_equal_content_has_equal_bytes() {
        let file = file();
        let packed = file.encode();
        let (read, damaged) = WitnessFile::decode(&packed).unwrap();
        assert_eq!(read, file);
        assert!(damaged.is_empty());
        assert_eq!(read.encode(), packed);
        assert_eq!(read.task(), Question::Evaluate(question()).key());
        let none = WitnessFile { witnesses: Vec::new(), ..file };
        assert_eq!(WitnessFile::decode(&none.encode()).unwrap().0, none);
    }

    #[test]
    fn no_flipped_bit_changes_the_content_unseen() {
        let packed = file().encode();
        let mut refused = 0;
        for byte in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[byte] ^= 1 << (byte % 8);
            match WitnessFile::decode(&damaged) {
                Err(_) => refused += 1,
                // A bit of the padding, or of what gzip notes about time and system.
                Ok((read, rows)) => assert!(read == file() && rows.is_empty(), "byte {byte}"),
            }
        }
        assert!(refused + 20 > packed.len(), "{refused} of {}", packed.len());
    }

    #[test]
    fn a_pixel_that_changed_before_packing_is_named() {
        let mut changed = file();
        changed.witnesses[1].pixels[0] = f32::from_bits(changed.witnesses[1].pixels[0].to_bits() ^ 1);
        // The checksum of the old pixels in a file with the new ones.
        let mut plain = Vec::new();
        GzDecoder::new(&file().encode()[..]).read_to_end(&mut plain).unwrap();
        let old = file().witnesses[1].pixels.clone();
        let at = plain.windows(8).position(|window| window == &bytes(&old)[..8]).unwrap();
        plain[at] ^= 1;
        let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        packed.write_all(&plain).unwrap();
        let (read, damaged) = WitnessFile::decode(&packed.finish().unwrap()).unwrap();
        assert_eq!(read, changed);
        assert!(matches!(damaged[..], [WitnessError::Checksum { row: 1, .. }]), "{damaged:?}");
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let said = |bytes: &[u8]| WitnessFile::decode(bytes).unwrap_err().to_string();
        assert!(said(b"").contains("gzip") && said(b"weights").contains("gzip"));
        let pack = |plain: &[u8]| {
            let mut packed = GzBuilder::new().write(Vec::new(), Compression::fast());
            packed.write_all(plain).unwrap();
            packed.finish().unwrap()
        };
        assert!(said(&pack(b"weights")).contains("safetensors"));
        let data = [0u8; 4];
        let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
        let weights = serialize([("0.weight", view)], None).unwrap();
        assert!(said(&pack(&weights)).contains("no epsweep header"));
    }
}
