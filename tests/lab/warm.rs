//! Warm starts: searches that begin where those at other epsilons ended.

use crate::lab::LabData;
use crate::lab::attacks::EvaluateAnswer;
use crate::setting::*;
use epsweep::outcome::{Known, Level};
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, AttackLoss, Method, Norm, Search, Witnesses};

const GRID: [f64; 10] = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.3];

fn network(data: &LabData) -> Vec<u8> {
    let method = Method::Pgd { epsilon: 0.08, steps: 3, step: None, norm: Norm::Linf };
    trained(&training(method, 8, 3), data).weights
}

fn question(norm: Norm, attack: Attack, search: Search, examples: [u32; 2], warm: bool) -> EvaluateQuestion {
    let scale = match norm {
        Norm::Linf => 1.0,
        Norm::L2 => 6.0,
        Norm::L1 => 40.0,
    };
    let question = evaluation(smallcnn(), norm, attack, &GRID.map(|epsilon| epsilon * scale), examples);
    EvaluateQuestion { search, warm_starts: warm, ..question }
}

fn standing(answer: &EvaluateAnswer) -> u32 {
    answer.levels.iter().map(|level| u32::from(level.0)).sum()
}

#[test]
fn warm_starts_save_passes_and_lose_no_strength() {
    let data = blocks(240, 60);
    let weights = network(&data);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let attack = pgd(20, 1);
        let run =
            |search, warm| run_evaluation(&question(norm, attack.clone(), search, [0, 60], warm), &data, &weights, &[]);
        for search in [Search::Bisect, Search::Ascending] {
            let (cold, warm) = (run(search, false), run(search, true));
            let [costs, before] = [&warm, &cold].map(|answer| answer.passes.backwards);
            assert!(costs < before, "{norm:?} {attack:?} {search:?}: {costs} backward passes, cold {before}");
            let [left, cold] = [&warm, &cold].map(standing);
            assert!(100 * left <= 101 * cold, "{norm:?} {attack:?} {search:?}: {left} rungs stand, cold {cold}");
            assert_eq!(warm.refuted, 0);
        }
    }
}

#[test]
fn attacks_that_have_no_use_for_a_warm_start_are_as_they_were() {
    let data = blocks(240, 20);
    let weights = network(&data);
    let apgd = Attack::Apgd { loss: AttackLoss::Ce, steps: 12, restarts: 1, targets: 1, samples: 1 };
    for attack in [apgd, Attack::Fgsm {}, Attack::Square { queries: 40 }] {
        let [cold, warm] = [false, true].map(|warm| {
            let question = question(Norm::Linf, attack.clone(), Search::Bisect, [0, 20], warm);
            run_evaluation(&question, &data, &weights, &[])
        });
        assert_eq!((cold.levels, cold.passes), (warm.levels, warm.passes), "{attack:?}");
    }
}

#[test]
fn a_warm_search_does_not_depend_on_company() {
    let data = blocks(240, 30);
    let weights = network(&data);
    for (norm, attack, count) in [(Norm::Linf, pgd(10, 2), 30), (Norm::L2, pgd(12, 1), 30), (Norm::L1, pgd(10, 1), 30)]
    {
        let ask = |examples: [u32; 2]| {
            let question = question(norm, attack.clone(), Search::Bisect, examples, true);
            run_evaluation(&question, &data, &weights, &[]).levels
        };
        let whole = ask([0, count]);
        assert_eq!([ask([0, 4]), ask([4, 5]), ask([5, count])].concat(), whole, "{norm:?} {attack:?}");
        assert!(whole.iter().any(|level| *level < Level::unbroken(GRID.len())), "{norm:?} {attack:?}");
    }
}

#[test]
fn answers_of_warm_searches_are_not_handed_on() {
    let cold = question(Norm::Linf, pgd(10, 1), Search::Bisect, [0, 4], false);
    let warm = EvaluateQuestion { warm_starts: true, ..cold.clone() };
    let known = Known { epsilons: GRID.to_vec(), levels: vec![Level(3); 4] };
    assert!(cold.can_build_on(&known) && !warm.can_build_on(&known));
    assert_ne!(cold.family(), warm.family());
}

#[test]
fn witnesses_of_warm_searches_hold() {
    let data = blocks(240, 40);
    let weights = network(&data);
    let question = question(Norm::L2, pgd(15, 1), Search::Bisect, [0, 40], true);
    let question = EvaluateQuestion { witnesses: Witnesses::Break, ..question };
    let answer = run_evaluation(&question, &data, &weights, &[]);
    let broken = answer.levels.iter().filter(|level| (1..=GRID.len() as u16).contains(&level.0)).count();
    assert!(broken > 10 && answer.witnesses.len() == broken, "{broken} broken, {} kept", answer.witnesses.len());
    for witness in &answer.witnesses {
        assert!(
            witness.distance <= witness.epsilon * 1.00001 && witness.pixels.iter().all(|p| (0.0..=1.0).contains(p))
        );
        assert!(witness.predicted != witness.label);
    }
}
