//! What can be verified about witnesses without the network: where they lie, what they are called, and
//! that they say what the ledger says. The arithmetic is not the search's: plain Rust, 64 bits.

use super::{Witness, WitnessFile};
use crate::outcome::Level;
use crate::spec::{Norm, Witnesses};

/// Room for the rounding of 32-bit pixels: relative to the radius, and absolute per norm.
const RELATIVE_ROOM: f64 = 1e-6;
const LINF_ROOM: f64 = 1e-7;
const L2_ROOM: f64 = 1e-6;
const L1_ROOM: f64 = 1e-5;
/// Two ways of computing one distance in 64 bits agree far better than this.
const SAME: f64 = 1e-9;

/// Why a witness does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("lies {distance} from the clean image, {by:.3e} outside the ball of radius {epsilon}")]
    OutsideBall { distance: f64, epsilon: f64, by: f64 },
    #[error("has a pixel of {value}, {by:.3e} outside [0,1]")]
    OutsideBox { value: f32, by: f64 },
    #[error("has a pixel that is no number")]
    NoNumber,
    #[error("claims epsilon {claimed}, but level {level} of the grid is {grid} ({by:+.3e})")]
    OtherEpsilon { claimed: f64, level: u16, grid: f64, by: f64 },
    #[error("claims level {level} of a grid of {epsilons} epsilons")]
    NoSuchLevel { level: u16, epsilons: usize },
    #[error("claims a distance of {claimed}, its pixels lie at {found} ({by:+.3e})")]
    OtherDistance { claimed: f64, found: f64, by: f64 },
    #[error("is labelled {claimed}, the data set says {truth}")]
    OtherLabel { claimed: i64, truth: i64 },
    #[error("is of example {index}, outside the shard {first} to {end}")]
    OutsideShard { index: u32, first: u32, end: u32 },
    #[error("names attack {member} of a cascade of {members}")]
    NoSuchMember { member: u32, members: usize },
    #[error("is classified correctly, as {label} (the margin to the next class is {by:.3e})")]
    Classified { label: i64, by: f64 },
    #[error("is classified as {found}, not as {claimed}, as it claims")]
    OtherClass { claimed: i64, found: i64 },
    #[error("the ledger says broken from epsilon {epsilon} on, and no witness shows it")]
    Missing { epsilon: f64 },
    #[error("claims epsilon {claimed}, the ledger says {ledger}")]
    BeyondLedger { claimed: f64, ledger: String },
    #[error("is one of several witnesses of this example, where one was asked for")]
    Superfluous,
    #[error(
        "the ledger says misclassified without attack, but the clean image is classified correctly (margin {by:.3e})"
    )]
    NotMisclassified { by: f64 },
    #[error("the ledger says correct without attack, but the clean image is classified as {found} (margin {by:.3e})")]
    Misclassified { found: i64, by: f64 },
}

impl Fault {
    /// By how much, where that has a size.
    pub fn by(&self) -> Option<f64> {
        match *self {
            Fault::OutsideBall { by, .. }
            | Fault::OutsideBox { by, .. }
            | Fault::OtherEpsilon { by, .. }
            | Fault::OtherDistance { by, .. }
            | Fault::Classified { by, .. }
            | Fault::NotMisclassified { by }
            | Fault::Misclassified { by, .. } => Some(by),
            _ => None,
        }
    }
}

/// How far `pixels` lie from `clean` in `norm`, in 64 bits.
pub fn distance(norm: Norm, pixels: &[f32], clean: &[f32]) -> f64 {
    let offsets = pixels.iter().zip(clean).map(|(&pixel, &clean)| (f64::from(pixel) - f64::from(clean)).abs());
    match norm {
        Norm::Linf => offsets.fold(0.0, f64::max),
        Norm::L2 => offsets.map(|offset| offset * offset).sum::<f64>().sqrt(),
        Norm::L1 => offsets.sum(),
    }
}

/// The largest distance that still counts as inside the ball of `radius`; attacks know it in 32 bits.
pub fn reach(norm: Norm, radius: f64) -> f64 {
    let room = match norm {
        Norm::Linf => LINF_ROOM,
        Norm::L2 => L2_ROOM,
        Norm::L1 => L1_ROOM,
    };
    f64::from(radius as f32) * (1.0 + RELATIVE_ROOM) + room
}

/// All that is wrong about one witness by itself; `clean` and `truth` are the test set's.
pub fn faults(file: &WitnessFile, witness: &Witness, clean: &[f32], truth: i64) -> Vec<Fault> {
    let (question, mut faults) = (&file.question, Vec::new());
    let grid = usize::from(witness.level).checked_sub(1).and_then(|rung| question.epsilons.get(rung).copied());
    match grid {
        None => faults.push(Fault::NoSuchLevel { level: witness.level, epsilons: question.epsilons.len() }),
        Some(grid) if grid != witness.epsilon => {
            let (claimed, level) = (witness.epsilon, witness.level);
            faults.push(Fault::OtherEpsilon { claimed, level, grid, by: claimed - grid });
        }
        Some(_) => {}
    }
    if witness.member as usize >= file.members.len() {
        faults.push(Fault::NoSuchMember { member: witness.member, members: file.members.len() });
    }
    if witness.label != truth {
        faults.push(Fault::OtherLabel { claimed: witness.label, truth });
    }
    faults.extend(place(file, witness, grid, clean));
    faults
}

/// What is wrong with where the pixels lie. The ball is that of the grid, whatever the file claims.
fn place(file: &WitnessFile, witness: &Witness, grid: Option<f64>, clean: &[f32]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if witness.pixels.iter().any(|pixel| !pixel.is_finite()) {
        return vec![Fault::NoNumber];
    }
    let outside = |pixel: f32| f64::from(-pixel).max(f64::from(pixel) - 1.0);
    let worst = witness.pixels.iter().copied().max_by(|&a, &b| outside(a).total_cmp(&outside(b)));
    if let Some(value) = worst.filter(|&pixel| outside(pixel) > 0.0) {
        faults.push(Fault::OutsideBox { value, by: outside(value) });
    }
    let norm = file.question.norm;
    let found = distance(norm, &witness.pixels, clean);
    let epsilon = grid.unwrap_or(witness.epsilon);
    if found > reach(norm, epsilon) {
        faults.push(Fault::OutsideBall { distance: found, epsilon, by: found - epsilon });
    }
    let by = witness.distance - found;
    if by.abs().partial_cmp(&(SAME * (1.0 + found))).is_none_or(|order| order.is_gt()) {
        faults.push(Fault::OtherDistance { claimed: witness.distance, found, by });
    }
    faults
}

/// Where witnesses and the ledger's levels of the shard disagree, with the examples concerned.
pub fn disagreements(file: &WitnessFile, levels: &[Level]) -> Vec<(u32, Fault)> {
    let [first, end] = file.question.examples;
    let epsilons = &file.question.epsilons;
    let mut found: Vec<(u32, Fault)> = Vec::new();
    let mut best: Vec<Option<u16>> = vec![None; levels.len()];
    for witness in &file.witnesses {
        let index = witness.index;
        let place = index.checked_sub(first).and_then(|place| best.get_mut(place as usize));
        let Some(best) = place else {
            found.push((index, Fault::OutsideShard { index, first, end }));
            continue;
        };
        if best.is_some() && file.question.witnesses == Witnesses::Break {
            found.push((index, Fault::Superfluous));
        }
        *best = Some(best.map_or(witness.level, |level| level.min(witness.level)));
    }
    for (place, (&level, best)) in levels.iter().zip(best).enumerate() {
        let index = first + place as u32;
        // 0 and one beyond the grid stand for no epsilon.
        let ledger = usize::from(level.0).checked_sub(1).and_then(|rung| epsilons.get(rung));
        let fault = match (ledger, best) {
            (Some(_), Some(best)) if best == level.0 => continue,
            (None, None) => continue,
            (Some(&epsilon), None) => Fault::Missing { epsilon },
            (Some(&epsilon), Some(best)) if best > level.0 => Fault::Missing { epsilon },
            (_, Some(best)) => Fault::BeyondLedger {
                claimed: usize::from(best).checked_sub(1).and_then(|rung| epsilons.get(rung)).copied().unwrap_or(0.0),
                ledger: match ledger {
                    Some(epsilon) => format!("broken from {epsilon} on"),
                    None if level == Level::CLEAN => "misclassified without attack".into(),
                    None => "withstood all".into(),
                },
            },
        };
        found.push((index, fault));
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::question::DataId;
    use crate::plan::{ALGORITHM_VERSION, EvaluateQuestion, TaskKey};
    use crate::spec::{Attack, Model, Precision, Search};

    pub fn question() -> EvaluateQuestion {
        EvaluateQuestion {
            version: ALGORITHM_VERSION,
            train: TaskKey([7; 32]),
            epoch: 2,
            data: DataId { name: "digits".into(), digest: "5eed".into() },
            model: Model::Linear {},
            normalize: None,
            norm: Norm::Linf,
            attack: Attack::Fgsm {},
            search: Search::Ascending,
            epsilons: vec![0.1, 0.2],
            examples: [10, 14],
            batch_size: 32,
            seed: 0,
            witnesses: Witnesses::Break,
            search_precision: Precision::Fp32,
            warm_starts: false,
        }
    }

    const CLEAN: [f32; 4] = [0.0, 0.25, 0.5, 1.0];

    fn witness(index: u32, level: u16, offset: f32) -> Witness {
        let pixels = vec![CLEAN[0] + offset, CLEAN[1] - offset, CLEAN[2] + offset, CLEAN[3] - offset];
        Witness {
            index,
            label: 3,
            predicted: 5,
            level,
            epsilon: [0.1, 0.2][usize::from(level) - 1],
            distance: distance(Norm::Linf, &pixels, &CLEAN),
            member: 0,
            pixels,
        }
    }

    /// Two witnesses of the shard 10 to 14, whose levels are 1, 3, 2, 0.
    pub fn file() -> WitnessFile {
        let witnesses = vec![witness(10, 1, 0.1), witness(12, 2, 0.15)];
        WitnessFile { question: question(), members: vec!["fgsm".into()], shape: [1, 2, 2], witnesses }
    }

    const LEVELS: [Level; 4] = [Level(1), Level(3), Level(2), Level(0)];

    fn of(change: impl FnOnce(&mut Witness)) -> Vec<Fault> {
        let mut file = file();
        change(&mut file.witnesses[0]);
        faults(&file, &file.witnesses[0], &CLEAN, 3)
    }

    #[test]
    fn what_is_sound_has_no_fault() {
        assert_eq!(of(|_| {}), []);
        assert_eq!(disagreements(&file(), &LEVELS), []);
    }

    #[test]
    fn each_kind_of_tampering_is_called_by_its_name() {
        assert!(matches!(of(|w| w.epsilon *= 1.01)[..], [Fault::OtherEpsilon { by, .. }] if (by - 0.001).abs() < 1e-9));
        assert!(matches!(of(|w| w.label = 4)[..], [Fault::OtherLabel { claimed: 4, truth: 3 }]));
        assert!(matches!(of(|w| w.member = 1)[..], [Fault::NoSuchMember { .. }]));
        assert!(matches!(of(|w| w.level = 3)[..], [Fault::NoSuchLevel { .. }]));
        assert!(matches!(of(|w| w.pixels[2] = f32::NAN)[..], [Fault::NoNumber]));
        assert!(matches!(of(|w| w.distance = f64::NAN)[..], [Fault::OtherDistance { .. }]));
        let far = of(|w| w.pixels[1] = CLEAN[1] - 0.101);
        assert!(
            matches!(far[..], [Fault::OutsideBall { by, .. }, Fault::OtherDistance { .. }] if (by - 0.001).abs() < 1e-6)
        );
        let box_only = of(|w| {
            w.pixels[3] = 1.001;
        });
        assert!(matches!(box_only[..], [Fault::OutsideBox { by, .. }] if (by - 0.001).abs() < 1e-6), "{box_only:?}");
        let sign = of(|w| w.pixels[0] = f32::from_bits(w.pixels[0].to_bits() ^ (1 << 31)));
        assert!(matches!(sign[..], [Fault::OutsideBox { .. }]), "{sign:?}");
    }

    #[test]
    fn rounding_is_no_fault_and_ten_times_its_room_is() {
        assert_eq!(
            of(|w| {
                w.pixels[1] = CLEAN[1] - 0.100_000_1;
                w.distance = distance(Norm::Linf, &w.pixels, &CLEAN);
            }),
            []
        );
        assert!(matches!(
            of(|w| {
                w.pixels[1] = CLEAN[1] - 0.100_002;
                w.distance = distance(Norm::Linf, &w.pixels, &CLEAN);
            })[..],
            [Fault::OutsideBall { .. }]
        ));
    }

    #[test]
    fn distances_by_hand() {
        let (a, b) = ([0.5f32, 1.0, 0.0], [0.5f32, 0.25, 1.0]);
        assert_eq!(distance(Norm::Linf, &a, &b), 1.0);
        assert_eq!(distance(Norm::L2, &a, &b), 1.25);
    }

    #[test]
    fn the_ledger_and_the_witnesses_must_say_the_same() {
        let said = |levels: [u16; 4], change: &dyn Fn(&mut WitnessFile)| {
            let mut file = file();
            change(&mut file);
            disagreements(&file, &levels.map(Level))
        };
        let none = |_: &mut WitnessFile| {};
        assert!(matches!(said([1, 2, 2, 0], &none)[..], [(11, Fault::Missing { epsilon: 0.2 })]));
        assert!(matches!(said([1, 3, 1, 0], &none)[..], [(12, Fault::Missing { epsilon: 0.1 })]));
        assert!(matches!(said([2, 3, 2, 0], &none)[..], [(10, Fault::BeyondLedger { .. })]));
        assert!(matches!(said([3, 3, 2, 0], &none)[..], [(10, Fault::BeyondLedger { .. })]));
        assert!(matches!(said([0, 3, 2, 0], &none)[..], [(10, Fault::BeyondLedger { .. })]));
        let again = |file: &mut WitnessFile| file.witnesses.push(witness(10, 2, 0.15));
        assert!(matches!(said([1, 3, 2, 0], &again)[..], [(10, Fault::Superfluous)]));
        let all = |file: &mut WitnessFile| {
            again(file);
            file.question.witnesses = Witnesses::All;
        };
        assert_eq!(said([1, 3, 2, 0], &all), []);
        let elsewhere = |file: &mut WitnessFile| file.witnesses.push(witness(14, 2, 0.15));
        assert!(matches!(said([1, 3, 2, 0], &elsewhere)[..], [(14, Fault::OutsideShard { .. })]));
    }
}
