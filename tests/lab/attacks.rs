//! Attacks: known answers, the lattice of levels, and reuse of earlier answers.

use crate::lab::models::{Network, architecture};
use crate::lab::{Device, EvaluateRequest, Images, LabData, LabError, evaluate, weights};
use crate::setting::*;
use epsweep::outcome::{Known, Level};
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, Method, Model, Norm};
use tch::{Kind, Tensor};

const GRID: [f64; 6] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3];

fn robust(levels: &[Level], position: usize) -> usize {
    levels.iter().filter(|level| level.survives(position)).count()
}

/// A network that has been trained against small perturbations, so that levels spread.
fn network(data: &LabData) -> Vec<u8> {
    let method = Method::Pgd { epsilon: 0.08, steps: 3, step: None, norm: Norm::Linf };
    trained(&training(method, 8, 3), data).weights
}

#[test]
fn a_linear_networks_breaking_point_is_found_exactly() {
    // Two classes: the logit gap is w.x + b, and the smallest step that closes it is the gap over
    // the dual norm of w, as long as the box does not interfere.
    let count = 60usize;
    let mut stream = crate::lab::streams::Key::new("linear", 1).stream();
    let w = stream.symmetric(64);
    let pixels: Vec<f32> = stream.units(64 * count).iter().map(|u| 0.4 + 0.2 * u).collect();
    let gaps: Vec<f64> = pixels
        .chunks(64)
        .map(|image| image.iter().zip(&w).map(|(&p, &w)| f64::from(p) * f64::from(w)).sum::<f64>() + 0.1)
        .collect();
    let labels: Vec<i64> = gaps.iter().map(|&gap| i64::from(gap > 0.0)).collect();
    let images =
        || Images { pixels: Tensor::from_slice(&pixels).view([-1, 1, 8, 8]), labels: Tensor::from_slice(&labels) };
    let data = LabData { train: images(), test: images(), classes: 2 };
    let weight =
        Tensor::cat(&[Tensor::zeros([1, 64], (Kind::Float, Device::Cpu)), Tensor::from_slice(&w).view([1, 64])], 0);
    let parameters = vec![("fc.weight".to_string(), weight), ("fc.bias".to_string(), Tensor::from_slice(&[0f32, 0.1]))];
    let weights = weights::encode(&parameters, None);

    for (norm, dual) in [
        (Norm::Linf, w.iter().map(|&w| f64::from(w.abs())).sum::<f64>()),
        (Norm::L2, w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt()),
    ] {
        let breaking: Vec<f64> = gaps.iter().map(|gap| gap.abs() / dual).collect();
        let largest = breaking.iter().copied().fold(0.0, f64::max);
        // Up to 0.4 no pixel meets the box under Linf, nor does any step under L2 here.
        let grid: Vec<f64> = (1..=40).map(|k| largest * 1.02 * f64::from(k) / 40.0).collect();
        assert!(norm == Norm::L2 || *grid.last().unwrap() < 0.4);
        // Steps much longer than the radius: under L2, shorter ones only near the nearest point.
        for attack in [Attack::Fgsm {}, Attack::Pgd { steps: 5, step: Some(50.0), restarts: 1 }] {
            let question = evaluation(Model::Linear {}, norm, attack.clone(), &grid, [0, count as u32]);
            let answer = run_evaluation(&question, &data, &weights, &[]);
            for (example, level) in answer.levels.iter().enumerate() {
                let expected = grid.iter().position(|&e| e > breaking[example]).unwrap() as u16 + 1;
                let tie = grid.iter().any(|&e| (e / breaking[example] - 1.0).abs() < 1e-4);
                assert!(level.0 == expected || tie, "{norm:?} {attack:?} {example}: {level:?}, expected {expected}");
            }
            assert_eq!(answer.refuted, 0);
        }
    }
}

#[test]
fn stronger_attacks_find_more_and_a_huge_ball_breaks_all() {
    let data = blocks(240, 100);
    let weights = network(&data);
    let run =
        |attack| run_evaluation(&evaluation(smallcnn(), Norm::Linf, attack, &GRID, [0, 100]), &data, &weights, &[]);
    let (fgsm, once, often) = (run(Attack::Fgsm {}), run(pgd(20, 1)), run(pgd(20, 3)));
    for position in 0..=GRID.len() {
        let [f, o, t] = [&fgsm, &once, &often].map(|answer| robust(&answer.levels, position));
        assert!(o <= f && t <= o, "at grid position {position}: FGSM {f}, PGD {o}, restarts {t}");
        // All three count the same clean errors.
        assert!(position > 0 || (f == o && o == t && f > 90), "{f} {o} {t}");
    }
    assert!(robust(&fgsm.levels, 6) > robust(&once.levels, 6) || robust(&fgsm.levels, 5) > robust(&once.levels, 5));
    let huge = evaluation(smallcnn(), Norm::Linf, pgd(20, 1), &[1.0], [0, 100]);
    assert_eq!(robust(&run_evaluation(&huge, &data, &weights, &[]).levels, 1), 0);
    // Restarts agree with the single start on all that the first one broke.
    assert!(often.levels.iter().zip(&once.levels).all(|(t, o)| t <= o));
}

#[test]
fn l2_attacks_break_more_with_more_room() {
    let data = blocks(240, 60);
    let weights = network(&data);
    let question = evaluation(smallcnn(), Norm::L2, pgd(20, 1), &[0.1, 0.5, 1.0, 2.0, 4.0], [0, 60]);
    let answer = run_evaluation(&question, &data, &weights, &[]);
    let curve: Vec<usize> = (0..=5).map(|position| robust(&answer.levels, position)).collect();
    assert!(curve.is_sorted_by(|a, b| a >= b) && curve[0] > 54 && curve[1] > 50 && curve[5] < 6, "{curve:?}");
    assert_eq!(answer.refuted, 0);
}

#[test]
fn levels_do_not_depend_on_the_shard_the_batch_or_the_grid() {
    let data = blocks(240, 90);
    let weights = network(&data);
    for norm in [Norm::Linf, Norm::L2] {
        let scale = if norm == Norm::Linf { 1.0 } else { 6.0 };
        let grid = GRID.map(|e| e * scale);
        let question = evaluation(smallcnn(), norm, pgd(7, 2), &grid, [0, 90]);
        let whole = run_evaluation(&question, &data, &weights, &[]).levels;
        let mut parts = Vec::new();
        for examples in [[0, 13], [13, 14], [14, 90]] {
            let part = EvaluateQuestion { examples, ..question.clone() };
            parts.extend(run_evaluation(&part, &data, &weights, &[]).levels);
        }
        assert_eq!(parts, whole, "{norm:?}");
        let sparse = EvaluateQuestion { epsilons: vec![grid[1], grid[4]], ..question.clone() };
        for (sparse, whole) in run_evaluation(&sparse, &data, &weights, &[]).levels.iter().zip(&whole) {
            // Broken at a shared epsilon, if the whole grid broke it first at exactly that one.
            match whole.0 {
                0 => assert_eq!(sparse.0, 0),
                2 => assert_eq!(sparse.0, 1),
                5 => assert_eq!(sparse.0, 2),
                7 => assert_eq!(sparse.0, 3),
                _ => {}
            }
        }
    }
}

#[test]
fn earlier_answers_save_work_and_change_nothing() {
    let data = blocks(240, 80);
    let weights = network(&data);
    for attack in [Attack::Fgsm {}, pgd(8, 2)] {
        let ask = |epsilons: &[f64], known: &[Known]| {
            run_evaluation(
                &evaluation(smallcnn(), Norm::Linf, attack.clone(), epsilons, [0, 80]),
                &data,
                &weights,
                known,
            )
        };
        let fresh = ask(&GRID, &[]);
        let (odd, even) = ([GRID[0], GRID[2], GRID[4]], [GRID[1], GRID[3]]);
        let first = Known { epsilons: odd.to_vec(), levels: ask(&odd, &[]).levels };
        let second = Known { epsilons: even.to_vec(), levels: ask(&even, &[]).levels };
        let one = ask(&GRID, std::slice::from_ref(&first));
        let two = ask(&GRID, &[first, second]);
        assert_eq!((&one.levels, &two.levels), (&fresh.levels, &fresh.levels), "{attack:?}");
        assert!(two.passes.forwards < one.passes.forwards && one.passes.forwards < fresh.passes.forwards);
        let all = Known { epsilons: GRID.to_vec(), levels: fresh.levels.clone() };
        let repeated = ask(&GRID, &[all]);
        assert_eq!((repeated.levels, repeated.passes.forwards), (fresh.levels, 0));
        let unknown = Known { epsilons: GRID.to_vec(), levels: vec![Level::UNKNOWN; 80] };
        assert_eq!(ask(&GRID, &[unknown]).passes, fresh.passes);
    }
}

#[test]
fn broken_examples_cost_nothing_more() {
    // Robust examples pay every step of every epsilon; broken ones leave at once.
    let data = blocks(240, 64);
    let weights = network(&data);
    let question = evaluation(smallcnn(), Norm::Linf, pgd(10, 1), &GRID, [0, 64]);
    let answer = run_evaluation(&question, &data, &weights, &[]);
    let standing: u64 = (1..=GRID.len()).map(|position| robust(&answer.levels, position) as u64).sum();
    let broken: u64 = answer.levels.iter().filter(|level| level.0 > 0 && level.0 <= GRID.len() as u16).count() as u64;
    // The scout's gradient, ten per epsilon withstood, and one to ten at the one that broke it.
    assert!(answer.passes.backwards >= 10 * standing + 64, "{:?}", answer.passes);
    assert!(answer.passes.backwards <= 10 * (standing + broken) + 64, "{:?}", answer.passes);
    // A verdict per climb and per look of the scout, and a confirmation for each of the two.
    let verdicts = 2 * (standing + broken) + 2 * broken;
    assert!(answer.passes.forwards <= answer.passes.backwards + verdicts, "{:?}", answer.passes);
}

#[test]
fn confident_networks_are_attacked_all_the_same() {
    // Logits scaled by 1,000: the cross-entropy is zero in 32 bits, and so is its gradient.
    let data = blocks(240, 50);
    let weights = network(&data);
    let architecture = architecture(&smallcnn(), [1, 8, 8], CLASSES).unwrap();
    let plain = Network::from_weights(&architecture, &weights, Device::Cpu).unwrap();
    let scaled: Vec<(String, Tensor)> = plain
        .state()
        .unwrap()
        .into_iter()
        .map(|(name, t)| if name.starts_with("fc2") { (name, t * 1000.0) } else { (name, t) })
        .collect();
    let ask = |weights: &[u8]| {
        let question = evaluation(smallcnn(), Norm::Linf, Attack::Fgsm {}, &GRID, [0, 50]);
        run_evaluation(&question, &data, weights, &[]).levels
    };
    let (plain, confident) = (ask(&weights), ask(&weights::encode(&scaled, None)));
    for position in 0..=GRID.len() {
        let (plain, confident) = (robust(&plain, position), robust(&confident, position));
        assert!(plain.abs_diff(confident) <= 3, "at grid position {position}: {plain} and {confident} stand");
    }
}

#[test]
fn stopping_and_nonsense_are_errors() {
    let data = blocks(24, 20);
    let question = evaluation(smallcnn(), Norm::Linf, pgd(5, 1), &GRID, [0, 20]);
    let weights = trained(&training(Method::Natural {}, 1, 1), &data).weights;
    let ask = |question: &EvaluateQuestion, weights: &[u8], known: &[Known], watch: &mut Patience| {
        evaluate(EvaluateRequest { question, data: &data, weights, known, device: Device::Cpu }, watch)
    };
    let stopped = ask(&question, &weights, &[], &mut Patience::until(3));
    assert!(matches!(stopped, Err(LabError::Stopped)));
    let refused = |question: &EvaluateQuestion, weights: &[u8], known: &[Known]| {
        let result = ask(question, weights, known, &mut Patience::default());
        assert!(matches!(result, Err(LabError::BadInput(_))), "{result:?}");
    };
    refused(&question, &weights[..weights.len() - 1], &[]);
    refused(&question, b"", &[]);
    refused(&EvaluateQuestion { model: Model::Linear {}, ..question.clone() }, &weights, &[]);
    refused(&EvaluateQuestion { examples: [0, 21], ..question.clone() }, &weights, &[]);
    refused(&EvaluateQuestion { examples: [5, 5], ..question.clone() }, &weights, &[]);
    refused(&EvaluateQuestion { epsilons: vec![0.2, 0.1], ..question.clone() }, &weights, &[]);
    refused(&question, &weights, &[Known { epsilons: GRID.to_vec(), levels: vec![Level(1); 3] }]);
    refused(&question, &weights, &[Known { epsilons: GRID.to_vec(), levels: vec![Level(8); 20] }]);
    let without = EvaluateQuestion { epsilons: Vec::new(), ..question };
    let clean = ask(&without, &weights, &[], &mut Patience::default()).unwrap();
    assert!(clean.levels.iter().all(|level| level.0 <= 1), "without epsilons only the clean check is left");
}

#[test]
fn adversarial_training_works_in_every_norm() {
    let data = blocks(240, 40);
    for (norm, epsilon) in [(Norm::L2, 0.5), (Norm::L1, 3.0)] {
        let method = Method::Pgd { epsilon, steps: 3, step: None, norm };
        let weights = trained(&training(method, 12, 3), &data).weights;
        let attack = evaluation(smallcnn(), norm, pgd(10, 1), &[epsilon], [0, 40]);
        let clean = run_evaluation(&attack, &data, &weights, &[]).levels;
        assert!(robust(&clean, 0) > 30, "{norm:?}: {} of 40 are right", robust(&clean, 0));
    }
}
