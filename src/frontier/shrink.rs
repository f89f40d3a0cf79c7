//! Draws of where the true means may be, for questions about all candidates at once.
//!
//! The draws around the estimates say how estimates scatter around truths. Estimates lie further apart than
//! truths do, for they hold noise; drawing noise around them once more would ask the question at a scatter
//! that is too wide, and candidates on the frontier would leave it too often. So each estimate moves towards
//! the mean of all, by as much of what separates them as noise explains, and the noise around it shrinks
//! likewise: the empirical Bayes rule of Efron and Morris (Biometrika 59, 1972) for vectors with a common
//! covariance, `I - (C - r - 2) / (C - 1) N S^-1`, with C candidates, S the covariance of the estimates, N
//! that of their noise and r its rank (2; 1 where robust accuracy is the clean one).
//!
//! With up to r + 2 candidates nothing moves. Noise shrinks by no more than half of its variance: how much the
//! rule should move was estimated too. `calibration/frontiers.rs` shows what comes of it.

/// Of the variance of the noise, what is always drawn: chosen in simulation, where 0 made `p_on_frontier` too
/// sure near 1 and 0.3 to 0.5 did not.
const KEPT: f64 = 0.5;
/// Directions with less of the noise than this share of the largest are taken to have none.
const NOISELESS: f64 = 1e-10;

type Matrix = [[f64; 2]; 2];
type Vector = [f64; 2];

/// How the points of one plane of clean and robust accuracy move.
pub(super) struct Shrinkage {
    mean: Vector,
    /// Moves an estimate's distance from the mean, and a draw's from its estimate.
    estimate: Matrix,
    noise: Matrix,
}

impl Shrinkage {
    /// `estimates[c]`, and `noise(b, c)`: the distance of draw `b` of `draws` from it.
    pub fn new(estimates: &[Vector], draws: usize, noise: impl Fn(usize, usize) -> Vector) -> Shrinkage {
        let mean = centre(estimates);
        let mut spread = covariance(estimates.iter().copied(), mean);
        let mut luck = [[0.0; 2]; 2];
        for b in 0..draws {
            // What moves all candidates alike changes no comparison.
            let around: Vec<Vector> = (0..estimates.len()).map(|c| noise(b, c)).collect();
            luck = add(luck, covariance(around.iter().copied(), centre(&around)));
        }
        let degrees = estimates.len().saturating_sub(1).max(1) as f64;
        spread = scale(spread, 1.0 / degrees);
        luck = scale(luck, 1.0 / (degrees * draws.max(1) as f64));
        let [estimate, noise] = rule(spread, luck, estimates.len());
        Shrinkage { mean, estimate, noise }
    }

    /// A point that `estimate` may truly be, `noise` away from where it is expected.
    pub fn draw(&self, estimate: Vector, noise: Vector) -> Vector {
        let moved = apply(&self.estimate, [estimate[0] - self.mean[0], estimate[1] - self.mean[1]]);
        let noise = apply(&self.noise, noise);
        std::array::from_fn(|i| self.mean[i] + moved[i] + noise[i])
    }
}

/// The two matrices of [`Shrinkage`], found where noise is round: in units of its own standard deviations.
fn rule(spread: Matrix, luck: Matrix, candidates: usize) -> [Matrix; 2] {
    let (sizes, axes) = symmetric(luck);
    let noisy: Vec<usize> = (0..2).filter(|&i| sizes[i] > 0.0 && sizes[i] > NOISELESS * sizes[0]).collect();
    let share = (candidates as f64 - noisy.len() as f64 - 2.0).max(0.0) / (candidates as f64 - 1.0).max(1.0);
    // Columns of `out` are the axes times their deviations; rows of `back` undo them.
    let (mut out, mut back) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
    for &i in &noisy {
        for k in 0..2 {
            out[k][i] = axes[k][i] * sizes[i].sqrt();
            back[i][k] = axes[k][i] / sizes[i].sqrt();
        }
    }
    let (ratios, turn) = symmetric(product(product(back, spread), transpose(back)));
    let kept = ratios.map(|ratio| if ratio > 0.0 { (1.0 - share / ratio).max(0.0) } else { 0.0 });
    let rest = subtract([[1.0, 0.0], [0.0, 1.0]], product(out, back));
    [kept, kept.map(|kept| kept.max(KEPT).sqrt())].map(|kept| {
        let kept = [[kept[0], 0.0], [0.0, kept[1]]];
        let middle = product(product(turn, kept), transpose(turn));
        add(product(product(out, middle), back), rest)
    })
}

fn centre(points: &[Vector]) -> Vector {
    let n = points.len().max(1) as f64;
    std::array::from_fn(|i| points.iter().map(|point| point[i]).sum::<f64>() / n)
}

/// The sum of squares and products around `mean`.
fn covariance(points: impl Iterator<Item = Vector>, mean: Vector) -> Matrix {
    points.fold([[0.0; 2]; 2], |sum, point| {
        let d: Vector = std::array::from_fn(|i| point[i] - mean[i]);
        add(sum, [[d[0] * d[0], d[0] * d[1]], [d[1] * d[0], d[1] * d[1]]])
    })
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

fn subtract(a: Matrix, b: Matrix) -> Matrix {
    add(a, scale(b, -1.0))
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

    #[test]
    fn estimates_move_by_what_noise_explains_and_along_its_axes_alone() {
        // Where noise is round, ten candidates, spread ten times the noise along x and as large as it along y.
        let [estimate, noise] = rule([[10.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], 10);
        let share = 6.0 / 9.0;
        assert!(close(estimate, [[1.0 - share / 10.0, 0.0], [0.0, 1.0 - share]]), "{estimate:?}");
        assert!(close(noise, [[(1.0 - share / 10.0f64).sqrt(), 0.0], [0.0, KEPT.sqrt()]]), "{noise:?}");
    }

    #[test]
    fn the_rule_is_the_published_one_for_any_shape_of_noise() {
        let (spread, luck) = ([[3.0, -1.0], [-1.0, 2.0]], [[0.5, 0.2], [0.2, 0.3]]);
        let [estimate, _] = rule(spread, luck, 12);
        let determinant = spread[0][0] * spread[1][1] - spread[0][1] * spread[1][0];
        let inverse = scale([[spread[1][1], -spread[0][1]], [-spread[1][0], spread[0][0]]], 1.0 / determinant);
        let published = subtract([[1.0, 0.0], [0.0, 1.0]], scale(product(luck, inverse), 8.0 / 11.0));
        assert!(close(estimate, published), "{estimate:?} {published:?}");
    }

    #[test]
    fn nothing_moves_without_noise_or_with_few_candidates() {
        let identity = [[1.0, 0.0], [0.0, 1.0]];
        let luck = [[0.5, 0.2], [0.2, 0.3]];
        assert!(rule([[1.0, 0.0], [0.0, 1.0]], [[0.0; 2]; 2], 9).iter().all(|&m| close(m, identity)));
        assert!(rule([[1.0, 0.0], [0.0, 1.0]], luck, 4).iter().all(|&m| close(m, identity)));
        // Clean accuracy against itself: noise has one direction.
        let [estimate, _] = rule([[4.0, 4.0], [4.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], 9);
        let moved = apply(&estimate, [1.0, 1.0]);
        let share = 6.0 / 8.0 / 4.0;
        assert!((moved[0] - (1.0 - share)).abs() < 1e-9 && (moved[1] - moved[0]).abs() < 1e-9, "{moved:?}");
    }
}
