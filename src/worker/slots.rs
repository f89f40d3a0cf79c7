//! Slots: threads that compute, one task at a time each, with one libtorch thread.

use super::device::Devices;
use super::fetch::DataCache;
use super::metrics::Metrics;
use super::traces::Attempt;
use crate::lab::attacks::CPU_ROWS;
use crate::lab::{
    self, CertifyRequest, Device, EpochReport, EvaluateRequest, Given, LabError, MeasureRequest, Passes, TrainRequest,
    TrainingPlace, Watch,
};
use epsweep::artifacts::{ArtifactId, Store};
use epsweep::engine::{Failure, Lease};
use epsweep::launch::cores;
use epsweep::measure::MeasureAnswer;
use epsweep::outcome::{Known, Level};
use epsweep::plan::{
    ALGORITHM_VERSION, CertifyQuestion, EvaluateQuestion, MeasureQuestion, Question, TaskKey, TrainQuestion,
};
use epsweep::proto;
use epsweep::spec::{GivenFile, Model};
use epsweep::telemetry::traces::{Ended, Tracer};
use epsweep::trust::Trust;
use epsweep::witness::WitnessFile;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

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
    Train { checkpoints: Vec<lab::Checkpoint>, passes: Passes },
    Evaluate { levels: Vec<Level>, passes: Passes, trust: Trust, witnesses: Option<Packed> },
    Measure { answer: MeasureAnswer, passes: Passes },
}

/// A file of witnesses, ready to be stored.
pub struct Packed {
    pub content: Vec<u8>,
    pub count: u32,
}

/// What every slot shares.
pub struct Shared {
    pub data: DataCache,
    pub checkpoints: Store,
    /// What is only on its way to or from the coordinator. A folder of its own: the cache may be the coordinator's
    /// own folder, whose files are not this worker's to remove.
    pub passing: Store,
    /// Unfinished training runs, by task.
    pub partial: PathBuf,
    /// Shortest time between two saves of a training run's state there.
    pub save_every: Duration,
    pub metrics: Metrics,
    pub tracer: Tracer,
}

impl Shared {
    /// Where an unfinished training run lies.
    pub fn training_folder(&self, task: TaskKey) -> PathBuf {
        self.partial.join(task.to_string())
    }
}

/// A slot's place to work.
struct Bench<'a> {
    device: Device,
    shared: &'a Shared,
}

/// Starts the threads. They end when the returned sender is dropped.
pub fn start(slots: u32, devices: &Devices, shared: &Arc<Shared>, done: &UnboundedSender<Done>) -> Sender<Job> {
    let (jobs, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    for slot in 0..slots as usize {
        let (queue, shared, done) = (queue.clone(), shared.clone(), done.clone());
        let device = devices.all[slot % devices.all.len()];
        let core = devices.cores.as_ref().map(|cores| cores[slot]);
        std::thread::Builder::new()
            .name(format!("slot-{slot}"))
            .spawn(move || {
                bind(core);
                work(&queue, Bench { device, shared: &shared }, &done);
            })
            .expect("a thread can be started");
    }
    jobs
}

fn bind(core: Option<usize>) {
    let Some(core) = core else { return };
    if let Err(error) = cores::bind(core) {
        tracing::warn!(core, %error, "a slot could not be bound to its core and runs where the kernel puts it");
    }
}

fn work(queue: &Mutex<Receiver<Job>>, bench: Bench, done: &UnboundedSender<Done>) {
    lab::use_one_thread();
    let shared = bench.shared;
    loop {
        // Whoever waits holds the lock; the others wait for it instead, which comes to the same.
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(mut job) = job else { return };
        job.begun.store(true, Ordering::Relaxed);
        shared.metrics.slots_busy.inc();
        let trace = std::mem::take(&mut job.trace);
        let ended = perform(&job, trace, &bench);
        shared.metrics.slots_busy.dec();
        shared.metrics.ended(&job.sent.kind, &ended);
        if done.send(ended).is_err() {
            return;
        }
    }
}

fn perform(job: &Job, mut trace: Attempt, bench: &Bench) -> Done {
    trace.begin("compute");
    let started = Instant::now();
    let partial = (job.sent.kind == "train").then(|| bench.shared.training_folder(job.lease.task));
    let begin = || match job.stop.load(Ordering::Relaxed) {
        true => Err(LabError::Stopped), // revoked while it waited for the slot
        false => answer(job, bench, partial.as_ref()),
    };
    let result =
        catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|panic| Err(LabError::Torch(panic_text(&*panic))));
    let stopped = matches!(result, Err(LabError::Stopped));
    let result = result.map_err(|error| (failure(&error), super::fetch::chain(&error)));
    match &result {
        Ok(_) => trace.begin("hand in"),
        Err((_, why)) => trace.end(Ended::Badly(why)),
    }
    Done { lease: job.lease, trace, seconds: started.elapsed().as_secs_f64(), result, stopped, partial }
}

fn answer(job: &Job, bench: &Bench, partial: Option<&PathBuf>) -> Result<Answer, LabError> {
    if TaskKey::of(&job.sent.question) != job.lease.task {
        return Err(LabError::BadInput("the question is not the one its key names".into()));
    }
    let question = serde_json::from_slice(&job.sent.question)
        .map_err(|error| LabError::BadInput(format!("this worker does not understand the question: {error}")))?;
    match question {
        Question::Train(question) => {
            check_version(question.version)?;
            train(&question, job, bench, partial)
        }
        Question::Certify(question) => {
            check_version(question.version)?;
            certify(&question, job, bench)
        }
        Question::Evaluate(question) => {
            check_version(question.version)?;
            evaluate(&question, job, bench)
        }
        Question::Measure(question) => {
            check_version(question.version)?;
            measure(&question, job, bench)
        }
    }
}

/// Other arithmetic would give another answer under the same key.
fn check_version(asked: u32) -> Result<(), LabError> {
    if asked == ALGORITHM_VERSION {
        return Ok(());
    }
    let what =
        format!("the question is for algorithm version {asked}, this worker computes version {ALGORITHM_VERSION}");
    Err(LabError::BadInput(format!("{what}; use workers of the coordinator's release")))
}

fn train(question: &TrainQuestion, job: &Job, bench: &Bench, partial: Option<&PathBuf>) -> Result<Answer, LabError> {
    let Bench { device, shared } = *bench;
    let data = shared.data.get(&job.sent.dataset, &question.data.digest).map_err(LabError::BadInput)?;
    let artifact = |file: Option<&GivenFile>| given(file, shared);
    let module = match &question.model {
        Model::Torchscript(file) => artifact(Some(file))?,
        _ => None,
    };
    let weights = artifact(question.weights.as_ref())?;
    let request = TrainRequest {
        question,
        data: &data,
        given: Given { module: module.as_deref(), weights: weights.as_deref() },
        keep: &job.sent.keep,
        resume: partial.map(|dir| TrainingPlace { dir, every: shared.save_every }),
        device,
    };
    let answer = lab::train(request, &mut Follow(job))?;
    Ok(Answer::Train { checkpoints: answer.checkpoints, passes: answer.passes })
}

/// The content of a file that the sweep brings along; it was fetched before the task could start.
fn given(file: Option<&GivenFile>, shared: &Shared) -> Result<Option<Vec<u8>>, LabError> {
    let Some(file) = file else { return Ok(None) };
    let id = file.digest().and_then(ArtifactId::parse);
    let id = id.ok_or_else(|| LabError::BadInput("the question names a file by its path, not its content".into()))?;
    shared.checkpoints.get(&id).map(Some).map_err(|error| LabError::BadInput(error.to_string()))
}

fn evaluate(question: &EvaluateQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let Bench { device, shared } = *bench;
    let data = shared.data.get(&job.sent.dataset, &question.data.digest).map_err(LabError::BadInput)?;
    let id = ArtifactId::parse(&job.sent.checkpoint)
        .ok_or_else(|| LabError::BadInput("the lease names no checkpoint".into()))?;
    let weights = shared.checkpoints.get(&id).map_err(|error| LabError::BadInput(error.to_string()))?;
    let known: Vec<Known> = job.sent.known.iter().map(known).collect();
    // Smaller batches are another arithmetic in the last bits, but the same question: they are what fits here.
    let asked = &with_smaller_batches(question, job.sent.halvings, device);
    let request = EvaluateRequest { question: asked, data: &data, weights: &weights, known: &known, device };
    let answer = lab::evaluate(request, &mut Follow(job))?;
    let witnesses = (!question.witnesses.is_none()).then(|| {
        let members = answer.trust.members.iter().map(|member| member.name.clone()).collect();
        let shape = data.test.shape().map(|size| size as usize);
        let count = answer.witnesses.len() as u32;
        let file = WitnessFile { question: question.clone(), members, shape, witnesses: answer.witnesses };
        Packed { content: file.encode(), count }
    });
    Ok(Answer::Evaluate { levels: answer.levels, passes: answer.passes, trust: answer.trust, witnesses })
}

/// The question with its batches halved as often as earlier attempts ran out of memory.
fn with_smaller_batches(question: &EvaluateQuestion, halvings: u32, device: Device) -> EvaluateQuestion {
    let batch_size = match (halvings, device) {
        (0, _) => question.batch_size,
        (_, Device::Cpu) => halved(question.batch_size.min(CPU_ROWS), halvings),
        _ => halved(question.batch_size, halvings),
    };
    EvaluateQuestion { batch_size, ..question.clone() }
}

fn halved(rows: u32, times: u32) -> u32 {
    rows.checked_shr(times).unwrap_or(0).max(1)
}

fn certify(question: &CertifyQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let Bench { device, shared } = *bench;
    let data = shared.data.get(&job.sent.dataset, &question.data.digest).map_err(LabError::BadInput)?;
    let id = ArtifactId::parse(&job.sent.checkpoint)
        .ok_or_else(|| LabError::BadInput("the lease names no checkpoint".into()))?;
    let weights = shared.checkpoints.get(&id).map_err(|error| LabError::BadInput(error.to_string()))?;
    let request = CertifyRequest { question, data: &data, weights: &weights, device };
    let answer = lab::certify(request, &mut Follow(job))?;
    let (levels, passes) = (answer.levels, answer.passes);
    Ok(Answer::Evaluate { levels, passes, trust: Trust::default(), witnesses: None })
}

fn measure(question: &MeasureQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let Bench { device, shared } = *bench;
    let data = shared.data.get(&job.sent.dataset, &question.data.digest).map_err(LabError::BadInput)?;
    let id = ArtifactId::parse(&job.sent.checkpoint)
        .ok_or_else(|| LabError::BadInput("the lease names no checkpoint".into()))?;
    let weights = shared.checkpoints.get(&id).map_err(|error| LabError::BadInput(error.to_string()))?;
    let request = MeasureRequest { question, data: &data, weights: &weights, device };
    let result = lab::measure(request, &mut Follow(job))?;
    Ok(Answer::Measure { answer: result.answer, passes: result.passes })
}

fn known(sent: &proto::Known) -> Known {
    let levels = sent.levels.iter().map(|&level| Level(level.min(u16::MAX.into()) as u16)).collect();
    Known { epsilons: sent.epsilons.clone(), levels }
}

/// Logs epochs, and passes on that the task was called off.
struct Follow<'a>(&'a Job);

impl Watch for Follow<'_> {
    fn epoch(&mut self, report: &EpochReport) {
        let job = self.0;
        tracing::info!(
            sweep = job.sent.sweep,
            trial = job.sent.trial,
            task = job.lease.task.short(),
            attempt = job.lease.attempt,
            kind = "train",
            epoch = report.epoch,
            epochs = report.epochs,
            train_loss = report.train_loss,
            seconds = report.seconds,
            "epoch"
        );
    }

    fn stop(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }
}

fn failure(error: &LabError) -> Failure {
    match error {
        LabError::Diverged { .. } => Failure::Diverged,
        LabError::OutOfMemory(_) => Failure::OutOfMemory,
        LabError::BadInput(_) => Failure::BadInput,
        LabError::Stopped => Failure::Preempted,
        LabError::Torch(_) => Failure::Bug,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::halved;

    #[test]
    fn batches_are_halved_down_to_one_row() {
        assert_eq!([0, 1, 2, 5, 6, 40].map(|times| halved(32, times)), [32, 16, 8, 1, 1, 1]);
    }
}
