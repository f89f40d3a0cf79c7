//! What an evaluation keeps besides levels: it changes none, and each witness shows what it claims.

use crate::lab::attacks::EvaluateAnswer;
use crate::setting::{blocks, evaluation, pgd, run_evaluation, smallcnn, trained, training};
use epsweep::outcome::Level;
use epsweep::plan::EvaluateQuestion;
use epsweep::spec::{Attack, AutoattackVersion, Effort, Method, Norm, Precision, Search, Witnesses};
use epsweep::witness::WitnessFile;
use epsweep::witness::check::{disagreements, distance, faults};
use tch::Tensor;

/// The clean image and the true label of a test example.
fn example(data: &crate::lab::LabData, index: u32) -> (Vec<f32>, i64) {
    let image = data.test.pixels.get(index.into()).flatten(0, -1);
    (Vec::<f32>::try_from(image).unwrap(), data.test.labels.int64_value(&[index.into()]))
}

fn file(question: &EvaluateQuestion, answer: &EvaluateAnswer) -> WitnessFile {
    let members = answer.trust.members.iter().map(|member| member.name.clone()).collect();
    let (question, witnesses) = (question.clone(), answer.witnesses.clone());
    WitnessFile { question, members, shape: [1, 8, 8], witnesses }
}

#[test]
fn witnesses_show_every_level_and_change_none() {
    let data = blocks(120, 40);
    let weights = trained(&training(Method::Natural {}, 3, 1), &data).weights;
    let grid = [0.02, 0.05, 0.1, 0.2, 0.4];
    for (attack, norm, search) in [
        (pgd(8, 2), Norm::Linf, Search::Ascending),
        (pgd(8, 1), Norm::L2, Search::Exhaustive),
        (Attack::Autoattack { version: AutoattackVersion::Rand, effort: Effort::Full }, Norm::Linf, Search::Bisect),
        (Attack::Fab { steps: 12, targets: 2, restarts: 1 }, Norm::L2, Search::Bisect),
    ] {
        let base = EvaluateQuestion { search, ..evaluation(smallcnn(), norm, attack, &grid, [3, 37]) };
        let asked = |witnesses| {
            let question = EvaluateQuestion { witnesses, ..base.clone() };
            let answer = run_evaluation(&question, &data, &weights, &[]);
            (question, answer)
        };
        let [(_, none), (one, broken), (every, all)] = [Witnesses::None, Witnesses::Break, Witnesses::All].map(asked);
        assert!(none.witnesses.is_empty());
        assert_eq!((&none.levels, &none.passes, &none.trust), (&broken.levels, &broken.passes, &broken.trust));
        assert_eq!((&none.levels, &none.trust), (&all.levels, &all.trust));
        let unbroken = Level::unbroken(grid.len());
        let count = broken.levels.iter().filter(|level| **level != Level::CLEAN && **level != unbroken).count();
        assert!(count > 5, "{count} broken examples show little");
        assert_eq!(broken.witnesses.len(), count, "one each");
        assert!(all.witnesses.len() >= count && broken.witnesses.iter().all(|witness| all.witnesses.contains(witness)));
        for (question, answer) in [(&one, &broken), (&every, &all)] {
            let file = file(question, answer);
            assert_eq!(disagreements(&file, &answer.levels), []);
            for witness in &file.witnesses {
                let (clean, label) = example(&data, witness.index);
                assert_eq!(faults(&file, witness, &clean, label), []);
                assert!(witness.predicted != witness.label);
                assert!(distance(norm, &witness.pixels, &clean) > 0.0);
            }
        }
        assert_eq!(broken.trust.breaks(), count as u64);
        assert_eq!(broken.trust.labels.iter().sum::<u64>(), 34);
    }
}

#[test]
fn a_network_without_a_slope_is_noticed() {
    let data = blocks(60, 30);
    // Zero weights: every gradient is exactly zero, and the bias names class 1.
    let tensors = [
        ("fc.weight".to_string(), Tensor::zeros([3, 64], (tch::Kind::Float, tch::Device::Cpu))),
        ("fc.bias".to_string(), Tensor::from_slice(&[0f32, 1.0, 0.0])),
    ];
    let weights = crate::lab::weights::encode(&tensors, None);
    let question = evaluation(epsweep::spec::Model::Linear {}, Norm::Linf, pgd(3, 1), &[0.1, 0.2], [0, 30]);
    let trust = run_evaluation(&question, &data, &weights, &[]).trust;
    assert!(trust.attacked > 3, "{trust:?}");
    assert_eq!((trust.gradients, trust.zero_gradients), (30, 30), "FGSM looks at every clean image");
    let square = EvaluateQuestion { attack: Attack::Square { queries: 20 }, ..question };
    assert_eq!(run_evaluation(&square, &data, &weights, &[]).trust.gradients, 0, "it asks for none");
}

#[test]
fn a_search_in_sixteen_bits_claims_nothing_that_does_not_hold_in_thirty_two() {
    let data = blocks(240, 40);
    let weights = trained(&training(Method::Natural {}, 3, 1), &data).weights;
    for attack in [pgd(12, 2), Attack::Square { queries: 150 }] {
        let full = EvaluateQuestion {
            witnesses: Witnesses::Break,
            ..evaluation(smallcnn(), Norm::Linf, attack, &[0.02, 0.05, 0.1, 0.2], [0, 40])
        };
        let half = EvaluateQuestion { search_precision: Precision::Bf16, ..full.clone() };
        let [exact, coarse] = [&full, &half].map(|question| run_evaluation(question, &data, &weights, &[]));
        assert_ne!(exact.witnesses, coarse.witnesses, "it did search in other arithmetic");
        let file = file(&half, &coarse);
        assert_eq!(disagreements(&file, &coarse.levels), []);
        for (level, reference) in coarse.levels.iter().zip(&exact.levels) {
            assert_eq!(*level == Level::CLEAN, *reference == Level::CLEAN, "clean images are judged in 32 bits");
            assert!(level.0.abs_diff(reference.0) <= 1, "{level:?} {reference:?}");
        }
        // Whatever the company.
        let mut apart = Vec::new();
        for examples in [[0, 13], [13, 40]] {
            let shard = EvaluateQuestion { examples, ..half.clone() };
            apart.extend(run_evaluation(&shard, &data, &weights, &[]).levels);
        }
        assert_eq!(apart, coarse.levels);
    }
}
