//! NumPy's array files, version 1.0: a header that says type and shape, then the values in row-major order.

/// The bytes of a `.npy` file.
///
/// # Panics
/// When there are not as many values as `shape` says.
pub fn encode<T: Value>(shape: &[usize], values: &[T]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "as many values as the shape says");
    let sizes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let one = if shape.len() == 1 { "," } else { "" };
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}{one}), }}", T::TYPE);
    // Magic, version, length and header together fill whole blocks of 64 bytes; a line feed ends them.
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding % 64));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    for value in values {
        value.write(&mut file);
    }
    file
}

/// What an array can hold, little-endian.
pub trait Value {
    const TYPE: &'static str;
    fn write(&self, into: &mut Vec<u8>);
}

impl Value for f32 {
    const TYPE: &'static str = "<f4";
    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.to_le_bytes());
    }
}

impl Value for f64 {
    const TYPE: &'static str = "<f8";
    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.to_le_bytes());
    }
}

impl Value for i64 {
    const TYPE: &'static str = "<i8";
    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys() {
        // As `numpy.save` writes `np.arange(6, dtype='<f4').reshape(2, 3)` and `np.array([7, -1])`.
        let file = encode(&[2, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut expected =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend([0f32, 1.0, 2.0, 3.0, 4.0, 5.0].iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(file, expected);
        let file = encode(&[2], &[7i64, -1]);
        assert_eq!(file.len(), 128 + 16);
        assert!(String::from_utf8_lossy(&file).contains("'<i8', 'fortran_order': False, 'shape': (2,), }"));
        assert_eq!(encode::<f64>(&[0, 1, 8, 8], &[]).len() % 64, 0, "no rows, but still a whole header");
    }
}
