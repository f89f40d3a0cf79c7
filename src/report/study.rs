//! The results with all statistics, names and colours: computed once, shown many times.

use super::format::cut;
use crate::frontier::bootstrap::{Bootstrap, Settings};
use crate::frontier::certified::{self, CertifiedCurve, Contradiction};
use crate::frontier::compare::{Comparisons, comparisons};
use crate::frontier::hypervolume::{Growth, growth};
use crate::frontier::order::by_axes;
use crate::frontier::results::{Results, TrialResults, TrialStatus};
use crate::frontier::{Candidate, Curve, Estimate, Frontier, curves};
use std::collections::{BTreeMap, BTreeSet};

/// How many configurations get a colour of their own; the others stay grey until pointed at.
pub const COLOURS: usize = 8;

pub struct Study<'a> {
    pub results: &'a Results,
    pub curves: Vec<Curve>,
    pub certified: Vec<CertifiedCurve>,
    pub contradictions: Vec<Contradiction>,
    pub frontier: Frontier,
    pub growth: Vec<Growth>,
    pub comparisons: Comparisons,
    /// Positions of the trials by axes, configuration, seed and key: the order of every table.
    pub order: Vec<usize>,
    /// In table order.
    pub configs: Vec<Config>,
    /// Position of the epsilon that tells configurations apart best; the page opens with it.
    pub focus: usize,
}

/// One configuration, with all its seeds and epochs.
pub struct Config {
    /// The digest under which tables know it.
    pub config: String,
    pub axes: Vec<String>,
    /// The axis values in one line, in full.
    pub label: String,
    /// Trials of the plan, finished or not.
    pub planned: usize,
    /// Positions in [`Frontier::candidates`], by epoch.
    pub candidates: Vec<usize>,
    pub colour: Option<usize>,
}

impl Config {
    /// The candidate of the last epoch.
    pub fn last(&self) -> Option<usize> {
        self.candidates.last().copied()
    }

    /// The label in at most `width` characters.
    pub fn short(&self, width: usize) -> String {
        cut(&self.label, width)
    }
}

impl<'a> Study<'a> {
    pub fn new(results: &'a Results) -> Study<'a> {
        Study::with(results, Settings::default())
    }

    pub fn with(results: &'a Results, settings: Settings) -> Study<'a> {
        let mut order: Vec<usize> = (0..results.trials.len()).collect();
        order.sort_by(|&a, &b| by_table_order(&results.trials[a], &results.trials[b]));
        let bootstrap = Bootstrap::new(results, settings);
        let frontier = bootstrap.frontier(results);
        let mut configs = configs(results, &order, &frontier);
        colour(&mut configs, &frontier);
        let focus = focus(&configs, &frontier);
        Study {
            results,
            curves: curves::curves(results),
            certified: certified::certified(results),
            contradictions: certified::contradictions(results),
            frontier,
            growth: growth(&bootstrap, results),
            comparisons: comparisons(&bootstrap, results),
            order,
            configs,
            focus,
        }
    }

    /// Trials that are trained and fully evaluated.
    pub fn finished(&self) -> usize {
        self.results.trials.iter().filter(|t| t.status == TrialStatus::Done).count()
    }

    pub fn candidate(&self, c: usize) -> &Candidate {
        &self.frontier.candidates[c]
    }

    pub fn robust(&self, epsilon: usize, c: usize) -> Estimate {
        self.frontier.points[epsilon][c].robust
    }

    /// Configurations of which anything is fully evaluated.
    pub fn frontier_configs(&self) -> usize {
        self.configs.iter().filter(|config| !config.candidates.is_empty()).count()
    }

    /// The configurations that have something to plot, with their last candidate.
    pub fn plotted(&self) -> impl Iterator<Item = (usize, &Config, usize)> {
        self.configs.iter().enumerate().filter_map(|(k, config)| config.last().map(|c| (k, config, c)))
    }

    /// Position of the configuration of each candidate.
    pub fn config_of(&self) -> Vec<usize> {
        let mut of = vec![0; self.frontier.candidates.len()];
        for (k, config) in self.configs.iter().enumerate() {
            config.candidates.iter().for_each(|&c| of[c] = k);
        }
        of
    }

    /// Epochs of the candidates, ascending.
    pub fn epochs(&self) -> Vec<u32> {
        self.frontier.candidates.iter().map(|c| c.epoch).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The largest epsilon, or 0 where none is positive.
    pub fn reach(&self) -> f64 {
        self.results.positive_epsilons().last().copied().unwrap_or(0.0)
    }

    /// Mean accuracy over [0, largest epsilon] of a candidate.
    pub fn area(&self, c: usize) -> Option<Estimate> {
        self.candidate(c).area
    }
}

fn by_table_order(a: &TrialResults, b: &TrialResults) -> std::cmp::Ordering {
    by_axes(&a.axes, &b.axes).then_with(|| (&a.config, a.seed, &a.trial).cmp(&(&b.config, b.seed, &b.trial)))
}

fn configs(results: &Results, order: &[usize], frontier: &Frontier) -> Vec<Config> {
    let mut configs: Vec<Config> = Vec::new();
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    for &t in order {
        let trial = &results.trials[t];
        let k = *place.entry(&trial.config).or_insert_with(|| {
            let label = label(trial);
            let axes = trial.axes.clone();
            configs.push(Config {
                config: trial.config.clone(),
                axes,
                label,
                planned: 0,
                candidates: Vec::new(),
                colour: None,
            });
            configs.len() - 1
        });
        configs[k].planned += 1;
    }
    for (c, candidate) in frontier.candidates.iter().enumerate() {
        if let Some(&k) = place.get(candidate.config.as_str()) {
            configs[k].candidates.push(c);
        }
    }
    configs
}

/// Axis values joined; a sweep without axes has one configuration, named by its digest.
fn label(trial: &TrialResults) -> String {
    let values: Vec<&str> = trial.axes.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).collect();
    if values.is_empty() { trial.config.clone() } else { values.join(" · ") }
}

/// Colours go to the configurations that matter most at any epsilon: by the sum of their chances to
/// be on the frontier; equal ones by their area. Then in table order, so that neighbours differ.
fn colour(configs: &mut [Config], frontier: &Frontier) {
    let weight = |config: &Config| -> f64 {
        let best =
            |e: usize| config.candidates.iter().map(|&c| frontier.points[e][c].p_on_frontier).fold(0.0, f64::max);
        let chances: f64 = (0..frontier.epsilons.len()).map(best).sum();
        let last = config.last().map_or(0.0, |c| frontier.candidates[c].accuracy.iter().sum::<f64>());
        chances + 1e-3 * last
    };
    let mut ranked: Vec<usize> = (0..configs.len()).filter(|&k| !configs[k].candidates.is_empty()).collect();
    ranked.sort_by(|&a, &b| weight(&configs[b]).total_cmp(&weight(&configs[a])));
    ranked.truncate(COLOURS);
    ranked.sort_unstable();
    for (colour, k) in ranked.into_iter().enumerate() {
        configs[k].colour = Some(colour);
    }
}

/// The epsilon with the widest spread of robust accuracy over configurations; for one
/// configuration, the one that breaks about half of what it gets right.
fn focus(configs: &[Config], frontier: &Frontier) -> usize {
    let last: Vec<usize> = configs.iter().filter_map(Config::last).collect();
    let score = |e: usize| -> f64 {
        if frontier.epsilons[e] <= 0.0 {
            return f64::NEG_INFINITY;
        }
        let values = || last.iter().map(|&c| frontier.points[e][c].robust.value);
        let spread = values().fold(0.0, f64::max) - values().fold(1.0, f64::min);
        let half =
            last.iter().map(|&c| (frontier.points[e][c].robust.value - 0.5 * frontier.candidates[c].clean.value).abs());
        if last.len() > 1 { spread } else { -half.sum::<f64>() }
    };
    let best = (0..frontier.epsilons.len()).rev().max_by(|&a, &b| score(a).total_cmp(&score(b)));
    best.unwrap_or(0)
}
