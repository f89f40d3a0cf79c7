//! The way to the core thread: requests go in one by one, and are answered once they are durable.

use super::Core;
use crate::artifacts::Store;
use crate::coordinator::metrics::Metrics;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

/// Why a request was not answered. Nothing of it has happened: it may be asked again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unanswered {
    /// The ledger failed, or the program ends.
    #[error("the coordinator is shutting down")]
    Gone,
    /// There is no space; it goes on by itself.
    #[error("the coordinator waits: {0}")]
    Waits(Arc<str>),
}

pub(super) type Reply = Box<dyn FnOnce(Result<(), Unanswered>) + Send>;

type Job = Box<dyn FnOnce(Result<&mut Core, Unanswered>) -> Reply + Send>;

/// A request on its way to the core.
pub(super) struct Queued {
    /// Whether it may change anything.
    pub changes: bool,
    /// Runs it, unless it was turned away; the reply leaves when it is known whether the group is durable.
    pub job: Job,
}

/// The queue of requests, and the bell beside it where a task waits for them.
#[derive(Debug, Clone)]
pub(super) struct Jobs {
    queue: Sender<Queued>,
    bell: Option<Arc<Notify>>,
}

impl Jobs {
    pub fn new(queue: Sender<Queued>, bell: Option<Arc<Notify>>) -> Jobs {
        Jobs { queue, bell }
    }

    fn send(&self, queued: Queued) -> Result<(), Unanswered> {
        self.queue.send(queued).map_err(|_| Unanswered::Gone)?;
        if let Some(bell) = &self.bell {
            bell.notify_one();
        }
        Ok(())
    }
}

/// Says that tasks may have become ready or a sweep has changed; also that the core has ended. Who waits is woken in the order
/// in which they came (a `watch` channel draws lots), so that what follows is the same every time.
#[derive(Debug, Clone, Default)]
pub(in crate::coordinator) struct Wake(Arc<Notify>);

impl Wake {
    /// The next time after this call, however late that is waited for.
    pub fn next(&self) -> Notified<'_> {
        self.0.notified()
    }
}

/// The core's end of it.
#[derive(Debug, Default)]
pub(super) struct Waker(Wake);

impl Waker {
    pub fn wake(&self) {
        self.0.0.notify_waiters();
    }

    pub fn listener(&self) -> Wake {
        self.0.clone()
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The way to the core thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) jobs: Jobs,
    pub(in crate::coordinator) wake: Wake,
    pub(in crate::coordinator) store: Store,
    /// The state directory.
    pub(in crate::coordinator) dir: PathBuf,
    pub(in crate::coordinator) metrics: Arc<Metrics>,
}

impl Handle {
    /// Runs `f` on the core thread; returns its value once everything it wrote is durable.
    ///
    /// # Errors
    /// When nothing can be written at present, or the core has stopped.
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, Unanswered> {
        self.ask(true, f).await
    }

    /// Runs `f`, which only looks; also while nothing can be written.
    ///
    /// # Errors
    /// When the core has stopped, or what `f` may have seen has turned out not to be durable.
    pub async fn read<R: Send + 'static>(&self, f: impl FnOnce(&Core) -> R + Send + 'static) -> Result<R, Unanswered> {
        self.ask(false, |core| f(core)).await
    }

    /// Requests that change nothing durable are answered even while nothing can be written.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        changes: bool,
        f: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let job = move |core: Result<&mut Core, Unanswered>| -> Reply {
            let value = core.map(f);
            Box::new(move |durable| drop(reply.send(durable.and(value))))
        };
        self.jobs.send(Queued { changes, job: Box::new(job) })?;
        answer.await.unwrap_or(Err(Unanswered::Gone))
    }
}
