//! Randomised smoothing (Cohen, Rosenfeld and Kolter, arXiv 1902.02918).
//!
//! The *smoothed* network answers with the class that the network gives most often to the image with
//! Gaussian noise on it. What is certified is that network, with a probability of error of at most
//! `alpha` per example; of the network itself it says nothing.

use crate::lab::models::Network;
use crate::lab::streams::{Key, Stream};
use crate::lab::{LabError, Passes, Watch};
use epsweep::frontier::intervals::lower_bound;
use statrs::function::erf::erfc_inv;
use tch::{Kind, Tensor};

/// Noisy copies per forward pass. Fixed: kernels may sum in an order that depends on it.
const ROWS: u64 = 128;

/// The settings of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Smoothing {
    /// Standard deviation of the noise, pixel units.
    pub sigma: f64,
    /// Copies that choose the class ...
    pub n0: u64,
    /// ... and others that count how often it wins.
    pub n: u64,
    /// The probability of a wrong certificate.
    pub alpha: f64,
}

/// The L2 radius below which the smoothed network's class is certain, when `wins` of `n` noisy copies
/// got it: `sigma * inverse normal (p)`, `p` the one-sided Clopper-Pearson lower bound at `alpha`.
/// `None` when `p` is at most a half: the smoothed network abstains.
pub fn radius(wins: u64, n: u64, sigma: f64, alpha: f64) -> Option<f64> {
    let p = lower_bound(wins as usize, n as usize, alpha);
    (p > 0.5).then(|| sigma * std::f64::consts::SQRT_2 * erfc_inv(2.0 * (1.0 - p)))
}

/// The certified radius of one image `[1, c, h, w]`, or `None` where the smoothed network abstains
/// or is wrong. The noise depends on `key`, which names the example, alone.
///
/// # Errors
/// [`LabError::Stopped`].
pub fn certify(
    network: &Network,
    smoothing: Smoothing,
    image: &Tensor,
    label: i64,
    key: &Key,
    passes: &mut Passes,
    watch: &dyn Watch,
) -> Result<Option<f64>, LabError> {
    let mut stream = key.stream();
    let mut count = |copies| counts(network, smoothing.sigma, image, copies, &mut stream, passes, watch);
    let chosen = count(smoothing.n0)?;
    // The first of the most frequent.
    let best = chosen.iter().max().and_then(|most| chosen.iter().position(|count| count == most));
    let wins = count(smoothing.n)?;
    let Some(class) = best.filter(|&class| class as i64 == label) else { return Ok(None) };
    Ok(radius(wins[class], smoothing.n, smoothing.sigma, smoothing.alpha))
}

/// How often each class wins among `copies` noisy images.
fn counts(
    network: &Network,
    sigma: f64,
    image: &Tensor,
    copies: u64,
    stream: &mut Stream,
    passes: &mut Passes,
    watch: &dyn Watch,
) -> Result<Vec<u64>, LabError> {
    let size = image.size();
    let pixels = image.numel();
    let mut counts = Vec::new();
    for first in (0..copies).step_by(ROWS as usize) {
        if watch.stop() {
            return Err(LabError::Stopped);
        }
        let noise = Tensor::from_slice(&stream.normals(ROWS as usize * pixels));
        let noise = noise.view([ROWS as i64, size[1], size[2], size[3]]).to_device(image.device());
        let logits = network.forward(&(image + noise * sigma));
        let classes = Vec::<i64>::try_from(logits.argmax(1, false).to_kind(Kind::Int64)).expect("one class per row");
        counts.resize(logits.size()[1] as usize, 0);
        let counted = ROWS.min(copies - first);
        classes[..counted as usize].iter().for_each(|&class| counts[class as usize] += 1);
        passes.forward(counted as i64);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `statsmodels.proportion_confint(k, n, alpha=2 * 0.001, method="beta")[0]` and
    /// `scipy.stats.norm.ppf`.
    #[test]
    fn radii_are_those_of_the_formula() {
        let close = |wins, n, expected: f64| {
            let found = radius(wins, n, 0.25, 0.001).expect("certified");
            assert!((found - expected).abs() < 1e-6, "{wins} of {n}: {found}, not {expected}");
        };
        close(100000, 100000, 0.952864140847);
        close(99000, 100000, 0.572499988803);
        close(75000, 100000, 0.165291323478);
        close(51000, 100000, 0.003201897355);
        close(1000, 1000, 0.615815653695);
        close(80, 100, 0.098735579729);
        let all = radius(100_000, 100_000, 0.5, 0.001).expect("certified");
        assert!((all - 2.0 * radius(100_000, 100_000, 0.25, 0.001).expect("certified")).abs() < 1e-12);
        assert_eq!(radius(50_000, 100_000, 0.25, 0.001), None);
        assert_eq!(radius(50_400, 100_000, 0.25, 0.001), None, "not surely more than a half");
        assert_eq!(radius(0, 100, 0.25, 0.001), None);
    }
}
