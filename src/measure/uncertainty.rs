//! Answers about the uncertainty relation: per unit, per class, per feature.

use super::moments::{Figure, Figures, PerFeature};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One task's answer, or several joined.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// One per unit, in order.
    pub units: Vec<Unit>,
    /// Features of the inputs (of the plane: its two coordinates); empty where nothing was defined, or
    /// the inputs have more than [`MAX_FEATURES`].
    pub features: Vec<ClassFeatures>,
}

/// A domain with its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// The label in whose loss psi is.
    pub class: u32,
    /// `None` where psi is not defined, e.g. because the loss is 0 all over the domain.
    pub figures: Option<Figures>,
}

/// Sums over the units of one class, feature by feature. A feature on which the domain has no extent is
/// 0 throughout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFeatures {
    pub class: u32,
    /// Units with figures.
    pub units: u32,
    /// dx, dp, product and bound. In 32 bits: these are many, and no statistic is made of them.
    pub sums: [Vec<f32>; 4],
}

/// Per-feature sums of larger inputs are not kept.
pub const MAX_FEATURES: usize = 20_000;

impl Answer {
    /// Adds a unit. `features` says for each feature of the inputs what was found there, `None` where
    /// the domain has no extent; it is not looked at where there are no figures.
    pub fn push(&mut self, unit: Unit, features: &[Option<PerFeature>]) {
        if unit.figures.is_some() && features.len() <= MAX_FEATURES {
            let at = self.class(unit.class, features.len());
            at.units += 1;
            for (i, found) in features.iter().enumerate() {
                let Some(PerFeature { dx, dp, c }) = *found else { continue };
                for (sums, value) in at.sums.iter_mut().zip([dx, dp, dx * dp, c.abs()]) {
                    sums[i] += value as f32;
                }
            }
        }
        self.units.push(unit);
    }

    fn class(&mut self, class: u32, features: usize) -> &mut ClassFeatures {
        let at = self.features.partition_point(|known| known.class < class);
        if self.features.get(at).is_none_or(|known| known.class != class) {
            let sums = std::array::from_fn(|_| vec![0.0; features]);
            self.features.insert(at, ClassFeatures { class, units: 0, sums });
        }
        &mut self.features[at]
    }

    /// Adds the answer about the units behind these.
    pub fn append(&mut self, other: Answer) {
        self.units.extend(other.units);
        for theirs in other.features {
            let ours = self.class(theirs.class, theirs.sums[0].len());
            ours.units += theirs.units;
            for (ours, theirs) in ours.sums.iter_mut().zip(&theirs.sums) {
                ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
            }
        }
    }

    /// Whether it can be an answer about `units`.
    pub(super) fn check(&self, [first, end]: [u32; 2]) -> Result<(), String> {
        if self.units.len() as u64 != u64::from(end.saturating_sub(first)) {
            return Err(format!("expected {} units, found {}", end.saturating_sub(first), self.units.len()));
        }
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        for figures in self.units.iter().filter_map(|unit| unit.figures) {
            let Figures { dx, dp, product, bound, effective } = figures;
            let all = [dx, dp, product, bound];
            if !all.iter().all(|figure| sound(figure.value) && sound(figure.se)) || !sound(effective) {
                return Err(format!("figures that cannot be: {figures:?}"));
            }
        }
        if self.units.iter().any(|unit| unit.class > u32::from(u8::MAX)) {
            return Err("classes are labels of one byte".into());
        }
        let count = self.features.first().map_or(0, |class| class.sums[0].len());
        let fits = |class: &ClassFeatures| {
            class.sums.iter().all(|sums| sums.len() == count && sums.iter().all(|&value| sound(value.into())))
        };
        let ascending = self.features.is_sorted_by(|a, b| a.class < b.class);
        if count > MAX_FEATURES || !ascending || !self.features.iter().all(fits) {
            return Err("per-feature figures that cannot be".into());
        }
        Ok(())
    }

    /// Figures of each class that has units, ascending, and of all units together at the end.
    pub fn by_class(&self) -> Vec<ClassFigures> {
        let mut classes: BTreeMap<u32, Vec<&Unit>> = BTreeMap::new();
        for unit in &self.units {
            classes.entry(unit.class).or_default().push(unit);
        }
        let each = classes.iter().map(|(&class, units)| ClassFigures::of(Some(class), units));
        let all: Vec<&Unit> = self.units.iter().collect();
        each.chain((!all.is_empty()).then(|| ClassFigures::of(None, &all))).collect()
    }

    /// Features of all classes together: sums, and how many units they are of.
    pub fn all_features(&self) -> Option<ClassFeatures> {
        let mut whole: Option<ClassFeatures> = None;
        for class in &self.features {
            match &mut whole {
                None => whole = Some(class.clone()),
                Some(whole) => {
                    whole.units += class.units;
                    for (ours, theirs) in whole.sums.iter_mut().zip(&class.sums) {
                        ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
                    }
                }
            }
        }
        whole
    }
}

/// Averages over the units of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassFigures {
    /// `None`: all classes.
    pub class: Option<u32>,
    /// Units with figures, and without.
    pub units: u32,
    pub undefined: u32,
    /// The rest is `None` where no unit has figures.
    pub means: Option<Means>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Means {
    pub dx: Mean,
    pub dp: Mean,
    pub product: Mean,
    pub bound: Mean,
    /// The median over the units of the effective number of samples.
    pub effective: f64,
    /// Units whose product is below 1/2.
    pub below_half: u32,
}

/// A mean over units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    pub value: f64,
    /// Sampling error of Monte Carlo, given these units.
    pub se: f64,
    /// Standard deviation over the units; `None` for a single one.
    pub sd: Option<f64>,
}

impl Mean {
    fn of(figures: &[Figure]) -> Mean {
        let n = figures.len() as f64;
        let value = figures.iter().map(|figure| figure.value).sum::<f64>() / n;
        let se = figures.iter().map(|figure| figure.se * figure.se).sum::<f64>().sqrt() / n;
        let squares = figures.iter().map(|figure| (figure.value - value).powi(2)).sum::<f64>();
        Mean { value, se, sd: (figures.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }
}

impl ClassFigures {
    fn of(class: Option<u32>, units: &[&Unit]) -> ClassFigures {
        let figures: Vec<Figures> = units.iter().filter_map(|unit| unit.figures).collect();
        let count = figures.len() as u32;
        let means = (count > 0).then(|| {
            let mean = |of: fn(&Figures) -> Figure| Mean::of(&figures.iter().map(of).collect::<Vec<_>>());
            let mut effective: Vec<f64> = figures.iter().map(|figures| figures.effective).collect();
            effective.sort_by(f64::total_cmp);
            Means {
                dx: mean(|f| f.dx),
                dp: mean(|f| f.dp),
                product: mean(|f| f.product),
                bound: mean(|f| f.bound),
                effective: effective[effective.len() / 2],
                below_half: figures.iter().filter(|f| f.product.value < 0.5).count() as u32,
            }
        });
        ClassFigures { class, units: count, undefined: units.len() as u32 - count, means }
    }
}

#[cfg(test)]
mod tests;
