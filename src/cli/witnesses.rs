//! `epsweep witnesses DIR --out DIR2`: the adversarial examples as NumPy arrays, for use elsewhere.

use super::bucket::{Artifacts, Wanted};
use super::printer;
use crate::artifacts::ArtifactId;
use crate::coordinator::{Kept, KeptError, KeptEvaluation, kept};
use crate::ledger::Ledger;
use crate::program::{Exit, Failure};
use crate::witness::{Witness, WitnessFile, npy};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a run, or the state directory of `epsweep serve`
    dir: PathBuf,
    /// Where the arrays go: a folder per checkpoint and attack, and a manifest
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which sweep, where there are several [default: the latest]
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    #[command(flatten)]
    artifacts: Artifacts,
}

pub async fn witnesses(args: &Args) -> Result<Exit, Failure> {
    let ledger = Ledger::read(&args.dir).map_err(Failure::usage)?;
    let sweep = ledger.find_sweep(args.sweep.as_deref()).map_err(Failure::usage)?;
    let kept = kept(&ledger, &sweep).map_err(|error| match error {
        KeptError::Ledger(_) => Failure::internal(error),
        KeptError::Stale { .. } => Failure::usage(error),
    })?;
    if kept.evaluations.is_empty() {
        return Err(Failure::usage(miette::miette!(
            help = "write `witnesses: break` under `evaluate` in the sweep file, and run it again",
            "the sweep {:?} holds no witnesses",
            sweep.name
        )));
    }
    let stored = kept.evaluations.iter().filter_map(|evaluation| evaluation.stored.as_ref());
    let witnesses = stored.map(|stored| stored.artifact.clone()).collect();
    args.artifacts.bring(&args.dir, &Wanted { witnesses, ..Wanted::default() }).await?;
    let mut entries = Vec::new();
    // Plan order: the shards of one checkpoint and attack follow one another.
    for shards in kept.evaluations.chunk_by(|a, b| (a.trial, a.epoch, a.attack) == (b.trial, b.epoch, b.attack)) {
        let checkpoint = ledger.checkpoint(shards[0].question.train, shards[0].question.epoch);
        let checkpoint = checkpoint.map_err(Failure::internal)?;
        entries.push(export(args, &kept, shards, checkpoint)?);
    }
    let manifest = serde_json::json!({
        "sweep": sweep.name,
        "data": kept.plan.data.id,
        "norm": kept.plan.sweep.evaluate.norm,
        "epsilons": kept.plan.sweep.evaluate.positive_epsilons(),
        "arrays": {
            "x_adv": "float32 NCHW in [0,1]",
            "index": "int64: position in the test set",
            "y": "int64: the true class",
            "predicted": "int64: what the network says",
            "level": "int64: position in `epsilons`, from 1",
            "epsilon": "float64: that epsilon",
            "distance": "float64: from the clean image, in `norm`",
            "member": "int64: position in the entry's `members`, the attack that found it",
        },
        "entries": entries,
    });
    let manifest = serde_json::to_string_pretty(&manifest).expect("our own values are valid JSON");
    write(&args.out.join("manifest.json"), manifest.as_bytes())?;
    printer::line(args.out.join("manifest.json").display());
    Ok(Exit::Done)
}

/// An array's name, and what stands in it.
type Column<T> = (&'static str, &'static dyn Fn(&Witness) -> T);

/// Writes the arrays of one checkpoint and attack; returns their entry of the manifest.
fn export(
    args: &Args,
    kept: &Kept,
    shards: &[KeptEvaluation],
    checkpoint: Option<String>,
) -> Result<serde_json::Value, Failure> {
    let mut files = Vec::with_capacity(shards.len());
    for shard in shards {
        files.push(read(&args.dir, shard)?);
    }
    let first = &shards[0];
    let (planned, trial) = (&kept.plan.trials[first.trial as usize], &kept.plan.sweep.trials[first.trial as usize]);
    let attack = &kept.plan.sweep.evaluate.attacks[usize::from(first.attack)].name;
    let name = format!("{}-{}-{}", planned.key.short(), first.epoch, file_name(attack));
    let folder = args.out.join(&name);
    let all: Vec<&Witness> = files.iter().flat_map(|file| &file.witnesses).collect();
    let [channels, height, width] = files[0].shape;
    let pixels: Vec<f32> = all.iter().flat_map(|witness| witness.pixels.iter().copied()).collect();
    write(&folder.join("x_adv.npy"), &npy::encode(&[all.len(), channels, height, width], &pixels))?;
    let whole: [Column<i64>; 5] = [
        ("index", &|witness| witness.index.into()),
        ("y", &|witness| witness.label),
        ("predicted", &|witness| witness.predicted),
        ("level", &|witness| witness.level.into()),
        ("member", &|witness| witness.member.into()),
    ];
    for (name, of) in whole {
        let values: Vec<i64> = all.iter().map(|witness| of(witness)).collect();
        write(&folder.join(format!("{name}.npy")), &npy::encode(&[all.len()], &values))?;
    }
    let real: [Column<f64>; 2] = [("epsilon", &|w| w.epsilon), ("distance", &|w| w.distance)];
    for (name, of) in real {
        let values: Vec<f64> = all.iter().map(|witness| of(witness)).collect();
        write(&folder.join(format!("{name}.npy")), &npy::encode(&[all.len()], &values))?;
    }
    let axes: serde_json::Map<_, _> = kept
        .plan
        .sweep
        .axes
        .iter()
        .zip(&trial.axes)
        .map(|(axis, value)| (axis.clone(), value.clone().into()))
        .collect();
    Ok(serde_json::json!({
        "folder": name,
        "trial": planned.key.short(),
        "config": planned.config,
        "axes": axes,
        "seed": trial.seed,
        "epoch": first.epoch,
        "attack": attack,
        "members": files[0].members,
        "checkpoint": checkpoint,
        "witnesses": all.len(),
    }))
}

/// A shard's file, whole and unchanged.
fn read(dir: &Path, shard: &KeptEvaluation) -> Result<WitnessFile, Failure> {
    let help = format!("`epsweep audit {}` says what else is wrong; nothing damaged is exported", dir.display());
    let refuse = |what: String| Failure::internal(miette::miette!(help = help.clone(), "{what}"));
    let stored = shard.stored.as_ref().ok_or_else(|| refuse("the ledger has lost a file of witnesses".into()))?;
    let path = dir.join("witnesses").join(format!("{}.safetensors.gz", stored.artifact));
    let packed = std::fs::read(&path).map_err(|error| refuse(format!("cannot read {}: {error}", path.display())))?;
    if ArtifactId::of(&packed).as_str() != stored.artifact {
        return Err(refuse(format!("{} is damaged: its content does not hash to its name", path.display())));
    }
    let (file, damaged) =
        WitnessFile::decode(&packed).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
    match damaged.first() {
        Some(error) => Err(refuse(format!("{}: {error}", path.display()))),
        None => Ok(file),
    }
}

fn file_name(attack: &str) -> String {
    attack.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' }).collect()
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, content))
        .map_err(|error| Failure::usage(miette::miette!("cannot write {}: {error}", path.display())))
}
