//! The coordinator's spans: `task` from lease to the end of the attempt, and in it `commit`, from the arrival of its answer
//! until that is on disk.

use super::live::LiveSweep;
use crate::engine::{Failure, Lease, Record, Verdict};
use crate::telemetry::traces::{Ended, Span, Tracer};
use std::collections::HashMap;

/// Attempts in flight whose spans are kept; those of further ones are not begun.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub struct Traces {
    tracer: Tracer,
    /// Attempts whose end is not known yet.
    open: HashMap<Lease, Span>,
    /// Answered in this group: they end when that is on disk.
    answered: Vec<(Span, Span, &'static str)>,
}

impl Traces {
    pub fn new(tracer: Tracer) -> Traces {
        Traces { tracer, ..Traces::default() }
    }

    /// An attempt begins, or is told of again; its trace, for the lease. Empty while traces are off.
    pub fn leased(&mut self, lease: Lease, live: &LiveSweep, worker: &str) -> String {
        if !self.tracer.is_on() {
            return String::new();
        }
        if let Some(span) = self.open.get(&lease) {
            return span.traceparent();
        }
        if self.open.len() >= MOST {
            return String::new();
        }
        let Some(span) = self.tracer.begin("task", None) else { return String::new() };
        let (trial, kind) = live.words(lease.task).unwrap_or_default();
        let span = span
            .about("epsweep.sweep", live.plan.sweep.name.clone())
            .about("epsweep.trial", trial)
            .about("epsweep.task", lease.task.short())
            .about("epsweep.kind", kind)
            .about("epsweep.attempt", i64::from(lease.attempt))
            .about("epsweep.worker", worker.to_string());
        let traceparent = span.traceparent();
        self.open.insert(lease, span);
        traceparent
    }

    /// An answer has been judged.
    pub fn answered(&mut self, lease: Lease, verdict: Verdict) {
        let Some(span) = self.open.remove(&lease) else { return };
        let Some(commit) = self.tracer.begin("commit", Some(span.context())) else { return };
        let outcome = match verdict {
            Verdict::Accepted => "answered",
            Verdict::Duplicate => "duplicate",
            Verdict::Unwanted => "unwanted",
        };
        self.answered.push((span, commit, outcome));
    }

    /// What the engine has decided about an attempt without an answer.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Failed { lease, failure, message, .. } => self.failed(*lease, *failure, message),
            Record::Released { lease, why } => self.end(*lease, "released", Ended::Badly(why)),
            Record::Leased { .. } | Record::Committed { .. } | Record::Revived { .. } | Record::Withdrawn { .. } => {}
        }
    }

    /// A worker says that an attempt has failed, or was called off.
    pub fn failed(&mut self, lease: Lease, failure: Failure, message: &str) {
        self.end(lease, failure.name(), Ended::Badly(message));
    }

    fn end(&mut self, lease: Lease, outcome: &'static str, ended: Ended) {
        if let Some(span) = self.open.remove(&lease) {
            self.tracer.end(Some(span.about("epsweep.outcome", outcome)), ended);
        }
    }

    /// The group is on disk, or has not happened.
    pub fn settled(&mut self, durable: bool) {
        for (span, commit, outcome) in self.answered.drain(..) {
            let ended =
                if durable { Ended::Well } else { Ended::Badly("it could not be written, and will come again") };
            self.tracer.end(Some(commit), ended);
            self.tracer.end(Some(span.about("epsweep.outcome", outcome)), ended);
        }
    }
}
