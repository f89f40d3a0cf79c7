//! What the true means may be, given all estimates: for questions about all candidates at once.
//!
//! The draws around the estimates say how estimates scatter around truths. Estimates lie further apart than
//! truths do, for they hold noise; drawing noise around them once more would ask the question at a scatter
//! that is too wide, and candidates on the frontier would leave it too often. So truths are drawn from a
//! hierarchical model (Everson and Morris, J. R. Statist. Soc. B 62, 2000): estimate c is normal around its truth
//! with covariance `S_c`, that of its draws; truths are normal around a common mean with a covariance T that
//! nobody knows. It is drawn too, given how far the estimates lie apart.
//!
//! In units in which the mean S of all `S_c` is the identity, `B = (T + S)^-1` is a priori Jeffreys', and given the sum
//! of squares and products M of C estimates Wishart's with C - 1 degrees of freedom and scale `M^-1`, cut off
//! where T would be negative: `B <= 1`. A truth is then `K (y + S_c (G^1/2 z + G m))`, with y a draw around the estimate,
//! `K = (1 + S_c G)^-1`, `G = B (1 - B)^-1` the inverse of T, z standard normal, and m a draw of the common mean.
//! That has the mean and covariance of the truth given the estimate.
//!
//! With two candidates nobody can say how far truths lie apart: draws stay where they are. So does what no
//! draw moves, such as an accuracy of 0 of all seeds. `calibration/frontiers.rs` shows what comes of it.

use super::draws::{normal, stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Directions with less of the noise than this share of the largest are taken to have none.
const NOISELESS: f64 = 1e-10;
/// Draws of B keep this distance from 1, where T is 0.
const BELOW_ONE: f64 = 1e-9;
/// Cells of the tables that square roots of chi-squared variables are drawn from.
const CELLS: usize = 256;

type Matrix = [[f64; 2]; 2];
type Vector = [f64; 2];

const IDENTITY: Matrix = [[1.0, 0.0], [0.0, 1.0]];

/// The truths of one plane of clean and robust accuracy.
pub(super) struct Posterior<'a> {
    label: String,
    estimates: &'a [Vector],
    mean: Vector,
    /// To units in which noise is round and estimates are uncorrelated, and back.
    to: Matrix,
    back: Matrix,
    /// The covariance of each candidate's noise, in those units.
    own: Vec<Matrix>,
    /// Which coordinates of each candidate no draw moves.
    still: Vec<[bool; 2]>,
    precision: Option<Precision>,
}

impl<'a> Posterior<'a> {
    /// `estimates[c]`, and `noise(b, c)`: the distance of draw `b` of `draws` from it. `label` keys the random numbers.
    pub fn new(
        label: String,
        estimates: &'a [Vector],
        draws: usize,
        noise: impl Fn(usize, usize) -> Vector,
    ) -> Posterior<'a> {
        let candidates = estimates.len();
        let degrees = candidates.saturating_sub(1).max(1) as f64;
        let mut own = vec![[[0.0; 2]; 2]; candidates];
        let mut still = vec![[true; 2]; candidates];
        for b in 0..draws {
            let drawn: Vec<Vector> = (0..candidates).map(|c| noise(b, c)).collect();
            let shared = centre(&drawn);
            for (c, drawn) in drawn.iter().enumerate() {
                own[c] = add(own[c], square(minus(*drawn, shared)));
                still[c] = [0, 1].map(|i| still[c][i] && drawn[i] == 0.0);
            }
        }
        // The shared part is gone, and with it one candidate's worth.
        let whole = candidates as f64 / (degrees * draws.max(1) as f64);
        own.iter_mut().for_each(|own| *own = scale(*own, whole));
        let luck = scale(own.iter().fold([[0.0; 2]; 2], |sum, own| add(sum, *own)), 1.0 / candidates.max(1) as f64);
        let mean = centre(estimates);
        let spread = estimates.iter().fold([[0.0; 2]; 2], |sum, e| add(sum, square(minus(*e, mean))));
        let Units { to, back, sums } = Units::new(luck, spread);
        let precision = (candidates > 2 && sums[0].is_some()).then(|| Precision::new(sums, candidates));
        own.iter_mut().for_each(|own| *own = product(product(to, *own), transpose(to)));
        Posterior { label, estimates, mean, to, back, own, still, precision }
    }

    /// The truths of draw `b`, whose noise is `noise[c]`.
    pub fn draw(&self, b: usize, noise: &[Vector], truths: &mut [Vector]) {
        let Some(precision) = &self.precision else {
            truths.iter_mut().enumerate().for_each(|(c, truth)| *truth = plus(self.estimates[c], noise[c]));
            return;
        };
        let mut rng = stream("truths", &self.label, b);
        let drawn = precision.draw(&mut rng);
        let middle = apply(&drawn.middle, [normal(&mut rng), normal(&mut rng)]);
        let shared = centre(noise);
        for (c, truth) in truths.iter_mut().enumerate() {
            let apart = minus(plus(self.estimates[c], minus(noise[c], shared)), self.mean);
            let prior = plus(apply(&drawn.root, [normal(&mut rng), normal(&mut rng)]), middle);
            let kept = inverse(add(IDENTITY, product(self.own[c], drawn.inverse)));
            let moved = apply(&kept, plus(apply(&self.to, apart), apply(&self.own[c], prior)));
            let moved = plus(self.mean, apply(&self.back, moved));
            *truth = [0, 1].map(|i| if self.still[c][i] { self.estimates[c][i] } else { moved[i] });
        }
    }
}

/// Coordinates in which noise is round, and the sum of squares of the estimates along each; `None` along what has no noise.
struct Units {
    to: Matrix,
    back: Matrix,
    sums: [Option<f64>; 2],
}

impl Units {
    fn new(luck: Matrix, spread: Matrix) -> Units {
        let (sizes, axes) = symmetric(luck);
        let noisy = sizes.map(|size| size > 0.0 && size > NOISELESS * sizes[0]);
        let deviations = [0, 1].map(|i| if noisy[i] { sizes[i].sqrt() } else { 1.0 });
        let out = product(axes, diagonal(deviations));
        let back = product(diagonal(deviations.map(|d| 1.0 / d)), transpose(axes));
        let round = product(product(back, spread), transpose(back));
        if noisy[1] {
            let (sums, turn) = symmetric(round);
            let sums = sums.map(|sum| Some(sum.max(0.0)));
            return Units { to: product(transpose(turn), back), back: product(out, turn), sums };
        }
        Units { to: back, back: out, sums: [noisy[0].then_some(round[0][0]), None] }
    }
}

/// Draws of B, in units in which M is diagonal, by Bartlett's decomposition of a Wishart matrix.
struct Precision {
    candidates: usize,
    /// Where noise goes one way only, B is a number, of which this draws the root.
    first: Roots,
    second: Option<(Roots, f64)>,
}

/// What follows from one B.
struct Drawn {
    /// G, and its square root.
    inverse: Matrix,
    root: Matrix,
    /// G times what makes standard normal numbers a draw of the common mean.
    middle: Matrix,
}

impl Precision {
    fn new(sums: [Option<f64>; 2], candidates: usize) -> Precision {
        let degrees = (candidates - 1) as f64;
        let second = sums[1].map(|sum| (Roots::new(degrees - 1.0, sum), sum));
        Precision { candidates, first: Roots::new(degrees, sums[0].unwrap_or(0.0)), second }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Drawn {
        let (values, axes) = symmetric(self.draw_matrix(rng));
        let values = values.map(|value| value.clamp(0.0, 1.0 - BELOW_ONE));
        let of = |f: &dyn Fn(f64) -> f64| product(product(axes, diagonal(values.map(f))), transpose(axes));
        let known = (self.candidates as f64).sqrt();
        Drawn {
            inverse: of(&|b| b / (1.0 - b)),
            root: of(&|b| (b / (1.0 - b)).sqrt()),
            middle: of(&|b| b.sqrt() / (1.0 - b) / known),
        }
    }

    fn draw_matrix(&self, rng: &mut ChaCha8Rng) -> Matrix {
        let Some((second, sum)) = &self.second else {
            let root = self.first.draw(rng);
            return [[root * root, 0.0], [0.0, 0.0]];
        };
        loop {
            let (a, b) = (self.first.draw(rng), second.draw(rng));
            // Between them, a normal number in units of the root of `sum`; B <= 1 where its square is at most `room`.
            let widest = (4.0 / sum.max(16.0).sqrt()).min(1.0);
            let across = (2.0 * uniform(rng) - 1.0) * widest;
            let room = (1.0 - a * a) * (1.0 - b * b);
            if across * across <= room && uniform(rng) < (-0.5 * sum * across * across).exp() {
                return [[a * a, a * across], [a * across, b * b + across * across]];
            }
        }
    }
}

/// Numbers r in (0, 1) with density `r^(degrees - 1) exp(-sum r^2 / 2)`: roots of chi-squared variables over `sum`, cut off at 1.
struct Roots {
    widest: f64,
    /// Ascending to 1: the share of the first cells.
    shares: Vec<f64>,
}

impl Roots {
    fn new(degrees: f64, sum: f64) -> Roots {
        // A chi variable has a deviation below 1 and hardly any tail.
        let widest = ((degrees.sqrt() + 6.0) / sum.max(f64::MIN_POSITIVE).sqrt()).min(1.0);
        let log = |cell: usize| {
            let r = (cell as f64 + 0.5) / CELLS as f64 * widest;
            (degrees - 1.0) * r.ln() - 0.5 * sum * r * r
        };
        let most = (0..CELLS).map(log).fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        let mut shares: Vec<f64> = (0..CELLS)
            .map(|cell| {
                total += (log(cell) - most).exp();
                total
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= total);
        Roots { widest, shares }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        let u = uniform(rng);
        let cell = self.shares.partition_point(|share| *share < u).min(CELLS - 1);
        let below = if cell == 0 { 0.0 } else { self.shares[cell - 1] };
        let within = (u - below) / (self.shares[cell] - below).max(f64::MIN_POSITIVE);
        (cell as f64 + within.clamp(0.0, 1.0)) / CELLS as f64 * self.widest
    }
}

/// In (0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

fn centre(points: &[Vector]) -> Vector {
    let n = points.len().max(1) as f64;
    std::array::from_fn(|i| points.iter().map(|point| point[i]).sum::<f64>() / n)
}

/// Squares and products.
fn square([x, y]: Vector) -> Matrix {
    [[x * x, x * y], [y * x, y * y]]
}

fn plus(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1]]
}

fn minus(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1]]
}

fn diagonal([a, b]: Vector) -> Matrix {
    [[a, 0.0], [0.0, b]]
}

fn inverse([[a, b], [c, d]]: Matrix) -> Matrix {
    scale([[d, -b], [-c, a]], 1.0 / (a * d - b * c))
}

/// Eigenvalues of a symmetric matrix, the larger first, and its eigenvectors as columns.
fn symmetric([[a, b], [_, d]]: Matrix) -> (Vector, Matrix) {
    let (middle, half) = (f64::midpoint(a, d), (a - d) / 2.0);
    let radius = (half * half + b * b).sqrt();
    // Of the two ways to write the eigenvector, the one that does not cancel.
    let (x, y) = if half >= 0.0 { (half + radius, b) } else { (b, radius - half) };
    let length = (x * x + y * y).sqrt();
    let (x, y) = if length > 0.0 { (x / length, y / length) } else { (1.0, 0.0) };
    ([middle + radius, middle - radius], [[x, -y], [y, x]])
}

fn apply(m: &Matrix, v: Vector) -> Vector {
    [m[0][0] * v[0] + m[0][1] * v[1], m[1][0] * v[0] + m[1][1] * v[1]]
}

fn product(a: Matrix, b: Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][0] * b[0][j] + a[i][1] * b[1][j]))
}

fn add(a: Matrix, b: Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][j] + b[i][j]))
}

fn scale(a: Matrix, by: f64) -> Matrix {
    a.map(|row| row.map(|x| x * by))
}

fn transpose(a: Matrix) -> Matrix {
    [[a[0][0], a[1][0]], [a[0][1], a[1][1]]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Matrix, b: Matrix) -> bool {
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn eigenvectors_rebuild_their_matrix() {
        for m in
            [[[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.7], [-0.7, 3.0]], [[1.0, 0.0], [0.0, 1.0]], [[4.0, 4.0], [4.0, 4.0]]]
        {
            let (values, axes) = symmetric(m);
            let diagonal = [[values[0], 0.0], [0.0, values[1]]];
            assert!(values[0] >= values[1]);
            assert!(close(product(product(axes, diagonal), transpose(axes)), m), "{m:?}: {values:?} {axes:?}");
        }
    }

    /// Means and covariances over many draws for candidates at `estimates` with this noise, the same for all.
    fn moments(estimates: &[Vector], deviations: Vector) -> Vec<(Vector, Matrix)> {
        let draws = 8000;
        let noise = |b: usize, c: usize| {
            let mut rng = stream("test", &c.to_string(), b);
            deviations.map(|deviation| deviation * normal(&mut rng))
        };
        let posterior = Posterior::new("test".into(), estimates, draws, noise);
        let mut truths = vec![[0.0; 2]; estimates.len()];
        let mut sums = vec![([0.0; 2], [[0.0; 2]; 2]); estimates.len()];
        for b in 0..draws {
            let noise: Vec<Vector> = (0..estimates.len()).map(|c| noise(b, c)).collect();
            posterior.draw(b, &noise, &mut truths);
            for (sum, truth) in sums.iter_mut().zip(&truths) {
                *sum = (plus(sum.0, *truth), add(sum.1, square(*truth)));
            }
        }
        let part = 1.0 / draws as f64;
        let finish = |(sum, squares): (Vector, Matrix)| {
            let mean = sum.map(|x| x * part);
            (mean, add(scale(squares, part), scale(square(mean), -1.0)))
        };
        sums.into_iter().map(finish).collect()
    }

    /// A grid of estimates: `n * n` points whose coordinates have this deviation each.
    fn grid(n: usize, deviations: Vector) -> Vec<Vector> {
        let unit = ((n * n - 1) as f64 / 12.0).sqrt();
        let at = |i: usize| (i as f64 - (n - 1) as f64 / 2.0) / unit;
        (0..n * n).map(|k| [at(k / n) * deviations[0], at(k % n) * deviations[1]]).collect()
    }

    #[test]
    fn many_candidates_move_as_if_the_scatter_of_truths_were_known() {
        // Estimates scatter with variances 4 and 1.25 around truths; noise has 1 and 1: truths have 3 and 0.25.
        let estimates = grid(20, [2.0, 1.25f64.sqrt()]);
        let found = moments(&estimates, [1.0, 1.0]);
        let (first, last) = (&found[0], &found[399]);
        let ratio = |i: usize| (last.0[i] - first.0[i]) / (estimates[399][i] - estimates[0][i]);
        assert!((ratio(0) - 0.75).abs() < 0.02 && (ratio(1) - 0.2).abs() < 0.06, "{} {}", ratio(0), ratio(1));
        let middle = found[210].1;
        assert!((middle[0][0] - 0.75).abs() < 0.04 && (middle[1][1] - 0.2).abs() < 0.06, "{middle:?}");
        assert!(middle[0][1].abs() < 0.03, "{middle:?}");
    }

    #[test]
    fn what_lies_far_apart_stays_and_what_is_all_noise_comes_together() {
        // What moves all alike is taken away: a ninth.
        let apart = moments(&grid(3, [100.0, 100.0]), [1.0, 1.0]);
        let whole = |x: f64| (x - 8.0 / 9.0).abs() < 0.06;
        assert!(apart.iter().all(|(_, c)| whole(c[0][0]) && whole(c[1][1])), "{apart:?}");
        let alike = moments(&grid(5, [0.5, 0.5]), [1.0, 1.0]);
        assert!(alike.iter().all(|(mean, c)| mean[0].abs() < 0.3 && c[0][0] < 0.35 && c[1][1] < 0.35), "{alike:?}");
    }

    #[test]
    fn a_candidate_without_noise_stays_among_others_with_noise() {
        let estimates = grid(3, [0.5, 0.5]);
        let noise = |b: usize, c: usize| {
            let mut rng = stream("test", &c.to_string(), b);
            let z = [normal(&mut rng), normal(&mut rng)];
            if c == 4 { [z[0], 0.0] } else { z }
        };
        let posterior = Posterior::new("test".into(), &estimates, 500, noise);
        let mut truths = vec![[0.0; 2]; 9];
        for b in 0..500 {
            let noise: Vec<Vector> = (0..9).map(|c| noise(b, c)).collect();
            posterior.draw(b, &noise, &mut truths);
            assert!(truths[4][1] == estimates[4][1] && truths[4][0] != estimates[4][0]);
        }
    }

    #[test]
    fn noise_along_one_line_moves_along_that_line() {
        // Clean accuracy against itself.
        let estimates: Vec<Vector> = (0..9).map(|c| [f64::from(c), f64::from(c)]).collect();
        let noise = |b: usize, c: usize| [normal(&mut stream("test", &c.to_string(), b)); 2];
        let posterior = Posterior::new("test".into(), &estimates, 300, noise);
        let mut truths = vec![[0.0; 2]; 9];
        for b in 0..300 {
            posterior.draw(b, &(0..9).map(|c| noise(b, c)).collect::<Vec<_>>(), &mut truths);
            assert!(truths.iter().all(|t| (t[0] - t[1]).abs() < 1e-9 && t[0].is_finite()), "{truths:?}");
        }
    }

    #[test]
    fn two_candidates_and_none_without_noise_stay_where_their_draws_are() {
        for (estimates, size) in [(vec![[0.1, 0.2], [0.3, 0.4]], 1.0), (grid(3, [1.0, 1.0]), 0.0)] {
            let noise = vec![[size, -size]; estimates.len()];
            let posterior = Posterior::new("test".into(), &estimates, 10, |_, c| noise[c]);
            let mut truths = vec![[0.0; 2]; estimates.len()];
            posterior.draw(3, &noise, &mut truths);
            assert!(truths.iter().zip(&estimates).all(|(t, e)| *t == plus(*e, [size, -size])), "{truths:?}");
        }
    }

    #[test]
    fn roots_are_drawn_from_their_density() {
        // Mean square of a chi-squared variable with 5 degrees of freedom over 100, hardly cut off; and where only the cut counts.
        for (degrees, sum, expected) in [(5.0, 100.0, 0.05), (5.0, 0.0, 5.0 / 7.0), (1.0, 0.0, 1.0 / 3.0)] {
            let roots = Roots::new(degrees, sum);
            let mut rng = stream("test", "roots", 0);
            let mean = (0..20_000).map(|_| roots.draw(&mut rng).powi(2)).sum::<f64>() / 20_000.0;
            assert!((mean / expected - 1.0).abs() < 0.02, "{degrees} {sum}: {mean}");
        }
    }
}
