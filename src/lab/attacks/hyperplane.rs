//! The nearest point of a hyperplane inside the box `[0,1]`, in Linf, L2 or L1.

use epsweep::spec::Norm;

/// The points `z` with `normal . z = offset`.
#[derive(Debug, Clone)]
pub struct Hyperplane {
    pub normal: Vec<f64>,
    pub offset: f64,
}

/// Newton's method ends after as many steps as there are distinct rooms; far fewer in practice.
const MOST_STEPS: usize = 10_000;

impl Hyperplane {
    /// The smallest change that takes `point` onto the hyperplane and keeps it in the box; where
    /// none does, the change to the box's corner nearest to the hyperplane.
    ///
    /// Towards the hyperplane, pixel `i` moves by `min(t, room_i)` (Linf) or `min(t |w_i|, room_i)`
    /// (L2), where `room_i` is its way to the box and `t` is common to all. (L1 is another matter: there
    /// the pixel that gains most moves all its way, then the next, until the gap is closed.) What that gains,
    /// `sum |w_i| move_i`, is concave in `t` and piecewise linear, so Newton's method from `t = 0` climbs
    /// to the root without passing it, and ends in finitely many steps without sorting anything.
    pub fn project(&self, point: &[f64], norm: Norm) -> Vec<f64> {
        let gap = self.normal.iter().zip(point).map(|(w, x)| w * x).sum::<f64>() - self.offset;
        // Pixels move against the sign of the gap, along or against the normal.
        let side = if gap >= 0.0 { -1.0 } else { 1.0 };
        let up = |w: f64| side * w > 0.0;
        let rooms: Vec<f64> =
            self.normal.iter().zip(point).map(|(&w, &x)| if up(w) { 1.0 - x } else { x }.max(0.0)).collect();
        if norm == Norm::L1 {
            return self.dearest_first(gap.abs(), side, &rooms);
        }
        // How fast pixel i moves with t.
        let speeds: Vec<f64> = match norm {
            Norm::Linf => self.normal.iter().map(|&w| f64::from(u8::from(w != 0.0))).collect(),
            Norm::L2 | Norm::L1 => self.normal.iter().map(|w| w.abs()).collect(),
        };
        let pace = self.pace(gap.abs(), &rooms, &speeds);
        let change = |position: usize| {
            let way = (pace * speeds[position]).min(rooms[position]);
            if speeds[position] == 0.0 { 0.0 } else { way * side * self.normal[position].signum() }
        };
        (0..point.len()).map(change).collect()
    }

    /// L1: the pixels with the largest weights go all their way, until `gap` is closed.
    fn dearest_first(&self, gap: f64, side: f64, rooms: &[f64]) -> Vec<f64> {
        let mut order: Vec<usize> = (0..rooms.len()).filter(|&i| self.normal[i] != 0.0).collect();
        order.sort_by(|&a, &b| self.normal[b].abs().total_cmp(&self.normal[a].abs()));
        let (mut changes, mut missing) = (vec![0.0; rooms.len()], gap);
        for position in order {
            if missing <= 0.0 {
                break;
            }
            let weight = self.normal[position];
            let way = (missing / weight.abs()).min(rooms[position]);
            changes[position] = way * side * weight.signum();
            missing -= way * weight.abs();
        }
        changes
    }

    /// The `t` at which `gap` is closed; infinite if it cannot be.
    fn pace(&self, gap: f64, rooms: &[f64], speeds: &[f64]) -> f64 {
        let mut pace = 0.0;
        for _ in 0..MOST_STEPS {
            let (mut gained, mut slope) = (0.0, 0.0);
            for ((w, &room), &speed) in self.normal.iter().zip(rooms).zip(speeds) {
                if pace * speed < room {
                    gained += w.abs() * pace * speed;
                    slope += w.abs() * speed;
                } else {
                    gained += w.abs() * room;
                }
            }
            let missing = gap - gained;
            if missing <= 1e-12 * gap {
                return pace;
            }
            if slope <= 0.0 {
                return f64::INFINITY;
            }
            let next = pace + missing / slope;
            if next <= pace {
                return pace;
            }
            pace = next;
        }
        pace
    }
}

/// The largest entry, the Euclidean length, or the sum of all.
pub fn length(change: &[f64], norm: Norm) -> f64 {
    match norm {
        Norm::Linf => change.iter().fold(0.0, |largest, x| largest.max(x.abs())),
        Norm::L2 => change.iter().map(|x| x * x).sum::<f64>().sqrt(),
        Norm::L1 => change.iter().map(|x| x.abs()).sum(),
    }
}

/// The length that tells how far a step of length 1 takes a linear function with this gradient.
pub fn dual_length(gradient: &[f64], norm: Norm) -> f64 {
    match norm {
        Norm::Linf => length(gradient, Norm::L1),
        Norm::L2 => length(gradient, Norm::L2),
        Norm::L1 => length(gradient, Norm::Linf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::streams::Key;

    #[test]
    fn projections_reach_the_plane_or_a_corner_and_nothing_nearer_does() {
        let mut stream = Key::new("hyperplane", 1).stream();
        let mut reached = 0;
        for round in 0..300 {
            let dimensions = 1 + round % 40;
            let mut draw = |scale: f64| -> Vec<f64> {
                stream.symmetric(dimensions).iter().map(|&x| f64::from(x) * scale).collect()
            };
            let plane = Hyperplane { normal: draw(1.0), offset: draw(2.0)[0] };
            let point: Vec<f64> = draw(0.5).iter().map(|x| x + 0.5).collect();
            let gap = |z: &[f64]| plane.normal.iter().zip(z).map(|(w, x)| w * x).sum::<f64>() - plane.offset;
            let others: Vec<Vec<f64>> = (0..20).map(|_| draw(0.02)).collect();
            for norm in [Norm::Linf, Norm::L2, Norm::L1] {
                let change = plane.project(&point, norm);
                let there: Vec<f64> = point.iter().zip(&change).map(|(x, d)| x + d).collect();
                assert!(there.iter().all(|x| (-1e-9..=1.0 + 1e-9).contains(x)));
                let size = length(&change, norm);
                if gap(&there).abs() > 1e-9 {
                    // Out of reach: every pixel that matters is at the box.
                    assert!(there.iter().all(|x| x.min(1.0 - x) < 1e-9), "{round} {norm:?}");
                    continue;
                }
                reached += 1;
                // Whatever lies across the plane in the box is at least as far away.
                for other in &others {
                    let z: Vec<f64> = there.iter().zip(other).map(|(x, d)| (x + d).clamp(0.0, 1.0)).collect();
                    let across = gap(&z) * gap(&point) <= 0.0;
                    let offset: Vec<f64> = z.iter().zip(&point).map(|(a, b)| a - b).collect();
                    assert!(!across || length(&offset, norm) >= size - 1e-9, "{round} {norm:?}");
                }
            }
        }
        assert!(reached > 200, "{reached}");
    }

    #[test]
    fn a_plane_without_direction_moves_nothing() {
        let plane = Hyperplane { normal: vec![0.0; 3], offset: 1.0 };
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            assert_eq!(plane.project(&[0.2, 0.5, 1.0], norm), [0.0; 3]);
        }
    }
}
