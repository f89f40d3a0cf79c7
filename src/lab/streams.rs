//! Counter-based random numbers, keyed by what they are for.
//!
//! A stream is ChaCha8 seeded with BLAKE3 of a purpose, a seed and indices. So a number depends
//! on what it is for (this example, this epsilon, this restart) and never on which worker drew it,
//! in which batch, or after which others: the plan fixes the numbers, not the fleet.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// What a stream is for; extended step by step, hashed at the end.
#[derive(Debug, Clone)]
pub struct Key(blake3::Hasher);

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Key {
    /// Starts a key. `purpose` keeps uses apart that have the same seed and indices.
    pub fn new(purpose: &str, seed: u64) -> Key {
        Key(blake3::Hasher::new_derive_key("epsweep lab::streams v1")).text(purpose).number(seed)
    }

    /// Appends a text; its length goes before it, so that no two sequences of parts collide.
    pub fn text(mut self, text: &str) -> Key {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// Appends a number: an index, or the bits of an epsilon.
    pub fn number(mut self, number: u64) -> Key {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// The stream of this key, from its start.
    pub fn stream(&self) -> Stream {
        Stream(ChaCha8Rng::from_seed(*self.0.finalize().as_bytes()))
    }
}

impl Stream {
    /// One number, uniform in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (-53f64).exp2()
    }

    /// `count` numbers, uniform in [0, 1), multiples of 2^-24: all are exact in 32 bits.
    pub fn units(&mut self, count: usize) -> Vec<f32> {
        let mut bytes = vec![0u8; count * 4];
        self.0.fill_bytes(&mut bytes);
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| (u32::from_le_bytes(*word) >> 8) as f32 * (-24f32).exp2()).collect()
    }

    /// `count` numbers, uniform in [-1, 1).
    pub fn symmetric(&mut self, count: usize) -> Vec<f32> {
        let mut numbers = self.units(count);
        numbers.iter_mut().for_each(|number| *number = 2.0 * *number - 1.0);
        numbers
    }

    /// `count` numbers from N(0, 1).
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        StandardNormal.sample_iter(&mut self.0).take(count).collect()
    }

    /// A point drawn uniformly from the unit ball of `dimensions` dimensions: a Gaussian direction,
    /// and a radius whose `dimensions`-th power is uniform.
    pub fn ball(&mut self, dimensions: usize) -> Vec<f32> {
        let radius = self.unit().powf(1.0 / dimensions as f64);
        let mut point = self.normals(dimensions);
        let length = point.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            point.iter_mut().for_each(|x| *x = (f64::from(*x) * radius / length) as f32);
        }
        point
    }

    /// The numbers 0..count in random order (Fisher and Yates).
    pub fn permutation(&mut self, count: i64) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }

    /// 1 or -1, with equal probability.
    pub fn sign(&mut self) -> f32 {
        if self.0.next_u32() >> 31 == 0 { 1.0 } else { -1.0 }
    }

    /// Uniform in 0..bound, by multiplication; the bias is at most bound / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_every_part_of_their_key() {
        let draw = |key: Key| key.stream().units(4);
        let base = || Key::new("start", 1).number(7);
        assert_eq!(draw(base()), draw(base()));
        for other in [Key::new("start", 2).number(7), Key::new("order", 1).number(7), Key::new("start", 1).number(8)] {
            assert_ne!(draw(base()), draw(other));
        }
        assert_ne!(draw(base().text("ab").text("c")), draw(base().text("a").text("bc")));
    }

    #[test]
    fn the_numbers_are_pinned() {
        // Results on disk depend on these: a change needs a new plan::question::ALGORITHM_VERSION.
        let mut stream = Key::new("pinned", 42).number(1).text("x").stream();
        let drawn = format!("{:?} {:?} {:?}", stream.units(3), stream.normals(2), stream.permutation(6));
        insta::assert_snapshot!(drawn, @"[0.47035295, 0.40762943, 0.7820974] [0.2723117, 1.0412582] [4, 3, 5, 2, 1, 0]");
    }

    #[test]
    fn uniform_and_normal_numbers_have_their_moments() {
        let mut stream = Key::new("moments", 0).stream();
        let moments = |xs: Vec<f32>| {
            let n = xs.len() as f64;
            let mean = xs.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            (mean, xs.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n)
        };
        let (mean, variance) = moments(stream.symmetric(100_000));
        assert!(mean.abs() < 0.01 && (variance - 1.0 / 3.0).abs() < 0.01, "{mean} {variance}");
        let (mean, variance) = moments(stream.normals(100_000));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn points_of_the_ball_are_inside_it_and_mostly_near_its_surface() {
        let mut stream = Key::new("ball", 0).stream();
        let lengths: Vec<f32> = (0..200).map(|_| stream.ball(3).iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
        assert!(lengths.iter().all(|&length| length <= 1.0 + 1e-6));
        // A share of 1 - 0.5^3 = 7/8 lies beyond half the radius.
        let outer = lengths.iter().filter(|&&length| length > 0.5).count();
        assert!((160..=190).contains(&outer), "{outer}");
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut order = Key::new("order", 3).stream().permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
