//! Slots: one task at a time each. What computes there, and on what, is another's business: [`Compute`].

use super::metrics::Metrics;
use super::traces::Attempt;
use epsweep::artifacts::Store;
use epsweep::engine::{Failure, Lease};
use epsweep::measure::MeasureAnswer;
use epsweep::outcome::Level;
use epsweep::plan::facts::Facts;
use epsweep::plan::{ALGORITHM_VERSION, Question, TaskKey};
use epsweep::proto;
use epsweep::telemetry::traces::{Ended, Tracer};
use epsweep::trust::Trust;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// What a slot does from its start to its end.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
/// A task under way.
pub type Computing<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// What computes: the lab on libtorch, in threads; in simulations, something that takes simulated time.
pub trait Compute: Debug + Send + Sync {
    /// Gives the slot of this number a place to run until it ends.
    fn host(&self, slot: usize, work: Work);

    /// Answers the question of a lease, looking now and then whether it was called off. It may keep the thread that it runs
    /// on; no panic leaves it.
    fn answer<'a>(&'a self, slot: usize, question: Question, job: &'a Job, shared: &'a Shared) -> Computing<'a>;

    /// How far the training run has come whose state lies in `folder`; `None` where there is none that is whole.
    fn reached(&self, folder: &Path) -> Option<u64>;
}

/// A lease that has all it needs to start.
pub struct Job {
    pub lease: Lease,
    pub sent: proto::Lease,
    /// Set when the task is revoked or the worker must go.
    pub stop: Arc<AtomicBool>,
    /// Set when a slot begins it: until then the coordinator may give it to another worker.
    pub begun: Arc<AtomicBool>,
    pub trace: Attempt,
}

impl Job {
    /// Nobody waits for its answer any more.
    pub fn is_called_off(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What became of a job.
pub struct Done {
    pub lease: Lease,
    pub seconds: f64,
    pub result: Result<Answer, (Failure, String)>,
    /// Called off: nobody waits for an answer.
    pub stopped: bool,
    /// To be removed once the answer is safe.
    pub partial: Option<PathBuf>,
    pub trace: Attempt,
}

pub enum Answer {
    Train { checkpoints: Vec<Trained>, passes: proto::Passes },
    Evaluate { levels: Vec<Level>, passes: proto::Passes, trust: Trust, witnesses: Option<Packed> },
    Measure { answer: MeasureAnswer, passes: proto::Passes },
}

impl Answer {
    pub fn passes(&self) -> &proto::Passes {
        let (Answer::Train { passes, .. } | Answer::Evaluate { passes, .. } | Answer::Measure { passes, .. }) = self;
        passes
    }
}

/// The weights after an epoch that was asked for.
pub struct Trained {
    pub epoch: u32,
    pub train_loss: f64,
    pub train_seconds: f64,
    pub facts: Facts,
    /// A safetensors file.
    pub weights: Vec<u8>,
}

/// A file of witnesses, ready to be stored.
pub struct Packed {
    pub content: Vec<u8>,
    pub count: u32,
}

/// Why a task has no answer.
pub enum NoAnswer {
    /// It was called off.
    Stopped,
    Failed(Failure, String),
}

/// What every slot shares.
pub struct Shared {
    pub checkpoints: Store,
    /// What is only on its way to or from the coordinator. A folder of its own: the cache may be the coordinator's
    /// own folder, whose files are not this worker's to remove.
    pub passing: Store,
    /// Unfinished training runs, by task.
    pub partial: PathBuf,
    /// How often a training run's state is sent on, so that it need not be saved less often; `None`: never.
    pub save_every: Option<Duration>,
    pub metrics: Metrics,
    pub tracer: Tracer,
}

impl Shared {
    /// Where an unfinished training run lies.
    pub fn training_folder(&self, task: TaskKey) -> PathBuf {
        self.partial.join(task.to_string())
    }
}

/// What a slot needs.
struct Slot {
    number: usize,
    compute: Arc<dyn Compute>,
    shared: Arc<Shared>,
}

/// Starts the slots. They end when the returned sender is dropped.
pub fn start(
    slots: u32,
    compute: &Arc<dyn Compute>,
    shared: &Arc<Shared>,
    done: &UnboundedSender<Done>,
) -> UnboundedSender<Job> {
    let (jobs, queue) = unbounded_channel();
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..slots as usize {
        let slot = Slot { number, compute: compute.clone(), shared: shared.clone() };
        compute.host(number, Box::pin(work(queue.clone(), slot, done.clone())));
    }
    jobs
}

async fn work(queue: Arc<Mutex<UnboundedReceiver<Job>>>, slot: Slot, done: UnboundedSender<Done>) {
    let metrics = &slot.shared.metrics;
    loop {
        // Whoever waits holds the lock; the others wait for it instead, which comes to the same.
        let job = queue.lock().await.recv().await;
        let Some(mut job) = job else { return };
        job.begun.store(true, Ordering::Relaxed);
        metrics.slots_busy.inc();
        let trace = std::mem::take(&mut job.trace);
        let ended = perform(&job, trace, &slot).await;
        metrics.slots_busy.dec();
        metrics.ended(&job.sent.kind, &ended);
        if done.send(ended).is_err() {
            return;
        }
    }
}

async fn perform(job: &Job, mut trace: Attempt, slot: &Slot) -> Done {
    trace.begin("compute");
    let started = Instant::now();
    let partial = (job.sent.kind == "train").then(|| slot.shared.training_folder(job.lease.task));
    let computed = match question(job) {
        _ if job.is_called_off() => Err(NoAnswer::Stopped), // while it waited for the slot
        Ok(question) => slot.compute.answer(slot.number, question, job, &slot.shared).await,
        Err(why) => Err(NoAnswer::Failed(Failure::BadInput, format!("bad input: {why}"))),
    };
    let stopped = matches!(computed, Err(NoAnswer::Stopped));
    let result = computed.map_err(|error| match error {
        NoAnswer::Stopped => (Failure::Preempted, "stopped on request".into()),
        NoAnswer::Failed(failure, why) => (failure, why),
    });
    match &result {
        Ok(_) => trace.begin("hand in"),
        Err((_, why)) => trace.end(Ended::Badly(why)),
    }
    Done { lease: job.lease, trace, seconds: started.elapsed().as_secs_f64(), result, stopped, partial }
}

/// What the lease asks; an `Err` says why this worker cannot tell.
fn question(job: &Job) -> Result<Question, String> {
    if TaskKey::of(&job.sent.question) != job.lease.task {
        return Err("the question is not the one its key names".into());
    }
    let question: Question = serde_json::from_slice(&job.sent.question)
        .map_err(|error| format!("this worker does not understand the question: {error}"))?;
    let asked = match &question {
        Question::Train(question) => question.version,
        Question::Certify(question) => question.version,
        Question::Evaluate(question) => question.version,
        Question::Measure(question) => question.version,
    };
    // Other arithmetic would give another answer under the same key.
    if asked != ALGORITHM_VERSION {
        let mine = ALGORITHM_VERSION;
        let what = format!("the question is for algorithm version {asked}, this worker computes version {mine}");
        return Err(format!("{what}; use workers of the coordinator's release"));
    }
    Ok(question)
}
