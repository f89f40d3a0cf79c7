//! The attacks of AutoAttack, and the searches that find an example's breaking point.

use crate::lab::attacks::{EvaluateAnswer, evaluate_with};
use crate::lab::{Device, EvaluateRequest, Images, LabData, streams::Key, weights};
use crate::setting::*;
use epsweep::outcome::{Known, Level};
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, AttackLoss, AutoattackVersion, Effort, Method, Model, Norm, Search};
use tch::{Kind, Tensor};

const GRID: [f64; 8] = [0.01, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3];

fn apgd(loss: AttackLoss, steps: u32) -> Attack {
    Attack::Apgd { loss, steps, restarts: 1, targets: 5, samples: 1 }
}

fn autoattack(version: AutoattackVersion) -> Attack {
    Attack::Autoattack { version, effort: Effort::Full }
}

fn searched(search: Search, question: EvaluateQuestion) -> EvaluateQuestion {
    EvaluateQuestion { search, ..question }
}

/// A linear network of six classes with zero bias, and examples in the middle of the box: the
/// distance to every class boundary is known.
struct Linear {
    data: LabData,
    weights: Vec<u8>,
    rows: Vec<Vec<f64>>,
    gaps: Vec<Vec<f64>>,
}

fn linear(examples: usize) -> Linear {
    let mut stream = Key::new("linear", 3).stream();
    let w: Vec<Vec<f32>> = (0..6).map(|_| stream.symmetric(64)).collect();
    let pixels: Vec<f32> = stream.units(64 * examples).iter().map(|u| 0.4 + 0.2 * u).collect();
    let double = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let rows: Vec<Vec<f64>> = w.iter().map(|row| double(row)).collect();
    let logits = |image: &[f32]| -> Vec<f64> {
        rows.iter().map(|row| row.iter().zip(double(image)).map(|(w, x)| w * x).sum()).collect()
    };
    let gaps: Vec<Vec<f64>> = pixels.chunks(64).map(logits).collect();
    let largest = |z: &Vec<f64>| (0..6).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap() as i64;
    let labels: Vec<i64> = gaps.iter().map(largest).collect();
    let images =
        || Images { pixels: Tensor::from_slice(&pixels).view([-1, 1, 8, 8]), labels: Tensor::from_slice(&labels) };
    let data = LabData { train: images(), test: images(), classes: 6 };
    let parameters = vec![
        ("fc.weight".to_string(), Tensor::from_slice(&w.concat()).view([6, 64])),
        ("fc.bias".to_string(), Tensor::zeros([6], (Kind::Float, Device::Cpu))),
    ];
    Linear { data, weights: weights::encode(&parameters, None), rows, gaps }
}

impl Linear {
    /// The radius at which an example breaks, if the box is far enough away.
    fn breaking(&self, example: usize, norm: Norm) -> f64 {
        let z = &self.gaps[example];
        let label = (0..6).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap();
        let to = |other: usize| {
            let offset: Vec<f64> = self.rows[label].iter().zip(&self.rows[other]).map(|(a, b)| a - b).collect();
            let gap = z[label] - z[other];
            match norm {
                Norm::Linf => gap / offset.iter().map(|d| d.abs()).sum::<f64>(),
                Norm::L2 => gap / offset.iter().map(|d| d * d).sum::<f64>().sqrt(),
                // The pixels that gain most go to the border of the box, one after the other.
                Norm::L1 => {
                    let image = Vec::<f32>::try_from(self.data.test.pixels.get(example as i64).view([-1])).unwrap();
                    let room =
                        |(d, x): (&f64, &f32)| (d.abs(), if *d > 0.0 { f64::from(*x) } else { 1.0 - f64::from(*x) });
                    let mut pixels: Vec<(f64, f64)> = offset.iter().zip(&image).map(room).collect();
                    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let mut left = gap;
                    pixels.iter().fold(0.0, |way, (gain, room)| {
                        let moved = (left / gain).min(*room).max(0.0);
                        left -= moved * gain;
                        way + moved
                    })
                }
            }
        };
        (0..6).filter(|&other| other != label).map(to).fold(f64::INFINITY, f64::min)
    }
}

#[test]
fn every_attack_finds_a_linear_networks_breaking_points() {
    let examples = 20;
    let linear = linear(examples);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let breaking: Vec<f64> = (0..examples).map(|example| linear.breaking(example, norm)).collect();
        let largest = breaking.iter().copied().fold(0.0, f64::max);
        let grid: Vec<f64> = (1..=15).map(|k| largest * 1.05 * f64::from(k) / 15.0).collect();
        assert!(norm != Norm::Linf || largest < 0.38, "{largest}");
        let losses = [AttackLoss::Ce, AttackLoss::Dlr, AttackLoss::DlrTargeted];
        let mut attacks: Vec<Attack> = losses.map(|loss| apgd(loss, 60)).to_vec();
        attacks.push(Attack::Fab { steps: 20, targets: 5, restarts: 1 });
        attacks.push(Attack::Fab { steps: 20, targets: 0, restarts: 2 });
        attacks.push(Attack::Square { queries: 300 });
        if norm == Norm::L2 {
            attacks.push(Attack::Ddn { steps: 80 });
            attacks.push(Attack::Cw { steps: 100, searches: 7, lr: 0.03 });
        }
        for attack in attacks {
            let question = evaluation(Model::Linear {}, norm, attack.clone(), &grid, [0, examples as u32]);
            let answer = run_evaluation(&searched(Search::Bisect, question), &linear.data, &linear.weights, &[]);
            for (level, breaking) in answer.levels.iter().zip(&breaking) {
                let expected = grid.iter().position(|e| e > breaking).unwrap() as u16 + 1;
                // Cases too close to call, or to a class that the untargeted losses do not lead to.
                let close = grid.iter().any(|e| (e / breaking - 1.0).abs() < 0.01);
                let (found, slack) = (level.0.saturating_sub(expected), u16::from(close));
                assert!(level.0 + slack >= expected, "{norm:?} {attack:?}: {level:?}, expected {expected}");
                match &attack {
                    Attack::Square { .. } => {}
                    // Nor do theirs: they go where the nearest class seems to be.
                    Attack::Ddn { .. } | Attack::Cw { .. } => assert!(found <= 3, "{attack:?}: {level:?}, {expected}"),
                    // A step under L1 moves few pixels, so the class that is nearest by this loss changes on the way.
                    Attack::Apgd { loss: AttackLoss::Dlr, .. } if norm == Norm::L1 => {
                        assert!(found <= 5, "{attack:?}: {level:?}, {expected}");
                    }
                    // Its steps are a tenth of the radius at least.
                    Attack::Apgd { .. } if norm == Norm::L1 => assert!(found <= 3, "{attack:?}: {level:?}, {expected}"),
                    Attack::Apgd { loss: AttackLoss::Ce | AttackLoss::Dlr, .. } => assert!(found <= 3, "{attack:?}"),
                    _ => assert!(found <= slack, "{norm:?} {attack:?}: {level:?}, expected {expected}"),
                }
            }
            assert_eq!(answer.refuted, 0, "{attack:?}");
        }
    }
}

fn network(data: &LabData) -> Vec<u8> {
    let method = Method::Pgd { epsilon: 0.08, steps: 3, step: None, norm: Norm::Linf };
    trained(&training(method, 8, 3), data).weights
}

#[test]
fn searches_agree_and_closing_in_costs_less() {
    let data = blocks(240, 50);
    let weights = network(&data);
    let run = |search| {
        let question = evaluation(smallcnn(), Norm::Linf, apgd(AttackLoss::Dlr, 25), &GRID, [0, 50]);
        run_evaluation(&searched(search, question), &data, &weights, &[])
    };
    let [ascending, bisect, exhaustive] = [Search::Ascending, Search::Bisect, Search::Exhaustive].map(run);
    let apart = |a: &EvaluateAnswer, b: &EvaluateAnswer| {
        a.levels.iter().zip(&b.levels).map(|(a, b)| u32::from(a.0.abs_diff(b.0))).sum::<u32>()
    };
    assert!(apart(&ascending, &bisect) <= 2 && apart(&ascending, &exhaustive) <= 2);
    // It tries whatever ascending search tries, and more.
    assert!(exhaustive.levels.iter().zip(&ascending.levels).all(|(e, a)| e <= a));
    let [costs, half] = [bisect.passes.backwards, ascending.passes.backwards / 2];
    assert!(costs < half, "{costs} backward passes, more than {half}");
}

#[test]
fn a_cascade_is_as_strong_as_its_members_and_depends_on_nothing_but_the_question() {
    let data = blocks(240, 24);
    let weights = network(&data);
    let grid = [0.02, 0.06, 0.1, 0.14, 0.18, 0.22];
    // AutoAttack's own, but shorter.
    let members = [
        apgd(AttackLoss::Ce, 15),
        apgd(AttackLoss::DlrTargeted, 15),
        Attack::Fab { steps: 6, targets: 9, restarts: 1 },
        Attack::Square { queries: 60 },
    ];
    let on = |epsilons: &[f64], members: &[Attack], examples: [u32; 2], known: &[Known]| {
        let attack = autoattack(AutoattackVersion::Standard);
        let question = searched(Search::Bisect, evaluation(smallcnn(), Norm::Linf, attack, epsilons, examples));
        let request =
            EvaluateRequest { question: &question, data: &data, weights: &weights, known, device: Device::Cpu };
        evaluate_with(members, request, &mut Patience::default()).unwrap()
    };
    let ask = |members: &[Attack], examples: [u32; 2], known: &[Known]| on(&grid, members, examples, known);
    let whole = ask(&members, [0, 24], &[]);
    let alone = ask(&members[..1], [0, 24], &[]);
    assert!(whole.levels.iter().zip(&alone.levels).all(|(whole, alone)| whole <= alone));
    // In two shards, in batches with other company.
    let parts = [ask(&members, [0, 5], &[]).levels, ask(&members, [5, 24], &[]).levels].concat();
    assert_eq!(parts, whole.levels);
    // With an earlier answer, which spares the failures it is sure of.
    let earlier = Known { epsilons: grid.to_vec(), levels: whole.levels.clone() };
    let again = ask(&members, [0, 24], &[earlier]);
    assert_eq!(again.levels, whole.levels);
    assert!(again.passes.forwards < whole.passes.forwards / 3, "{:?} of {:?}", again.passes, whole.passes);
    // On part of the grid, and with what that part says of the whole.
    let sparse = [grid[1], grid[3], grid[4]];
    let first = Known { epsilons: sparse.to_vec(), levels: on(&sparse, &members, [0, 24], &[]).levels };
    let edited = ask(&members, [0, 24], &[first]);
    assert_eq!(edited.levels, whole.levels);
    assert!(edited.passes.forwards < whole.passes.forwards, "{:?} of {:?}", edited.passes, whole.passes);
}

#[test]
fn an_example_that_enters_among_others_in_mid_climb_is_surveyed_as_if_it_were_alone() {
    let data = blocks(240, 120);
    let weights = network(&data);
    let members = [Attack::Fgsm {}, apgd(AttackLoss::Dlr, 12), Attack::Fab { steps: 6, targets: 2, restarts: 1 }];
    let ask = |examples: [u32; 2]| {
        let attack = autoattack(AutoattackVersion::Standard);
        let question = searched(Search::Bisect, evaluation(smallcnn(), Norm::Linf, attack, &GRID, examples));
        let question = EvaluateQuestion { batch_size: 8, ..question };
        let (data, weights) = (&data, &weights[..]);
        let request = EvaluateRequest { question: &question, data, weights, known: &[], device: Device::Cpu };
        evaluate_with(&members, request, &mut Patience::default()).unwrap()
    };
    // Sixteen are in flight at a time: in parts all enter together, in the whole one after the other.
    let whole = ask([0, 120]);
    let parts: Vec<EvaluateAnswer> = (0..10).map(|part| ask([12 * part, 12 * part + 12])).collect();
    assert_eq!(parts.iter().flat_map(|part| part.levels.clone()).collect::<Vec<_>>(), whole.levels);
    let total = |of: fn(&EvaluateAnswer) -> u64| parts.iter().map(of).sum::<u64>();
    assert_eq!(total(|part| part.passes.forwards), whole.passes.forwards);
    assert_eq!(total(|part| part.passes.backwards), whole.passes.backwards);
}

#[test]
fn attacks_of_all_norms_do_not_depend_on_company() {
    let data = blocks(240, 30);
    let weights = network(&data);
    let l1 = |attack| (Norm::L1, 40.0, attack);
    let l2 = |attack| (Norm::L2, 6.0, attack);
    for (norm, scale, attack) in [
        l2(apgd(AttackLoss::Ce, 12)),
        l2(apgd(AttackLoss::Dlr, 12)),
        l2(Attack::Fab { steps: 6, targets: 2, restarts: 1 }),
        l2(Attack::Square { queries: 60 }),
        l2(Attack::Ddn { steps: 20 }),
        l2(Attack::Cw { steps: 20, searches: 3, lr: 0.1 }),
        l1(pgd(10, 1)),
        l1(apgd(AttackLoss::Ce, 12)),
        l1(Attack::Fab { steps: 4, targets: 0, restarts: 2 }),
        l1(Attack::Square { queries: 60 }),
    ] {
        let ask = |examples: [u32; 2]| {
            let grid = GRID.map(|e| e * scale);
            let question = evaluation(smallcnn(), norm, attack.clone(), &grid, examples);
            run_evaluation(&searched(Search::Bisect, question), &data, &weights, &[]).levels
        };
        let whole = ask([0, 30]);
        assert_eq!([ask([0, 7]), ask([7, 8]), ask([8, 30])].concat(), whole, "{norm:?} {attack:?}");
        assert!(whole.iter().any(|level| *level < Level::unbroken(8)), "{norm:?} {attack:?}");
    }
}

#[test]
fn exhaustive_search_is_never_weaker_than_another() {
    let data = blocks(240, 30);
    let weights = network(&data);
    // Few steps, so that outcomes are erratic.
    let members =
        [apgd(AttackLoss::Ce, 2), Attack::Fab { steps: 2, targets: 1, restarts: 1 }, Attack::Square { queries: 8 }];
    for (norm, scale) in [(Norm::Linf, 1.0), (Norm::L2, 6.0), (Norm::L1, 40.0)] {
        let grid: Vec<f64> = (1..=12).map(|k| scale * 0.02 * f64::from(k)).collect();
        let run = |search| {
            let attack = autoattack(AutoattackVersion::Standard);
            let question = searched(search, evaluation(smallcnn(), norm, attack, &grid, [0, 30]));
            let request = EvaluateRequest {
                question: &question,
                data: &data,
                weights: &weights,
                known: &[],
                device: Device::Cpu,
            };
            evaluate_with(&members, request, &mut Patience::default()).unwrap().levels
        };
        let reference = run(Search::Exhaustive);
        for search in [Search::Ascending, Search::Bisect] {
            assert!(reference.iter().zip(run(search)).all(|(best, other)| *best <= other), "{norm:?} {search:?}");
        }
    }
}

#[test]
fn thrift_costs_less_and_hardly_any_strength() {
    let data = blocks(240, 30);
    let weights = network(&data);
    let grid = [0.02, 0.06, 0.1, 0.14, 0.18, 0.22];
    let run = |effort| {
        let attack = Attack::Autoattack { version: AutoattackVersion::Standard, effort };
        let question = searched(Search::Bisect, evaluation(smallcnn(), Norm::Linf, attack, &grid, [0, 30]));
        run_evaluation(&question, &data, &weights, &[])
    };
    let (full, thrifty) = (run(Effort::Full), run(Effort::Thrifty));
    assert!(full.levels.iter().zip(&thrifty.levels).filter(|(full, thrifty)| full != thrifty).count() <= 1);
    assert!(thrifty.passes.forwards * 10 < full.passes.forwards * 7, "{:?} of {:?}", thrifty.passes, full.passes);
}

#[test]
fn fgsm_is_weaker_than_pgd_and_pgd_than_autoattack_in_every_norm() {
    let data = blocks(240, 60);
    let method = Method::Trades { epsilon: 0.08, beta: 3.0, steps: 3, step: None, norm: Norm::Linf };
    for weights in [network(&data), trained(&training(method, 8, 4), &data).weights] {
        for (norm, scale) in [(Norm::Linf, 1.0), (Norm::L2, 6.0), (Norm::L1, 40.0)] {
            let grid = GRID.map(|e| e * scale);
            let members = [apgd(AttackLoss::Ce, 25), apgd(AttackLoss::Dlr, 25), Attack::Square { queries: 100 }];
            let run = |members: &[Attack], search| {
                let question = searched(search, evaluation(smallcnn(), norm, pgd(1, 1), &grid, [0, 60]));
                let request = EvaluateRequest {
                    question: &question,
                    data: &data,
                    weights: &weights,
                    known: &[],
                    device: Device::Cpu,
                };
                evaluate_with(members, request, &mut Patience::default()).unwrap().levels
            };
            let standing = |levels: &[Level]| levels.iter().map(|level| u32::from(level.0)).sum::<u32>();
            let fgsm = standing(&run(&[Attack::Fgsm {}], Search::Ascending));
            let pgd = standing(&run(&[pgd(20, 1)], Search::Bisect));
            let cascade = standing(&run(&members, Search::Bisect));
            assert!(pgd <= fgsm && cascade <= pgd, "{norm:?}: FGSM {fgsm}, PGD {pgd}, cascade {cascade}");
            assert!(cascade < fgsm, "{norm:?}: FGSM {fgsm}, cascade {cascade}");
        }
    }
}

#[test]
fn a_minimum_norm_attack_answers_alike_however_it_is_searched() {
    let data = blocks(240, 24);
    let weights = network(&data);
    let run = |search| {
        let question =
            evaluation(smallcnn(), Norm::Linf, Attack::Fab { steps: 15, targets: 2, restarts: 1 }, &GRID, [0, 24]);
        run_evaluation(&searched(search, question), &data, &weights, &[])
    };
    let [ascending, bisect, exhaustive] = [Search::Ascending, Search::Bisect, Search::Exhaustive].map(run);
    assert_eq!((&ascending.levels, ascending.passes), (&bisect.levels, bisect.passes));
    assert_eq!((&ascending.levels, ascending.passes), (&exhaustive.levels, exhaustive.passes));
    let question = evaluation(smallcnn(), Norm::Linf, apgd(AttackLoss::Ce, 30), &GRID, [0, 24]);
    let climbed = run_evaluation(&searched(Search::Bisect, question), &data, &weights, &[]);
    let sum = |answer: &EvaluateAnswer| answer.levels.iter().map(|level| u32::from(level.0)).sum::<u32>();
    assert!(sum(&bisect) < sum(&climbed) + 24, "FAB {} and APGD {}", sum(&bisect), sum(&climbed));
}
