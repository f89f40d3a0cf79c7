//! Made-up results for tests: as plain as a test needs, or as rich as a real sweep.

use super::results::{CheckpointResults, Results, TrialResults, TrialStatus};
use crate::outcome::Level;
use crate::plan::facts::Facts;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One trial with one checkpoint; one list of levels per attack.
pub fn one_trial(epsilons: &[f64], levels: &[&[Level]]) -> Results {
    let checkpoint = CheckpointResults {
        epoch: 1,
        train_loss: 0.5,
        train_seconds: 1.0,
        facts: Facts::default(),
        levels: levels.iter().map(|l| l.to_vec()).collect(),
        trust: Vec::new(),
        certified: Vec::new(),
        measured: Vec::new(),
    };
    Results {
        sweep: "one".into(),
        axes: vec!["model".into()],
        norm: "linf".into(),
        epsilons: epsilons.to_vec(),
        attacks: (0..levels.len()).map(|a| format!("attack{a}")).collect(),
        certificates: Vec::new(),
        measures: Vec::new(),
        examples: levels.first().map_or(0, |l| l.len()),
        trials: vec![TrialResults {
            trial: "t0".into(),
            config: "c0".into(),
            axes: vec!["mlp".into()],
            seed: 0,
            status: TrialStatus::Done,
            checkpoints: vec![checkpoint],
        }],
    }
}

/// How one made-up configuration behaves: logistic break distances.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub axes: Vec<String>,
    /// Mean clean accuracy at the last epoch.
    pub clean: f64,
    /// Median distance at which a correct example breaks, under the strongest attack.
    pub median: f64,
    /// Standard deviation over seeds of both, relative.
    pub spread: f64,
}

/// The size of a made-up sweep.
#[derive(Debug, Clone)]
pub struct Shape {
    pub seeds: u64,
    pub epochs: Vec<u32>,
    pub examples: usize,
    pub epsilons: Vec<f64>,
    pub attacks: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            seeds: 3,
            epochs: vec![1, 5, 20],
            examples: 450,
            epsilons: (0..=10).map(|i| f64::from(i) * 0.03).collect(),
            attacks: ["fgsm", "pgd(steps=40,restarts=5)", "autoattack"].map(String::from).to_vec(),
        }
    }
}

/// Eight configurations as a small study would have them: two models, four methods.
pub fn study() -> Vec<Behaviour> {
    let methods: [(&str, f64, f64); 4] = [
        ("natural", 0.0, 0.045),
        ("pgd(epsilon=0.1)", -0.012, 0.17),
        ("trades(epsilon=0.1,beta=6)", -0.03, 0.205),
        ("pgd(epsilon=0.2)", -0.055, 0.235),
    ];
    let models = [("smallcnn", 0.985, 1.0), ("mlp", 0.955, 0.62)];
    models
        .iter()
        .flat_map(|&(model, clean, strength)| {
            methods.iter().map(move |&(method, cost, median)| Behaviour {
                axes: vec![model.into(), method.into()],
                clean: clean + cost * (2.0 - strength),
                median: median * strength,
                spread: 0.04,
            })
        })
        .collect()
}

pub fn sweep(behaviours: &[Behaviour], axes: &[&str], shape: &Shape, seed: u64) -> Results {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // How hard each example is, for every model alike.
    let difficulty: Vec<f64> = (0..shape.examples).map(|_| logistic(&mut rng)).collect();
    let mut results = Results {
        sweep: "digits-tradeoff".into(),
        axes: axes.iter().map(|a| a.to_string()).collect(),
        norm: "linf".into(),
        epsilons: shape.epsilons.clone(),
        attacks: shape.attacks.clone(),
        examples: shape.examples,
        certificates: Vec::new(),
        measures: Vec::new(),
        trials: Vec::new(),
    };
    for (c, behaviour) in behaviours.iter().enumerate() {
        for seed in 0..shape.seeds {
            let luck = (1.0 + behaviour.spread * logistic(&mut rng) / 1.8, behaviour.spread * logistic(&mut rng) * 0.1);
            let checkpoints = shape
                .epochs
                .iter()
                .map(|&epoch| checkpoint(behaviour, shape, &results, &difficulty, epoch, luck, &mut rng))
                .collect();
            results.trials.push(TrialResults {
                trial: format!("{:08x}", 0x9e37_79b9_u64.wrapping_mul(c as u64 * 97 + seed + 1) & 0xffff_ffff),
                config: format!("{:06x}", 0x0085_ebca_u64.wrapping_mul(c as u64 + 1) & 0xff_ffff),
                axes: behaviour.axes.clone(),
                seed,
                status: TrialStatus::Done,
                checkpoints,
            });
        }
    }
    results
}

fn checkpoint(
    behaviour: &Behaviour,
    shape: &Shape,
    results: &Results,
    difficulty: &[f64],
    epoch: u32,
    luck: (f64, f64),
    rng: &mut ChaCha8Rng,
) -> CheckpointResults {
    let last = f64::from(*shape.epochs.last().unwrap_or(&1));
    let progress = 1.0 - (-3.0 * f64::from(epoch) / last).exp();
    let clean = (behaviour.clean * (0.86 + 0.14 * progress / 0.95) + luck.1).min(0.999);
    // Training against attacks makes robust; training without them wears robustness off.
    let way = if behaviour.median > 0.1 { 0.72 + 0.28 * progress } else { 1.25 - 0.25 * progress };
    let median = behaviour.median * luck.0 * way;
    let positive = results.positive_epsilons();
    let mut levels = vec![Vec::with_capacity(shape.examples); shape.attacks.len()];
    for hard in difficulty {
        let own = 0.8 * hard + 0.6 * logistic(rng);
        let wrong = own > (clean / (1.0 - clean)).ln();
        let distance = median * (-0.45 * own).exp();
        for (a, levels) in levels.iter_mut().enumerate() {
            // Weaker attacks need more; the last one is the strongest.
            let weaker = 1.0 + 0.35 * (shape.attacks.len() - 1 - a) as f64 * uniform(rng);
            let broken = positive.partition_point(|&e| e < distance * weaker);
            levels.push(if wrong { Level::CLEAN } else { Level(broken as u16 + 1) });
        }
    }
    let train_loss = 2.3 * (1.0 - progress) + 0.05;
    let train_seconds = 0.8 * f64::from(epoch) * (1.0 + uniform(rng));
    CheckpointResults {
        epoch,
        train_loss,
        train_seconds,
        facts: Facts::default(),
        levels,
        trust: Vec::new(),
        certified: Vec::new(),
        measured: Vec::new(),
    }
}

pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

/// Logistic with mean 0 and scale 1.
pub fn logistic(rng: &mut ChaCha8Rng) -> f64 {
    let u = uniform(rng);
    (u / (1.0 - u)).ln()
}
