//! The order of configurations in tables: by their axes, as a person would sort them.

use std::cmp::Ordering;

/// Compares axis values cell by cell: numbers by size and before words, words by their bytes.
/// A total order: cells that are equal as numbers (`0.1`, `0.10`) are told apart by their text.
pub fn by_axes(a: &[String], b: &[String]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| cell(a, b)).find(|o| o.is_ne()).unwrap_or(a.len().cmp(&b.len()))
}

fn cell(a: &str, b: &str) -> Ordering {
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

fn number(text: &str) -> Option<f64> {
    // `nan` and `infinity` parse as well, but are words here.
    text.parse().ok().filter(|x: &f64| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_size_before_words() {
        let mut cells = ["trades", "10", "nan", "9", "1e-3", "0.10", "0.1", ""];
        cells.sort_by(|a, b| cell(a, b));
        assert_eq!(cells, ["1e-3", "0.1", "0.10", "9", "10", "", "nan", "trades"]);
    }
}
