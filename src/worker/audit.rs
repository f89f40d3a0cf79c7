//! `epsweep-worker audit`: the half of `epsweep audit` that needs the network. It reads a run's
//! directory, changes nothing there, and writes [`AuditEvent`]s to stdout, one JSON object a line.

use super::shell::chain;
use crate::lab::Device;
use crate::lab::audit::Examiner;
use clap::Parser;
use epsweep::artifacts::ArtifactId;
use epsweep::coordinator::{KeptEvaluation, kept};
use epsweep::data::{self, DataSet};
use epsweep::launch::compute::Compute;
use epsweep::ledger::{Ledger, StoredWitnesses};
use epsweep::outcome::Level;
use epsweep::plan::{EvaluateQuestion, Question, TaskKey};
use epsweep::program::{Exit, Failure};
use epsweep::spec::Dataset;
use epsweep::witness::audit::{AuditEvent, AuditSummary, Finding};
use epsweep::witness::check::{self, Fault};
use epsweep::witness::{Witness, WitnessError, WitnessFile};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Parser)]
#[command(name = "epsweep-worker audit")]
pub struct AuditCli {
    /// The directory of a run, or the state directory of `epsweep serve`
    dir: PathBuf,
    /// Only this sweep's
    #[arg(long)]
    sweep: Option<String>,
    /// What to compute on: cpu, or cuda:K
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// The whole program.
pub fn main(cli: &AuditCli) -> Result<Exit, Failure> {
    let compute = Compute { device: cli.device.clone(), ..Compute::default() };
    super::device::with_environment(&compute)?;
    let device = super::device::open(&compute, Some(1), 0)?.all[0];
    let started = Instant::now();
    let ledger = Ledger::read(&cli.dir).map_err(Failure::usage)?;
    let work = Work::gather(&ledger, cli.sweep.as_deref())?;
    if work.evaluations.is_empty() {
        return Err(Failure::usage(miette::miette!(
            help = "write `witnesses: break` under `evaluate` in the sweep file, and run it again",
            "{} holds no witnesses",
            cli.dir.display()
        )));
    }
    let mut audit = Audit {
        dir: &cli.dir,
        ledger: &ledger,
        datasets: work.datasets,
        loaded: HashMap::new(),
        examiner: None,
        checkpoints: HashSet::new(),
        device,
        summary: AuditSummary::default(),
    };
    let witnesses =
        work.evaluations.iter().filter_map(|e| e.stored.as_ref()).map(|stored| u64::from(stored.count)).sum();
    say(&AuditEvent::Start { witnesses });
    for evaluation in &work.evaluations {
        audit.check(evaluation)?;
        say(&AuditEvent::Progress { witnesses: audit.summary.witnesses });
    }
    let Audit { mut summary, checkpoints, .. } = audit;
    summary.evaluations = work.evaluations.len() as u64;
    summary.checkpoints = checkpoints.len() as u64;
    summary.seconds = started.elapsed().as_secs_f64();
    let sound = summary.faults == 0;
    say(&AuditEvent::End(summary));
    Ok(if sound { Exit::Done } else { Exit::FailedTrials })
}

/// Nobody listening any more is no reason to stop: the exit code still says what was found.
fn say(event: &AuditEvent) {
    let line = serde_json::to_string(event).expect("our own events are valid JSON");
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An evaluation with witnesses, by the names people know.
struct Evaluation {
    trial: String,
    epoch: u32,
    attack: String,
    /// `None` where no sweep of the ledger asks for it any more: then the file itself says.
    question: Option<EvaluateQuestion>,
    stored: Option<StoredWitnesses>,
}

/// All there is to check.
struct Work {
    evaluations: Vec<Evaluation>,
    /// By digest.
    datasets: HashMap<String, Dataset>,
}

impl Work {
    /// The witnesses of `sweep`, or those of all sweeps and whatever else the ledger holds.
    fn gather(ledger: &Ledger, sweep: Option<&str>) -> Result<Work, Failure> {
        let sweeps = match sweep {
            Some(name) => vec![ledger.find_sweep(Some(name)).map_err(Failure::usage)?],
            None => ledger.sweeps().map_err(Failure::internal)?,
        };
        let mut work = Work { evaluations: Vec::new(), datasets: HashMap::new() };
        let mut seen: HashSet<TaskKey> = HashSet::new();
        for stored in &sweeps {
            let kept = kept(ledger, stored).map_err(Failure::internal)?;
            work.datasets.insert(kept.plan.data.id.digest.clone(), kept.plan.sweep.dataset.clone());
            for KeptEvaluation { trial, epoch, attack, question, stored } in kept.evaluations {
                let trial = kept.plan.trials[trial as usize].key.short();
                let attack = kept.plan.sweep.evaluate.attacks[usize::from(attack)].name.clone();
                if seen.insert(Question::Evaluate(question.clone()).key()) {
                    work.evaluations.push(Evaluation { trial, epoch, attack, question: Some(question), stored });
                }
            }
        }
        if sweep.is_none() {
            let others = ledger.witness_files().map_err(Failure::internal)?;
            for stored in others.into_iter().filter(|stored| !seen.contains(&stored.task)) {
                let (trial, attack) = (String::new(), format!("task {}", stored.task.short()));
                work.evaluations.push(Evaluation { trial, epoch: 0, attack, question: None, stored: Some(stored) });
            }
        }
        Ok(work)
    }
}

struct Audit<'a> {
    dir: &'a Path,
    ledger: &'a Ledger,
    datasets: HashMap<String, Dataset>,
    /// By digest.
    loaded: HashMap<String, DataSet>,
    /// The checkpoint that was asked last.
    examiner: Option<((TaskKey, u32), Result<Examiner, String>)>,
    checkpoints: HashSet<(TaskKey, u32)>,
    device: Device,
    summary: AuditSummary,
}

/// Where findings are.
struct Place<'a> {
    evaluation: &'a Evaluation,
    question: Option<&'a EvaluateQuestion>,
    file: String,
}

impl Audit<'_> {
    /// Checks one evaluation's file and each of its witnesses.
    fn check(&mut self, evaluation: &Evaluation) -> Result<(), Failure> {
        let mut place = Place { evaluation, question: evaluation.question.as_ref(), file: String::new() };
        let Some(stored) = &evaluation.stored else {
            let what = "the evaluation is answered, but the ledger names no file of witnesses for it";
            self.fault(&place, None, what.into(), None);
            return Ok(());
        };
        place.file = format!("witnesses/{}.safetensors.gz", stored.artifact);
        self.summary.witnesses += u64::from(stored.count);
        let Some(file) = self.read(&place, stored) else { return Ok(()) };
        place.question = Some(&file.question);
        if file.task() != stored.task {
            let what =
                format!("the file answers task {}, the ledger says {}", file.task().short(), stored.task.short());
            self.fault(&place, None, what, None);
            return Ok(());
        }
        if file.witnesses.len() != stored.count as usize {
            let what = format!("it holds {} witnesses, the ledger counts {}", file.witnesses.len(), stored.count);
            self.fault(&place, None, what, None);
        }
        let [first, end] = file.question.examples;
        if stored.epsilons != file.question.epsilons
            || stored.first != first
            || stored.levels.len() != (end - first) as usize
        {
            let what = format!(
                "the ledger's answer is over epsilons {:?} and {} examples from {}, the question over {:?} and {first} to {end}",
                stored.epsilons,
                stored.levels.len(),
                stored.first,
                file.question.epsilons
            );
            self.fault(&place, None, what, None);
            return Ok(());
        }
        let digest = file.question.data.digest.clone();
        self.load(&digest)?;
        let data = self.loaded.remove(&digest).expect("it has just been loaded");
        self.verify(&place, &file, &stored.levels, &data);
        self.loaded.insert(digest, data);
        Ok(())
    }

    /// Reads a file; what is wrong with it as a whole is told.
    fn read(&mut self, place: &Place, stored: &StoredWitnesses) -> Option<WitnessFile> {
        let packed = match std::fs::read(self.dir.join(&place.file)) {
            Ok(packed) => packed,
            Err(error) => {
                self.fault(place, None, format!("the file cannot be read: {error}"), None);
                return None;
            }
        };
        let found = ArtifactId::of(&packed);
        if found.as_str() != stored.artifact {
            let what = format!("the file is damaged: its content hashes to {found}, not to its name");
            self.fault(place, None, what, None);
        }
        match WitnessFile::decode(&packed) {
            Ok((file, damaged)) => {
                for error in damaged {
                    let example = match &error {
                        WitnessError::Checksum { index, .. } => Some(*index),
                        _ => None,
                    };
                    self.fault(place, example, error.to_string(), None);
                }
                Some(file)
            }
            Err(error) => {
                self.fault(place, None, error.to_string(), None);
                None
            }
        }
    }

    fn load(&mut self, digest: &str) -> Result<(), Failure> {
        if self.loaded.contains_key(digest) {
            return Ok(());
        }
        let Some(dataset) = self.datasets.get(digest) else {
            return Err(Failure::usage(miette::miette!(
                help = "submit a sweep on that data, or audit one sweep with --sweep NAME",
                "no sweep here says where the data set with digest {digest} lies"
            )));
        };
        let data = data::load(dataset).map_err(Failure::usage)?;
        if data.digest != digest {
            return Err(Failure::usage(miette::miette!(
                help = "put back the files that the sweep was run on: witnesses are checked against the true images",
                "the data set {} has changed: its digest is {}, the sweep's was {digest}",
                data.name,
                data.digest
            )));
        }
        self.loaded.insert(digest.into(), data);
        Ok(())
    }

    /// Every witness against the true image, the checkpoint and the ledger.
    fn verify(&mut self, place: &Place, file: &WitnessFile, levels: &[Level], data: &DataSet) {
        let test = &data.test;
        let shape = [test.channels, test.height, test.width].map(|size| size as usize);
        if file.shape != shape || file.question.examples[1] > test.count() {
            let what = format!("its images are {:?}, the data set has {} of {shape:?}", file.shape, test.count());
            return self.fault(place, None, what, None);
        }
        // Witnesses of examples that do not exist disagree with the ledger, below.
        let truth = |index: u32| test.labels.get(index as usize).map(|&label| i64::from(label));
        let own = |witness: &Witness| {
            let truth = truth(witness.index)?;
            Some(check::faults(file, witness, &test.gather([witness.index as usize]), truth))
        };
        let mut faults: Vec<Vec<Fault>> = file.witnesses.iter().map(|w| own(w).unwrap_or_default()).collect();
        for (index, fault) in check::disagreements(file, levels) {
            match file.witnesses.iter().position(|witness| witness.index == index) {
                Some(row) => faults[row].push(fault),
                None => self.fault(place, Some(index), fault.to_string(), fault.by()),
            }
        }
        if let Err(what) = self.classify(place, file, levels, data, &mut faults) {
            return self.fault(place, None, what, None);
        }
        for (witness, faults) in file.witnesses.iter().zip(&faults) {
            self.summary.hold += u64::from(faults.is_empty());
            for fault in faults {
                self.fault(place, Some(witness.index), fault.to_string(), fault.by());
            }
        }
    }

    /// One forward pass of every witness, and of the shard's clean images.
    fn classify(
        &mut self,
        place: &Place,
        file: &WitnessFile,
        levels: &[Level],
        data: &DataSet,
        faults: &mut [Vec<Fault>],
    ) -> Result<(), String> {
        let test = &data.test;
        let exists = |row: &usize| file.witnesses[*row].index < test.count();
        let rows: Vec<usize> = (0..file.witnesses.len()).filter(exists).collect();
        let images: Vec<&[f32]> = rows.iter().map(|&row| file.witnesses[row].pixels.as_slice()).collect();
        let truth = |index: usize| i64::from(test.labels[index]);
        let labels: Vec<i64> = rows.iter().map(|&row| truth(file.witnesses[row].index as usize)).collect();
        let first = file.question.examples[0] as usize;
        let shard = first..file.question.examples[1] as usize;
        let clean = test.gather(shard.clone());
        let clean: Vec<&[f32]> = clean.chunks_exact(test.pixels_per_example()).collect();
        let clean_labels: Vec<i64> = shard.clone().map(truth).collect();

        let examiner = self.examiner(&file.question, data)?;
        let judge = |images: &[&[f32]], labels: &[i64]| examiner.judge(images, labels).map_err(|e| e.to_string());
        let (judged, judged_clean) = (judge(&images, &labels)?, judge(&clean, &clean_labels)?);

        for ((&row, &label), seen) in rows.iter().zip(&labels).zip(judged) {
            let claimed = file.witnesses[row].predicted;
            if seen.is_close() {
                self.summary.within_rounding += 1;
            } else if seen.predicted == label {
                faults[row].push(Fault::Classified { label, by: seen.margin });
            } else if seen.predicted != claimed && !seen.is_tied() {
                faults[row].push(Fault::OtherClass { claimed, found: seen.predicted });
            }
        }
        for ((index, &level), seen) in shard.zip(levels).zip(judged_clean) {
            let wrong = seen.predicted != truth(index);
            let by = seen.margin.abs();
            let fault = match level == Level::CLEAN {
                _ if seen.is_close() || wrong == (level == Level::CLEAN) => continue,
                true => Fault::NotMisclassified { by },
                false => Fault::Misclassified { found: seen.predicted, by },
            };
            self.fault(place, Some(index as u32), fault.to_string(), fault.by());
        }
        Ok(())
    }

    /// The network of the checkpoint that `question` attacks.
    fn examiner(&mut self, question: &EvaluateQuestion, data: &DataSet) -> Result<&Examiner, String> {
        let key = (question.train, question.epoch);
        if self.examiner.as_ref().is_none_or(|(other, _)| *other != key) {
            self.checkpoints.insert(key);
            self.examiner = Some((key, self.open(question, data)));
        }
        let (_, examiner) = self.examiner.as_ref().expect("it has just been put there");
        examiner.as_ref().map_err(Clone::clone)
    }

    fn open(&self, question: &EvaluateQuestion, data: &DataSet) -> Result<Examiner, String> {
        let id = self.ledger.checkpoint(question.train, question.epoch).map_err(|error| chain(&error))?;
        let id = id.ok_or("the ledger knows no checkpoint of this epoch")?;
        let path = self.dir.join("checkpoints").join(format!("{id}.safetensors"));
        let weights = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let found = ArtifactId::of(&weights);
        if found.as_str() != id {
            return Err(format!("the checkpoint {} is damaged: its content hashes to {found}", path.display()));
        }
        let test = &data.test;
        let shape = [test.channels, test.height, test.width].map(i64::from);
        Examiner::new(question, &weights, shape, data.classes.into(), self.device).map_err(|error| chain(&error))
    }

    fn fault(&mut self, place: &Place, example: Option<u32>, what: String, by: Option<f64>) {
        self.summary.faults += 1;
        let evaluation = place.evaluation;
        let trial = match place.question {
            Some(question) if evaluation.trial.is_empty() => question.train.short(),
            _ => evaluation.trial.clone(),
        };
        let epoch = place.question.map_or(evaluation.epoch, |question| question.epoch);
        let (attack, file) = (evaluation.attack.clone(), place.file.clone());
        say(&AuditEvent::Fault(Finding { trial, epoch, attack, example, file, what, by }));
    }
}
