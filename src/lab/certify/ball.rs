//! Whether no point of a ball around an image is misclassified: margins between logits, bounded from
//! below over the whole ball.

use super::linear::Functions;
use super::program::{Bounds, Program};
use tch::{Kind, Tensor};

/// Which bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// An interval per value.
    Ibp,
    /// Linear functions of the image, and the intervals where these are tighter.
    Crown,
}

/// Inputs of a rectifier or maximum are bounded by linear functions where there are at most so
/// many of them; going back from each neuron of a large convolution would cost minutes an image.
const MOST_NEURONS: i64 = 256;
/// More than 64-bit rounding does to bounds around values of any size that logits have.
const FLOOR: f64 = 1e-9;
/// Functions that are carried back at a time.
const ROWS: i64 = 128;

/// Margins `z_y - z_j` over a ball, `[n, classes]`, infinite at `j = y`, in 64 bits.
#[derive(Debug)]
pub struct Margins {
    /// Lower bounds, had the network no rounding.
    pub exact: Tensor,
    /// `[n, classes]`: what 32-bit rounding can take from them.
    pub rounding: Tensor,
}

impl Margins {
    /// The least margin of each image that is certain, `[n]`.
    pub fn certain(&self) -> Tensor {
        (&self.exact - &self.rounding).amin([1i64], false)
    }
}

/// Lower bounds on the margins `z_y - z_j` over the ball of `epsilon` around each of `images`, cut
/// with the box `[0,1]`. `images` `[n, c, h, w]` in 32 bits,
/// `labels` `[n]`, `epsilons` one per image (Linf, pixel units).
///
/// A positive margin that is certain holds for the network as it is computed: 32-bit pixels, a radius with the room
/// that attacks are granted for rounding, and 32-bit sums in any order. The bounds are computed in 64
/// bits, whose own rounding is less than a millionth of what is granted to the 32 bits.
pub fn margins(program: &Program, method: Method, images: &Tensor, labels: &Tensor, epsilons: &[f64]) -> Margins {
    let device = images.device();
    let radii: Vec<f64> = epsilons.iter().map(|&epsilon| with_room(epsilon)).collect();
    let radii = Tensor::from_slice(&radii).view([-1, 1, 1, 1]).to_device(device);
    let pixels = images.to_kind(Kind::Double);
    let image = Bounds {
        lower: (&pixels - &radii).clamp(0.0, 1.0),
        upper: (&pixels + &radii).clamp(0.0, 1.0),
        error: pixels.zeros_like(),
    };
    let mut states = vec![image];
    for (position, step) in program.steps.iter().enumerate() {
        let last = &states[position];
        let few = last.lower.size()[1..].iter().product::<i64>() <= MOST_NEURONS;
        let bent = program.steps[..position].iter().any(|step| !step.is_linear());
        if method == Method::Crown && !step.is_linear() && few && bent {
            let (lower, upper) = every_neuron(program, &states);
            states[position].tighten(&lower, &upper);
        }
        let next = states[position].through(step);
        states.push(next);
    }
    let logits = states.last().expect("the image at least");
    let classes = logits.lower.size()[1];
    let own = labels.one_hot(classes).to_kind(Kind::Double);
    let wanted = own.unsqueeze(1) - Tensor::eye(classes, (Kind::Double, device)).unsqueeze(0);
    let exact = lowest(program, &states, wanted, method);
    let of_label = (&own * &logits.error).sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
    let rounding = (&logits.error + of_label) * 1.01 + FLOOR;
    Margins { exact: exact.masked_fill(&own.gt(0.5), f64::INFINITY), rounding }
}

/// The radius that attacks are held to when an adversarial example is confirmed, and a little more.
fn with_room(epsilon: f64) -> f64 {
    if epsilon > 0.0 { epsilon.max(f64::from(epsilon as f32)) * (1.0 + 2e-6) + 2e-7 } else { 0.0 }
}

/// The smallest values of linear functions of the last state, `wanted` `[n, m, values]`: read off at
/// the input of the last step and, for CROWN, at the image.
fn lowest(program: &Program, states: &[Bounds], wanted: Tensor, method: Method) -> Tensor {
    let mut functions = Functions::new(wanted);
    let mut best = functions.smallest(&states[states.len() - 1]);
    // Going back through a linear step loses nothing, but bounding its outputs one by one does.
    let mut read = |functions: &Functions, state: &Bounds| best = best.maximum(&functions.smallest(state));
    for (position, step) in program.steps[..states.len() - 1].iter().enumerate().rev() {
        if method == Method::Ibp && !step.is_linear() {
            break;
        }
        functions = functions.back(step, &states[position]);
        read(&functions, &states[position]);
    }
    best
}

/// Bounds on every value of the last state, by linear functions: `[n, values]` each.
fn every_neuron(program: &Program, states: &[Bounds]) -> (Tensor, Tensor) {
    let last = &states[states.len() - 1].lower;
    let (count, shape) = (last.size()[0], &last.size()[1..]);
    let values: i64 = shape.iter().product();
    let identity = Tensor::eye(values, (Kind::Double, last.device()));
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for first in (0..values).step_by(ROWS as usize) {
        let rows = identity.narrow(0, first, ROWS.min(values - first));
        let mut full = vec![count, rows.size()[0]];
        full.extend(shape);
        let wanted = |rows: Tensor| rows.unsqueeze(0).expand([count, -1, -1], false).reshape(full.as_slice());
        lower.push(lowest(program, states, wanted(rows.shallow_clone()), Method::Crown));
        upper.push(lowest(program, states, wanted(rows.neg()), Method::Crown).neg());
    }
    (Tensor::cat(&lower, 1), Tensor::cat(&upper, 1))
}
