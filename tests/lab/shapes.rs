//! Batches of other shapes: fewer calls and less padding, and the same bits.

use crate::lab::attacks::shapes::Batches;
use crate::lab::models::{Network, architecture};
use crate::lab::{Device, LabData};
use crate::setting::*;
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, AttackLoss, AutoattackVersion, Effort, Method, Norm, Precision, Search, Witnesses};

const GRID: [f64; 6] = [0.02, 0.05, 0.08, 0.12, 0.18, 0.3];
const COUNT: u32 = 140;

fn network(data: &LabData) -> Vec<u8> {
    let method = Method::Pgd { epsilon: 0.08, steps: 3, step: None, norm: Norm::Linf };
    trained(&training(method, 8, 3), data).weights
}

fn shapes(weights: &[u8], device: Device, precision: Precision, rows: u32) -> Vec<usize> {
    let network = Network::from_weights(&architecture(&smallcnn(), [1, 8, 8], CLASSES).unwrap(), weights, Device::Cpu);
    let (network, name) = (network.unwrap().frozen(), "smallcnn".to_string());
    let batches = Batches { network: &network, name, norm: Norm::Linf, precision, shape: [1, 8, 8], device };
    batches.shapes(rows, COUNT as usize)
}

#[test]
fn other_shapes_are_only_taken_where_they_may_agree() {
    let weights = network(&blocks(240, 8));
    assert_eq!(shapes(&weights, Device::Cpu, Precision::Fp32, 7), [7]);
    assert_eq!(shapes(&weights, Device::Cpu, Precision::Fp32, 32), [32]);
    assert_eq!(shapes(&weights, Device::Cpu, Precision::Bf16, 256), [48]);
    assert_eq!(shapes(&weights, Device::Cuda(0), Precision::Fp32, 256), [256], "nothing is tried on a GPU");
    let found = shapes(&weights, Device::Cpu, Precision::Fp32, 128);
    let allowed = [8, 16, 24, 32, 48, 64, 96, 128];
    assert!(found.contains(&48) && found.iter().all(|rows| allowed.contains(rows)) && found.is_sorted(), "{found:?}");
}

#[test]
fn no_result_depends_on_the_shapes_of_its_batches() {
    let data = blocks(240, COUNT as usize);
    let weights = network(&data);
    let found = shapes(&weights, Device::Cpu, Precision::Fp32, 256);
    if found.len() == 1 {
        eprintln!("skipped: on this CPU batches of other shapes give other bits, and are not used");
        return;
    }
    let apgd = |loss| Attack::Apgd { loss, steps: 12, restarts: 2, targets: 2, samples: 1 };
    let autoattack = Attack::Autoattack { version: AutoattackVersion::Rand, effort: Effort::Full };
    let everywhere = [
        Attack::Fgsm {},
        pgd(12, 2),
        apgd(AttackLoss::Ce),
        apgd(AttackLoss::Dlr),
        Attack::Fab { steps: 12, targets: 2, restarts: 2 },
        Attack::Square { queries: 60 },
        autoattack,
    ];
    let l2 = [Attack::Ddn { steps: 20 }, Attack::Cw { steps: 20, searches: 2, lr: 0.1 }];
    for (norm, scale) in [(Norm::Linf, 1.0), (Norm::L2, 6.0), (Norm::L1, 40.0)] {
        for attack in everywhere.iter().chain(l2.iter().filter(|_| norm == Norm::L2)) {
            let question = evaluation(smallcnn(), norm, attack.clone(), &GRID.map(|e| e * scale), [0, COUNT]);
            let question = EvaluateQuestion { search: Search::Bisect, witnesses: Witnesses::Break, ..question };
            let [usual, others] = [48, 256].map(|batch_size| {
                run_evaluation(&EvaluateQuestion { batch_size, ..question.clone() }, &data, &weights, &[])
            });
            assert_eq!(usual.levels, others.levels, "{norm:?} {attack:?}");
            assert_eq!(usual.passes, others.passes, "{norm:?} {attack:?}");
            assert!(usual.witnesses == others.witnesses, "{norm:?} {attack:?}: another witness");
            assert!(!usual.witnesses.is_empty(), "{norm:?} {attack:?} breaks nothing");
        }
    }
}
