//! The embedded data set: 1,797 handwritten 8x8 digits.
//!
//! From "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine
//! Learning Repository, <https://doi.org/10.24432/C50P49>, licensed CC BY 4.0
//! (<https://creativecommons.org/licenses/by/4.0/>), as scikit-learn ships them: the test part of
//! the original, one digit per line, 64 pixels of 0..=16 and the label. Unchanged.
//!
//! The split is made here, once and for all, see [`split`].

use super::{DataError, DataSet, Examples, Pixels};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io::Read;

const CSV: &[u8] = include_bytes!("digits.csv.gz");
const COUNT: usize = 1797;
const SIDE: usize = 8;
const CLASSES: u8 = 10;
const WHITE: u8 = 16;
/// Examples of the test set; the other 1,347 are the training set.
const TEST: usize = 450;

pub(super) fn load() -> Result<DataSet, DataError> {
    let damaged = |reason: String| DataError::Embedded { reason };
    let mut text = String::new();
    flate2::read::GzDecoder::new(CSV).read_to_string(&mut text).map_err(|error| damaged(error.to_string()))?;
    let rows: Vec<Row> =
        text.lines().map(|line| row(line).ok_or_else(|| damaged(format!("`{line}`")))).collect::<Result<_, _>>()?;
    if rows.len() != COUNT {
        return Err(damaged(format!("{} digits instead of {COUNT}", rows.len())));
    }
    let (train, test) = split(&rows.iter().map(|row| row.label).collect::<Vec<u8>>());
    Ok(DataSet::new("digits", CLASSES.into(), examples(&rows, &train), examples(&rows, &test)))
}

struct Row {
    pixels: Vec<u8>,
    label: u8,
}

fn row(line: &str) -> Option<Row> {
    let mut pixels: Vec<u8> = line.split(',').map(|value| value.trim().parse().ok()).collect::<Option<_>>()?;
    let label = pixels.pop().filter(|&label| label < CLASSES)?;
    (pixels.len() == SIDE * SIDE && pixels.iter().all(|&pixel| pixel <= WHITE)).then_some(Row { pixels, label })
}

fn examples(rows: &[Row], chosen: &[usize]) -> Examples {
    Examples {
        channels: 1,
        height: SIDE as u32,
        width: SIDE as u32,
        pixels: Pixels::Bytes {
            bytes: chosen.iter().flat_map(|&index| &rows[index].pixels).copied().collect(),
            scale: WHITE,
        },
        labels: chosen.iter().map(|&index| rows[index].label).collect(),
    }
}

/// The rows of the training set and of the test set, in their order.
///
/// All rows are shuffled with a seed that must never change, since every result on digits is about
/// this split; then each class, in shuffled order, gives its share of
/// the 450 test examples (44 to 46 each), and the rest trains. Both sets keep the shuffled order, so
/// that any prefix is a fair sample: the file itself is sorted by writer.
fn split(labels: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    let mut random = ChaCha8Rng::from_seed([0; 32]);
    for last in (1..order.len()).rev() {
        // The bias of `%` is below 1e-16 here, and no version of a library can change it.
        let other = (random.next_u64() % (last as u64 + 1)) as usize;
        order.swap(last, other);
    }
    let mut wanted = quotas(labels);
    order.into_iter().partition(|&row| {
        let quota = &mut wanted[usize::from(labels[row])];
        let tests = *quota > 0;
        *quota -= usize::from(tests);
        !tests
    })
}

/// Test examples per class: its proportional share rounded down, and one more for the classes with
/// the largest remainders (lower labels first) until the sum is right.
fn quotas(labels: &[u8]) -> [usize; CLASSES as usize] {
    let mut counts = [0_usize; CLASSES as usize];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let mut quotas = counts.map(|count| count * TEST / labels.len());
    let mut classes: Vec<usize> = (0..counts.len()).collect();
    classes.sort_by_key(|&class| std::cmp::Reverse(counts[class] * TEST % labels.len()));
    let missing = TEST - quotas.iter().sum::<usize>();
    classes.into_iter().take(missing).for_each(|class| quotas[class] += 1);
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Dataset;

    #[test]
    fn the_split_is_what_every_stored_result_is_about() {
        let set = load().expect("embedded");
        assert_eq!((set.train.count(), set.test.count()), (1347, 450));
        assert_eq!(Dataset::Digits {}.test_examples(), Some(set.test.count()));
        assert_eq!(Dataset::Digits {}.pixels(), Some(set.test.pixels_per_example() as u32));
        insta::assert_snapshot!(set.digest, @"2765c207c038e55f621d68599cb232b99d7006f1465f2bb3ddd0fcff8993acbc");
    }

    #[test]
    fn both_sets_hold_every_class_evenly_and_so_do_prefixes() {
        let set = load().expect("embedded");
        let counts = |labels: &[u8]| {
            let mut counts = [0; 10];
            labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
            counts
        };
        assert!(
            counts(&set.test.labels).iter().all(|count| (43..=46).contains(count)),
            "{:?}",
            counts(&set.test.labels)
        );
        assert!(counts(&set.train.labels).iter().all(|count| (130..=138).contains(count)));
        assert!(counts(&set.test.labels[..100]).iter().all(|count| (2..=20).contains(count)));
    }

    #[test]
    fn no_digit_is_lost_or_used_twice() {
        let set = load().expect("embedded");
        let mut sum = 0_u64;
        let mut text = String::new();
        flate2::read::GzDecoder::new(CSV).read_to_string(&mut text).expect("gzip");
        for line in text.lines() {
            sum += row(line).expect("row").pixels.iter().map(|&p| u64::from(p)).sum::<u64>();
        }
        let of = |examples: &Examples| match &examples.pixels {
            Pixels::Bytes { bytes, .. } => bytes.iter().map(|&p| u64::from(p)).sum::<u64>(),
            Pixels::Floats(_) => panic!("digits are bytes"),
        };
        assert_eq!(of(&set.train) + of(&set.test), sum);
        assert!(set.train.to_f32().iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        assert_eq!(set.test.to_f32().iter().copied().fold(0.0, f32::max), 1.0);
    }

    #[test]
    fn a_damaged_row_is_refused() {
        let good = format!("{}7", "16,".repeat(64));
        assert!(row(&good).is_some());
        for bad in
            [good.replacen("16", "17", 1), format!("{}10", "0,".repeat(64)), good.replacen("16,", "", 1), "x".into()]
        {
            assert!(row(&bad).is_none(), "{bad}");
        }
    }
}
