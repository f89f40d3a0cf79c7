//! Linear bounds, carried back from the logits to the image (CROWN, Zhang et al., arXiv 1811.00866).
//!
//! A linear function of a step's output is bounded from below by a linear function of its input;
//! step by step that leads to the image, where the smallest value over a box is read off. Rectifiers
//! and maxima are replaced by lines that hold between the bounds of their inputs.

use super::program::{Bounds, Step};
use tch::{Kind, Tensor};

/// `m` functions per example, `sum(weights * values) + offset`, each a lower bound on what is sought.
#[derive(Debug)]
pub struct Functions {
    /// `[n, m, ...]`, `...` being the shape of the values.
    weights: Tensor,
    /// `[n, m]`.
    offset: Tensor,
}

impl Functions {
    /// `weights` `[n, m, values]`, without offset.
    pub fn new(weights: Tensor) -> Functions {
        let size = weights.size();
        let offset = Tensor::zeros([size[0], size[1]], (Kind::Double, weights.device()));
        Functions { weights, offset }
    }

    /// Their smallest values over the box of `values`, `[n, m]`.
    pub fn smallest(&self, values: &Bounds) -> Tensor {
        let weights = self.weights.flatten(2, -1);
        let column = |values: &Tensor| values.flatten(1, -1).unsqueeze(-1);
        let lowest = weights.clamp_min(0.0).matmul(&column(&values.lower));
        let highest = weights.clamp_max(0.0).matmul(&column(&values.upper));
        (lowest + highest).squeeze_dim(-1) + &self.offset
    }

    /// From functions of a step's output to functions of its input, between whose bounds they hold.
    pub fn back(self, step: &Step, input: &Bounds) -> Functions {
        match step {
            Step::Flatten => {
                let mut shape = self.offset.size();
                shape.extend(&input.lower.size()[1..]);
                Functions { weights: self.weights.view(shape.as_slice()), offset: self.offset }
            }
            Step::Affine { weight, bias, .. } => {
                let offset = self.offset + self.weights.matmul(bias);
                Functions { weights: self.weights.matmul(weight), offset }
            }
            Step::Convolution { weight, bias, padding, .. } => self.back_convolution(weight, bias, *padding),
            Step::Relu => self.back_relu(input),
            Step::MaxPool => self.back_max_pool(input),
        }
    }

    fn back_convolution(self, weight: &Tensor, bias: &Tensor, padding: i64) -> Functions {
        let sums = self.weights.sum_dim_intlist([3i64, 4].as_slice(), false, Kind::Double);
        let offset = self.offset + sums.matmul(bias);
        let size = self.weights.size();
        let rows = self.weights.reshape([size[0] * size[1], size[2], size[3], size[4]]);
        let none = None::<&Tensor>;
        let back = rows.conv_transpose2d(weight, none, [1, 1], [padding; 2], [0, 0], 1, [1, 1]);
        let inner = back.size();
        Functions { weights: back.view([size[0], size[1], inner[1], inner[2], inner[3]]), offset }
    }

    /// Above by the chord, below by 0 or by the input itself, whichever leaves the smaller triangle.
    fn back_relu(self, input: &Bounds) -> Functions {
        let (lower, upper) = (&input.lower, &input.upper);
        let passes = lower.ge(0.0).to_kind(Kind::Double);
        let bent = lower.lt(0.0).logical_and(&upper.gt(0.0));
        let open = bent.to_kind(Kind::Double);
        // Where the line does not bend, any divisor will do but 0.
        let chord = upper / (upper - lower).where_self(&bent, &open.ones_like()) * &open;
        let above = &passes + &chord;
        let lift = (chord * lower).neg();
        let below = passes + open * upper.gt_tensor(&lower.neg()).to_kind(Kind::Double);
        let (positive, negative) = (self.weights.clamp_min(0.0), self.weights.clamp_max(0.0));
        let lifted = (&negative * lift.unsqueeze(1)).flatten(2, -1);
        let offset = self.offset + lifted.sum_dim_intlist([2i64].as_slice(), false, Kind::Double);
        Functions { weights: positive * below.unsqueeze(1) + negative * above.unsqueeze(1), offset }
    }

    /// Below by one element, the one with the highest middle. Above by a line in the element with the
    /// highest upper bound alone: `g + s (x - l)`, `g` the larger of the second highest upper bound and
    /// the highest lower bound, `s = (u - g) / (u - l)`. At `l` it is at least `g`, at `u` it is `u`, and
    /// no other element exceeds `g`. Where one element dominates, both are that element.
    fn back_max_pool(self, input: &Bounds) -> Functions {
        let (lower, upper) = (windows(&input.lower), windows(&input.upper));
        let one_hot = |position: &Tensor| position.one_hot(4).to_kind(Kind::Double);
        let below = one_hot(&(&lower + &upper).argmax(-1, false));
        let (two, order) = upper.topk(2, -1, true, true);
        let top = one_hot(&order.select(-1, 0));
        let highest = two.select(-1, 0);
        let least = (&lower * &top).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        let level = two.select(-1, 1).maximum(&lower.amax([-1i64], false));
        // An element that is known exactly is its own level.
        let slope = ((&highest - &level) / (&highest - &least).clamp_min(1e-12)).clamp(0.0, 1.0);
        let lift = level - &slope * least;
        let above = top * slope.unsqueeze(-1);
        let (positive, negative) = (self.weights.clamp_min(0.0), self.weights.clamp_max(0.0));
        let lifted = (&negative * lift.unsqueeze(1)).flatten(2, -1);
        let offset = self.offset + lifted.sum_dim_intlist([2i64].as_slice(), false, Kind::Double);
        let spread = positive.unsqueeze(-1) * below.unsqueeze(1) + negative.unsqueeze(-1) * above.unsqueeze(1);
        Functions { weights: unwindow(&spread, &input.lower.size()), offset }
    }
}

/// `[n, c, h, w]` as `[n, c, h / 2, w / 2, 4]`: the elements of every 2x2 window.
fn windows(values: &Tensor) -> Tensor {
    let size = values.size();
    let (rows, columns) = (size[2] / 2, size[3] / 2);
    let even = values.narrow(2, 0, 2 * rows).narrow(3, 0, 2 * columns);
    let split = even.reshape([size[0], size[1], rows, 2, columns, 2]);
    split.permute([0, 1, 2, 4, 3, 5]).reshape([size[0], size[1], rows, columns, 4])
}

/// `[n, m, c, h / 2, w / 2, 4]` back as `[n, m, c, h, w]`; what no window holds is 0.
fn unwindow(spread: &Tensor, image: &[i64]) -> Tensor {
    let size = spread.size();
    let (rows, columns) = (size[3], size[4]);
    let split = spread.view([size[0], size[1], size[2], rows, columns, 2, 2].as_slice());
    let even = split.permute([0, 1, 2, 3, 5, 4, 6]).reshape([size[0], size[1], size[2], 2 * rows, 2 * columns]);
    even.constant_pad_nd([0, image[3] - 2 * columns, 0, image[2] - 2 * rows])
}
