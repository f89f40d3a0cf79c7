//! What is odd about a valid sweep, once its data are known.

use super::attack::{Attack, AttackLoss};
use super::error::{Problem, Problems, Warning};
use super::recipe::Norm;
use super::sweep::{NamedAttack, Sweep};

/// Warnings about attacks that are not what their names promise on data of so many classes, or in this
/// norm; `source_name` and `text` are those of the sweep's file.
pub fn doubts(sweep: &Sweep, classes: u32, source_name: &str, text: &str) -> Vec<Warning> {
    let mut doubts = Problems::default();
    for named in &sweep.evaluate.attacks {
        doubts.extend(few_classes(named, sweep.evaluate.norm, classes));
        doubts.extend(other_norm(named, sweep.evaluate.norm));
        if sweep.evaluate.warm_starts {
            doubts.extend(always_cold(named));
        }
    }
    Warning::all(source_name, text, doubts)
}

fn few_classes(named: &NamedAttack, norm: Norm, classes: u32) -> Option<Problem> {
    let members = named.attack.members(norm);
    let least = members.iter().filter_map(|attack| match attack {
        Attack::Apgd { loss: AttackLoss::Dlr, .. } => Some(3),
        Attack::Apgd { loss: AttackLoss::DlrTargeted, .. } => Some(4),
        _ => None,
    });
    let least = least.max().filter(|&least| classes < least)?;
    let message =
        format!("`{}` climbs a DLR loss, which needs {least} classes or more; the data have {classes}", named.name);
    Some(Problem::unplaced(message).help("the cross-entropy is climbed in its place"))
}

fn other_norm(named: &NamedAttack, norm: Norm) -> Option<Problem> {
    let seeks_l2 = matches!(named.attack, Attack::Ddn { .. } | Attack::Cw { .. });
    (seeks_l2 && norm != Norm::L2).then(|| {
        let message = format!("`{}` looks for the nearest adversarial example in L2, not in this norm", named.name);
        Problem::unplaced(message).help("what it finds counts at its distance in `norm`; `fab` looks in every norm")
    })
}

/// An attack that cannot begin where a search at another epsilon ended.
fn always_cold(named: &NamedAttack) -> Option<Problem> {
    let pgd = matches!(named.attack, Attack::Pgd { .. });
    (!pgd).then(|| {
        let message = format!("`warm_starts` changes nothing for `{}`", named.name);
        Problem::unplaced(message).help("it is for `pgd`; `apgd` was found to be weaker from a warm start")
    })
}
