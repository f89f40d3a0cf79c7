//! The trained networks behind each candidate: which seeds count, and which examples each withstands.

use super::curves::worst_case;
use super::order::by_axes;
use super::results::Results;
use crate::outcome::Level;
use std::collections::BTreeMap;

/// The trained networks behind one candidate: a configuration at one epoch.
pub(super) struct Group {
    pub config: String,
    pub axes: Vec<String>,
    pub epoch: u32,
    /// By rank, at least one.
    pub members: Vec<Member>,
}

/// Where the accuracy of a candidate at one position of the grid comes from: a crossed design, in which
/// every network answers every example.
pub(super) struct Components {
    /// Networks that withstand, per example.
    pub standing: Vec<u32>,
    pub mean: f64,
    /// Variance of the mean, as the spread over seeds shows it; 0 with one seed.
    pub over_seeds: f64,
    /// The part of it that is due to seeds and examples meeting, which the spread over examples shows too.
    pub interaction: f64,
}

impl Group {
    /// Mean accuracy over seeds at a position of the grid, 0 for clean.
    pub fn mean(&self, position: usize) -> f64 {
        let standing = |member: &Member| member.levels.iter().filter(|level| level.survives(position)).count();
        let examples: usize = self.members.iter().map(|member| member.levels.len()).sum();
        self.members.iter().map(standing).sum::<usize>() as f64 / examples as f64
    }

    /// The variance components at a position: analysis of variance for two factors without repetition.
    pub fn components(&self, position: usize) -> Components {
        let (seeds, n) = (self.members.len(), self.members[0].levels.len());
        let stands = |member: &Member, example: usize| u32::from(member.levels[example].survives(position));
        let standing: Vec<u32> = (0..n).map(|i| self.members.iter().map(|m| stands(m, i)).sum()).collect();
        let (s, size) = (seeds as f64, n as f64);
        let mean = standing.iter().map(|&k| f64::from(k)).sum::<f64>() / (s * size);
        let (mut over_seeds, mut interaction) = (0.0, 0.0);
        if seeds > 1 {
            let accuracy = |m: &Member| f64::from((0..n).map(|i| stands(m, i)).sum::<u32>()) / size;
            let spread: f64 = self.members.iter().map(|m| (accuracy(m) - mean).powi(2)).sum();
            over_seeds = spread / (s * (s - 1.0));
            // The sum of squares within examples, less that of the seeds, is that of the interaction.
            let within: f64 = standing.iter().map(|&k| f64::from(k) * (s - f64::from(k)) / s).sum();
            let degrees = (size - 1.0).max(1.0) * (s - 1.0);
            interaction = ((within - size * spread) / degrees).max(0.0) / (size * s);
        }
        Components { standing, mean, over_seeds, interaction }
    }
}

pub(super) struct Member {
    /// Rank of the trial among its configuration's: the same seed moves all epochs together.
    pub rank: usize,
    /// Worst case over attacks, one per test example, all known.
    pub levels: Vec<Level>,
    pub weights_epoch: u32,
}

/// All candidates, sorted by axes, configuration, epoch.
///
/// Only checkpoints of which every example is known to every attack take part: candidates are
/// compared on the same examples or not at all.
pub(super) fn groups(results: &Results) -> Vec<Group> {
    // Ranks follow the seed, not the order of trials, so that any order gives the same numbers.
    let mut trials: Vec<_> = results.trials.iter().collect();
    trials.sort_by(|a, b| (&a.config, a.seed, &a.trial).cmp(&(&b.config, b.seed, &b.trial)));
    let mut groups: BTreeMap<(&str, u32), Group> = BTreeMap::new();
    for same_config in trials.chunk_by(|a, b| a.config == b.config) {
        for (rank, trial) in same_config.iter().enumerate() {
            for checkpoint in &trial.checkpoints {
                let levels = worst_case(results, checkpoint);
                if levels.is_empty() || levels.len() != results.examples || levels.iter().any(|l| !l.is_known()) {
                    continue;
                }
                let group = groups.entry((&trial.config, checkpoint.epoch)).or_insert_with(|| Group {
                    config: trial.config.clone(),
                    axes: trial.axes.clone(),
                    epoch: checkpoint.epoch,
                    members: Vec::new(),
                });
                group.members.push(Member { rank, levels, weights_epoch: checkpoint.weights_epoch() });
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        by_axes(&a.axes, &b.axes).then_with(|| a.config.cmp(&b.config)).then_with(|| a.epoch.cmp(&b.epoch))
    });
    groups
}
