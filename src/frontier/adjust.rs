//! Correction for many comparisons: a p-value among its family.

/// A p-value, and what is left of it when many were looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adjusted {
    pub p: f64,
    /// After Holm (Scandinavian Journal of Statistics 6, 1979): calling everything at most 0.05 a
    /// difference is wrong anywhere with a probability of at most 5 %, however the tests depend.
    pub holm: f64,
    /// After Benjamini and Hochberg (JRSS B 57, 1995): of what is at most 0.05, at most 5 % is false
    /// on average, where the tests are independent or depend positively.
    pub q: f64,
}

/// The p-values `ps` of a family of `family` tests, of which only these may have been made.
///
/// What was left out may have been chosen by looking at the data. So Holm's step-down, which would
/// gain from the tests left out, gives way to Bonferroni's factor where there are any.
pub(super) fn adjust(ps: &[f64], family: usize) -> Vec<Adjusted> {
    let family = family.max(ps.len());
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let mut adjusted: Vec<Adjusted> = ps.iter().map(|&p| Adjusted { p, holm: 1.0, q: 1.0 }).collect();
    let mut holm = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        let factor = if family == ps.len() { family - rank } else { family };
        holm = holm.max(ps[i] * factor as f64).min(1.0);
        adjusted[i].holm = holm;
    }
    let mut q = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        q = q.min(ps[i] * family as f64 / (rank + 1) as f64);
        adjusted[i].q = q;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_come_out() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and "BH".
        let adjusted = adjust(&[0.01, 0.04, 0.03, 0.005], 4);
        let near = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
        };
        near(adjusted.iter().map(|a| a.holm).collect(), [0.03, 0.06, 0.06, 0.02]);
        near(adjusted.iter().map(|a| a.q).collect(), [0.02, 0.04, 0.04, 0.02]);
    }

    #[test]
    fn tests_that_were_left_out_count() {
        let adjusted = adjust(&[0.001, 0.02], 10);
        assert!((adjusted[0].holm - 0.01).abs() < 1e-12 && (adjusted[1].holm - 0.2).abs() < 1e-12);
        assert!((adjusted[0].q - 0.01).abs() < 1e-12 && (adjusted[1].q - 0.1).abs() < 1e-12);
        assert!(adjust(&[], 0).is_empty());
    }
}
