//! Hosts and links, and what is done to them.

use crate::bench::Books;
use crate::clock;
use crate::laws::{Results, results};
use crate::site::{Crew, HEAD, Site, folder};
use epsweep::engine::Settings;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The simulation moves on by so much at a time: what is sent arrives at the next of these steps at the earliest.
const TICK: Duration = Duration::from_millis(10);

/// What has happened, line by line. Two histories that agree in it agree.
#[derive(Debug, Clone)]
pub struct Story(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// With whether it is worth telling.
    lines: Vec<(String, bool)>,
    /// Told as it happens; all of it.
    aloud: Option<bool>,
    /// Where no host knows the time.
    now: Duration,
}

impl Story {
    fn new() -> Story {
        let aloud = std::env::var("EPSWEEP_STORY").ok().map(|asked| asked == "all");
        Story(Arc::new(Mutex::new(Told { aloud, ..Told::default() })))
    }

    pub fn note(&self, who: &str, what: &str) {
        self.tell(who, what, true);
    }

    /// Only for comparison with another history.
    pub fn trace(&self, who: &str, what: &str) {
        self.tell(who, what, false);
    }

    fn tell(&self, who: &str, what: &str, worthwhile: bool) {
        let mut told = self.0.lock().unwrap();
        let now = turmoil::sim_elapsed().unwrap_or(told.now);
        let line = format!("{:>9.3} {who}: {what}", now.as_secs_f64());
        if told.aloud.is_some_and(|all| all || worthwhile) {
            eprintln!("{line}");
        }
        told.lines.push((line, worthwhile));
    }

    fn last(&self, count: usize) -> String {
        let told = self.0.lock().unwrap();
        let lines: Vec<&str> =
            told.lines.iter().rev().filter(|(_, told)| *told).take(count).map(|(line, _)| &**line).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// How a world is made.
#[derive(Debug, Clone)]
pub struct Shape {
    pub seed: u64,
    pub settings: Settings,
    /// Slots of each worker, and how much longer everything takes there.
    pub workers: Vec<(u32, f64)>,
    /// Some first attempts fail.
    pub fails: bool,
    pub save_every: Option<Duration>,
    /// Longest time that a message takes, usually.
    pub latency: Duration,
}

/// What is amiss between head and worker.
#[derive(Debug, Clone, Copy)]
enum Link {
    Held,
    Cut,
    Mute,
    Deaf,
}

/// A simulation under way.
pub struct World {
    sim: turmoil::Sim<'static>,
    links: BTreeMap<String, Link>,
    pub site: Site,
    pub crew: Vec<Crew>,
    /// Sweeps that were asked for, and the states in which they ended.
    wanted: usize,
    states: Arc<Mutex<Vec<String>>>,
    /// Goes last.
    _dir: tempfile::TempDir,
}

impl World {
    pub fn new(shape: &Shape) -> World {
        watch_panics();
        clock::set(Duration::ZERO);
        let dir = folder();
        let site = Site {
            dir: dir.path().into(),
            story: Story::new(),
            books: Arc::default(),
            settings: shape.settings,
            fails: shape.fails,
            drain: CancellationToken::new(),
            wrong: Arc::default(),
        };
        site.prepare();
        let mut sim = turmoil::Builder::new()
            .rng_seed(shape.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(1 << 30))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(shape.latency)
            .tcp_capacity(1 << 16)
            .enable_random_order()
            .build();
        let head = site.clone();
        sim.host(HEAD, move || ended(head.clone().coordinate()));
        let crew = |(number, &(slots, slowness)): (usize, &(u32, f64))| Crew {
            name: format!("worker-{number}"),
            slots,
            slowness,
            save_every: shape.save_every,
            leave: Arc::default(),
            left: Arc::default(),
        };
        let crew: Vec<Crew> = shape.workers.iter().enumerate().map(crew).collect();
        for worker in &crew {
            let (site, worker) = (site.clone(), worker.clone());
            sim.host(worker.name.clone(), move || ended(site.clone().work(worker.clone())));
        }
        World { sim, links: BTreeMap::new(), site, crew, wanted: 0, states: Arc::default(), _dir: dir }
    }

    /// Somebody submits this sweep, and waits for its end.
    pub fn want(&mut self, yaml: &'static str, after: Duration) {
        let (site, states) = (self.site.clone(), self.states.clone());
        self.wanted += 1;
        let person = format!("person-{}", self.wanted);
        self.sim.client(person, ended(site.want(yaml, after, move |state| states.lock().unwrap().push(state))));
    }

    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) {
        self.sim.step().expect("no host ends with an error");
        let now = self.sim.elapsed();
        clock::set(now);
        self.site.story.0.lock().unwrap().now = now;
        let panics = PANICS.with_borrow_mut(std::mem::take);
        self.demand(panics.is_empty(), || format!("a task panicked: {}", panics.join("; ")));
        let wrong = self.site.wrong.lock().unwrap().clone();
        self.demand(wrong.is_empty(), || wrong.join("; "));
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.step();
        }
    }

    /// Goes on until `reached`, which must be before `limit` has passed.
    pub fn run_until(&mut self, what: &str, limit: Duration, reached: impl Fn(&World) -> bool) {
        let end = self.now() + limit;
        while !reached(self) {
            let (now, late) = (self.now(), self.now() > end);
            self.demand(!late, || format!("{what} was not reached by {} s", now.as_secs()));
            self.step();
        }
    }

    #[track_caller]
    pub fn demand(&self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            panic!("{}\nthe last that happened:\n{}", why(), self.site.story.last(60));
        }
    }

    fn note(&self, what: String) {
        self.site.story.note("fate", &what);
    }

    /// kill -9.
    pub fn crash(&mut self, host: &str) {
        self.note(format!("{host} crashes"));
        self.closing(host, |sim| sim.crash(host));
    }

    pub fn start(&mut self, host: &str) {
        if let Some(worker) = self.crew.iter().find(|worker| worker.name == host) {
            *worker.leave.lock().unwrap() = CancellationToken::new();
            *worker.left.lock().unwrap() = false;
        }
        self.closing(host, |sim| sim.bounce(host));
    }

    /// Ends what runs on a host. Its connections are closed in an order that depends on what the process did before: it must not
    /// decide how long which of these messages takes, so they all arrive next; or not at all, where one way is cut.
    fn closing(&mut self, host: &str, end: impl FnOnce(&mut turmoil::Sim<'static>)) {
        let others = self.others(host);
        for other in &others {
            match self.links.get(other) {
                None => self.sim.hold(HEAD, other.as_str()),
                Some(Link::Mute | Link::Deaf) => self.sim.partition(HEAD, other.as_str()),
                Some(Link::Held | Link::Cut) => {}
            }
        }
        end(&mut self.sim);
        for other in &others {
            match self.links.get(other).copied() {
                None => self.sim.release(HEAD, other.as_str()),
                Some(link @ (Link::Mute | Link::Deaf)) => {
                    self.sim.repair(HEAD, other.as_str());
                    self.set(other, link);
                }
                Some(Link::Held | Link::Cut) => {}
            }
        }
    }

    /// The far ends of a host's links; of those between head and others, the others.
    fn others(&self, host: &str) -> Vec<String> {
        let mut others: Vec<String> = self.crew.iter().map(|worker| worker.name.clone()).collect();
        others.extend((1..=self.wanted).map(|number| format!("person-{number}")));
        others.retain(|other| host == HEAD || other == host);
        others
    }

    /// The disk of a worker is another one.
    pub fn wipe(&mut self, worker: &str) {
        self.note(format!("{worker} loses its disk"));
        let _ = std::fs::remove_dir_all(self.site.cache(worker));
    }

    /// SIGTERM.
    pub fn tell_to_leave(&mut self, worker: usize) {
        self.note(format!("worker-{worker} is told to leave"));
        self.crew[worker].leave.lock().unwrap().cancel();
    }

    pub fn has_left(&self, worker: usize) -> bool {
        *self.crew[worker].left.lock().unwrap()
    }

    /// Nothing arrives between head and worker, and everything when they are released.
    pub fn hold(&mut self, worker: &str) {
        self.note(format!("{worker} is held"));
        self.set(worker, Link::Held);
    }

    pub fn release(&mut self, worker: &str) {
        self.note(format!("{worker} is released"));
        self.links.remove(worker);
        self.sim.release(HEAD, worker);
    }

    /// What is on its way is lost, and all that is sent.
    pub fn cut(&mut self, worker: &str) {
        self.note(format!("{worker} is cut off"));
        self.set(worker, Link::Cut);
    }

    /// What the worker sends is lost.
    pub fn mute(&mut self, worker: &str) {
        self.note(format!("{worker} is not heard"));
        self.set(worker, Link::Mute);
    }

    /// What it is sent is lost.
    pub fn deafen(&mut self, worker: &str) {
        self.note(format!("{worker} hears nothing"));
        self.set(worker, Link::Deaf);
    }

    pub fn mend(&mut self, worker: &str) {
        self.note(format!("{worker} is connected"));
        self.links.remove(worker);
        self.sim.repair(HEAD, worker);
    }

    fn set(&mut self, worker: &str, link: Link) {
        match link {
            Link::Held => self.sim.hold(HEAD, worker),
            Link::Cut => self.sim.partition(HEAD, worker),
            Link::Mute => self.sim.partition_oneway(worker, HEAD),
            Link::Deaf => self.sim.partition_oneway(HEAD, worker),
        }
        self.links.insert(worker.into(), link);
    }

    /// It crashes, and what it has sent does not arrive any more, nor that it closes its connections.
    pub fn lose_power(&mut self, host: &str) {
        self.note(format!("{host} loses power"));
        let others = self.others(host);
        others.iter().for_each(|other| self.sim.partition(HEAD, other.as_str()));
        self.sim.crash(host);
        for other in &others {
            self.sim.repair(HEAD, other.as_str());
            if let Some(link) = self.links.get(other).copied() {
                self.set(other, link);
            }
        }
    }

    pub fn slow_link(&mut self, worker: &str, latency: Duration) {
        self.note(format!("{worker} is up to {} ms away", latency.as_millis()));
        self.sim.set_link_max_message_latency(HEAD, worker, latency);
    }

    /// Waits for the end of all sweeps, sends the workers home, and looks at what is there.
    pub fn finish(mut self, limit: Duration) -> Ended {
        let done = |world: &World| world.states.lock().unwrap().len() == world.wanted;
        self.run_until("the end of all sweeps", limit, done);
        let states = self.states.lock().unwrap().clone();
        self.demand(states.iter().all(|state| state == "done"), || format!("the sweeps ended as {states:?}"));
        self.note("everybody may go".into());
        self.site.drain.cancel();
        let gone = |world: &World| (0..world.crew.len()).all(|worker| world.has_left(worker));
        self.run_until("the end of all workers", Duration::from_secs(120), gone);
        let seconds = self.now().as_secs_f64();
        self.crash(HEAD);
        self.start(HEAD); // which tidies up
        self.run_for(Duration::from_secs(1));
        self.crash(HEAD); // which closes the ledger
        let story = self.site.story.clone();
        let results = results(&self.site).unwrap_or_else(|why| panic!("{why}\n{}", story.last(60)));
        let books = std::mem::take(&mut *self.site.books.lock().unwrap());
        Ended {
            results,
            books,
            seconds,
            history: std::mem::take(&mut story.0.lock().unwrap().lines).into_iter().map(|(line, _)| line).collect(),
        }
    }
}

/// What a world leaves.
#[derive(Debug)]
pub struct Ended {
    pub results: Results,
    pub books: Books,
    /// Simulated.
    pub seconds: f64,
    pub history: Vec<String>,
}

/// Hosts end without an error, or the world says what is wrong.
async fn ended(host: impl Future<Output = ()>) -> turmoil::Result {
    host.await;
    Ok(())
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A panic in a task ends that task alone: it is noted, and ends the world at the next step.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
    PANICS.take();
}
