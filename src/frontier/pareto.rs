//! Who is dominated: Pareto sets in the plane of clean and robust accuracy, larger is better in both.

/// Whether each point is *not* dominated: no other is at least as good in both coordinates and
/// better in one. Equal points do not dominate each other.
pub fn non_dominated(points: &[(f64, f64)]) -> Vec<bool> {
    let clean: Vec<f64> = points.iter().map(|p| p.0).collect();
    let robust: Vec<f64> = points.iter().map(|p| p.1).collect();
    let mut on = vec![false; points.len()];
    mark(&descending(&clean), &clean, &robust, &mut on);
    on
}

/// Positions by falling `clean`; equal ones keep their order.
pub(super) fn descending(clean: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..clean.len()).collect();
    order.sort_by(|&a, &b| clean[b].total_cmp(&clean[a]));
    order
}

/// Sets `on` for the non-dominated, given the positions `order` by falling `clean`: linear, so that
/// one order serves all epsilons of a bootstrap draw.
pub(super) fn mark(order: &[usize], clean: &[f64], robust: &[f64], on: &mut [bool]) {
    let mut best = f64::NEG_INFINITY;
    for group in order.chunk_by(|&a, &b| clean[a] == clean[b]) {
        let top = group.iter().map(|&i| robust[i]).fold(f64::NEG_INFINITY, f64::max);
        for &i in group {
            on[i] = robust[i] == top && top > best;
        }
        best = best.max(top);
    }
}

/// The area dominated by `points`, seen from (0, 0): between 0 and 1 for accuracies.
///
/// One number for a whole frontier (Zitzler and Thiele 1998): it grows when any configuration
/// moves outwards, and never by adding a dominated one.
pub fn hypervolume(points: &[(f64, f64)]) -> f64 {
    let clean: Vec<f64> = points.iter().map(|p| p.0).collect();
    let robust: Vec<f64> = points.iter().map(|p| p.1).collect();
    dominated_area(&descending(&clean), &clean, &robust)
}

/// [`hypervolume`], given the positions `order` by falling `clean`.
pub(super) fn dominated_area(order: &[usize], clean: &[f64], robust: &[f64]) -> f64 {
    let mut area = 0.0;
    let mut height = 0.0;
    // From the right: each step adds the strip by which it rises above all points right of it.
    for &i in order {
        if robust[i] > height {
            area += clean[i] * (robust[i] - height);
            height = robust[i];
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_stay_and_the_dominated_go() {
        let points = [(0.9, 0.1), (0.8, 0.5), (0.8, 0.5), (0.8, 0.4), (0.7, 0.5), (0.1, 0.6)];
        assert_eq!(non_dominated(&points), [true, true, true, false, false, true]);
        assert!(non_dominated(&[]).is_empty());
    }

    #[test]
    fn the_area_of_a_staircase() {
        assert_eq!(hypervolume(&[]), 0.0);
        assert!((hypervolume(&[(0.8, 0.5)]) - 0.4).abs() < 1e-12);
        assert!((hypervolume(&[(1.0, 0.25), (0.5, 0.5), (0.4, 0.4)]) - 0.375).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(raw in prop::collection::vec((0u8..12, 0u8..12), 0..30)) {
            let points: Vec<(f64, f64)> = raw.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).collect();
            let dominated = |p: &(f64, f64)| points.iter().any(|q| q.0 >= p.0 && q.1 >= p.1 && q != p);
            let expected: Vec<bool> = points.iter().map(|p| !dominated(p)).collect();
            prop_assert_eq!(non_dominated(&points), expected);
        }

        #[test]
        fn a_dominated_point_adds_no_area(raw in prop::collection::vec((0u8..12, 0u8..12), 1..20)) {
            let points: Vec<(f64, f64)> = raw.iter().map(|&(a, b)| (f64::from(a) / 12.0, f64::from(b) / 12.0)).collect();
            let on = non_dominated(&points);
            let kept: Vec<(f64, f64)> = points.iter().zip(on).filter(|(_, on)| *on).map(|(p, _)| *p).collect();
            prop_assert!((hypervolume(&points) - hypervolume(&kept)).abs() < 1e-12);
        }
    }
}
