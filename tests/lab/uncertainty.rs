//! The uncertainty relation of networks: gradients, domains, independence of company, odd losses.

use crate::lab::attacks::gradient::margin;
use crate::lab::certify::program::{Bounds, Program};
use crate::lab::measures::domain::Region;
use crate::lab::measures::uncertainty::{logarithm, slopes};
use crate::lab::models::{Network, architecture};
use crate::lab::{Device, LabData, LabError, MeasureRequest, measure, streams::Key, weights};
use crate::setting::{CLASSES, Patience, blocks, data_id, smallcnn, trained, training};
use epsweep::measure::moments::{Figures, Groups, PerFeature};
use epsweep::measure::uncertainty::Answer;
use epsweep::measure::{MeasureAnswer, Measured};
use epsweep::plan::question::{ALGORITHM_VERSION, MeasureQuestion, TaskKey};
use epsweep::spec::{Domain, Measure, MeasuredLoss, Method, Model, Uncertainty};
use tch::{Kind, Tensor};

fn asked(domain: Domain, samples: u32, loss: MeasuredLoss) -> Uncertainty {
    Uncertainty { domain, radius: (domain == Domain::Box).then_some(0.1), samples, loss, clip: true }
}

fn question(asked: &Uncertainty, units: [u32; 2]) -> MeasureQuestion {
    MeasureQuestion {
        version: ALGORITHM_VERSION,
        train: TaskKey([0; 32]),
        epoch: 1,
        data: data_id(),
        model: smallcnn(),
        normalize: None,
        measure: Measure::Uncertainty(asked.clone()),
        units,
        seed: 7,
    }
}

fn run(question: &MeasureQuestion, data: &LabData, weights: &[u8]) -> Result<Answer, LabError> {
    let request = MeasureRequest { question, data, weights, device: Device::Cpu };
    let MeasureAnswer::Uncertainty(answer) = measure(request, &mut Patience::default())?.answer else {
        panic!("uncertainty was asked for")
    };
    assert_eq!(MeasureAnswer::Uncertainty(answer.clone()).check(question), Ok(()), "the coordinator would take it");
    Ok(answer)
}

/// Three classes and a network that tells them apart.
fn learnt(epochs: u32) -> (LabData, Vec<u8>) {
    crate::lab::use_one_thread();
    let data = blocks(240, 60);
    let weights = trained(&training(Method::Natural {}, epochs, 1), &data).weights;
    (data, weights)
}

fn network(weights: &[u8]) -> Network {
    Network::from_weights(&architecture(&smallcnn(), [1, 8, 8], CLASSES).unwrap(), weights, Device::Cpu).unwrap()
}

#[test]
fn shards_do_not_matter_and_seeds_do() {
    let (data, weights) = learnt(2);
    let asked = asked(Domain::Box, 100, MeasuredLoss::Ce);
    let whole = run(&question(&asked, [10, 16]), &data, &weights).unwrap();
    let parts = [[10, 11], [11, 14], [14, 16]].map(|units| run(&question(&asked, units), &data, &weights).unwrap());
    let joined = Measured::join(parts.map(MeasureAnswer::Uncertainty).to_vec());
    let Some(Measured::Uncertainty(joined)) = joined else { panic!("three answers") };
    assert_eq!(joined.units, whole.units);
    let other = run(&MeasureQuestion { seed: 8, ..question(&asked, [10, 16]) }, &data, &weights).unwrap();
    assert!(other.units.iter().zip(&whole.units).all(|(a, b)| a.figures != b.figures));
    let stopped = question(&asked, [10, 16]);
    let request = MeasureRequest { question: &stopped, data: &data, weights: &weights, device: Device::Cpu };
    assert!(matches!(measure(request, &mut Patience::until(5)), Err(LabError::Stopped)));
}

#[test]
fn what_is_measured_agrees_with_finite_differences_in_64_bits() {
    let (data, weights) = learnt(3);
    let (radius, samples) = (0.1, 64);
    let own = asked(Domain::Box, samples, MeasuredLoss::Ce);
    let found = run(&question(&own, [3, 6]), &data, &weights).unwrap();
    let exact = InDouble::of(&weights);
    for (unit, index) in found.units.iter().zip(3u64..) {
        let example = data.test.slice(index as i64, index as i64 + 1, Device::Cpu);
        let image = Vec::<f32>::try_from(example.pixels.view([-1])).unwrap();
        let label = example.labels.int64_value(&[0]);
        let region = Region::around(&image, radius, true);
        let mut stream = Key::new("uncertainty", 7).text("box").number(index).stream();
        let mut groups = Groups::new(64);
        for number in 0..u64::from(samples) {
            let mut point = Vec::new();
            let position = region.point(&stream.units(64), &mut point);
            let (log, momentum) = exact.log_loss_and_difference(&point, label);
            groups.add(number, samples.into(), log, &position, &momentum);
        }
        let (a, b) = (unit.figures.unwrap(), groups.figures().unwrap());
        for (a, b) in [(a.dx, b.dx), (a.dp, b.dp), (a.product, b.product), (a.bound, b.bound)] {
            assert!((a.value - b.value).abs() < 1e-3 * b.value + 1e-7, "autograd {a:?}, finite differences {b:?}");
        }
    }
}

/// The network's layers in 64 bits, by the certificates' program of the same weights: what finite
/// differences need.
struct InDouble {
    program: Program,
}

impl InDouble {
    fn of(weights: &[u8]) -> InDouble {
        InDouble { program: Program::new(&network(weights)).unwrap() }
    }

    /// log of the cross-entropy, and its central differences.
    fn log_loss_and_difference(&self, point: &[f32], label: i64) -> (f64, Vec<f64>) {
        let step = 1e-6;
        let base = Tensor::from_slice(point).to_kind(Kind::Double);
        let nudges = Tensor::eye(64, (Kind::Double, Device::Cpu)) * step;
        let all = Tensor::cat(&[base.unsqueeze(0), &base + &nudges, &base - &nudges], 0).view([-1, 1, 8, 8]);
        // Intervals without a width are a forward pass.
        let point = Bounds { lower: all.shallow_clone(), upper: all.shallow_clone(), error: all.zeros_like() };
        let logits = self.program.steps.iter().fold(point, |bounds, step| bounds.through(step)).lower;
        let labels = Tensor::full([129], label, (Kind::Int64, Device::Cpu));
        let logs = margin(&logits, &labels).softplus().log();
        let logs = Vec::<f64>::try_from(logs).unwrap();
        let differences = (0..64).map(|i| (logs[1 + i] - logs[65 + i]) / (2.0 * step)).collect();
        (logs[0], differences)
    }
}

#[test]
fn the_product_is_at_least_the_bound_on_every_domain_and_for_every_loss() {
    let (data, weights) = learnt(3);
    for domain in [Domain::Box, Domain::Data, Domain::Plane] {
        for loss in [MeasuredLoss::Ce, MeasuredLoss::Error, MeasuredLoss::Hinge] {
            let answer = run(&question(&asked(domain, 256, loss), [0, 3]), &data, &weights).unwrap();
            let defined: Vec<Figures> = answer.units.iter().filter_map(|unit| unit.figures).collect();
            assert!(!defined.is_empty() || loss == MeasuredLoss::Hinge, "{domain:?} {loss:?}");
            for Figures { dx, dp, product, bound, effective } in defined {
                let room = 3.0 * product.se.hypot(bound.se) + 1e-12;
                assert!(product.value >= bound.value - room, "{domain:?} {loss:?}: {product:?} {bound:?}");
                assert!(dx.value > 0.0 && dp.value > 0.0 && (1.0..=256.1).contains(&effective));
            }
            let coordinates = if domain == Domain::Plane { 2 } else { 64 };
            assert!(answer.features.iter().all(|class| class.sums[0].len() == coordinates));
        }
    }
}

#[test]
fn a_loss_that_is_zero_all_over_the_box_has_no_psi_and_fails_nothing() {
    let (data, weights) = learnt(1);
    // Logits that are so far apart that the hinge is at rest, and the cross-entropy below 1e-38.
    let sure = |label: i64| {
        let stored = weights::decode(&weights).unwrap().tensors;
        let tensors = stored.into_iter().map(|(name, tensor)| {
            let last = tensor.size()[0] == CLASSES && tensor.dim() == 1;
            let value = if last {
                Tensor::full([CLASSES], -500.0, (Kind::Float, Device::Cpu)).index_fill(
                    0,
                    &Tensor::from(label).view([1]),
                    500.0,
                )
            } else {
                tensor
            };
            (name, value)
        });
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        weights::encode(&tensors, None)
    };
    let label = data.test.labels.int64_value(&[0]);
    let of = |loss| run(&question(&asked(Domain::Box, 64, loss), [0, 1]), &data, &sure(label)).unwrap();
    let nothing = of(MeasuredLoss::Hinge);
    assert_eq!(nothing.units[0].figures, None);
    assert_eq!(nothing.by_class()[0].undefined, 1);
    assert!(of(MeasuredLoss::Ce).units[0].figures.is_some_and(|f| f.dp.value > 0.0), "e^-1000 is no 0 here");
}

#[test]
fn logarithms_of_losses_are_right_where_numbers_are_small_and_large() {
    use MeasuredLoss::{Ce, Error, Hinge};
    for m in [-700.0, -41.0, -39.0, -18.0, -3.0, -0.5, 0.0, 0.5, 3.0, 40.0, 800.0] {
        for loss in [Ce, Error, Hinge] {
            let (log, slope) = logarithm(loss, m);
            if loss == Hinge && m <= -1.0 {
                assert_eq!(log, f64::NEG_INFINITY);
                continue;
            }
            let step = 1e-5;
            let difference = (logarithm(loss, m + step).0 - logarithm(loss, m - step).0) / (2.0 * step);
            assert!((slope - difference).abs() < 1e-6, "{loss:?} at {m}: {slope} {difference}");
            let plain = match loss {
                Ce => m.exp().ln_1p(),
                Error => 1.0 / (1.0 + (-m).exp()),
                Hinge => 1.0 + m,
            };
            assert!(!(plain > 0.0 && plain.is_finite()) || (log - plain.ln()).abs() < 1e-9, "{loss:?} at {m}");
        }
    }
    assert!(logarithm(Ce, f64::NAN).0.is_nan(), "no number is no loss of 0");
}

#[test]
fn boxes_end_where_they_should() {
    let Region::Box { low, high } = Region::around(&[0.0, 0.5, 0.9375], 0.125, true) else { panic!("a box") };
    assert_eq!((low, high), (vec![0.0, 0.375, 0.8125], vec![0.125, 0.625, 1.0]));
    let Region::Box { low, high } = Region::around(&[0.0, 0.5, 0.9375], 0.25, false) else { panic!("a box") };
    assert_eq!((low[0], high[2]), (-0.25, 1.1875));
    let crossed = Region::Box { low: vec![0.0, 0.3], high: vec![1.0, 0.3] };
    let mut image = Vec::new();
    assert_eq!(crossed.point(&[0.75, 0.9], &mut image), [0.25], "from the middle; the flat side does not count");
    assert_eq!(image, [0.75, 0.3]);
    assert_eq!((crossed.dimensions(), crossed.units()), (1, 2));
    assert_eq!(crossed.momentum(&[3.0, 5.0], 2.0), [6.0]);
    let found = PerFeature { dx: 1.0, dp: 2.0, c: 3.0 };
    assert_eq!(crossed.spread_out([found].into_iter()), [Some(found), None]);
}

#[test]
fn the_plane_is_that_of_the_principal_components() {
    crate::lab::use_one_thread();
    let data = blocks(300, 10);
    let Region::Plane { origin, axes, half } = Region::plane(&data) else { panic!("a plane") };
    let images = data.train.pixels.flatten(1, -1).to_kind(Kind::Double);
    let centred = &images - images.mean_dim([0i64].as_slice(), true, Kind::Double);
    let (values, vectors) = centred.transpose(0, 1).matmul(&centred).linalg_eigh("L");
    for (which, axis) in axes.iter().enumerate() {
        let own = Tensor::from_slice(axis);
        let reference = vectors.select(1, 63 - which as i64);
        let along = own.dot(&reference).double_value(&[]).abs();
        assert!((along - 1.0).abs() < 1e-6, "component {which}: {along}, eigenvalues {values:?}");
    }
    let inside = |axis: usize| {
        let offset = &images - Tensor::from_slice(&origin);
        offset.matmul(&Tensor::from_slice(&axes[axis])).abs().max().double_value(&[])
    };
    assert!(
        (inside(0) - half[0]).abs() < 1e-9 && (inside(1) - half[1]).abs() < 1e-9,
        "it holds all images, and no more"
    );
    let mut corner = Vec::new();
    let region = Region::Plane { origin: origin.clone(), axes: axes.clone(), half };
    assert_eq!(region.point(&[0.0, 0.5], &mut corner), [-half[0], 0.0]);
    let gradient: Vec<f32> = axes[1].iter().map(|&a| a as f32).collect();
    let momentum = region.momentum(&gradient, 3.0);
    assert!(momentum[0].abs() < 1e-5 && (momentum[1] - 3.0).abs() < 1e-5, "{momentum:?}");
}

#[test]
fn slopes_are_those_of_each_row_alone() {
    let (data, weights) = learnt(1);
    let network = network(&weights).frozen();
    let batch = data.test.slice(0, 8, Device::Cpu);
    let (values, gradient) = slopes(&network, MeasuredLoss::Hinge, &batch.pixels, &batch.labels);
    assert_eq!((values.len(), gradient.len()), (8, 8 * 64));
    let nudged = &batch.pixels + 1e-3 * Tensor::from_slice(&gradient).view([8, 1, 8, 8]).sign();
    let (higher, _) = slopes(&network, MeasuredLoss::Hinge, &nudged, &batch.labels);
    for row in 0..8 {
        let expected: f32 = gradient[row * 64..(row + 1) * 64].iter().map(|g| 1e-3 * g.abs()).sum();
        assert!((higher[row] - values[row] - expected).abs() < 0.2 * expected + 1e-5);
    }
}

#[test]
fn questions_that_do_not_fit_are_refused() {
    let (data, weights) = learnt(1);
    let fails = |asked: &Uncertainty, units| {
        matches!(run(&question(asked, units), &data, &weights), Err(LabError::BadInput(_)))
    };
    assert!(fails(&asked(Domain::Box, 64, MeasuredLoss::Ce), [58, 61]), "60 examples");
    assert!(fails(&asked(Domain::Plane, 64, MeasuredLoss::Ce), [0, 4]), "3 classes");
    assert!(fails(&Uncertainty { radius: None, ..asked(Domain::Box, 64, MeasuredLoss::Ce) }, [0, 1]));
    assert!(fails(&Uncertainty { radius: Some(0.0), ..asked(Domain::Box, 64, MeasuredLoss::Ce) }, [0, 1]));
    let other =
        MeasureQuestion { model: Model::Linear {}, ..question(&asked(Domain::Box, 64, MeasuredLoss::Ce), [0, 1]) };
    assert!(matches!(run(&other, &data, &weights), Err(LabError::BadInput(_))));
}
