//! Where psi lives: the box around an example, the box of all training images, a plane through them.

use crate::lab::LabData;
use crate::lab::streams::Key;
use epsweep::measure::moments::PerFeature;
use tch::{Device, Kind, Tensor};

/// A domain that is sampled uniformly. Its coordinates are those in which positions and momenta are
/// counted; they are measured from the domain's middle, so that nothing cancels.
#[derive(Debug, Clone, PartialEq)]
pub enum Region {
    /// Pixel `i` from `low[i]` to `high[i]`.
    Box { low: Vec<f32>, high: Vec<f32> },
    /// Images `origin + u first + v second`, with (u, v) in a rectangle around (0, 0).
    Plane { origin: Vec<f64>, axes: [Vec<f64>; 2], half: [f64; 2] },
}

/// Iterations of [`components`]: errors shrink each time by the ninth eigenvalue over the second.
const ITERATIONS: usize = 50;
/// Training images that [`components`] looks at, from the first.
const LOOKED_AT: i64 = 10_000;
/// Directions that are iterated beside the two that are wanted.
const SPARE: i64 = 6;

impl Region {
    /// The box of `radius` around an image, cut off at `[0,1]` if `clip`.
    pub fn around(image: &[f32], radius: f64, clip: bool) -> Region {
        let at = |value: f64| if clip { value.clamp(0.0, 1.0) as f32 } else { value as f32 };
        let low = image.iter().map(|&x| at(f64::from(x) - radius)).collect();
        let high = image.iter().map(|&x| at(f64::from(x) + radius)).collect();
        Region::Box { low, high }
    }

    /// The smallest box that holds all training images.
    pub fn of_data(data: &LabData) -> Region {
        let flat = data.train.pixels.flatten(1, -1);
        let numbers = |tensor: Tensor| Vec::<f32>::try_from(tensor).expect("one number per pixel");
        Region::Box { low: numbers(flat.amin([0], false)), high: numbers(flat.amax([0], false)) }
    }

    /// The plane of the first two principal components of the training images, and the rectangle
    /// around its middle that holds them.
    pub fn plane(data: &LabData) -> Region {
        let count = data.train.count().min(LOOKED_AT);
        let images = data.train.pixels.narrow(0, 0, count).flatten(1, -1).to_kind(Kind::Double);
        let mean = images.mean_dim([0i64].as_slice(), false, Kind::Double);
        let centred = images - &mean;
        let axes = components(&centred);
        let coordinates = centred.matmul(&axes.transpose(0, 1));
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.contiguous()).expect("numbers in 64 bits");
        let (least, most) = (numbers(&coordinates.amin([0], false)), numbers(&coordinates.amax([0], false)));
        let mut origin = numbers(&mean);
        let axes = [numbers(&axes.get(0)), numbers(&axes.get(1))];
        // The middle of the rectangle, not the mean, is where coordinates are 0.
        for (axis, (least, most)) in axes.iter().zip(least.iter().zip(&most)) {
            origin.iter_mut().zip(axis).for_each(|(x, &a)| *x += a * (least + most) / 2.0);
        }
        let half = [(most[0] - least[0]) / 2.0, (most[1] - least[1]) / 2.0];
        Region::Plane { origin, axes, half }
    }

    /// Coordinates along which it has an extent.
    pub fn dimensions(&self) -> usize {
        match self {
            Region::Box { low, high } => low.iter().zip(high).filter(|(low, high)| high > low).count(),
            Region::Plane { half, .. } => half.iter().filter(|half| **half > 0.0).count(),
        }
    }

    /// The point of some numbers in [0,1), one per coordinate of the box or plane: its image goes to
    /// the end of `images`; what comes back is its position, in coordinates with an extent.
    pub fn point(&self, units: &[f32], images: &mut Vec<f32>) -> Vec<f64> {
        match self {
            Region::Box { low, high } => {
                let mut position = Vec::with_capacity(units.len());
                for ((&low, &high), &unit) in low.iter().zip(high).zip(units) {
                    let x = low + (high - low) * unit;
                    images.push(x);
                    if high > low {
                        position.push(f64::from(x) - (f64::from(low) + f64::from(high)) / 2.0);
                    }
                }
                position
            }
            Region::Plane { origin, axes, half } => {
                let at: Vec<f64> =
                    half.iter().zip(units).map(|(half, &unit)| half * (2.0 * f64::from(unit) - 1.0)).collect();
                let pixels = origin.iter().zip(axes[0].iter().zip(&axes[1]));
                images.extend(pixels.map(|(x, (a, b))| (x + at[0] * a + at[1] * b) as f32));
                at.into_iter().zip(half).filter(|(_, half)| **half > 0.0).map(|(at, _)| at).collect()
            }
        }
    }

    /// Random numbers that [`Region::point`] wants.
    pub fn units(&self) -> usize {
        match self {
            Region::Box { low, .. } => low.len(),
            Region::Plane { .. } => 2,
        }
    }

    /// A gradient with respect to the image as one with respect to the coordinates with an extent, times
    /// `factor`.
    pub fn momentum(&self, gradient: &[f32], factor: f64) -> Vec<f64> {
        match self {
            Region::Box { low, high } => {
                let free = gradient.iter().zip(low.iter().zip(high)).filter(|(_, (low, high))| high > low);
                free.map(|(&slope, _)| factor * f64::from(slope)).collect()
            }
            Region::Plane { axes, half, .. } => {
                let along =
                    |axis: &Vec<f64>| axis.iter().zip(gradient).map(|(a, &slope)| a * f64::from(slope)).sum::<f64>();
                let free = axes.iter().zip(half).filter(|(_, half)| **half > 0.0);
                free.map(|(axis, _)| factor * along(axis)).collect()
            }
        }
    }

    /// What was found along the coordinates with an extent, among all of them.
    pub fn spread_out(&self, found: impl Iterator<Item = PerFeature>) -> Vec<Option<PerFeature>> {
        let mut found = found;
        match self {
            Region::Box { low, high } => {
                low.iter().zip(high).map(|(low, high)| if high > low { found.next() } else { None }).collect()
            }
            Region::Plane { half, .. } => {
                half.iter().map(|&half| if half > 0.0 { found.next() } else { None }).collect()
            }
        }
    }
}

/// The first two principal directions of centred rows, `[2, pixels]` in 64 bits: by orthogonal
/// iteration, which needs no matrix of pixels times pixels. Each points to where its largest entry is positive.
fn components(centred: &Tensor) -> Tensor {
    let pixels = centred.size()[1];
    let wanted = (2 + SPARE).min(pixels);
    let start = Key::new("principal components", 0).stream().symmetric((pixels * wanted) as usize);
    let mut basis = Tensor::from_slice(&start).view([pixels, wanted]).to_kind(Kind::Double).to_device(Device::Cpu);
    for _ in 0..ITERATIONS {
        let next = centred.transpose(0, 1).matmul(&centred.matmul(&basis));
        basis = Tensor::linalg_qr(&next, "reduced").0;
    }
    // Within the space that was found, the directions are the eigenvectors of the small covariance.
    let inside = centred.matmul(&basis);
    let (_, vectors) = inside.transpose(0, 1).matmul(&inside).linalg_eigh("L");
    let last_two = vectors.narrow(1, wanted - 2, 2).flip([1]);
    let axes = basis.matmul(&last_two).transpose(0, 1).contiguous();
    let largest = axes.gather(1, &axes.abs().argmax(1, true), false);
    axes * largest.sign()
}
