//! The geometry of L1: balls cut with the pixel box, and the sparse steps that climb in them.
//!
//! In this norm the nearest point of ball *and* box is not the ball's nearest point cut to the box, and
//! attacks that take it for that are weak (arXiv 2103.01208). As in [`super::hyperplane`], all happens
//! in plain numbers, one image at a time.

use super::ball::Ball;
use crate::lab::data::upload;
use tch::{Device, Kind, Tensor};

/// How much smaller than asked a ball is projected to, relatively: room for pixels in 32 bits.
const INSIDE: f64 = 1.0 - 1e-6;
/// Enough for Newton's method, which ends by itself, and for the halvings that guard it.
const MOST_STEPS: usize = 200;
/// The share of the pixels that a step of FGSM and PGD moves; as small as sparse descent (arXiv
/// 1904.13000) has it at its strongest.
const MOVED: f64 = 0.05;

/// The point nearest to `point` (in Euclidean length) whose L1 distance from `origin` is at most
/// `radius` and whose pixels lie in `[0,1]`.
///
/// Every pixel keeps `clamp(|u_i| - t, 0, room_i)` of its change `u_i`, where `room_i` is its way to the
/// box and `t >= 0` is common to all (arXiv 2103.01208, prop. 2.1). What is kept falls with `t`
/// piecewise linearly, so Newton's method finds `t`.
pub fn project(origin: &[f32], point: &[f32], radius: f64) -> Vec<f32> {
    let radius = radius * INSIDE;
    let changes: Vec<f64> = point.iter().zip(origin).map(|(p, o)| f64::from(*p) - f64::from(*o)).collect();
    let room = |(&change, &x): (&f64, &f32)| {
        let room: f64 = if change > 0.0 { 1.0 - f64::from(x) } else { f64::from(x) };
        room.max(0.0)
    };
    let rooms: Vec<f64> = changes.iter().zip(origin).map(room).collect();
    let less = threshold(&changes, &rooms, radius);
    let keep = |position: usize| {
        let change = changes[position];
        let size = (change.abs() - less).max(0.0).min(rooms[position]);
        let moved = f64::from(origin[position]) + change.signum() * size;
        (moved as f32).clamp(0.0, 1.0)
    };
    (0..point.len()).map(keep).collect()
}

/// The `t` of [`project`].
fn threshold(changes: &[f64], rooms: &[f64], radius: f64) -> f64 {
    // What is kept at `t`, and how many pixels would keep less at a larger one.
    let kept = |t: f64| {
        changes.iter().zip(rooms).fold((0.0, 0.0), |(sum, moving), (change, &room)| {
            let left = change.abs() - t;
            (sum + left.max(0.0).min(room), moving + f64::from(u8::from(left > 0.0 && left <= room)))
        })
    };
    let mut bounds = [0.0, changes.iter().fold(0.0f64, |largest, change| largest.max(change.abs()))];
    let mut t = 0.0;
    for step in 0..MOST_STEPS {
        let (sum, moving) = kept(t);
        let excess = sum - radius;
        if excess <= 0.0 && (step == 0 || excess >= -1e-12 * radius) {
            return t;
        }
        bounds[usize::from(excess <= 0.0)] = t;
        let newton = t + excess / moving;
        let within = moving > 0.0 && newton > bounds[0] && newton < bounds[1];
        t = if within { newton } else { (bounds[0] + bounds[1]) / 2.0 };
        if bounds[1] - bounds[0] <= 1e-15 {
            break;
        }
    }
    bounds[1]
}

/// `point` after a step of L1 length `step` along the signs of the `most` largest entries of
/// `gradient`, where every moved pixel moves alike.
pub fn sparse_step(point: &[f32], gradient: &[f32], most: usize, step: f64) -> Vec<f32> {
    let most = most.clamp(1, gradient.len());
    let mut sizes: Vec<f32> = gradient.iter().map(|g| g.abs()).collect();
    let (_, least, _) = sizes.select_nth_unstable_by(most - 1, |a, b| b.total_cmp(a));
    let least = *least;
    let moves = |g: f32| g != 0.0 && g.abs() >= least;
    let count = gradient.iter().filter(|&&g| moves(g)).count().max(1);
    let each = (step / count as f64) as f32;
    let moved = |(&x, &g): (&f32, &f32)| if moves(g) { x + each * g.signum() } else { x };
    point.iter().zip(gradient).map(moved).collect()
}

/// [`Ball::project`], row by row.
pub fn project_all(ball: &Ball, origin: &Tensor, point: &Tensor) -> Tensor {
    let radii = numbers(&ball.radius);
    // One for each row, or one for all.
    let radius = |row: usize| f64::from(radii[row.min(radii.len() - 1)]);
    by_row([origin, point], |row, [origin, point]| project(origin, point, radius(row)))
}

/// The step of length 1 that FGSM and PGD take from `point`: along the signs of the largest 5 % of the
/// gradient's entries, of those pixels that the box lets move that way.
pub fn steepest(point: &Tensor, gradient: &Tensor) -> Tensor {
    by_row([point, gradient], |_, [point, gradient]| {
        let free = |(&x, &g): (&f32, &f32)| if (g > 0.0 && x >= 1.0) || (g < 0.0 && x <= 0.0) { 0.0 } else { g };
        let free: Vec<f32> = point.iter().zip(gradient).map(free).collect();
        let most = (free.len() as f64 * MOVED).ceil() as usize;
        sparse_step(&vec![0.0; free.len()], &free, most, 1.0)
    })
}

/// A tensor of the images' shape whose rows `make` computes from the rows of two others.
pub fn by_row(from: [&Tensor; 2], make: impl Fn(usize, [&[f32]; 2]) -> Vec<f32>) -> Tensor {
    let rows = from[0].size()[0] as usize;
    let [first, second] = from.map(numbers);
    let pixels = first.len() / rows.max(1);
    let part = |all: &'_ [f32], row: usize| -> Vec<f32> { all[row * pixels..][..pixels].to_vec() };
    let made: Vec<f32> = (0..rows).flat_map(|row| make(row, [&part(&first, row), &part(&second, row)])).collect();
    upload(&Tensor::from_slice(&made).view_as(from[0]), from[0].device())
}

/// A tensor's values, row after row.
pub fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1)).expect("numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::streams::Key;

    fn size(point: &[f32], origin: &[f32]) -> f64 {
        point.iter().zip(origin).map(|(p, o)| (f64::from(*p) - f64::from(*o)).abs()).sum()
    }

    #[test]
    fn projections_are_inside_ball_and_box_and_nothing_inside_is_nearer() {
        let mut stream = Key::new("l1", 1).stream();
        let mut cut = 0;
        for round in 0..300 {
            let pixels = 1 + round % 50;
            let origin: Vec<f32> = stream.units(pixels).iter().map(|x| (x * 1.6 - 0.3).clamp(0.0, 1.0)).collect();
            let point: Vec<f32> = stream.symmetric(pixels).iter().zip(&origin).map(|(d, o)| o + d * 1.5).collect();
            let radius = 0.05 + stream.unit() * 4.0;
            let found = project(&origin, &point, radius);
            assert!(found.iter().all(|x| (0.0..=1.0).contains(x)), "{round}");
            let length = size(&found, &origin);
            assert!(length <= radius, "{round}: {length} beyond {radius}");
            cut += u32::from(length > radius * 0.999);
            // The projection's own characterisation: no inner point lies ahead of it, seen from `point`.
            for _ in 0..20 {
                let inner: Vec<f32> = stream.units(pixels);
                let share = (radius * INSIDE / size(&inner, &origin).max(1e-9)).min(1.0) as f32;
                let ahead = |i: usize| {
                    let inner = origin[i] + (inner[i] - origin[i]) * share;
                    f64::from(point[i] - found[i]) * f64::from(inner - found[i])
                };
                let ahead: f64 = (0..pixels).map(ahead).sum();
                assert!(ahead <= 1e-4, "{round}: {ahead}");
            }
        }
        assert!(cut > 150, "{cut}");
    }

    #[test]
    fn points_inside_stay() {
        let (origin, point) = ([0.5f32, 0.2, 0.0], [0.6f32, 0.2, 0.1]);
        assert_eq!(project(&origin, &point, 1.0), point);
        assert_eq!(project(&origin, &[0.5, 3.0, -1.0], 0.8)[2], 0.0);
    }

    #[test]
    fn steps_move_the_steepest_pixels_alike() {
        let moved = sparse_step(&[0.0; 5], &[0.1, -3.0, 0.0, 2.0, 1.0], 2, 1.0);
        assert_eq!(moved, [0.0, -0.5, 0.0, 0.5, 0.0]);
        assert_eq!(sparse_step(&[0.0; 3], &[0.0; 3], 2, 1.0), [0.0; 3]);
    }
}
