//! How many rows batches have.
//!
//! Kernels sum in an order that may depend on how many rows a batch has, and an example's result must not depend on its
//! company. So all batches of an evaluation have the same rows, but for this: where other numbers of rows are found to
//! give the same bits, the one that fits is taken. Small networks then pay for fewer calls, and the last examples of a shard for
//! less padding, and no result changes. (For small networks nearly all of them were found to agree with AVX-512, and about half with AVX2.)

use super::ball::Ball;
use super::gradient::{ascend, margin};
use crate::lab::models::Network;
use epsweep::spec::{Norm, Precision};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Rows of a batch on a CPU, and the number that others must agree with.
///
/// Not a power of two: with AVX2, MKL multiplies matrices of 8, 32, 128 and 256 rows in ways of their own, and those of 16, 24, 48, 64, 96
/// and 192 mostly alike.
pub const CPU_ROWS: u32 = 48;
/// Those that are tried.
const OTHERS: [u32; 9] = [8, 16, 24, 32, 64, 96, 128, 192, 256];
/// Larger batches hold at most this many pixels: beyond, calls cost little beside arithmetic, and caches overflow.
const PIXELS: i64 = 1 << 16;

/// What the bits of a batch may depend on besides its rows and its values.
pub struct Batches<'a> {
    pub network: &'a Network,
    /// Which network that is, but for its weights.
    pub name: String,
    pub norm: Norm,
    pub precision: Precision,
    /// Channels, height, width.
    pub shape: [i64; 3],
    pub device: Device,
}

impl Batches<'_> {
    /// The numbers of rows to choose from, ascending, for this many examples: at most `rows`. It is one where `rows` is no more
    /// than [`CPU_ROWS`], on a GPU, where the search computes in another precision, and for modules of somebody else's, which
    /// may compile themselves anew for every shape.
    pub fn shapes(&self, rows: u32, examples: usize) -> Vec<usize> {
        if self.device != Device::Cpu {
            return vec![rows as usize];
        }
        let several = rows > CPU_ROWS && self.precision == Precision::Fp32 && !self.network.is_module();
        let pixels: i64 = self.shape.iter().product();
        let useful = |other: &u32| {
            let small = *other < CPU_ROWS || i64::from(*other) * pixels <= PIXELS && (*other as usize) < 2 * examples;
            several && small && *other <= rows && self.known_to_agree(*other)
        };
        let others = OTHERS.into_iter().filter(useful);
        let mut shapes: Vec<usize> = others.chain([rows.min(CPU_ROWS)]).map(|rows| rows as usize).collect();
        shapes.sort_unstable();
        shapes
    }

    /// As [`Batches::agrees`], looked at once per process: it is a property of kernels, not of weights.
    fn known_to_agree(&self, rows: u32) -> bool {
        static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
        let key = format!("{} {:?} {:?} {rows}", self.name, self.norm, self.shape);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&agrees) = known().as_ref().and_then(|known| known.get(&key)) {
            return agrees;
        }
        let agrees = self.agrees(i64::from(rows));
        known().get_or_insert_default().insert(key, agrees);
        agrees
    }

    /// Whether batches of `rows` give the same logits, gradients and steps as batches of [`CPU_ROWS`], bit by bit.
    fn agrees(&self, rows: i64) -> bool {
        let usual_rows = i64::from(CPU_ROWS);
        // Full batches of either.
        let count =
            (1..).map(|times| times * rows).find(|count| count % usual_rows == 0).expect("there is a common multiple");
        let [channels, height, width] = self.shape;
        // Any images will do that are not alike: multiples of an irrational number, less their whole part.
        let numbers = Tensor::arange(count * channels * height * width, (Kind::Double, self.device));
        let images = (numbers * 0.618_033_988_749_895).frac().to_kind(Kind::Float);
        let images = images.view([count, channels, height, width]);
        let usual = self.through(&images, usual_rows);
        let other = self.through(&images, rows);
        usual.iter().zip(&other).all(|(usual, other)| usual.equal(other))
    }

    /// Logits, gradients and points after a step, in batches of `rows`.
    fn through(&self, images: &Tensor, rows: i64) -> [Tensor; 3] {
        let radii = vec![0.1; rows as usize];
        let ball = Ball::new(self.norm, &radii, self.device);
        let parts: Vec<[Tensor; 3]> = images
            .split(rows, 0)
            .iter()
            .map(|part| {
                let labels = Tensor::zeros([rows], (Kind::Int64, self.device));
                let slope = ascend(self.network, part, |logits| margin(logits, &labels));
                let next = ball.ascend(part, &(part * 0.9), &slope.gradient, &(&ball.radius * 0.5));
                [slope.logits, slope.gradient, next]
            })
            .collect();
        [0, 1, 2].map(|which| Tensor::cat(&parts.iter().map(|part| &part[which]).collect::<Vec<_>>(), 0))
    }
}

/// How many examples are in flight with batches of `rows`: with two queues, twice the rows make
/// sure that one of them can fill a batch.
pub(super) fn slots(rows: usize) -> i64 {
    2 * rows as i64
}
