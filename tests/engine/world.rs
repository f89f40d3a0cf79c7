//! Three workers, a network and a coordinator around a real engine.
//!
//! The coordinator does what `src/coordinator` does: it groups decisions, makes each group durable,
//! and only then lets the replies go. The workers do what `src/worker` does: they repeat a request
//! number until it was answered with leases, hold a lease until its commit was answered, stop what
//! is revoked, and register again when told that they are unknown.

use crate::laws::{Circumstances, Laws};
use crate::peers::{Call, Message, Process, Reply, answer, name, slots};
use crate::sights::Sights;
use crate::steps::{NAMES, Step, WORKERS};
use crate::sweeps::Shape;
use epsweep::engine::{
    Effect, Engine, Event, Failure, Lease, Millis, Record, Settings, Status, SweepId, SweepState, Verdict, WorkerId,
};
use epsweep::plan::TaskKey;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A small budget: sweeps are to pause themselves.
const SETTINGS: Settings = Settings { lease_ms: 30_000, prefetch_seconds: 0.5, failure_budget: Some(0), retry_ms: 500 };

/// A sweep as the ledger remembers it.
#[derive(Debug, Clone)]
struct Stored {
    name: usize,
    shape: Shape,
    running: bool,
    paused: bool,
}

pub struct World {
    /// Looks at everything after each event; in a long history that would take most of the time.
    thorough: bool,
    engine: Engine,
    now: Millis,
    laws: Laws,
    /// Everything decided so far; only what the last `sync` saw survives a crash.
    history: Vec<Record>,
    sweeps: BTreeMap<SweepId, Stored>,
    durable_records: usize,
    durable_sweeps: BTreeMap<SweepId, Stored>,
    replies: Vec<(usize, u32, Reply)>,
    registered: HashSet<WorkerId>,
    /// Since its registration: the last request of a worker that was answered with leases.
    answered: HashMap<WorkerId, u64>,
    draining: bool,
    network: Vec<Message>,
    workers: [Process; WORKERS],
    /// Tasks leased since the faults ended; none before.
    healing: Option<HashSet<TaskKey>>,
    pub sights: Sights,
}

impl World {
    pub fn new(thorough: bool) -> World {
        World {
            thorough,
            engine: Engine::new(SETTINGS),
            now: 0,
            laws: Laws::default(),
            history: Vec::new(),
            sweeps: BTreeMap::new(),
            durable_records: 0,
            durable_sweeps: BTreeMap::new(),
            replies: Vec::new(),
            registered: HashSet::new(),
            answered: HashMap::new(),
            draining: false,
            network: Vec::new(),
            workers: std::array::from_fn(|_| Process { request: 1, ..Process::default() }),
            healing: None,
            sights: Sights::default(),
        }
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Submit { name, shape } => self.submit(*name, shape.clone()),
            Step::Cancel { name } => self.cancel_all(*name),
            Step::Pause { name } => self.steer(*name, Event::Pause),
            Step::Resume { name } => self.steer(*name, Event::Resume),
            Step::Prioritise { name, priority } => {
                self.steer(*name, |sweep| Event::Prioritise { sweep, priority: *priority });
            }
            Step::Retry { name } => self.steer(*name, Event::Retry),
            Step::Ask { worker, prefetch, left } => self.send_when_greeted(*worker, |process| {
                let free_slots = slots(*worker).saturating_sub(process.held.len() as u32);
                Call::Acquire { request: process.request, free_slots, prefetch: *prefetch, left: *left }
            }),
            Step::Answer { worker, pick } => {
                if let Some((lease, keep)) = self.held(*worker, *pick) {
                    self.send(*worker, answer(lease, keep));
                }
            }
            Step::Fail { worker, pick, failure } => {
                if let Some((lease, _)) = self.held(*worker, *pick) {
                    self.send(*worker, Call::Fail { lease, failure: *failure });
                }
            }
            Step::Beat { worker, queued } => {
                self.send_when_greeted(*worker, |process| process.beat(*queued));
            }
            Step::Toil { worker, failure } => self.toil(*worker, *failure),
            Step::Register { worker } => self.send(*worker, Call::Register { running: self.workers[*worker].leases() }),
            Step::Leave { worker } => {
                self.send(*worker, Call::Leave);
                self.begin_anew(*worker);
            }
            Step::Die { worker, told } => {
                self.begin_anew(*worker);
                if *told {
                    self.apply(Event::Lost { worker: name(*worker) });
                    self.registered.remove(&name(*worker));
                }
            }
            Step::Deliver { pick, again, reply_lost } => {
                if !self.network.is_empty() {
                    let position = pick % self.network.len();
                    let message =
                        if *again { self.network[position].clone() } else { self.network.swap_remove(position) };
                    let reply = self.deliver(&message);
                    let heard = reply.filter(|_| !reply_lost);
                    self.replies.extend(heard.map(|reply| (message.worker, message.life, reply)));
                }
            }
            Step::Lose { pick } => {
                if !self.network.is_empty() {
                    self.network.swap_remove(pick % self.network.len());
                }
            }
            Step::Wait { millis } => {
                self.now += millis;
                self.apply(Event::Tick);
            }
            Step::Sync => self.sync(),
            Step::Crash => self.crash(),
            Step::Drain => {
                self.apply(Event::Drain);
                self.draining = true;
            }
        }
    }

    // ---- the coordinator -------------------------------------------------------------------------

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.sights.events += 1;
        let effects = self.engine.apply(event, self.now);
        if self.thorough || self.sights.events.is_multiple_of(8) {
            self.engine.sanity_check();
        }
        for effect in &effects {
            match effect {
                Effect::Persist(record) => self.persist(record),
                Effect::Paused(sweep, _) => {
                    let stored = self.sweeps.get_mut(sweep).expect("only admitted sweeps pause");
                    assert!(stored.running && !stored.paused, "sweep {sweep} paused twice, or after its end");
                    stored.paused = true;
                    self.sights.halted += 1;
                }
                Effect::Finished(sweep) => {
                    let stored = self.sweeps.get_mut(sweep).expect("only admitted sweeps finish");
                    assert!(stored.running, "sweep {sweep} finished twice, or after it was cancelled");
                    stored.running = false;
                    self.check_finished(*sweep);
                }
                _ => {}
            }
        }
        for (&sweep, stored) in &self.sweeps {
            let running = self.engine.progress(sweep).is_some_and(|progress| progress.state == SweepState::Running);
            assert_eq!(running, stored.running, "sweep {sweep}");
        }
        if self.thorough || self.sights.events.is_multiple_of(128) {
            self.check_replay();
        }
        effects
    }

    fn persist(&mut self, record: &Record) {
        let live = || self.sweeps.values().filter(|stored| stored.running);
        let running = live().map(|stored| &stored.shape).collect();
        let open = live().filter(|stored| !stored.paused).map(|stored| &stored.shape).collect();
        let aside = self.engine.set_aside();
        self.sights.set_aside += u64::from(!aside.is_empty());
        match record {
            Record::Leased { lease, worker } => {
                assert!(self.engine.has_time_for(worker, *lease), "{record:?}: {worker} must leave before");
                self.sights.copies += u64::from(self.laws.is_leased(lease.task));
            }
            Record::Released { why, .. } => self.sights.taken_over += u64::from(why.contains("had one free")),
            _ => {}
        }
        let connected = self.engine.workers().filter(|name| aside.iter().all(|aside| aside.worker != **name));
        let trusted = connected.cloned().collect();
        let now = Circumstances { running, open, trusted, registered: &self.registered, draining: self.draining };
        self.laws.observe(record, Some(&now));
        self.history.push(record.clone());
        let Some(leased) = &mut self.healing else { return };
        match record {
            Record::Leased { lease, .. } => {
                assert!(leased.insert(lease.task), "{record:?}: leased twice without a fault")
            }
            Record::Failed { lease, .. } => {
                assert!(!leased.contains(&lease.task), "{record:?}: failed without a fault")
            }
            _ => {}
        }
    }

    /// History and running sweeps alone give the live engine. Epochs of a sweep that finished on the way fail nothing more.
    fn check_replay(&self) {
        let (recovered, finished) = self.recovered();
        let seen = |status| if !finished.is_empty() && status == Status::Failed { Status::Done } else { status };
        for (&sweep, _) in self.sweeps.iter().filter(|(id, stored)| stored.running && !finished.contains(id)) {
            let of =
                |engine: &Engine| engine.statuses(sweep).map(|(key, s)| (key, seen(s))).collect::<BTreeMap<_, _>>();
            assert_eq!(of(&recovered), of(&self.engine), "sweep {sweep}: replayed, and live");
        }
    }

    /// An engine started from the history, and the sweeps that finished on being admitted again. There
    /// is one reason for that: another sweep wants more epochs of a trial, and has not been admitted yet.
    fn recovered(&self) -> (Engine, Vec<SweepId>) {
        let mut engine = Engine::new(SETTINGS);
        for (position, record) in self.history.iter().enumerate() {
            engine.replay(record, 0);
            if self.thorough || position.is_multiple_of(32) {
                engine.sanity_check();
            }
        }
        let mut finished = Vec::new();
        for (&sweep, stored) in self.sweeps.iter().filter(|(_, stored)| stored.running) {
            for effect in engine.apply(Event::Admit(stored.shape.admission(sweep, false)), 0) {
                match effect {
                    Effect::Wake => {}
                    Effect::Finished(id) => {
                        self.check_finished(id);
                        finished.push(id);
                    }
                    other => panic!("admitting a sweep again must decide nothing, not {other:?}"),
                }
            }
            if stored.paused {
                engine.apply(Event::Pause(sweep), 0);
            }
            engine.sanity_check();
        }
        (engine, finished)
    }

    fn check_finished(&self, sweep: SweepId) {
        let shape = &self.sweeps[&sweep].shape;
        for key in shape.keys() {
            assert!(self.laws.is_final(key, shape), "sweep {sweep} finished before {key:?}");
        }
    }

    fn submit(&mut self, name: usize, shape: Shape) {
        self.cancel_all(name);
        let sweep = 1 + self.sweeps.len() as SweepId;
        self.sweeps.insert(sweep, Stored { name, shape: shape.clone(), running: true, paused: false });
        self.apply(Event::Admit(shape.admission(sweep, true)));
    }

    fn cancel_all(&mut self, name: usize) {
        let named: Vec<_> = self.sweeps.iter().filter(|(_, stored)| stored.name == name).map(|(&id, _)| id).collect();
        for sweep in named {
            self.sweeps.get_mut(&sweep).expect("just found").running = false;
            self.apply(Event::Cancel(sweep));
        }
    }

    /// What a person asks of the live sweep of a name, if there is one.
    fn steer(&mut self, name: usize, event: impl Fn(SweepId) -> Event) {
        let live = self.sweeps.iter_mut().find(|(_, stored)| stored.name == name && stored.running);
        let Some((&sweep, stored)) = live else { return };
        let event = event(sweep);
        match event {
            Event::Pause(_) => stored.paused = true,
            Event::Resume(_) => stored.paused = false,
            _ => {}
        }
        self.apply(event);
    }

    fn sync(&mut self) {
        self.durable_records = self.history.len();
        self.durable_sweeps = self.sweeps.clone();
        for (worker, life, reply) in std::mem::take(&mut self.replies) {
            if self.workers[worker].life == life {
                self.hear(worker, reply);
            }
        }
    }

    fn crash(&mut self) {
        self.history.truncate(self.durable_records);
        self.sweeps = self.durable_sweeps.clone();
        self.laws = Laws::of(&self.history);
        self.replies.clear();
        self.registered.clear();
        self.answered.clear();
        self.draining = false;
        self.now = 0;
        let (engine, finished) = self.recovered();
        self.engine = engine;
        finished.iter().for_each(|sweep| self.sweeps.get_mut(sweep).expect("it was admitted").running = false);
    }

    fn deliver(&mut self, message: &Message) -> Option<Reply> {
        let worker = name(message.worker);
        match message.call.clone() {
            Call::Register { running } => {
                self.registered.insert(worker.clone());
                self.answered.remove(&worker);
                self.apply(Event::Register {
                    worker: worker.clone(),
                    slots: slots(message.worker),
                    running: running.clone(),
                });
                let leased = self.laws.leased_to(&worker);
                assert!(leased.iter().all(|lease| running.contains(lease)), "{worker} knows nothing of {leased:?}");
                Some(Reply::Welcome)
            }
            Call::Acquire { .. } => self.acquire(worker, &message.call),
            Call::Heartbeat { running, queued } => {
                let effects = self.apply(Event::Heartbeat { worker, running, queued });
                effects.into_iter().find_map(|effect| match effect {
                    Effect::Renewed { revoked } => Some(Reply::Revoked(revoked)),
                    Effect::UnknownWorker => Some(Reply::Unknown),
                    _ => None,
                })
            }
            Call::Commit { lease, epochs } => {
                self.commit(worker, lease, epochs);
                Some(Reply::Ended(lease))
            }
            Call::Fail { lease, failure } => {
                self.apply(Event::Fail { worker, lease, failure, message: "it hurts".into() });
                Some(Reply::Ended(lease))
            }
            Call::Leave => {
                self.apply(Event::Leave { worker: worker.clone() });
                self.registered.remove(&worker);
                None
            }
        }
    }

    fn acquire(&mut self, worker: WorkerId, call: &Call) -> Option<Reply> {
        let &Call::Acquire { request, free_slots, prefetch, left: seconds_left } = call else { return None };
        let asked = Event::Acquire { worker: worker.clone(), request, free_slots, prefetch, seconds_left };
        let effects = self.apply(asked);
        let leased =
            effects.iter().filter(|effect| matches!(effect, Effect::Persist(Record::Leased { .. }))).count() as u32;
        assert!(leased <= free_slots + prefetch, "more leases than were asked for");
        let granted_before = self.answered.entry(worker.clone()).or_default();
        assert!(leased == 0 || request >= *granted_before, "leases for a request that {worker} has long left behind");
        if leased > 0 {
            *granted_before = request;
        }
        effects.into_iter().find_map(|effect| match effect {
            Effect::UnknownWorker => Some(Reply::Unknown),
            Effect::Granted(grants) => {
                assert!(!grants.is_empty(), "{worker} would repeat its request for ever");
                let leases = grants.into_iter().map(|grant| (grant.lease, grant.keep));
                Some(Reply::Granted { request, leases: leases.collect() })
            }
            _ => None,
        })
    }

    fn commit(&mut self, worker: WorkerId, lease: Lease, epochs: Option<Vec<u32>>) {
        if !self.sweeps.values().any(|stored| stored.shape.wants(lease.task)) {
            return; // the coordinator has no question to check the answer against
        }
        let effects = self.apply(Event::Commit { worker, lease, epochs, seconds: 0.1 });
        let recorded = effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::Committed { .. })));
        let verdict =
            effects.iter().find_map(|effect| if let Effect::Verdict(verdict) = effect { Some(*verdict) } else { None });
        assert_eq!(verdict == Some(Verdict::Accepted), recorded, "{lease:?}: accepted exactly when remembered");
        assert_ne!(verdict, Some(Verdict::Unwanted), "{lease:?} was granted once");
    }

    // ---- the workers -----------------------------------------------------------------------------

    fn send(&mut self, worker: usize, call: Call) {
        self.network.push(Message { worker, life: self.workers[worker].life, call });
    }

    /// A new process introduces itself before it says anything else.
    fn send_when_greeted(&mut self, worker: usize, call: impl Fn(&Process) -> Call) {
        let process = &self.workers[worker];
        let call = if process.greeted { call(process) } else { Call::Register { running: process.leases() } };
        self.send(worker, call);
    }

    fn held(&self, worker: usize, pick: usize) -> Option<(Lease, Vec<u32>)> {
        let held = &self.workers[worker].held;
        let (&task, (attempt, keep)) = held.iter().nth(pick % held.len().max(1))?;
        Some((Lease { task, attempt: *attempt }, keep.clone()))
    }

    fn begin_anew(&mut self, worker: usize) {
        // Requests count on, as by the clock.
        let (life, request) = (self.workers[worker].life + 1, self.workers[worker].request + 1);
        self.workers[worker] = Process { life, request, ..Process::default() };
    }

    fn hear(&mut self, worker: usize, reply: Reply) {
        let process = &mut self.workers[worker];
        match reply {
            Reply::Welcome => process.greeted = true,
            Reply::Unknown => {
                let running = process.leases();
                self.send(worker, Call::Register { running });
            }
            Reply::Granted { request, leases } => {
                if request == process.request && !leases.is_empty() {
                    process.request += 1;
                    process.held.extend(leases.into_iter().map(|(lease, keep)| (lease.task, (lease.attempt, keep))));
                }
            }
            Reply::Revoked(leases) => leases.into_iter().for_each(|lease| process.forget(lease)),
            Reply::Ended(lease) => process.forget(lease),
        }
    }

    // ---- healing ---------------------------------------------------------------------------------

    /// The faults have ended, and what was on its way is lost. Every sweep that is still wanted
    /// must come to its end, at the first attempt of whatever starts from now on.
    pub fn heal(&mut self) {
        self.sync();
        if self.draining {
            self.crash();
        }
        self.network.clear();
        self.healing = Some(HashSet::new());
        for round in 0.. {
            if self.sweeps.values().all(|stored| !stored.running) {
                return;
            }
            assert!(round < 120, "still running after two minutes without a fault");
            (0..NAMES).for_each(|name| self.steer(name, Event::Resume));
            self.now += 1000;
            self.apply(Event::Tick);
            for worker in 0..WORKERS {
                if round % 5 == 0 {
                    self.step(&Step::Beat { worker, queued: 0 });
                }
                self.toil(worker, None);
            }
        }
    }

    /// On a line of its own, past whatever is under way in the network.
    fn toil(&mut self, worker: usize, failure: Option<Failure>) {
        let before = std::mem::take(&mut self.network);
        self.step(&Step::Ask { worker, prefetch: 1, left: None });
        self.deliver_all();
        for (task, (attempt, keep)) in self.workers[worker].held.clone() {
            let lease = Lease { task, attempt };
            self.send(worker, failure.map_or_else(|| answer(lease, keep), |failure| Call::Fail { lease, failure }));
        }
        self.deliver_all();
        self.network = before;
    }

    fn deliver_all(&mut self) {
        while !self.network.is_empty() {
            let message = self.network.remove(0);
            let reply = self.deliver(&message);
            self.replies.extend(reply.map(|reply| (message.worker, message.life, reply)));
            self.sync();
        }
    }
}
