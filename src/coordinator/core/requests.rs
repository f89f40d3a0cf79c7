//! What the services ask of the core: each runs on its thread, and is answered once it is durable.

use super::super::answer::Answer;
use super::super::live::LiveSweep;
use super::super::log::Committed;
use super::super::prepare::Prepared;
use super::{Core, unix_ms};
use crate::engine::{
    Admission, DEFAULT_PRIORITY, Effect, Event, Failure, Grant, Lease, Status, SweepId, SweepState, Verdict,
};
use crate::launch::slurm::Demand;
use crate::ledger::{Cost, LedgerError, NewSweep, WorkerInfo};
use crate::plan::{CertifyQuestion, MeasureQuestion, Plan, Question, TaskKey};
use crate::proto;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the leases of one request have in common.
struct Beside {
    /// There may be answers from other sweeps to build on.
    others: bool,
    /// Artifacts by training run and epoch.
    checkpoints: HashMap<(TaskKey, u32), String>,
}

impl Core {
    /// Admits a sweep in place of any earlier one of its name.
    pub fn submit(&mut self, prepared: &Prepared) -> proto::SubmitResponse {
        let plan = &prepared.plan;
        let name = &plan.sweep.name;
        let earlier: Vec<_> =
            self.sweeps.values().filter(|live| live.plan.sweep.name == *name).map(|live| live.id).collect();
        let before = earlier.last().map(|id| self.sweeps[id].steering.priority);
        for id in earlier {
            self.step(Event::Cancel(id));
        }
        let new = NewSweep {
            yaml: &prepared.yaml,
            source: &prepared.source,
            base_dir: &prepared.base_dir,
            plan,
            at_ms: unix_ms(),
        };
        let stored = self.ledger.add_sweep(&new);
        let id = self.keep(stored);
        self.admit_live(id, plan.clone(), true);
        self.prioritise(id, prepared.priority.or(before).unwrap_or(DEFAULT_PRIORITY));
        let answered = self
            .engine
            .progress(id)
            .map_or(0, |progress| progress.train.of(Status::Done) + progress.evaluate.of(Status::Done));
        tracing::info!(sweep = name, trials = plan.trials.len(), tasks = plan.tasks.len(), answered, "sweep submitted");
        proto::SubmitResponse {
            sweep: name.clone(),
            trials: plan.trials.len() as u32,
            tasks: plan.tasks.len() as u64,
            answered,
        }
    }

    pub(super) fn admit_live(&mut self, id: SweepId, plan: Arc<Plan>, revive: bool) {
        let admission = Admission::of(&plan, id, revive);
        self.sweeps.insert(id, LiveSweep::new(id, plan));
        self.step(Event::Admit(admission));
    }

    /// Cancels a sweep; returns how many of its tasks will not run, or `None` when there is none of that name.
    pub fn cancel(&mut self, name: &str) -> Option<u64> {
        let id = self.find(name).filter(|_| !name.is_empty())?; // an empty name is an unset variable
        let progress = self.engine.progress(id)?;
        if progress.state != SweepState::Running {
            return Some(0);
        }
        self.step(Event::Cancel(id));
        self.finish(id, "cancelled");
        Some(
            [progress.train, progress.evaluate]
                .iter()
                .map(|c| c.total() - c.of(Status::Done) - c.of(Status::Failed))
                .sum(),
        )
    }

    pub fn register(&mut self, worker: WorkerInfo, running: Vec<Lease>) {
        let written = self.ledger.store_worker(&worker, unix_ms());
        self.keep(written);
        tracing::info!(
            worker = worker.worker,
            host = worker.host,
            slots = worker.slots,
            device = worker.device,
            "worker registered"
        );
        self.step(Event::Register { worker: worker.worker.into(), slots: worker.slots, running });
    }

    /// Leases for a worker; `None` when it must register first.
    pub fn acquire(&mut self, asked: &proto::AcquireRequest) -> Option<Vec<proto::Lease>> {
        let &proto::AcquireRequest { request, free_slots, prefetch, seconds_left, .. } = asked;
        let worker = asked.worker.as_str().into();
        let effects = self.step(Event::Acquire { worker, request, free_slots, prefetch, seconds_left });
        let mut grants = Vec::new();
        for effect in effects {
            match effect {
                Effect::UnknownWorker => return None,
                Effect::Granted(granted) => grants = granted,
                _ => {}
            }
        }
        // An answer over another grid of epsilons comes from another sweep, or from another revision of this one.
        let sweeps = self.ledger.sweep_count();
        let mut beside = Beside { others: self.keep(sweeps) > 1, checkpoints: HashMap::new() };
        Some(grants.into_iter().filter_map(|grant| self.write_lease(grant, &asked.worker, &mut beside)).collect())
    }

    fn write_lease(&mut self, grant: Grant, worker: &str, beside: &mut Beside) -> Option<proto::Lease> {
        let Grant { lease, sweep, keep, halvings, .. } = grant;
        let live = self.sweeps.get(&sweep)?;
        let question = live.question(lease.task)?;
        let canonical = question.canonical();
        let (mut training, mut checkpoint, mut known) = (String::new(), String::new(), Vec::new());
        match question {
            Question::Train(_) => {
                training = self.unfinished(lease.task).map(|state| state.artifact).unwrap_or_default();
            }
            Question::Certify(CertifyQuestion { train, epoch, .. })
            | Question::Measure(MeasureQuestion { train, epoch, .. }) => {
                checkpoint = self.checkpoint(train, epoch, beside);
            }
            Question::Evaluate(question) => {
                checkpoint = self.checkpoint(question.train, question.epoch, beside);
                if beside.others {
                    let found = self.ledger.known(question.family());
                    known = self.keep(found);
                    known.retain(|known| question.can_build_on(known));
                }
            }
        }
        let live = self.sweeps.get(&sweep)?;
        let written = live.lease(lease, canonical, keep, checkpoint, known)?;
        let traceparent = self.traces.leased(lease, live, worker);
        Some(proto::Lease { training, halvings, traceparent, ..written })
    }

    fn checkpoint(&mut self, train: TaskKey, epoch: u32, beside: &mut Beside) -> String {
        if let Some(artifact) = beside.checkpoints.get(&(train, epoch)) {
            return artifact.clone();
        }
        let found = self.ledger.checkpoint(train, epoch);
        let artifact = self.keep(found).unwrap_or_default();
        beside.checkpoints.insert((train, epoch), artifact.clone());
        artifact
    }

    /// Renews leases; `None` when the worker must register first.
    pub fn heartbeat(&mut self, worker: &str, running: Vec<Lease>, queued: Vec<Lease>) -> Option<Vec<Lease>> {
        self.step(Event::Heartbeat { worker: worker.into(), running, queued }).into_iter().find_map(|effect| {
            match effect {
                Effect::Renewed { revoked } => Some(revoked),
                _ => None,
            }
        })
    }

    /// Takes answers in, each judged by itself. An `Err` says why it cannot be one.
    pub fn commits(&mut self, answers: Vec<Result<proto::CommitRequest, String>>) -> Vec<Result<Verdict, String>> {
        answers.into_iter().map(|answer| self.commit(answer?)).collect()
    }

    /// Takes an answer in. An `Err` says why it cannot be one.
    pub fn commit(&mut self, request: proto::CommitRequest) -> Result<Verdict, String> {
        let lease: Lease = request.lease.clone().unwrap_or_default().try_into()?;
        let live = self.sweeps.values().rev().find(|live| live.position(lease.task).is_some());
        let Some(live) = live else {
            self.metrics.verdict(Verdict::Unwanted);
            return Ok(Verdict::Unwanted);
        };
        let question = live.question(lease.task).expect("its position is known");
        let (sweep, kind) = (live.id, live.kind(lease.task).unwrap_or_default());
        let answer = Answer::check(&question, request.answer, &self.store)?;
        let epochs = match &answer {
            Answer::Train(checkpoints) => Some(checkpoints.iter().map(|checkpoint| checkpoint.epoch).collect()),
            Answer::Evaluate(_) | Answer::Measure(_) => None,
        };
        let (worker, seconds) = (request.worker, request.seconds);
        let effects = self.step(Event::Commit { worker: worker.as_str().into(), lease, epochs, seconds });
        let verdict = effects
            .iter()
            .find_map(|effect| if let Effect::Verdict(verdict) = effect { Some(*verdict) } else { None })
            .unwrap_or(Verdict::Unwanted);
        self.metrics.verdict(verdict);
        self.traces.answered(lease, verdict);
        if verdict != Verdict::Accepted {
            let live = &self.sweeps[&sweep];
            let (sweep, (trial, kind)) = (&live.plan.sweep.name, live.words(lease.task).unwrap_or_default());
            let (task, attempt) = (lease.task.short(), lease.attempt);
            tracing::info!(sweep, trial, task, attempt, worker, kind, verdict = ?verdict, "answer not needed");
        } else {
            self.log_committed(&Committed { lease, sweep, worker: &worker, kind, seconds });
            let passes = request.passes.unwrap_or_default();
            self.metrics.cost(kind, seconds, &passes);
            let cost = Cost {
                task: lease.task,
                attempt: lease.attempt,
                kind: kind.into(),
                worker,
                seconds,
                forwards: passes.forwards,
                backwards: passes.backwards,
                examples: passes.examples,
            };
            let stored = self.store_answer(lease.task, &answer, &cost);
            self.keep(stored);
            if matches!(answer, Answer::Train(_)) {
                self.forget_unfinished(lease.task);
            }
        }
        Ok(verdict)
    }

    fn store_answer(&mut self, task: TaskKey, answer: &Answer, cost: &Cost) -> Result<(), LedgerError> {
        match answer {
            Answer::Train(checkpoints) => self.ledger.store_checkpoints(task, checkpoints)?,
            Answer::Evaluate(levels) => self.ledger.store_levels(task, levels)?,
            Answer::Measure(answer) => self.ledger.store_measure(task, answer)?,
        }
        self.ledger.store_cost(cost)
    }

    pub fn fail(&mut self, worker: &str, lease: Lease, failure: Failure, message: String, log: &str) {
        let counted = self.engine.holds(worker, lease) && failure != Failure::Preempted;
        if counted && !log.is_empty() {
            let written = self.ledger.store_log(lease.task, lease.attempt, log);
            self.keep(written);
        }
        self.traces.failed(lease, failure, &message);
        self.step(Event::Fail { worker: worker.into(), lease, failure, message });
    }

    pub fn leave(&mut self, worker: &str) {
        tracing::info!(worker, "worker left");
        self.step(Event::Leave { worker: worker.into() });
    }

    /// A worker process is known to be dead: its tasks need not wait for their deadlines.
    pub fn lost(&mut self, worker: &str) {
        tracing::warn!(worker, "worker died");
        self.step(Event::Lost { worker: worker.into() });
    }

    /// Grants nothing from now on, and tells workers to leave.
    pub fn drain(&mut self) {
        self.draining = true;
        self.woken = true;
        self.step(Event::Drain);
    }

    /// The last call before the program ends.
    pub fn close(&mut self) {
        let folded = self.ledger.fold();
        self.keep(folded);
    }

    /// What worker jobs would be of use for.
    pub fn demand(&self) -> Demand {
        let shares = self.engine.shares();
        let open = shares.iter().filter(|share| !share.paused);
        let answered = |&id: &SweepId| {
            self.engine.progress(id).map_or(0, |p| p.train.of(Status::Done) + p.evaluate.of(Status::Done))
        };
        Demand {
            startable: open.map(|share| share.running + share.ready).sum(),
            answered: self.sweeps.keys().map(answered).sum(),
        }
    }

    pub fn has_workers(&self) -> bool {
        self.engine.fleet().0 > 0
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The newest sweep of that name; the newest of all for an empty name.
    pub(super) fn find(&self, name: &str) -> Option<SweepId> {
        self.sweeps.values().rev().find(|live| name.is_empty() || live.plan.sweep.name == name).map(|live| live.id)
    }

    pub fn set_report(&mut self, name: &str, report: String) {
        if let Some(live) = self.find(name).and_then(|id| self.sweeps.get_mut(&id)) {
            live.report = Some(report);
            self.woken = true;
        }
    }

    pub fn status(&self, name: &str) -> Option<proto::SweepStatus> {
        let id = self.find(name)?;
        let status = self.sweeps[&id].status(&self.engine.progress(id)?, self.engine.fleet(), &self.fatal);
        Some(proto::SweepStatus { waits: self.waits(), set_aside: self.set_aside(), ..status })
    }

    /// The newest revision of every sweep, oldest first.
    pub fn list(&self) -> Vec<proto::SweepStatus> {
        self.newest().into_iter().filter_map(|id| self.status(&self.sweeps[&id].plan.sweep.name)).collect()
    }

    /// The newest revision of every sweep's name, oldest first.
    pub(super) fn newest(&self) -> Vec<SweepId> {
        let newest: BTreeMap<&str, SweepId> =
            self.sweeps.values().map(|live| (&*live.plan.sweep.name, live.id)).collect();
        let mut ids: Vec<_> = newest.into_values().collect();
        ids.sort_unstable();
        ids
    }
}
