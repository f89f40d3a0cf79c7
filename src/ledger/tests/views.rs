//! The documented views say what the report says: two ways from the same answers to the same numbers.

use super::story::{Story, YAML};
use crate::frontier::bootstrap::{Settings, frontier};
use crate::frontier::curves::curves;
use crate::frontier::results::{Results, TrialStatus};
use crate::measure::Measured;
use std::collections::BTreeMap;

/// Epsilons as bits: they must be equal, not close.
type Point = (String, u32, String, u64);

fn sql_curves(story: &Story) -> BTreeMap<Point, (u32, u32)> {
    let sql = "SELECT trial, epoch, attack, epsilon, n, robust, robust_accuracy FROM curves";
    let mut statement = story.ledger.connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let (n, robust): (u32, u32) = (row.get(4)?, row.get(5)?);
        assert_eq!(row.get::<_, f64>(6)?, f64::from(robust) / f64::from(n));
        let point = (row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, f64>(3)?.to_bits());
        Ok((point, (n, robust)))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn rust_curves(results: &Results) -> BTreeMap<Point, (u32, u32)> {
    let mut points = BTreeMap::new();
    for curve in curves(results).iter().filter(|curve| curve.attack.is_some()) {
        let trial = &results.trials[curve.trial];
        for point in &curve.points {
            let epoch = trial.checkpoints[curve.checkpoint].epoch;
            let key = (trial.trial.clone(), epoch, curve.attack_name(results).to_string(), point.epsilon.to_bits());
            points.insert(key, (point.n as u32, point.robust as u32));
        }
    }
    points
}

#[test]
fn the_view_curves_is_what_the_report_draws() {
    let mut story = Story::new();
    let mut seen = 0;
    while story.results().answered < story.plan.tasks.len() {
        story.run_some(5);
        let curves = sql_curves(&story);
        assert_eq!(curves, rust_curves(&story.results().results), "also while the sweep runs");
        seen = curves.len();
    }
    assert_eq!(seen, 4 * 2 * 2 * 4, "trials, epochs, attacks, epsilons");
}

/// Seeds, clean accuracy, robust accuracy, and whether it is on the frontier.
type Standing = (u32, f64, f64, bool);

fn sql_frontier(story: &Story) -> BTreeMap<(String, u32, u64), Standing> {
    let sql = "SELECT config, epoch, epsilon, seeds, clean_accuracy, robust_accuracy, on_frontier FROM frontier";
    let mut statement = story.ledger.connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let key = (row.get(0)?, row.get(1)?, row.get::<_, f64>(2)?.to_bits());
        Ok((key, (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?)))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn rust_frontier(results: &Results) -> BTreeMap<(String, u32, u64), Standing> {
    let frontier = frontier(results, Settings { draws: 1 });
    let mut points = BTreeMap::new();
    for (epsilon, row) in frontier.epsilons.iter().zip(&frontier.points) {
        for (candidate, point) in frontier.candidates.iter().zip(row) {
            let standing = (candidate.seeds as u32, candidate.clean.value, point.robust.value, point.on_frontier);
            points.insert((candidate.config.clone(), candidate.epoch, epsilon.to_bits()), standing);
        }
    }
    points
}

#[test]
fn the_view_frontier_is_what_the_report_shows() {
    let mut story = Story::new();
    let mut frontiers = Vec::new();
    while story.results().answered < story.plan.tasks.len() {
        story.run_some(3);
        let frontier = sql_frontier(&story);
        assert_eq!(frontier, rust_frontier(&story.results().results), "also while the sweep runs");
        frontiers.push(frontier);
    }
    let last = frontiers.last().unwrap();
    assert_eq!(last.len(), 2 * 2 * 4, "configurations, epochs, epsilons");
    assert!(last.values().any(|standing| standing.3) && last.values().any(|standing| !standing.3));
    assert!(frontiers[0].is_empty(), "no checkpoint is complete after three tasks");
}

#[test]
fn the_view_outcomes_has_one_row_per_example_attack_and_checkpoint() {
    let mut story = Story::new();
    story.run_some(1000);
    assert_eq!(story.column::<u32>("SELECT count(*) FROM outcomes"), [4 * 2 * 2 * 300]);
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT trial, epoch, attack, example FROM outcomes)";
    assert_eq!(story.column::<u32>(distinct), [4 * 2 * 2 * 300]);
    let values: Vec<Option<f64>> = story.column("SELECT DISTINCT broken_from FROM outcomes ORDER BY 1");
    assert_eq!(values, [None, Some(0.0), Some(0.1), Some(0.2), Some(0.30000000000000004)]);
}

#[test]
fn the_views_trials_and_checkpoints_list_what_was_trained() {
    let mut story = Story::new();
    assert_eq!(story.column::<String>("SELECT trial FROM trials").len(), 4, "a trial is listed before it has run");
    assert_eq!(story.column::<u32>("SELECT count(*) FROM checkpoints"), [0]);
    story.run_some(1000);
    let mut expected: Vec<String> = story.plan.trials.iter().map(|trial| trial.key.short()).collect();
    expected.sort();
    assert_eq!(story.column::<String>("SELECT DISTINCT trial FROM trials ORDER BY 1"), expected);
    assert_eq!(story.column::<String>("SELECT DISTINCT trial FROM checkpoints ORDER BY 1"), expected);
    assert_eq!(story.column::<u32>("SELECT count(*) FROM trials"), [4 * 2], "one row per epoch");
    assert_eq!(story.column::<u32>("SELECT count(*) FROM checkpoints"), [4 * 2]);
    let axes = "SELECT DISTINCT json_extract(axes, '$.method') FROM trials ORDER BY 1";
    assert_eq!(story.column::<String>(axes), ["natural", "pgd(epsilon=0.1)"]);
}

#[test]
fn the_view_certified_has_the_largest_certified_epsilon() {
    let mut story = Story::of(&YAML.replace("  attacks: [", "  certify: [ibp]\n  attacks: ["));
    let mut rows = 0;
    while story.results().answered < story.plan.tasks.len() {
        story.run_some(5);
        let results = story.results().results;
        let known = results.trials.iter().flat_map(|trial| &trial.checkpoints).flat_map(|c| &c.certified).flatten();
        let known: Vec<u16> = known.filter(|level| level.is_known()).map(|level| level.0).collect();
        // Positions of the grid: 0 not even clean, 1 clean alone, k + 1 up to the k-th epsilon.
        for (level, value) in [(0, "IS NULL"), (1, "= 0"), (2, "= 0.1"), (4, "> 0.3")] {
            let sql = format!("SELECT count(*) FROM certified WHERE certificate = 'ibp' AND certified_to {value}");
            assert_eq!(story.column::<u32>(&sql), [known.iter().filter(|&&l| l == level).count() as u32]);
        }
        rows = known.len();
        assert_eq!(story.column::<u32>("SELECT count(*) FROM certified"), [rows as u32]);
    }
    assert_eq!(rows, 4 * 2 * 300, "trials, epochs, examples");
    let attacked = "SELECT count(*) FROM outcomes WHERE attack = 'ibp'";
    assert_eq!(story.column::<u32>(attacked), [0], "a certificate is no attack");
}

#[test]
fn a_replaced_revision_shows_in_no_view() {
    let mut story = Story::new();
    story.run_some(1000);
    let count = |story: &Story| {
        ["trials", "checkpoints", "outcomes", "curves", "frontier"]
            .map(|view| story.column::<u32>(&format!("SELECT count(*) FROM {view}"))[0])
    };
    let before = count(&story);
    story.submit();
    assert_eq!(count(&story), before, "the same sweep, handed in again, is there once");
}

#[test]
fn measures_are_there_when_all_of_their_units_are() {
    let measured = "measure: {uncertainty: {samples: 100000, examples: 40, epochs: [final]}}\n";
    let mut story = Story::of(&format!("{YAML}{measured}"));
    let shards = story.plan.tasks.iter().filter(|task| task.work.kind() == "measure" && task.trial == 0).count();
    assert!(shards > 1, "{shards}");
    let done = |story: &Story| {
        let results = story.results().results;
        let checkpoints = results.trials.iter().flat_map(|trial| &trial.checkpoints);
        checkpoints.flat_map(|c| c.measured.iter().flatten().cloned().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    story.run_some(story.tasks_of_trial(0) - 1);
    assert!(done(&story).len() < 4);
    story.run_some(usize::MAX);
    let all = done(&story);
    assert_eq!(all.len(), 4, "one per trial, at the last epoch");
    let Measured::Uncertainty(answer) = &all[0] else { panic!("uncertainty was asked for") };
    let dx: Vec<_> = answer.units.iter().map(|unit| unit.figures.map(|figures| figures.dx.value)).collect();
    let expected: Vec<_> = (0..40).map(|unit| (unit != 5).then_some(f64::from(unit))).collect();
    assert_eq!(dx, expected, "every unit once, in order");
    assert!(story.trial_statuses().iter().all(|status| *status == TrialStatus::Done));
    let kinds = "SELECT count(*) FROM sweep_tasks WHERE kind = 'measure' AND attack = 'uncertainty' AND epoch = 5";
    assert_eq!(story.column::<u32>(kinds), [4 * shards as u32]);
}
