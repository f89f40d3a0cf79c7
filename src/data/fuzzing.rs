//! Arrays that NumPy never wrote.

use super::npy::Array;

/// Reads an array, and whatever it can be taken for.
pub fn array(bytes: &[u8]) {
    let Ok(array) = Array::parse(bytes) else { return };
    let _ = (array.floats(), array.integers(), array.bytes());
}
