//! Faults drawn from a seed; then all is mended, and every sweep must come to its end.

use crate::site::HEAD;
use crate::world::{Ended, Shape, World};
use epsweep::engine::Settings;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use std::sync::OnceLock;
use std::time::Duration;

/// How many schedules run unless EPSWEEP_SCHEDULES says otherwise: some seconds' worth.
const SCHEDULES: u64 = 12;
/// By then everything must be done once nothing is amiss any more.
const LIMIT: Duration = Duration::from_secs(900);
/// How long faults go on.
const CHAOS: Duration = Duration::from_secs(150);

/// Eight training runs, 32 evaluations.
pub const SMALL: &str = "
name: small
dataset: digits
trial: {model: linear, method: natural, epochs: 4, batch_size: 64}
grid: [{optimizer.sgd.lr: [0.1, 0.2, 0.3, 0.4]}]
seeds: 2
evaluate: {epochs: [1, final], epsilons: [0, 0.1, 0.2], attacks: [fgsm, {pgd: {steps: 5}}], witnesses: break}
";

/// Shares two of its four training runs, and some evaluations, with the other.
pub const OTHER: &str = "
name: other
dataset: digits
trial: {model: linear, method: natural, epochs: 4, batch_size: 64}
grid: [{optimizer.sgd.lr: [0.3, 0.9]}]
seeds: 2
evaluate: {epochs: [1, final], epsilons: [0, 0.1, 0.2], attacks: [fgsm, {pgd: {steps: 7}}], witnesses: break}
";

#[test]
fn any_schedule_of_faults_ends_with_the_same_results() {
    let count = number("EPSWEEP_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("EPSWEEP_SEED").unwrap_or(0);
    let (mut repeated, mut seconds) = (0, 0.0);
    for seed in first..first + count {
        eprintln!("seed {seed}"); // shown when it fails
        let ended = run(seed);
        let Plan { second, .. } = Plan::draw(seed);
        assert!(ended.results == undisturbed(second).results, "seed {seed}: other results than of an undisturbed run");
        assert_eq!(ended.books.together, 0, "seed {seed}: tasks were computed by two slots of a worker at a time");
        repeated += ended.books.answered.values().map(|&count| count - 1).sum::<u32>();
        seconds += ended.seconds;
    }
    eprintln!(
        "{count} schedules from seed {first}: {seconds:.0} simulated s, {repeated} tasks computed more than once"
    );
}

#[test]
fn one_seed_is_one_history() {
    let first = number("EPSWEEP_SEED").unwrap_or(1_000);
    for seed in first..first + number("EPSWEEP_SCHEDULES").unwrap_or(2) {
        eprintln!("seed {seed}");
        let [one, same, another] = [seed, seed, seed + 1].map(run);
        let differ = one.history.iter().zip(&same.history).position(|(one, same)| one != same);
        if let Some(line) = differ {
            let around = |history: &[String]| history[line.saturating_sub(20)..history.len().min(line + 5)].join("\n");
            panic!("seed {seed}: once\n{}\nand once\n{}", around(&one.history), around(&same.history));
        }
        assert_eq!(one.history.len(), same.history.len(), "seed {seed}");
        assert_ne!(one.history, another.history, "seeds {seed} and {}", seed + 1);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The results of a world in which nothing goes wrong.
pub fn undisturbed(second: bool) -> &'static Ended {
    static ENDED: [OnceLock<Ended>; 2] = [OnceLock::new(), OnceLock::new()];
    let history = move || {
        let mut world = World::new(&Shape {
            seed: 0,
            settings: Settings::default(),
            workers: vec![(2, 1.0), (2, 1.0)],
            fails: false,
            save_every: None,
            latency: Duration::from_millis(20),
        });
        world.want(SMALL, Duration::ZERO);
        if second {
            world.want(OTHER, Duration::from_secs(5));
        }
        world.finish(LIMIT)
    };
    ENDED[usize::from(second)].get_or_init(|| alone(history))
}

/// What happens to one host, or to the link between it and the head.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing arrives for a while, then everything.
    Held,
    /// What is sent is lost.
    Cut,
    /// What the worker sends is lost.
    Unheard,
    /// What it is sent is lost.
    Deaf,
    /// Its link is slow.
    Far(Duration),
    /// kill -9, and started again later; if its machine loses power, connections are not closed.
    Dead { power: bool },
    /// kill -9, and its disk is gone when it starts again.
    Wiped,
    /// SIGTERM, kill -9 if it is still there later, and started again.
    Away,
    /// kill -9 of the coordinator.
    Headless { power: bool },
}

/// A fault, from when to when.
#[derive(Debug, Clone)]
struct Trouble {
    worker: usize,
    fault: Fault,
    from: Duration,
    until: Duration,
}

/// All that a seed decides.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    second: bool,
    /// By worker and then the head, each in order of time without overlap.
    troubles: Vec<Vec<Trouble>>,
}

impl Plan {
    fn draw(seed: u64) -> Plan {
        let mut draw = ChaCha12Rng::seed_from_u64(seed);
        let workers = (0..draw.random_range(3..=4))
            .map(|_| (draw.random_range(1..=2), [1.0, 1.0, 1.0, 4.0][draw.random_range(0..4)]))
            .collect::<Vec<_>>();
        let settings = Settings { lease_ms: [6_000, 12_000, 30_000][draw.random_range(0..3)], ..Settings::default() };
        let shape = Shape {
            seed,
            settings,
            fails: draw.random_bool(0.5),
            save_every: [None, Some(Duration::from_secs(2)), Some(Duration::from_secs(10))][draw.random_range(0..3)],
            latency: Duration::from_millis([20, 100, 600][draw.random_range(0..3)]),
            workers,
        };
        let second = draw.random_bool(0.5);
        let worst = draw.random_range(1.0..8.0);
        let troubles = (0..=shape.workers.len()).map(|host| {
            let head = host == shape.workers.len();
            troubles(host, head, worst, &mut draw)
        });
        let troubles = troubles.collect();
        Plan { shape, second, troubles }
    }
}

/// What happens to one host. `worst` is the longest pause between two faults, in the mean ten seconds' worth.
fn troubles(worker: usize, head: bool, worst: f64, draw: &mut ChaCha12Rng) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_secs_f64(draw.random_range(0.5..10.0 * worst));
        if at > CHAOS {
            return found;
        }
        let fault = match draw.random_range(0..9) {
            _ if head => Fault::Headless { power: draw.random_bool(0.3) },
            0 => Fault::Held,
            1 => Fault::Cut,
            2 => Fault::Unheard,
            3 => Fault::Deaf,
            4 => Fault::Far(Duration::from_millis(draw.random_range(500..5_000))),
            5 | 6 => Fault::Dead { power: draw.random_bool(0.5) },
            7 => Fault::Wiped,
            _ => Fault::Away,
        };
        // Many are short, some longer than any lease or timeout.
        let longest = [1.0, 5.0, 20.0, 60.0][draw.random_range(0..4)];
        let until = at + Duration::from_secs_f64(draw.random_range(0.05..longest));
        found.push(Trouble { worker, fault, from: at, until });
        at = until;
    }
}

/// A world under way, and what is still to happen in it.
struct Schedule {
    world: World,
    latency: Duration,
    /// What begins (true) and ends, in order of time.
    turns: Vec<(Duration, bool, Trouble)>,
}

impl Schedule {
    fn new(plan: &Plan) -> Schedule {
        let mut world = World::new(&plan.shape);
        world.want(SMALL, Duration::ZERO);
        if plan.second {
            world.want(OTHER, Duration::from_secs(20));
        }
        let troubles = plan.troubles.iter().flatten();
        let mut turns: Vec<(Duration, bool, Trouble)> = troubles
            .flat_map(|trouble| [(trouble.from, true, trouble.clone()), (trouble.until, false, trouble.clone())])
            .collect();
        turns.sort_by_key(|(at, ..)| *at);
        Schedule { world, latency: plan.shape.latency, turns }
    }

    fn run(mut self) -> Ended {
        for (at, begins, trouble) in std::mem::take(&mut self.turns) {
            let now = self.world.now();
            self.world.run_for(at.saturating_sub(now));
            if begins { self.begin(&trouble) } else { self.end(&trouble) }
        }
        self.world.finish(LIMIT)
    }

    fn begin(&mut self, trouble: &Trouble) {
        let name = format!("worker-{}", trouble.worker);
        let world = &mut self.world;
        match trouble.fault {
            Fault::Held => world.hold(&name),
            Fault::Cut => world.cut(&name),
            Fault::Unheard => world.mute(&name),
            Fault::Deaf => world.deafen(&name),
            Fault::Far(latency) => world.slow_link(&name, latency),
            Fault::Dead { power } => {
                if power {
                    world.lose_power(&name)
                } else {
                    world.crash(&name)
                }
            }
            Fault::Wiped => {
                world.crash(&name);
                world.wipe(&name);
            }
            Fault::Away => world.tell_to_leave(trouble.worker),
            Fault::Headless { power } => {
                if power {
                    world.lose_power(HEAD)
                } else {
                    world.crash(HEAD)
                }
            }
        }
    }

    fn end(&mut self, trouble: &Trouble) {
        let name = format!("worker-{}", trouble.worker);
        let world = &mut self.world;
        match trouble.fault {
            Fault::Held => world.release(&name),
            Fault::Cut | Fault::Unheard | Fault::Deaf => world.mend(&name),
            Fault::Far(_) => world.slow_link(&name, self.latency),
            Fault::Dead { .. } | Fault::Wiped => world.start(&name),
            Fault::Away => {
                if !world.has_left(trouble.worker) {
                    world.crash(&name);
                }
                world.start(&name);
            }
            Fault::Headless { .. } => world.start(HEAD),
        }
    }
}

fn run(seed: u64) -> Ended {
    alone(move || Schedule::new(&Plan::draw(seed)).run())
}

/// On a thread of its own: what libraries keep for each thread, such as today's date, is of no earlier world.
pub fn alone(history: impl FnOnce() -> Ended + Send + 'static) -> Ended {
    std::thread::spawn(history).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
