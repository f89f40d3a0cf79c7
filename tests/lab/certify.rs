//! Certificates: against a plain reference, against sampled points, against attacks.

use crate::golden::Golden;
use crate::lab::certify::ball::{self, Method as Bound};
use crate::lab::certify::program::{Bounds, Program};
use crate::lab::models::{Network, architecture};
use crate::lab::{CertifyRequest, Device, LabData, LabError, certify, streams::Key, weights};
use crate::setting::{
    CLASSES, Patience, blocks, data_id, evaluation, pgd, run_evaluation, smallcnn, trained, training,
};
use epsweep::outcome::Level;
use epsweep::plan::question::{ALGORITHM_VERSION, CertifyQuestion, EvaluateQuestion, TaskKey, TrainQuestion};
use epsweep::spec::{Attack, AttackLoss, Certificate, Method, Model, Norm, Normalization};
use tch::{Kind, Tensor};

const GRID: [f64; 8] = [0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15];

fn question(model: Model, certificate: Certificate, epsilons: &[f64], examples: [u32; 2]) -> CertifyQuestion {
    CertifyQuestion {
        version: ALGORITHM_VERSION,
        train: TaskKey([0; 32]),
        epoch: 1,
        data: data_id(),
        model,
        normalize: None,
        norm: certificate.norm(),
        seed: (!certificate.is_deterministic()).then_some(7),
        certificate,
        epsilons: epsilons.to_vec(),
        examples,
    }
}

fn levels(question: &CertifyQuestion, data: &LabData, weights: &[u8]) -> Vec<Level> {
    let request = CertifyRequest { question, data, weights, device: Device::Cpu };
    certify(request, &mut Patience::default()).unwrap().levels
}

fn network(model: &Model, weights: &[u8], classes: i64) -> Network {
    Network::from_weights(&architecture(model, [1, 8, 8], classes).unwrap(), weights, Device::Cpu).unwrap()
}

/// The network of scripts/golden_bounds.py under `name`.
fn golden_network(golden: &Golden, name: &str, model: &Model) -> Network {
    let parameters = architecture(model, [1, 8, 8], CLASSES).unwrap().parameters;
    let own = |name: &str, prefix: &str| (name.to_string(), golden.get(&format!("{prefix}.{name}")).shallow_clone());
    let tensors: Vec<_> = parameters.iter().map(|spec| own(&spec.name, name)).collect();
    network(model, &weights::encode(&tensors, None), CLASSES)
}

fn golden_models() -> [(&'static str, Model); 2] {
    [("mlp", Model::Mlp { hidden: vec![16, 12] }), ("smallcnn", Model::Smallcnn { channels: [3, 4], hidden: 10 })]
}

#[test]
fn bounds_are_those_of_the_reference() {
    let golden = Golden::read("bounds");
    let (images, labels) = (golden.get("images"), golden.get("labels").to_kind(Kind::Int64));
    for (name, model) in golden_models() {
        let program = Program::new(&golden_network(&golden, name, &model)).unwrap();
        for (method, word) in [(Bound::Ibp, "ibp"), (Bound::Crown, "crown")] {
            let found = ball::margins(&program, method, images, &labels, &[0.0, 0.01, 0.05, 0.2]);
            let expected = golden.get(&format!("{name}.{word}")).to_kind(Kind::Double);
            let finite = expected.isfinite();
            let difference = (&found.exact - &expected).abs().where_scalarother(&finite, 0.0);
            // The reference is stored in 32 bits.
            let off = difference.max().double_value(&[]);
            assert!(off < 1e-6, "{name} {word}: off by {off}");
            assert_eq!(found.exact.isfinite(), finite, "infinite at the label only");
            let rounding = found.rounding.max().double_value(&[]);
            assert!(rounding > 1e-9 && rounding < 1e-3, "{name} {word}: {rounding}");
        }
    }
}

#[test]
fn no_point_of_the_ball_leaves_the_bounds() {
    let golden = Golden::read("bounds");
    let (images, labels) = (golden.get("images"), golden.get("labels").to_kind(Kind::Int64));
    let mut stream = Key::new("sampled points", 0).stream();
    for (name, model) in golden_models() {
        let network = golden_network(&golden, name, &model);
        let program = Program::new(&network).unwrap();
        for epsilon in [0.01, 0.1, 0.4] {
            let ibp = ball::margins(&program, Bound::Ibp, images, &labels, &[epsilon; 4]);
            let crown = ball::margins(&program, Bound::Crown, images, &labels, &[epsilon; 4]);
            let tighter = crown.exact.ge_tensor(&(&ibp.exact - 1e-9));
            assert!(tighter.all().int64_value(&[]) != 0, "CROWN is never looser");
            for sample in 0..200 {
                let noise = Tensor::from_slice(&stream.symmetric(4 * 64)).view([4, 1, 8, 8]);
                // Every other one at a corner of the ball: extremes are there.
                let offset = if sample % 2 == 0 { noise } else { noise.sign() };
                let points = (images + offset * epsilon).clamp(0.0, 1.0);
                let logits = network.forward(&points).to_kind(Kind::Double);
                let own = logits.gather(1, &labels.unsqueeze(1), false);
                let margins = own - logits;
                for bound in [&ibp, &crown] {
                    let least = (&bound.exact - &bound.rounding).where_scalarother(&bound.exact.isfinite(), -1.0);
                    let inside = margins.ge_tensor(&least).all().int64_value(&[]) != 0;
                    assert!(inside, "{name} at {epsilon}: a point lies below its bound");
                }
            }
        }
    }
}

#[test]
fn every_value_lies_in_its_interval_and_rounding_in_its_room() {
    let golden = Golden::read("bounds");
    let images = golden.get("images");
    for (name, model) in golden_models() {
        let network = golden_network(&golden, name, &model);
        let pixels = images.to_kind(Kind::Double);
        let mut state =
            Bounds { lower: pixels.shallow_clone(), upper: pixels.shallow_clone(), error: pixels.zeros_like() };
        for step in &Program::new(&network).unwrap().steps {
            state = state.through(step);
        }
        let off = (network.forward(images).to_kind(Kind::Double) - &state.lower).abs();
        assert!(off.le_tensor(&state.error).all().int64_value(&[]) != 0, "{name}: 32 bits are off by {off}");
        assert!(off.max().double_value(&[]) > 0.0, "{name}: nothing was rounded");
    }
}

#[test]
fn a_certified_radius_never_exceeds_a_broken_one() {
    let data = blocks(240, 40);
    let methods = [
        Method::Natural {},
        Method::Pgd { epsilon: 0.07, steps: 7, step: None, norm: Norm::Linf },
        Method::Ibp { epsilon: 0.07, kappa: 0.5, warmup: 0.1, ramp: 0.5 },
    ];
    let mut certified = [0; 2];
    for method in methods {
        let weights = trained(&training(method, 6, 1), &data).weights;
        let apgd = Attack::Apgd { loss: AttackLoss::Ce, steps: 40, restarts: 1, targets: 1, samples: 1 };
        let broken = [pgd(20, 1), apgd].map(|attack| {
            run_evaluation(&evaluation(smallcnn(), Norm::Linf, attack, &GRID, [0, 40]), &data, &weights, &[]).levels
        });
        let bounds = [Certificate::Ibp {}, Certificate::Crown {}]
            .map(|certificate| levels(&question(smallcnn(), certificate, &GRID, [0, 40]), &data, &weights));
        for (example, (ibp, crown)) in bounds[0].iter().zip(&bounds[1]).enumerate() {
            assert!(ibp <= crown, "CROWN certifies what intervals do");
            assert!(broken.iter().all(|levels| *crown <= levels[example]), "example {example} is both");
        }
        for (sum, levels) in certified.iter_mut().zip(&bounds) {
            *sum += levels.iter().filter(|level| level.0 > 1).count();
        }
    }
    assert!(certified[0] >= 5 && certified[1] > certified[0], "certificates say something: {certified:?}");
}

#[test]
fn normalisation_is_part_of_what_is_certified() {
    let data = blocks(240, 40);
    let normalize = Some(Normalization { mean: vec![0.3], std: vec![0.25] });
    let method = Method::Ibp { epsilon: 0.07, kappa: 0.5, warmup: 0.1, ramp: 0.5 };
    let weights = trained(&TrainQuestion { normalize: normalize.clone(), ..training(method, 6, 1) }, &data).weights;
    let attacked = evaluation(smallcnn(), Norm::Linf, pgd(20, 1), &GRID, [0, 40]);
    let attacked = EvaluateQuestion { normalize: normalize.clone(), ..attacked };
    let broken = run_evaluation(&attacked, &data, &weights, &[]).levels;
    for certificate in [Certificate::Ibp {}, Certificate::Crown {}] {
        let asked = question(smallcnn(), certificate, &GRID, [0, 40]);
        let plain = levels(&asked, &data, &weights);
        let certified = levels(&CertifyQuestion { normalize: normalize.clone(), ..asked }, &data, &weights);
        assert!(certified.iter().zip(&broken).all(|(certified, broken)| certified <= broken));
        assert!(certified.iter().filter(|level| level.0 > 1).count() >= 5, "{certified:?}");
        assert_ne!(certified, plain, "without it, it is another network");
    }
}

#[test]
fn an_example_is_certified_alike_in_any_company() {
    let data = blocks(120, 40);
    let weights = trained(&training(Method::Natural {}, 3, 1), &data).weights;
    let small = Certificate::Smoothing { sigma: 0.2, n0: 50, n: 300, alpha: 0.01 };
    for certificate in [Certificate::Ibp {}, Certificate::Crown {}, small] {
        let of = |examples| levels(&question(smallcnn(), certificate.clone(), &GRID, examples), &data, &weights);
        let whole = of([0, 40]);
        assert_eq!([of([0, 13]), of([13, 14]), of([14, 40])].concat(), whole, "{certificate:?}");
    }
}

#[test]
fn smoothing_certifies_more_where_the_network_is_surer() {
    let data = blocks(240, 30);
    let weights = trained(&training(Method::Natural {}, 6, 1), &data).weights;
    let epsilons = [0.05, 0.1, 0.2, 0.4, 0.8];
    let of = |sigma, n| {
        let certificate = Certificate::Smoothing { sigma, n0: 100, n, alpha: 0.001 };
        levels(&question(smallcnn(), certificate, &epsilons, [0, 30]), &data, &weights)
    };
    let (few, many) = (of(0.15, 100), of(0.15, 1000));
    let sum = |levels: &[Level]| levels.iter().map(|level| u32::from(level.0)).sum::<u32>();
    assert!(sum(&many) > sum(&few), "more copies are surer: {few:?} {many:?}");
    // With n copies, even a unanimous vote reaches no further than this.
    let limit = crate::lab::certify::smoothing::radius(100, 100, 0.15, 0.001).unwrap();
    let highest = epsilons.partition_point(|&epsilon| epsilon < limit) as u16 + 1;
    assert!(few.iter().all(|level| level.0 <= highest) && few.iter().any(|level| level.0 == highest));
}

#[test]
fn what_cannot_be_certified_is_refused() {
    let data = blocks(10, 10);
    let weights = trained(&training(Method::Natural {}, 1, 1), &data).weights;
    let base = question(smallcnn(), Certificate::Ibp {}, &GRID, [0, 10]);
    for wrong in [
        CertifyQuestion { norm: Norm::L2, ..base.clone() },
        CertifyQuestion { examples: [5, 11], ..base.clone() },
        CertifyQuestion { epsilons: vec![0.2, 0.1], ..base.clone() },
        CertifyQuestion { model: Model::Linear {}, ..base.clone() },
    ] {
        let request = CertifyRequest { question: &wrong, data: &data, weights: &weights, device: Device::Cpu };
        let refused = certify(request, &mut Patience::default());
        assert!(matches!(refused, Err(LabError::BadInput(_))), "{wrong:?}");
    }
    let request = CertifyRequest { question: &base, data: &data, weights: &weights, device: Device::Cpu };
    assert!(matches!(certify(request, &mut Patience::until(1)), Err(LabError::Stopped)));
}
