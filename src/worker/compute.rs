//! What a slot computes: the lab, in a thread for each slot with one libtorch thread.

use super::data::DataCache;
use super::device::Devices;
use super::shell::{Answer, Compute, Computing, Job, NoAnswer, Packed, Shared, Trained, Work, chain};
use crate::lab::attacks::CPU_ROWS;
use crate::lab::{
    self, CertifyRequest, Checkpoint, Device, EpochReport, EvaluateRequest, Given, LabError, MeasureRequest, Passes,
    TRAINING_INTERVAL, TrainRequest, TrainingPlace, Watch,
};
use epsweep::artifacts::ArtifactId;
use epsweep::engine::Failure;
use epsweep::launch::cores;
use epsweep::outcome::{Known, Level};
use epsweep::plan::{CertifyQuestion, EvaluateQuestion, MeasureQuestion, Question, TrainQuestion};
use epsweep::proto;
use epsweep::spec::{GivenFile, Model};
use epsweep::trust::Trust;
use epsweep::witness::WitnessFile;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The lab, with the devices that its slots compute on.
#[derive(Debug)]
pub struct Lab {
    devices: Devices,
    data: DataCache,
}

impl Lab {
    pub fn new(devices: Devices) -> Lab {
        let data = DataCache::new(devices.pinned_memory);
        Lab { devices, data }
    }
}

/// A slot's place to work.
struct Bench<'a> {
    device: Device,
    shared: &'a Shared,
    data: &'a DataCache,
}

impl Compute for Lab {
    fn host(&self, slot: usize, work: Work) {
        let core = self.devices.cores.as_ref().map(|cores| cores[slot]);
        let runtime = tokio::runtime::Handle::current();
        let run = move || {
            bind(core);
            lab::use_one_thread();
            runtime.block_on(work);
        };
        std::thread::Builder::new().name(format!("slot-{slot}")).spawn(run).expect("a thread can be started");
    }

    fn answer<'a>(&'a self, slot: usize, question: Question, job: &'a Job, shared: &'a Shared) -> Computing<'a> {
        Box::pin(async move {
            let device = self.devices.all[slot % self.devices.all.len()];
            let bench = Bench { device, shared, data: &self.data };
            let answered = catch_unwind(AssertUnwindSafe(|| answer(&question, job, &bench)));
            let answered = answered.unwrap_or_else(|panic| Err(LabError::Torch(panic_text(&*panic))));
            answered.map_err(|error| no_answer(&error))
        })
    }

    fn reached(&self, folder: &Path) -> Option<u64> {
        lab::training_reached(folder)
    }
}

fn bind(core: Option<usize>) {
    let Some(core) = core else { return };
    if let Err(error) = cores::bind(core) {
        tracing::warn!(core, %error, "a slot could not be bound to its core and runs where the kernel puts it");
    }
}

fn answer(question: &Question, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    match question {
        Question::Train(question) => train(question, job, bench),
        Question::Certify(question) => certify(question, job, bench),
        Question::Evaluate(question) => evaluate(question, job, bench),
        Question::Measure(question) => measure(question, job, bench),
    }
}

fn train(question: &TrainQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let Bench { device, shared, data } = *bench;
    let data = data.get(&job.sent.dataset, &question.data.digest).map_err(LabError::BadInput)?;
    let artifact = |file: Option<&GivenFile>| given(file, shared);
    let module = match &question.model {
        Model::Torchscript(file) => artifact(Some(file))?,
        _ => None,
    };
    let weights = artifact(question.weights.as_ref())?;
    let every = shared.save_every.map_or(TRAINING_INTERVAL, |every| every.min(TRAINING_INTERVAL));
    let request = TrainRequest {
        question,
        data: &data,
        given: Given { module: module.as_deref(), weights: weights.as_deref() },
        keep: &job.sent.keep,
        resume: Some(TrainingPlace { dir: &shared.training_folder(job.lease.task), every }),
        device,
    };
    let answer = lab::train(request, &mut Follow(job))?;
    let trained = |checkpoint| {
        let Checkpoint { epoch, train_loss, train_seconds, facts, weights } = checkpoint;
        Trained { epoch, train_loss, train_seconds, facts, weights }
    };
    let checkpoints = answer.checkpoints.into_iter().map(trained).collect();
    Ok(Answer::Train { checkpoints, passes: sent(answer.passes) })
}

/// The content of a file that the sweep brings along; it was fetched before the task could start.
fn given(file: Option<&GivenFile>, shared: &Shared) -> Result<Option<Vec<u8>>, LabError> {
    let Some(file) = file else { return Ok(None) };
    let id = file.digest().and_then(ArtifactId::parse);
    let id = id.ok_or_else(|| LabError::BadInput("the question names a file by its path, not its content".into()))?;
    shared.checkpoints.get(&id).map(Some).map_err(|error| LabError::BadInput(error.to_string()))
}

/// The data set with this digest, and the checkpoint that the lease is about.
fn inputs(job: &Job, bench: &Bench, digest: &str) -> Result<(lab::LabData, Vec<u8>), LabError> {
    let data = bench.data.get(&job.sent.dataset, digest).map_err(LabError::BadInput)?;
    let id = ArtifactId::parse(&job.sent.checkpoint)
        .ok_or_else(|| LabError::BadInput("the lease names no checkpoint".into()))?;
    let weights = bench.shared.checkpoints.get(&id).map_err(|error| LabError::BadInput(error.to_string()))?;
    Ok((data, weights))
}

fn evaluate(question: &EvaluateQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let (device, (data, weights)) = (bench.device, inputs(job, bench, &question.data.digest)?);
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
    Ok(Answer::Evaluate { levels: answer.levels, passes: sent(answer.passes), trust: answer.trust, witnesses })
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
    let (device, (data, weights)) = (bench.device, inputs(job, bench, &question.data.digest)?);
    let request = CertifyRequest { question, data: &data, weights: &weights, device };
    let answer = lab::certify(request, &mut Follow(job))?;
    let (levels, passes) = (answer.levels, sent(answer.passes));
    Ok(Answer::Evaluate { levels, passes, trust: Trust::default(), witnesses: None })
}

fn measure(question: &MeasureQuestion, job: &Job, bench: &Bench) -> Result<Answer, LabError> {
    let (device, (data, weights)) = (bench.device, inputs(job, bench, &question.data.digest)?);
    let request = MeasureRequest { question, data: &data, weights: &weights, device };
    let result = lab::measure(request, &mut Follow(job))?;
    Ok(Answer::Measure { answer: result.answer, passes: sent(result.passes) })
}

fn sent(Passes { forwards, backwards, examples }: Passes) -> proto::Passes {
    proto::Passes { forwards, backwards, examples }
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
        self.0.is_called_off()
    }
}

fn no_answer(error: &LabError) -> NoAnswer {
    let failure = match error {
        LabError::Diverged { .. } => Failure::Diverged,
        LabError::OutOfMemory(_) => Failure::OutOfMemory,
        LabError::BadInput(_) => Failure::BadInput,
        LabError::Stopped => return NoAnswer::Stopped,
        LabError::Torch(_) => Failure::Bug,
    };
    NoAnswer::Failed(failure, chain(error))
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
