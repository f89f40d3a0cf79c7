//! The learning rate over a run, as a factor on the optimizer's `lr`.

use epsweep::spec::Schedule;
use std::f64::consts::PI;

/// OneCycleLR's defaults: the first factor is 1/25, the last one ten thousand times smaller.
const ONE_CYCLE_START: f64 = 1.0 / 25.0;
const ONE_CYCLE_END: f64 = ONE_CYCLE_START / 1e4;

/// The factor for step `step` (from 0) of `total`, in `[0,1]`.
///
/// Equals PyTorch's MultiStepLR (milestones at `fraction * total` steps), CosineAnnealingLR
/// (`T_max = total`) and OneCycleLR (without its momentum cycle), each stepped once per batch.
pub fn factor(schedule: &Schedule, step: u64, total: u64) -> f64 {
    let (now, total) = (step as f64, total as f64);
    match schedule {
        Schedule::Constant {} => 1.0,
        Schedule::Step { milestones, gamma } => {
            let passed = milestones.iter().filter(|&&milestone| now >= milestone * total).count();
            gamma.powi(passed as i32)
        }
        Schedule::Cosine {} => (1.0 + (PI * now / total).cos()) / 2.0,
        Schedule::OneCycle { warmup } => {
            let (top, last) = (warmup * total - 1.0, total - 1.0);
            if now < top {
                anneal(ONE_CYCLE_START, 1.0, now / top)
            } else if last > top {
                anneal(1.0, ONE_CYCLE_END, (now - top.max(0.0)) / (last - top.max(0.0)).max(1.0))
            } else {
                1.0
            }
        }
    }
}

/// Half a cosine from `from` (share 0) to `to` (share 1).
fn anneal(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_stay_in_range_even_for_the_shortest_runs() {
        let schedules = [
            Schedule::Constant {},
            Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.1 },
            Schedule::Cosine {},
            Schedule::OneCycle { warmup: 0.3 },
        ];
        for schedule in &schedules {
            for total in 1..40 {
                for step in 0..total {
                    let factor = factor(schedule, step, total);
                    assert!((0.0..=1.0).contains(&factor), "{schedule:?} {step}/{total}: {factor}");
                }
            }
        }
    }
}
