//! What anything that does not run waits for, and what has happened to it, in words.

use super::super::live::LiveSweep;
use super::Core;
use super::steer::Refused;
use crate::engine::{Record, SweepId, SweepState, Why};
use crate::plan::TaskKey;
use crate::proto;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Nobody reads more; what is left out is counted.
const MOST_GROUPS: usize = 40;
const MOST_TASKS: usize = 100;
const MOST_EVENTS: usize = 1000;

impl Core {
    /// Everything of a sweep that does not run, grouped; or each task whose id, or whose trial's, begins with `prefix`.
    ///
    /// # Errors
    /// When there is no such sweep or task.
    pub fn why(&self, name: &str, prefix: &str) -> Result<proto::WhyResponse, Refused> {
        let id = self.named(name)?;
        let live = &self.sweeps[&id];
        let mut notes = self.notes(id, live);
        let groups = match prefix {
            "" => self.waiting(id, live, &mut notes),
            prefix => self.each(id, live, prefix, &mut notes)?,
        };
        Ok(proto::WhyResponse { notes, groups })
    }

    /// Of the sweep as a whole.
    fn notes(&self, id: SweepId, live: &LiveSweep) -> Vec<String> {
        let mut notes: Vec<String> = Some(self.waits()).into_iter().filter(|waits| !waits.is_empty()).collect();
        let name = &live.plan.sweep.name;
        match self.engine.progress(id).map(|progress| progress.state) {
            Some(SweepState::Running) => {}
            Some(SweepState::Cancelled) => notes.push(format!("{name} was cancelled; submit its file again to go on")),
            _ => notes.push(format!("{name} has finished: nothing of it waits")),
        }
        if let Some(why) = &live.steering.paused {
            notes.push(format!("{name} is paused {why}; `epsweep resume {name}` goes on"));
        }
        if self.draining {
            notes.push("the coordinator is about to end: it leases nothing".into());
        }
        notes.extend(self.set_aside());
        let shares = self.engine.shares();
        let busy: u64 = shares.iter().map(|share| share.running).sum();
        let (workers, slots) = self.engine.fleet();
        notes.push(match workers {
            0 => "no worker is connected; start one with: epsweep-worker --connect HOST:PORT".into(),
            _ => format!("{} tasks are leased to {workers} workers with {slots} slots", busy),
        });
        if shares.len() > 1 {
            let share = |share: &crate::engine::Share| {
                let name = self.sweeps.get(&share.sweep).map_or("?", |live| &live.plan.sweep.name);
                let paused = if share.paused { ", paused" } else { "" };
                let (priority, running, ready) = (share.priority, share.running, share.ready);
                format!("{name} (priority {priority}{paused}) runs {running} and has {ready} ready")
            };
            let shares: Vec<String> = shares.iter().map(share).collect();
            notes.push(format!("slots are shared out by priority: {}", shares.join("; ")));
        }
        notes
    }

    /// Workers that get nothing for now, and why.
    pub(super) fn set_aside(&self) -> Vec<String> {
        let line = |aside: crate::engine::SetAside| {
            let (worker, failures, seconds) = (aside.worker, aside.failures, aside.remaining / 1000);
            format!(
                "worker {worker} is set aside for {seconds} s: {failures} failures in a row, the last: {}",
                aside.last
            )
        };
        self.engine.set_aside().into_iter().map(line).collect()
    }

    fn waiting(&self, id: SweepId, live: &LiveSweep, notes: &mut Vec<String>) -> Vec<proto::WhyGroup> {
        let mut alike: BTreeMap<(&str, Why), (u64, TaskKey)> = BTreeMap::new();
        for (task, why) in self.engine.why(id) {
            if !matches!(why, Why::Answered | Why::Running { .. }) {
                let kind = live.kind(task).unwrap_or_default();
                alike.entry((kind, why)).or_insert((0, task)).0 += 1;
            }
        }
        // Many training runs may stand alike before their evaluations: one line will do.
        let mut groups: BTreeMap<(&str, &str, String), (u64, TaskKey)> = BTreeMap::new();
        for ((kind, why), (count, task)) in alike {
            let reason = self.reason(id, live, task, &why, false);
            groups.entry((kind, code(&why), reason)).or_insert((0, task)).0 += count;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, (count, _))| Reverse(*count));
        if groups.len() > MOST_GROUPS {
            notes.push(format!("{} more groups are not shown", groups.len() - MOST_GROUPS));
            groups.truncate(MOST_GROUPS);
        }
        let group = |((kind, code, reason), (tasks, task)): ((&str, &str, String), (u64, TaskKey))| proto::WhyGroup {
            tasks,
            kind: kind.into(),
            code: code.into(),
            reason,
            task: task.short(),
            trial: live.trial_name(task).unwrap_or_default(),
        };
        groups.into_iter().map(group).collect()
    }

    fn each(
        &self,
        id: SweepId,
        live: &LiveSweep,
        prefix: &str,
        notes: &mut Vec<String>,
    ) -> Result<Vec<proto::WhyGroup>, Refused> {
        let mut tasks = live.matching(prefix)?;
        if tasks.len() > MOST_TASKS {
            notes.push(format!("{} more tasks match and are not shown", tasks.len() - MOST_TASKS));
            tasks.truncate(MOST_TASKS);
        }
        let each = |task: TaskKey| {
            let why = self.engine.why_of(id, task)?;
            Some(proto::WhyGroup {
                tasks: 1,
                kind: live.kind(task)?.into(),
                code: code(&why).into(),
                reason: self.reason(id, live, task, &why, true),
                task: task.short(),
                trial: live.trial_name(task)?,
            })
        };
        Ok(tasks.into_iter().filter_map(each).collect())
    }

    /// `exact`: for this very task; else for all that wait for the same.
    fn reason(&self, id: SweepId, live: &LiveSweep, task: TaskKey, why: &Why, exact: bool) -> String {
        let name = &live.plan.sweep.name;
        let message = |task: &TaskKey| self.fatal.get(task).map_or("", String::as_str);
        match why {
            Why::Answered => "answered".into(),
            Why::Running { worker, attempt, since } => {
                let seconds = self.now().saturating_sub(*since) / 1000;
                format!("runs on {worker}, attempt {attempt}, for {seconds} s")
            }
            Why::Checkpoint { train } => match self.engine.why_of(id, *train) {
                Some(Why::Running { worker, since, .. }) => {
                    let seconds = self.now().saturating_sub(since) / 1000;
                    let (short, worker) = (train.short(), worker);
                    format!("waits for its checkpoint: training run {short} is on {worker} for {seconds} s")
                }
                Some(other) if exact => {
                    let reason = self.reason(id, live, *train, &other, true);
                    format!("waits for its checkpoint: training run {}: {reason}", train.short())
                }
                Some(other) => format!("waits for its checkpoint, whose training run is {}", code(&other)),
                None => "waits for its checkpoint".into(),
            },
            Why::NoCheckpoint { train } if exact => {
                format!("its training run {} failed for good: {}", train.short(), message(train))
            }
            Why::NoCheckpoint { .. } => "its training run failed for good".into(),
            Why::Quarantined { diverged: true, .. } if exact => {
                format!("diverged, and would again: {}", message(&task))
            }
            Why::Quarantined { diverged: true, .. } => "diverged, and would again".into(),
            Why::Quarantined { failures, .. } => {
                let kinds: Vec<String> =
                    failures.iter().map(|(kind, count)| format!("{count} x {}", kind.name())).collect();
                let last = if exact { format!(", the last: {}", message(&task)) } else { String::new() };
                format!(
                    "set aside after {}{last}; `epsweep logs {name} {}` shows why, `epsweep retry --failed {name}` tries again",
                    kinds.join(", "),
                    task.short()
                )
            }
            Why::Cancelled => "nobody wants it any more: the sweep was cancelled".into(),
            Why::Paused => "its sweep is paused".into(),
            Why::Draining => "the coordinator is about to end".into(),
            Why::NoWorker => "waits for a worker, and none is connected".into(),
            Why::NoTime { needed, most } => format!(
                "waits for a worker with more time: it needs {needed} s, and no worker has more than {most} s left before it must leave"
            ),
            Why::Rests { seconds } => format!(
                "failed, and is tried again in {seconds} s: no other worker could try it; `epsweep logs {name} {}` shows why",
                task.short()
            ),
            Why::Queued => match self.engine.queue_position(id, task).filter(|_| exact) {
                Some(ahead) => format!("is queued: {ahead} tasks of its sweep come first"),
                None => "is queued for a slot".into(),
            },
        }
    }

    /// What has happened to the tasks that `prefix` names; without one, to those that have ever failed.
    ///
    /// # Errors
    /// When there is no such sweep or task, or the ledger cannot be read.
    pub fn logs(&self, name: &str, prefix: &str) -> Result<proto::LogsResponse, Refused> {
        let live = &self.sweeps[&self.named(name)?];
        let tasks = match prefix {
            "" => {
                let mut failed = self.ledger.ever_failed()?;
                failed.retain(|task| live.position(*task).is_some());
                failed
            }
            prefix => live.matching(prefix)?,
        };
        let mut events = Vec::new();
        let mut histories = self.ledger.histories(&tasks)?;
        for task in tasks {
            if events.len() >= MOST_EVENTS {
                break;
            }
            let read = histories.remove(&task).unwrap_or_default();
            let (kind, trial) = (live.kind(task).unwrap_or_default(), live.trial_name(task).unwrap_or_default());
            for event in read {
                let blank = proto::AttemptEvent {
                    task: task.short(),
                    kind: kind.into(),
                    trial: trial.clone(),
                    at_ms: event.at_ms,
                    log: event.log,
                    ..proto::AttemptEvent::default()
                };
                events.push(describe(blank, event.record));
            }
        }
        Ok(proto::LogsResponse { events })
    }
}

/// The word for scripts.
fn code(why: &Why) -> &'static str {
    match why {
        Why::Answered => "answered",
        Why::Running { .. } => "running",
        Why::Checkpoint { .. } => "checkpoint",
        Why::NoCheckpoint { .. } => "no_checkpoint",
        Why::Quarantined { .. } => "quarantined",
        Why::Cancelled => "cancelled",
        Why::Paused => "paused",
        Why::Draining => "draining",
        Why::NoWorker => "no_worker",
        Why::NoTime { .. } => "no_time",
        Why::Rests { .. } => "rests",
        Why::Queued => "queued",
    }
}

fn describe(event: proto::AttemptEvent, record: Record) -> proto::AttemptEvent {
    match record {
        Record::Leased { lease, worker } => {
            proto::AttemptEvent { attempt: lease.attempt, event: "leased".into(), worker: worker.to_string(), ..event }
        }
        Record::Released { lease, why } => {
            proto::AttemptEvent { attempt: lease.attempt, event: "released".into(), message: why, ..event }
        }
        Record::Committed { lease, worker, .. } => proto::AttemptEvent {
            attempt: lease.attempt,
            event: "committed".into(),
            worker: worker.to_string(),
            ..event
        },
        Record::Failed { lease, worker, failure, message, fatal } => proto::AttemptEvent {
            attempt: lease.attempt,
            event: "failed".into(),
            worker: worker.to_string(),
            failure: failure.name().into(),
            fatal,
            message,
            ..event
        },
        Record::Revived { .. } => proto::AttemptEvent { event: "revived".into(), ..event },
        Record::Withdrawn { .. } => proto::AttemptEvent { event: "withdrawn".into(), ..event },
    }
}
