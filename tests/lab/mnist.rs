//! Measurements on MNIST, by hand: `EPSWEEP_MNIST=DIR cargo test --test lab mnist -- --ignored --nocapture`,
//! with MNIST's four IDX files, gzipped, in DIR.

use crate::lab::{Images, LabData, RawImages};
use crate::setting::*;
use epsweep::plan::question::{EvaluateQuestion, TrainQuestion};
use epsweep::spec::{Attack, AutoattackVersion, Effort, Method, Model, Norm, Optimizer, Search};
use std::io::Read;
use std::time::Instant;

fn idx(dir: &str, name: &str) -> Vec<u8> {
    let file = std::fs::File::open(format!("{dir}/{name}.gz")).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn mnist() -> LabData {
    crate::lab::use_one_thread();
    let dir = std::env::var("EPSWEEP_MNIST").expect("EPSWEEP_MNIST names the folder of the IDX files");
    let split = |prefix: &str| {
        let (images, labels) =
            (idx(&dir, &format!("{prefix}-images-idx3-ubyte")), idx(&dir, &format!("{prefix}-labels-idx1-ubyte")));
        let (pixels, labels) = (&images[16..], &labels[8..]);
        let raw = RawImages { pixels, full: 255.0, labels, count: labels.len(), channels: 1, height: 28, width: 28 };
        Images::from_raw(raw).unwrap()
    };
    LabData { train: split("train"), test: split("t10k"), classes: 10 }
}

fn smallcnn28() -> Model {
    Model::Smallcnn { channels: [16, 32], hidden: 100 }
}

#[test]
#[ignore = "needs MNIST, takes minutes"]
fn mnist_frontier_of_two_methods() {
    let data = mnist();
    let methods = [
        (Method::Natural {}, 4),
        (Method::Pgd { epsilon: 0.2, steps: 7, step: None, norm: Norm::Linf }, 8),
        (Method::Trades { epsilon: 0.2, beta: 6.0, steps: 5, step: None, norm: Norm::Linf }, 4),
    ];
    for (method, epochs) in methods {
        let question = TrainQuestion {
            model: smallcnn28(),
            batch_size: 64,
            optimizer: Optimizer::Adamw { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
            ..training(method.clone(), epochs, 1)
        };
        let mut watch = Patience::default();
        let started = Instant::now();
        let answer = run_training(&question, &data, &[epochs], None, &mut watch).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let losses: Vec<f64> = watch.reports.iter().map(|report| report.train_loss).collect();
        println!(
            "{method:?}: {seconds:.1} s, {:.0} us per backward pass",
            1e6 * seconds / answer.passes.backwards as f64
        );
        println!("  losses {losses:.3?}");
        let weights = &answer.checkpoints[0].weights;
        let grid: Vec<f64> = (1..=10).map(|k| 0.03 * f64::from(k)).collect();
        for attack in [Attack::Fgsm {}, pgd(40, 1)] {
            let question = EvaluateQuestion {
                batch_size: 128,
                ..evaluation(smallcnn28(), Norm::Linf, attack.clone(), &grid, [0, 500])
            };
            let started = Instant::now();
            let answer = run_evaluation(&question, &data, weights, &[]);
            let seconds = started.elapsed().as_secs_f64();
            let curve: Vec<String> = (0..=grid.len())
                .map(|p| format!("{:.1}", answer.levels.iter().filter(|l| l.survives(p)).count() as f64 / 5.0))
                .collect();
            println!("  {attack:?}: {}", curve.join(" "));
            println!(
                "    {seconds:.2} s; per example {:.1} forwards {:.1} backwards; {:.0} us per backward; refuted {}",
                answer.passes.forwards as f64 / 500.0,
                answer.passes.backwards as f64 / 500.0,
                1e6 * seconds / answer.passes.backwards as f64,
                answer.refuted
            );
        }
    }
}

/// Robust accuracy and price of AutoAttack over grids (scripts/strength.py holds a sweep against pyautoattack instead):
/// `EPSWEEP_MNIST=DIR EPSWEEP_WEIGHTS=DIR [EPSWEEP_EXAMPLES=200] cargo test ...`.
#[test]
#[ignore = "needs MNIST, takes many minutes"]
fn mnist_strength() {
    let data = mnist();
    let folder = std::env::var("EPSWEEP_WEIGHTS").expect("EPSWEEP_WEIGHTS names a folder for the weights");
    let examples: u32 = std::env::var("EPSWEEP_EXAMPLES").map_or(200, |n| n.parse().unwrap());
    let wanted = std::env::var("EPSWEEP_MODELS").unwrap_or("natural,pgd,trades".to_string());
    let models = [
        ("natural", Method::Natural {}, 4, 0.05),
        ("pgd", Method::Pgd { epsilon: 0.2, steps: 7, step: None, norm: Norm::Linf }, 8, 0.2),
        ("trades", Method::Trades { epsilon: 0.2, beta: 6.0, steps: 5, step: None, norm: Norm::Linf }, 6, 0.2),
    ];
    for (name, method, epochs, epsilon) in models.into_iter().filter(|model| wanted.contains(model.0)) {
        let path = format!("{folder}/{name}.safetensors");
        let weights = std::fs::read(&path).unwrap_or_else(|_| {
            let question = TrainQuestion {
                model: smallcnn28(),
                batch_size: 64,
                optimizer: Optimizer::Adamw { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
                ..training(method, epochs, 1)
            };
            let weights = trained(&question, &data).weights;
            std::fs::write(&path, &weights).unwrap();
            weights
        });
        let curve: Vec<f64> = (1..=16).map(|k| epsilon * 1.5 * f64::from(k) / 16.0).collect();
        let runs = [
            ("pgd-40", pgd(40, 1), Search::Ascending, curve.clone()),
            ("pgd-40", pgd(40, 1), Search::Bisect, curve.clone()),
            (
                "autoattack",
                Attack::Autoattack { version: AutoattackVersion::Standard, effort: Effort::Full },
                Search::Bisect,
                vec![epsilon],
            ),
            (
                "autoattack",
                Attack::Autoattack { version: AutoattackVersion::Standard, effort: Effort::Full },
                Search::Bisect,
                curve,
            ),
        ];
        for (attack, written, search, grid) in runs {
            let question = evaluation(smallcnn28(), Norm::Linf, written, &grid, [0, examples]);
            let question = EvaluateQuestion { batch_size: 32, search, ..question };
            let started = Instant::now();
            let answer = run_evaluation(&question, &data, &weights, &[]);
            let seconds = started.elapsed().as_secs_f64();
            let standing = |p| answer.levels.iter().filter(|level| level.survives(p)).count();
            let percent = |p| format!("{:.1}", 100.0 * standing(p) as f64 / f64::from(examples));
            let each = |passes: u64| passes as f64 / f64::from(examples);
            println!("{name} {attack} {search:?}, {} epsilons up to {:.3}:", grid.len(), grid[grid.len() - 1]);
            println!("  {}", (0..=grid.len()).map(percent).collect::<Vec<_>>().join(" "));
            println!(
                "  per example {:.0} forwards {:.0} backwards, {:.3} s; refuted {}",
                each(answer.passes.forwards),
                each(answer.passes.backwards),
                seconds / f64::from(examples),
                answer.refuted
            );
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_passes() {
    use crate::lab::models::{Network, architecture};
    use tch::{Kind, Tensor};
    crate::lab::use_one_thread();
    let _restores = tch::no_grad_guard();
    let architecture = architecture(&smallcnn28(), [1, 28, 28], 10).unwrap();
    let network = Network::initialised(&architecture, 1, tch::Device::Cpu);
    for rows in [8i64, 16, 32, 64, 128] {
        let images = Tensor::rand([rows, 1, 28, 28], (Kind::Float, tch::Device::Cpu));
        let labels = Tensor::zeros([rows], (Kind::Int64, tch::Device::Cpu));
        let fastest = |pass: &dyn Fn()| {
            let once = || {
                let started = Instant::now();
                (0..512 / rows).for_each(|_| pass());
                1e6 * started.elapsed().as_secs_f64() / 512.0
            };
            (0..8).map(|_| once()).fold(f64::INFINITY, f64::min)
        };
        let forward = fastest(&|| drop(network.forward(&images)));
        let gradient = fastest(&|| drop(slope(&network, &images, &labels)));
        println!("{rows} rows: forward {forward:.0} us, forward and gradient {gradient:.0} us per image");
    }
}
