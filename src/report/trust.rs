//! How far to trust the numbers: what evaluations noticed, as columns and as warnings.
//!
//! A robust accuracy is an upper bound. Each check here looks for one way in which it may be a loose
//! one; a value above the check's limit is a warning, with what it means and what to do about it.

use super::study::Study;
use crate::frontier::curves::{ALL, worst_case};
use crate::frontier::results::{CheckpointResults, Results};
use crate::outcome::Level;
use crate::trust::Trust;

/// One checkpoint under one attack, or under all of them.
pub struct Row<'a> {
    /// Positions in [`Results::trials`] and in that trial's checkpoints.
    pub trial: usize,
    pub checkpoint: usize,
    /// Position in [`Results::attacks`]; `None` is the worst case over all.
    pub attack: Option<usize>,
    /// `None` for the worst case, and for evaluations of earlier releases.
    pub facts: Option<&'a Trust>,
    /// Positive epsilons of the grid.
    pub epsilons: usize,
    /// See [`Check::BlackBox`].
    pub black_box: Option<f64>,
    /// See [`Check::AboveChance`].
    pub above_chance: Option<f64>,
}

/// Everything that is checked, in the order of columns and of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    ZeroGradients,
    BlackBox,
    Late,
    LastRestart,
    AboveChance,
    Refuted,
    RandomOutputs,
    BatchDependent,
    TrainMode,
    Softmax,
    OutsideBox,
    ReplacedLoss,
}

impl Check {
    pub const ALL: [Check; 12] = [
        Check::ZeroGradients,
        Check::BlackBox,
        Check::Late,
        Check::LastRestart,
        Check::AboveChance,
        Check::Refuted,
        Check::RandomOutputs,
        Check::BatchDependent,
        Check::TrainMode,
        Check::Softmax,
        Check::OutsideBox,
        Check::ReplacedLoss,
    ];

    /// The column that holds its value.
    pub fn column(self) -> &'static str {
        match self {
            Check::ZeroGradients => "zero_gradients",
            Check::BlackBox => "black_box_only",
            Check::Late => "late_breaks",
            Check::LastRestart => "last_restart_breaks",
            Check::AboveChance => "above_chance",
            Check::Refuted => "refuted",
            Check::RandomOutputs => "random_outputs",
            Check::BatchDependent => "batch_dependent",
            Check::TrainMode => "train_mode",
            Check::Softmax => "softmax_outputs",
            Check::OutsideBox => "outside_box",
            Check::ReplacedLoss => "replaced_loss",
        }
    }

    /// Whether its value is a share, a difference of shares, and not a count or a yes.
    pub fn is_share(self) -> bool {
        !matches!(self.fact_kind(), FactKind::Count | FactKind::Flag)
    }

    pub fn is_flag(self) -> bool {
        self.fact_kind() == FactKind::Flag
    }

    fn fact_kind(self) -> FactKind {
        match self {
            Check::ZeroGradients | Check::BlackBox | Check::Late | Check::LastRestart | Check::AboveChance => {
                FactKind::Share
            }
            Check::Refuted | Check::OutsideBox => FactKind::Count,
            _ => FactKind::Flag,
        }
    }

    /// The value of a row; `None` where the check does not apply or nothing is known.
    pub fn value(self, row: &Row) -> Option<f64> {
        match self {
            Check::BlackBox => return row.black_box,
            Check::AboveChance => return row.above_chance,
            _ => {}
        }
        let facts = row.facts?;
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        // A late break lowers the curve at one epsilon: this is what late breaks do to it on average.
        let lowers = |able: bool, part: u64| share(part, facts.attacked * row.epsilons as u64).filter(|_| able);
        let members = &facts.members;
        let flag = |yes: bool| Some(f64::from(u8::from(yes)));
        match self {
            Check::ZeroGradients => share(facts.zero_gradients, facts.gradients),
            Check::Late => lowers(members.iter().any(|m| m.steps >= 10), members.iter().map(|m| m.late).sum()),
            Check::LastRestart => {
                lowers(members.iter().any(|m| m.restarts > 1), members.iter().map(|m| m.last_restart).sum())
            }
            Check::Refuted => Some(facts.refuted as f64),
            Check::OutsideBox => Some(facts.outside_box as f64),
            Check::RandomOutputs => flag(facts.random_outputs),
            Check::BatchDependent => flag(facts.batch_dependent),
            Check::TrainMode => flag(facts.train_mode),
            Check::Softmax => flag(facts.softmax_outputs),
            Check::ReplacedLoss => flag(facts.replaced_loss),
            Check::BlackBox | Check::AboveChance => None,
        }
    }

    /// Whether a row is worth a warning.
    pub fn warns(self, row: &Row) -> bool {
        let Some(value) = self.value(row) else { return false };
        match self {
            // A weak attack may leave much standing; only what all of them leave is claimed.
            Check::AboveChance => row.attack.is_none() && value > 0.0,
            Check::Refuted => row.facts.is_some_and(|facts| value > 0.01 * facts.attacked as f64),
            Check::Late | Check::LastRestart => value > 0.005,
            _ if self.is_share() => value > 0.01,
            _ => value > 0.0,
        }
    }

    /// What was looked at, for people.
    pub fn title(self) -> &'static str {
        match self {
            Check::ZeroGradients => "Gradients are not zero",
            Check::BlackBox => "Attacks without gradients find nothing more",
            Check::Late => "More steps would change little",
            Check::LastRestart => "More restarts would change little",
            Check::AboveChance => "Where every image can become every other, nothing stands above chance",
            Check::Refuted => "What the attack finds is confirmed",
            Check::RandomOutputs => "The same images give the same outputs",
            Check::BatchDependent => "An image's outputs do not depend on its batch",
            Check::TrainMode => "Modules were saved in eval mode",
            Check::Softmax => "Outputs are logits",
            Check::OutsideBox => "Pixels lie in [0,1]",
            Check::ReplacedLoss => "Every attack climbed the loss it was asked to",
        }
    }

    /// What its value counts, after the number.
    pub fn unit(self) -> &'static str {
        match self {
            Check::ZeroGradients => "of the attacked examples began with a gradient of exactly zero",
            Check::BlackBox => "of the attacked examples fell to an attack without gradients alone",
            Check::Late => "of the attacked examples, averaged over the epsilons, fell in the last tenth of the steps",
            Check::LastRestart => "of the attacked examples, averaged over the epsilons, fell in the last restart only",
            Check::AboveChance => "above the share of the largest class, at the largest epsilon",
            Check::Refuted => "successes were not confirmed by a second pass",
            Check::OutsideBox => "pixels of the test images",
            _ => "",
        }
    }

    /// Why a warning matters.
    pub fn meaning(self) -> &'static str {
        match self {
            Check::ZeroGradients => {
                "Where the gradient vanishes, attacks that follow it stand still: the network may only look robust."
            }
            Check::BlackBox => {
                "Random search beat attacks that see the gradient: either it points nowhere useful (it is masked), or those attacks are too weak here."
            }
            Check::Late => "The attack was still winning when it ended: the true robust accuracy is lower.",
            Check::LastRestart => "Each new start still broke something: the true robust accuracy is lower.",
            Check::AboveChance => {
                "In a ball this large lies one image that all examples share, and it has only one class: the attack failed, the network is not robust."
            }
            Check::Refuted => {
                "Equal inputs gave different answers, so the search and its confirmation disagree; numbers depend on rounding or chance."
            }
            Check::RandomOutputs => {
                "Attacks follow the gradient of one draw, and the confirmation sees another: breaks are undercounted."
            }
            Check::BatchDependent => {
                "This is how a network in train mode behaves: its statistics come from the batch, and the numbers from the company an image is in."
            }
            Check::TrainMode => {
                "It is evaluated in eval mode, and answers otherwise here than in the program that saved it."
            }
            Check::Softmax => {
                "Probabilities round to 0 and 1 and their gradients to zero, which hides what a stronger attack would find."
            }
            Check::OutsideBox => {
                "Epsilon is in units of [0,1]: on another scale it means another size, and the box cuts wrongly."
            }
            Check::ReplacedLoss => {
                "The DLR losses need 3 classes (targeted: 4); the cross-entropy took their place, and AutoAttack is weaker."
            }
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Check::ZeroGradients => {
                "Add `square` or `autoattack`, look for a part without a slope (rounding, saturation), and do not quote the number before."
            }
            Check::BlackBox => {
                "Quote only the worst case over all attacks, add `autoattack`, and look for a part without a slope (rounding, saturation)."
            }
            Check::Late => "Give the attack more `steps`, or use `apgd` or `autoattack`.",
            Check::LastRestart => "Give the attack more `restarts`, or use `autoattack`.",
            Check::AboveChance => "Use `autoattack`, more steps, or a larger step; look at the other checks.",
            Check::Refuted | Check::RandomOutputs => {
                "Evaluate in eval mode; for a network that is random by design, average over draws inside it and use `autoattack: {version: rand}`."
            }
            Check::BatchDependent | Check::TrainMode => "Export the network in eval mode (`module.eval()`).",
            Check::Softmax => "Remove the softmax: hand over logits.",
            Check::OutsideBox => "Scale the images to [0,1], and put normalisation into the model.",
            Check::ReplacedLoss => "Nothing more can be done with this loss; add `square` as a second opinion.",
        }
    }
}

#[derive(PartialEq, Eq)]
enum FactKind {
    Share,
    Count,
    Flag,
}

/// One row per checkpoint and attack, `all` last, in the order of every table.
pub fn rows<'a>(study: &Study<'a>) -> Vec<Row<'a>> {
    let results = study.results;
    let mut rows = Vec::new();
    for &trial in &study.order {
        for (checkpoint, found) in results.trials[trial].checkpoints.iter().enumerate() {
            for attack in (0..found.levels.len()).map(Some).chain([None]) {
                let facts = attack.and_then(|attack| found.trust.get(attack)?.as_ref());
                let black_box = black_box(found, attack, facts);
                let above_chance = above_chance(results, found, attack);
                let epsilons = results.positive_epsilons().len();
                rows.push(Row { trial, checkpoint, attack, facts, epsilons, black_box, above_chance });
            }
        }
    }
    rows
}

/// The name of a row's attack in tables.
pub fn attack_name<'a>(results: &'a Results, row: &Row) -> &'a str {
    row.attack.map_or(ALL, |attack| &results.attacks[attack])
}

/// The share of attacked examples that only attacks without gradients broke: inside a cascade, or, for
/// such an attack by itself, earlier than every other attack of the file did.
fn black_box(found: &CheckpointResults, attack: Option<usize>, facts: Option<&Trust>) -> Option<f64> {
    let (attack, facts) = (attack?, facts?);
    let blind = |facts: &Trust| facts.members.iter().all(|member| member.is_black_box());
    let mixed = facts.members.iter().any(|member| member.is_black_box()) && !blind(facts);
    if facts.attacked == 0 {
        return None;
    }
    if mixed {
        return Some(facts.black_box_only() as f64 / facts.attacked as f64);
    }
    if !blind(facts) {
        return None;
    }
    let guided = |other: &usize| found.trust.get(*other).and_then(Option::as_ref).is_some_and(|facts| !blind(facts));
    let others: Vec<&Vec<Level>> = (0..found.levels.len()).filter(guided).map(|other| &found.levels[other]).collect();
    let best = |example: usize| others.iter().map(|levels| levels[example]).filter(|level| level.is_known()).min();
    let first = |(example, level): &(usize, &Level)| best(*example).is_some_and(|best| **level < best);
    let known = found.levels[attack].iter().enumerate().filter(|(_, level)| level.is_known());
    (!others.is_empty()).then(|| known.filter(first).count() as f64 / facts.attacked as f64)
}

/// Robust accuracy at the largest epsilon minus the largest share of one class, where the ball reaches
/// the uniform grey image from everywhere: that image has one class, so a perfect attack leaves at
/// most the examples of that class. `None` where no ball is that large.
fn above_chance(results: &Results, found: &CheckpointResults, attack: Option<usize>) -> Option<f64> {
    let facts = found.trust.iter().flatten().next()?;
    let chance = facts.largest_class()?;
    let largest = *results.positive_epsilons().last()?;
    let grey = match results.norm.as_str() {
        "linf" => 0.5,
        "l2" => 0.5 * (facts.pixels as f64).sqrt(),
        "l1" => 0.5 * facts.pixels as f64,
        _ => return None,
    };
    if largest < grey || facts.pixels == 0 {
        return None;
    }
    let levels = match attack {
        Some(attack) => found.levels[attack].clone(),
        None => worst_case(results, found),
    };
    let known: Vec<&Level> = levels.iter().filter(|level| level.is_known()).collect();
    let standing = known.iter().filter(|level| level.survives(results.positive_epsilons().len())).count();
    (!known.is_empty()).then(|| standing as f64 / known.len() as f64 - chance)
}

/// One check over a whole report.
pub struct Verdict<'a, 'r> {
    pub check: Check,
    /// How many rows have a value.
    pub rows: usize,
    /// The largest value, if there is any.
    pub worst: Option<f64>,
    /// Rows that warn, worst first.
    pub warnings: Vec<&'r Row<'a>>,
}

/// What all checks say, in their order.
pub fn verdicts<'a, 'r>(rows: &'r [Row<'a>]) -> Vec<Verdict<'a, 'r>> {
    let verdict = |check: Check| {
        let claimed = |row: &&Row| check != Check::AboveChance || row.attack.is_none();
        let values: Vec<f64> = rows.iter().filter(claimed).filter_map(|row| check.value(row)).collect();
        let mut warnings: Vec<&Row> = rows.iter().filter(|row| check.warns(row)).collect();
        let size = |row: &Row| check.value(row).unwrap_or(0.0);
        warnings.sort_by(|a, b| size(b).total_cmp(&size(a)));
        Verdict { check, rows: values.len(), worst: values.into_iter().reduce(f64::max), warnings }
    };
    Check::ALL.into_iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::synthetic::one_trial;
    use crate::trust::MemberTrust;

    fn member(name: &str, breaks: u64, late: u64) -> MemberTrust {
        MemberTrust { name: name.into(), steps: 40, restarts: 2, breaks, late, last_restart: late }
    }

    fn facts(members: Vec<MemberTrust>) -> Trust {
        Trust { attacked: 4, gradients: 4, labels: vec![3, 2], pixels: 64, members, ..Trust::default() }
    }

    fn warned(results: &Results) -> Vec<(Check, String)> {
        let study = Study::new(results);
        let rows = rows(&study);
        let verdicts = verdicts(&rows);
        let name = |row: &Row| attack_name(results, row).to_string();
        verdicts.iter().flat_map(|v| v.warnings.iter().map(|row| (v.check, name(row)))).collect()
    }

    /// Five examples under two attacks, at Linf 0.25 and 0.5.
    fn results(levels: [[u16; 5]; 2], trust: [Trust; 2]) -> Results {
        let [a, b] = levels.map(|levels| levels.map(Level));
        let mut results = one_trial(&[0.0, 0.25, 0.5], &[&a, &b]);
        results.trials[0].checkpoints[0].trust = trust.into_iter().map(Some).collect();
        results
    }

    #[test]
    fn a_sound_evaluation_warns_of_nothing() {
        let sound = || facts(vec![member("pgd", 4, 0)]);
        assert_eq!(warned(&results([[0, 1, 1, 2, 2], [0, 1, 1, 2, 2]], [sound(), sound()])), []);
    }

    #[test]
    fn each_sign_has_its_warning() {
        let pgd = || facts(vec![member("pgd", 4, 0)]);
        let sound = [[0, 1, 1, 2, 2]; 2];
        let with = |change: &dyn Fn(&mut Trust)| {
            let mut trust = pgd();
            change(&mut trust);
            warned(&results(sound, [pgd(), trust]))
        };
        let second = |check| vec![(check, "attack1".to_string())];
        assert_eq!(with(&|t| t.zero_gradients = 1), second(Check::ZeroGradients));
        assert_eq!(with(&|t| t.members[0].late = 1), second(Check::Late));
        assert_eq!(with(&|t| t.members[0].last_restart = 1), second(Check::LastRestart));
        assert_eq!(with(&|t| t.refuted = 1), second(Check::Refuted));
        assert_eq!(with(&|t| t.random_outputs = true), second(Check::RandomOutputs));
        assert_eq!(with(&|t| t.batch_dependent = true), second(Check::BatchDependent));
        assert_eq!(with(&|t| t.train_mode = true), second(Check::TrainMode));
        assert_eq!(with(&|t| t.softmax_outputs = true), second(Check::Softmax));
        assert_eq!(with(&|t| t.outside_box = 3), second(Check::OutsideBox));
        assert_eq!(with(&|t| t.replaced_loss = true), second(Check::ReplacedLoss));
        assert_eq!(with(&|t| t.members.push(member("square", 1, 0))), second(Check::BlackBox));
    }

    #[test]
    fn square_by_itself_is_compared_with_the_other_attacks() {
        let square = || facts(vec![MemberTrust { restarts: 1, ..member("square", 4, 0) }]);
        let pgd = || facts(vec![member("pgd", 4, 0)]);
        let equal = results([[0, 1, 1, 2, 2], [0, 1, 2, 2, 2]], [pgd(), square()]);
        assert_eq!(warned(&equal), []);
        let earlier = results([[0, 1, 2, 2, 2], [0, 1, 1, 2, 2]], [pgd(), square()]);
        assert_eq!(warned(&earlier), [(Check::BlackBox, "attack1".to_string())]);
        let alone = results([[0, 1, 2, 2, 2], [0, 1, 1, 2, 2]], [square(), square()]);
        assert_eq!(warned(&alone), []);
    }

    #[test]
    fn standing_where_all_images_meet_is_a_failure_of_the_attacks_together() {
        let pgd = || facts(vec![member("pgd", 1, 0)]);
        let above = Check::AboveChance;
        // 4 of 5 stand at 0.5, and the largest class has 3 of 5.
        assert_eq!(warned(&results([[0, 3, 3, 3, 3]; 2], [pgd(), pgd()])), [(above, "all".to_string())]);
        assert_eq!(warned(&results([[0, 3, 3, 3, 3], [0, 1, 2, 2, 2]], [pgd(), pgd()])), []);
        let mut small = results([[0, 3, 3, 3, 3]; 2], [pgd(), pgd()]);
        small.epsilons = vec![0.0, 0.25, 0.49];
        assert_eq!(warned(&small), [], "balls of 0.49 need not meet");
        let mut round = results([[0, 3, 3, 3, 3]; 2], [pgd(), pgd()]);
        (round.norm, round.epsilons) = ("l2".into(), vec![0.0, 1.0, 4.0]);
        assert_eq!(warned(&round), [(above, "all".to_string())], "half of sqrt(64)");
    }

    #[test]
    fn old_answers_say_nothing_and_warn_of_nothing() {
        let old = one_trial(&[0.0, 0.5], &[&[Level(2), Level(2)]]);
        let study = Study::new(&old);
        let rows = rows(&study);
        assert!(rows.len() == 2 && verdicts(&rows).iter().all(|v| v.worst.is_none() && v.warnings.is_empty()));
    }
}
