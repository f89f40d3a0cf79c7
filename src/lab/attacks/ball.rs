//! The geometry of a threat model: balls around images, cut with the pixel box `[0,1]`.
//!
//! All functions take the radius as a tensor `[n, 1, 1, 1]`, one per example, so that examples at
//! different epsilons share a batch.

use super::l1;
use crate::lab::data::upload;
use crate::lab::streams::Stream;
use epsweep::spec::Norm;
use tch::{Kind, Tensor};

/// Keeps divisions by a length defined; far below any gradient that still means something.
const TINY: f64 = 1e-30;
/// Room for 32-bit rounding when a claim is checked: relative, and absolute per norm.
const RELATIVE_ROOM: f64 = 1e-6;
const LINF_ROOM: f64 = 1e-7;
const L2_ROOM: f64 = 1e-6;
/// Every pixel is rounded, and all of it adds up.
const L1_ROOM: f64 = 1e-5;

/// A norm and a radius per example, in pixel units of `[0,1]`.
#[derive(Debug)]
pub struct Ball {
    pub norm: Norm,
    /// `[n, 1, 1, 1]`, positive.
    pub radius: Tensor,
}

impl Ball {
    pub fn new(norm: Norm, radii: &[f64], device: tch::Device) -> Ball {
        let radii: Vec<f32> = radii.iter().map(|&radius| radius as f32).collect();
        Ball { norm, radius: upload(&Tensor::from_slice(&radii).view([-1, 1, 1, 1]), device) }
    }

    /// The step of length 1 (in the ball's norm) from `point` that attacks follow: the gradient's sign
    /// for Linf and the normalised gradient for L2, which a linear loss rises fastest along; for L1 its
    /// largest entries' signs, see [`l1::steepest`]. 0 where the gradient is 0.
    pub fn direction(&self, point: &Tensor, gradient: &Tensor) -> Tensor {
        match self.norm {
            Norm::Linf => gradient.sign(),
            // Scaled to a largest entry of 1 first: squares of small gradients underflow.
            Norm::L2 => {
                let scaled = gradient / largest(gradient).clamp_min(TINY);
                &scaled / length(&scaled).clamp_min(TINY)
            }
            Norm::L1 => l1::steepest(point, gradient),
        }
    }

    /// The point of the ball nearest to `point`, then cut to `[0,1]`; `origin` is the clean image.
    /// Under L1 the nearest point of both at once.
    ///
    /// Cutting moves every pixel towards the origin's, so it never leaves the ball again.
    pub fn project(&self, origin: &Tensor, point: &Tensor) -> Tensor {
        let inside = match self.norm {
            Norm::Linf => point.clamp_tensor(Some(origin - &self.radius), Some(origin + &self.radius)),
            Norm::L2 => {
                let offset = point - origin;
                let shrink = &self.radius / length(&offset).maximum(&self.radius);
                origin + offset * shrink
            }
            Norm::L1 => return l1::project_all(self, origin, point),
        };
        inside.clamp(0.0, 1.0)
    }

    /// One step of projected ascent; `step` is `[n, 1, 1, 1]` or broadcasts to it, pixel units.
    pub fn ascend(&self, origin: &Tensor, point: &Tensor, gradient: &Tensor, step: &Tensor) -> Tensor {
        self.project(origin, &(point + step * self.direction(point, gradient)))
    }

    /// Each point's distance from its clean image, in 64 bits; infinite outside the box `[0,1]` and
    /// where a pixel is no number.
    pub fn distances(&self, origin: &Tensor, point: &Tensor) -> Vec<f64> {
        let offset = point.to_kind(Kind::Double) - origin.to_kind(Kind::Double);
        let size = match self.norm {
            Norm::Linf => largest(&offset),
            Norm::L2 => length(&offset),
            Norm::L1 => offset.abs().sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Double),
        };
        let in_box = point.ge(0.0).logical_and(&point.le(1.0)).flatten(1, -1).all_dim(1, false);
        let size = size.flatten(0, -1).where_scalarother(&in_box, f64::INFINITY);
        Vec::<f64>::try_from(size).expect("one distance per row")
    }
}

/// Whether a point at `distance` is inside the ball of `radius`: with room for the rounding of
/// 32-bit pixels, `radius * (1 + 1e-6)` plus 1e-7 (Linf), 1e-6 (L2) or 1e-5 (L1).
pub fn reaches(norm: Norm, radius: f64, distance: f64) -> bool {
    let room = match norm {
        Norm::Linf => LINF_ROOM,
        Norm::L2 => L2_ROOM,
        Norm::L1 => L1_ROOM,
    };
    // Attacks know the radius in 32 bits.
    distance <= f64::from(radius as f32) * (1.0 + RELATIVE_ROOM) + room
}

/// A random offset of length 1 for one image: uniform numbers scaled so that the largest is 1
/// (Linf), or a Gaussian direction (L2, L1).
pub fn surface_offset(norm: Norm, stream: &mut Stream, pixels: usize) -> Vec<f32> {
    let mut offset = match norm {
        Norm::Linf => stream.symmetric(pixels),
        Norm::L2 | Norm::L1 => stream.normals(pixels),
    };
    let size = match norm {
        Norm::Linf => offset.iter().fold(0.0, |largest: f32, x| largest.max(x.abs())),
        Norm::L2 => offset.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32,
        Norm::L1 => offset.iter().map(|&x| f64::from(x).abs()).sum::<f64>() as f32,
    };
    if size > 0.0 {
        offset.iter_mut().for_each(|x| *x /= size);
    }
    offset
}

/// A random offset of radius 1 for one image: uniform in the ball of `norm`.
pub fn random_offset(norm: Norm, stream: &mut Stream, pixels: usize) -> Vec<f32> {
    match norm {
        Norm::Linf => stream.symmetric(pixels),
        Norm::L2 => stream.ball(pixels),
        Norm::L1 => {
            // Exponential numbers over their sum are uniform on a simplex; one more leaves the surface.
            let sizes: Vec<f64> = (0..=pixels).map(|_| -(1.0 - stream.unit()).ln()).collect();
            let total: f64 = sizes.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            sizes[..pixels].iter().map(|size| (size / total) as f32 * stream.sign()).collect()
        }
    }
}

fn largest(values: &Tensor) -> Tensor {
    values.abs().amax([1, 2, 3], true)
}

fn length(values: &Tensor) -> Tensor {
    values.square().sum_dim_intlist([1i64, 2, 3].as_slice(), true, values.kind()).sqrt()
}
