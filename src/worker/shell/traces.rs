//! A worker's spans of an attempt, below the coordinator's: `fetch`, `wait` for a slot, `compute`, `hand in`.

use epsweep::engine::Lease;
use epsweep::proto;
use epsweep::telemetry::traces::{Ended, Span, Tracer, parent};

/// The spans of one attempt, one after the other. Nothing while traces are off.
#[derive(Debug, Default)]
pub struct Attempt(Option<Box<Spans>>);

#[derive(Debug)]
struct Spans {
    tracer: Tracer,
    sent: String,
    sweep: String,
    trial: String,
    task: String,
    kind: String,
    attempt: u32,
    worker: String,
    open: Option<Span>,
}

impl Attempt {
    /// Of a lease that `worker` was granted.
    pub fn of(tracer: &Tracer, lease: Lease, sent: &proto::Lease, worker: &str) -> Attempt {
        // A coordinator that sends no traces has begun none.
        if !tracer.is_on() || parent(&sent.traceparent).is_none() {
            return Attempt(None);
        }
        Attempt(Some(Box::new(Spans {
            tracer: tracer.clone(),
            sent: sent.traceparent.clone(),
            sweep: sent.sweep.clone(),
            trial: sent.trial.clone(),
            task: lease.task.short(),
            kind: sent.kind.clone(),
            attempt: lease.attempt,
            worker: worker.into(),
            open: None,
        })))
    }

    /// What came before has ended well, and `name` begins.
    pub fn begin(&mut self, name: &'static str) {
        self.end(Ended::Well);
        let Some(spans) = &mut self.0 else { return };
        let span = spans.tracer.begin(name, parent(&spans.sent).as_ref());
        spans.open = span.map(|span| {
            span.about("epsweep.sweep", spans.sweep.clone())
                .about("epsweep.trial", spans.trial.clone())
                .about("epsweep.task", spans.task.clone())
                .about("epsweep.kind", spans.kind.clone())
                .about("epsweep.attempt", i64::from(spans.attempt))
                .about("epsweep.worker", spans.worker.clone())
        });
    }

    /// The span under way ends.
    pub fn end(&mut self, ended: Ended) {
        if let Some(spans) = &mut self.0 {
            spans.tracer.end(spans.open.take(), ended);
        }
    }
}
