//! NumPy's `.npy` format: a magic number, a header that is a Python dictionary, and raw numbers.

/// Bytes of the longest element that is worth a name in a message; NumPy's longest number has 32.
const LONGEST: usize = 1 << 16;

/// The element type of an array: `u1`, `f4`, `i8` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dtype {
    /// `u` unsigned, `i` signed, `f` floating, `b` boolean.
    pub kind: char,
    /// Bytes per element.
    pub size: usize,
    pub big_endian: bool,
}

/// An array, read but not yet interpreted.
#[derive(Debug)]
pub(super) struct Array {
    pub dtype: Dtype,
    /// Columns first: NumPy's `order='F'`.
    pub fortran: bool,
    pub shape: Vec<usize>,
    content: Vec<u8>,
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.kind {
            'u' => "uint",
            'i' => "int",
            'f' => "float",
            'b' => return f.write_str("bool"),
            other => return write!(f, "type {other}{}", self.size),
        };
        write!(f, "{name}{}", 8 * self.size)
    }
}

impl Array {
    /// Reads a whole file's bytes; the error says what is wrong with them.
    pub fn parse(file: &[u8]) -> Result<Array, String> {
        let not_npy = || "is not an array in NumPy's format".to_string();
        let rest = file.strip_prefix(b"\x93NUMPY").ok_or_else(not_npy)?;
        // Version 1 has a 16-bit length, 2 and 3 a 32-bit one.
        let (length, rest) = match rest {
            [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            _ => return Err(not_npy()),
        };
        let header = rest.get(..length).and_then(|header| std::str::from_utf8(header).ok()).ok_or_else(not_npy)?;
        let content = &rest[length..];
        let dtype = dtype(field(header, "descr").ok_or_else(not_npy)?)?;
        let fortran = field(header, "fortran_order").ok_or_else(not_npy)?.starts_with("True");
        let shape = shape(field(header, "shape").ok_or_else(not_npy)?).ok_or_else(not_npy)?;
        let promised = shape.iter().try_fold(dtype.size, |product, &side| product.checked_mul(side));
        if promised != Some(content.len()) {
            return Err(format!("is cut short or too long: {} bytes for shape {shape:?} of {dtype}", content.len()));
        }
        Ok(Array { dtype, fortran, shape, content: content.to_vec() })
    }

    /// The elements where they are `uint8`.
    pub fn bytes(self) -> Option<Vec<u8>> {
        (self.dtype.kind == 'u' && self.dtype.size == 1).then_some(self.content)
    }

    /// The elements where they are `float32`.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let read: fn([u8; 4]) -> f32 = if self.dtype.big_endian { f32::from_be_bytes } else { f32::from_le_bytes };
        let (words, _) = self.content.as_chunks::<4>();
        (self.dtype.kind == 'f' && self.dtype.size == 4).then(|| words.iter().map(|&word| read(word)).collect())
    }

    /// The elements where they are whole numbers.
    pub fn integers(&self) -> Option<Vec<i128>> {
        let Dtype { kind, size, big_endian } = self.dtype;
        if !matches!(kind, 'u' | 'i') || !(1..=8).contains(&size) {
            return None;
        }
        let read = |element: &[u8]| {
            let byte = |at: usize| element[if big_endian { at } else { size - 1 - at }];
            let sign = if kind == 'i' && byte(0) >= 128 { -1 } else { 0 };
            (0..size).fold(sign, |value: i128, at| value << 8 | i128::from(byte(at)))
        };
        Some(self.content.chunks_exact(size).map(read).collect())
    }
}

/// What follows `'name':` in the dictionary.
fn field<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let key = format!("'{name}':");
    header.find(&key).map(|at| header[at + key.len()..].trim_start())
}

fn dtype(text: &str) -> Result<Dtype, String> {
    let structured = || "holds records of several fields".to_string();
    let text = text.strip_prefix('\'').and_then(|rest| rest.split('\'').next()).ok_or_else(structured)?;
    let mut chars = text.chars();
    let order = chars.next().unwrap_or(' ');
    let kind = chars.next().unwrap_or(' ');
    match chars.as_str().parse() {
        _ if kind == 'O' => Err("holds Python objects, which are not read because they could run code".to_string()),
        Ok(size) if (1..=LONGEST).contains(&size) => Ok(Dtype { kind, size, big_endian: order == '>' }),
        _ => Err(format!("has the unknown type {text}")),
    }
}

fn shape(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.split(')').next()?;
    inside.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
}

/// A file of one array, for tests: little-endian, row by row.
#[cfg(test)]
pub(super) fn encode(descr: &str, shape: &str, content: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind_are_read() {
        let read = |descr, content: &[u8]| Array::parse(&encode(descr, "(2,)", content)).expect("readable");
        assert_eq!(read("|u1", &[3, 255]).integers(), Some(vec![3, 255]));
        assert_eq!(read("|i1", &[3, 255]).integers(), Some(vec![3, -1]));
        assert_eq!(
            read("<i8", &[&5i64.to_le_bytes()[..], &(-7i64).to_le_bytes()].concat()).integers(),
            Some(vec![5, -7])
        );
        assert_eq!(read(">i4", &[0, 0, 1, 0, 255, 255, 255, 254]).integers(), Some(vec![256, -2]));
        assert_eq!(read("<f4", &[0.5f32.to_le_bytes(), 1f32.to_le_bytes()].concat()).floats(), Some(vec![0.5, 1.0]));
        assert_eq!(read(">f4", &[0.5f32.to_be_bytes(), 1f32.to_be_bytes()].concat()).floats(), Some(vec![0.5, 1.0]));
        assert!(read("<f8", &[0; 16]).floats().is_none() && read("<f8", &[0; 16]).integers().is_none());
        assert_eq!(read("<f8", &[0; 16]).dtype.to_string(), "float64");
    }

    #[test]
    fn a_header_is_not_believed() {
        for (bytes, words) in [
            (b"PK\x03\x04".to_vec(), "not an array"),
            (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "not an array"),
            (encode("<f4", "(3,)", &[0; 8]), "cut short"),
            (encode("<f4", "(99999999999, 99999999999)", &[0; 8]), "cut short"),
            (encode("|O", "(1,)", &[0; 8]), "Python objects"),
            (encode("<f8888888888888888888", "(1,)", &[0; 8]), "unknown type"),
        ] {
            assert!(Array::parse(&bytes).expect_err(words).contains(words));
        }
    }
}
