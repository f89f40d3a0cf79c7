//! Maps of class regions: against a network whose regions are known, before and after an attack.

use crate::lab::{Device, LabData, LabError, MeasureRequest, measure, weights};
use crate::setting::{Patience, blocks, data_id, smallcnn, trained, training};
use epsweep::measure::MeasureAnswer;
use epsweep::measure::regions::{Answer, Map};
use epsweep::plan::question::{ALGORITHM_VERSION, MeasureQuestion, TaskKey};
use epsweep::spec::{Measure, Method, Model, Norm, Plane, Regions};
use tch::{Kind, Tensor};

fn through(images: Option<[u32; 3]>, epsilon: f64) -> Regions {
    Regions { plane: Plane::Images, images, points: 24, epsilon, steps: 20, norm: Norm::Linf }
}

fn run(asked: &Regions, model: Model, data: &LabData, weights: &[u8]) -> Result<Answer, LabError> {
    let question = MeasureQuestion {
        version: ALGORITHM_VERSION,
        train: TaskKey([0; 32]),
        epoch: 1,
        data: data_id(),
        model,
        normalize: None,
        measure: Measure::Regions(asked.clone()),
        units: [0, 1],
        seed: 7,
    };
    let request = MeasureRequest { question: &question, data, weights, device: Device::Cpu };
    let answer = measure(request, &mut Patience::default())?.answer;
    assert_eq!(answer.check(&question), Ok(()), "the coordinator would take it");
    let MeasureAnswer::Regions(answer) = answer else { panic!("regions were asked for") };
    Ok(answer)
}

/// The shares of the three corners in a point of the map.
fn shares(map: &Map, [x, y]: [f64; 2]) -> [f64; 3] {
    let [a, b, c] = [0, 1, 2].map(|k| map.marks[k].at);
    let area = |p: [f64; 2], q: [f64; 2], r: [f64; 2]| (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1]);
    let whole = area(a, b, c);
    [area([x, y], b, c) / whole, area(a, [x, y], c) / whole, area(a, b, [x, y]) / whole]
}

#[test]
fn a_linear_networks_regions_are_where_its_logits_put_them() {
    let data = blocks(60, 20);
    let tensors = [
        ("fc.weight".to_string(), (Tensor::arange(3 * 64, (Kind::Float, Device::Cpu)) * 1.7).sin().view([3, 64])),
        ("fc.bias".to_string(), Tensor::from_slice(&[0.1f32, 0.0, -0.1])),
    ];
    let bytes = weights::encode(&tensors, None);
    let answer = run(&through(Some([2, 5, 9]), 0.0), Model::Linear {}, &data, &bytes).unwrap();
    let [map] = &answer.maps[..] else { panic!("one map without an attack") };
    let images = data.test.pixels.index_select(0, &Tensor::from_slice(&[2i64, 5, 9])).flatten(1, -1);
    let logits = images.matmul(&tensors[0].1.transpose(0, 1)) + &tensors[1].1;
    let corner = |k: i64, class: i64| logits.double_value(&[k, class]);
    // Logits are affine on a plane: each point's follow from those of the corners.
    let (mut seen, mut decided) = (std::collections::BTreeSet::new(), 0);
    for at in 0..24 * 24 {
        let centre = [(at % 24) as f64, (at / 24) as f64].map(|cell| (cell + 0.5) / 24.0);
        let share = shares(map, centre);
        let logit = |class: i64| (0..3).map(|k| share[k as usize] * corner(k, class)).sum::<f64>();
        let mut order = [0, 1, 2].map(|class| (logit(class), class as u8));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        if order[0].0 - order[1].0 < 1e-3 {
            continue;
        }
        decided += 1;
        seen.insert(map.classes[at]);
        assert_eq!(map.classes[at], order[0].1, "cell {at}");
        let sum: f64 = order.iter().map(|(value, _)| (value - order[0].0).exp()).sum();
        assert!((f64::from(map.confidence[at]) / 255.0 - 1.0 / sum).abs() < 0.003, "cell {at}");
    }
    assert!(decided > 500 && seen.len() > 1, "{decided} {seen:?}");
    // The side is in units of pixels: two corners stand as far apart as their images.
    let [a, b] = [0, 1].map(|k| map.marks[k].at);
    let apart = (images.get(0) - images.get(1)).square().sum(Kind::Double).sqrt().double_value(&[]);
    assert!(((a[0] - b[0]).hypot(a[1] - b[1]) * map.side - apart).abs() < 1e-5);
}

#[test]
fn an_attack_carries_the_images_over_the_boundaries() {
    let data = blocks(240, 40);
    let weights = trained(&training(Method::Natural {}, 6, 1), &data).weights;
    let asked = through(None, 0.4);
    let answer = run(&asked, smallcnn(), &data, &weights).unwrap();
    let [clean, attacked] = &answer.maps[..] else { panic!("a map before and one after") };
    assert!(!clean.attacked && attacked.attacked);
    let labels: std::collections::BTreeSet<u8> = clean.marks.iter().map(|mark| mark.label).collect();
    assert_eq!(labels.len(), 3, "three classes");
    assert_eq!((clean.summary().right, attacked.summary().right), (3, 0));
    assert!(clean.summary().boundary > 0.0);
    assert_eq!(run(&asked, smallcnn(), &data, &weights).unwrap(), answer, "nothing is drawn at random");
    // Marks stand in the regions they were named for.
    for mark in &clean.marks {
        let cell = mark.at.map(|share| (share * 24.0) as usize);
        assert_eq!(clean.classes[cell[1] * 24 + cell[0]], mark.predicted, "{mark:?}");
    }
}

#[test]
fn planes_that_are_none_and_planes_without_images() {
    let data = blocks(60, 20);
    let weights = trained(&training(Method::Natural {}, 1, 1), &data).weights;
    let refused = |asked: &Regions, wanted: &str| {
        let result = run(asked, smallcnn(), &data, &weights);
        assert!(matches!(&result, Err(LabError::BadInput(text)) if text.contains(wanted)), "{result:?}");
    };
    refused(&through(Some([3, 3, 4]), 0.0), "span no plane");
    refused(&through(Some([0, 1, 20]), 0.0), "test image 20 of 20");
    let components = Regions { plane: Plane::Components, ..through(None, 0.0) };
    let answer = run(&components, smallcnn(), &data, &weights).unwrap();
    assert!(answer.maps.len() == 1 && answer.maps[0].marks.is_empty() && answer.maps[0].side > 0.5);
    // The plane is the data's alone: another network is seen on the same one.
    let other = trained(&training(Method::Natural {}, 2, 3), &data).weights;
    let again = run(&components, smallcnn(), &data, &other).unwrap();
    assert_eq!(again.maps[0].side, answer.maps[0].side);
    assert_ne!(again.maps[0].confidence, answer.maps[0].confidence);
}
