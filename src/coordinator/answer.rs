//! What workers hand in, checked before it is believed.

use super::wire::{LARGEST_COUNT, LONGEST_TASK};
use crate::artifacts::{ArtifactId, Store};
use crate::ledger::{CheckpointAnswer, EvaluateAnswer, WitnessAnswer};
use crate::measure::MeasureAnswer;
use crate::outcome::Level;
use crate::plan::Question;
use crate::plan::facts::Facts;
use crate::proto;
use crate::spec::Witnesses;
use crate::trust::Trust;

/// An answer that has been checked against its question.
pub(super) enum Answer {
    Train(Vec<CheckpointAnswer>),
    Evaluate(Box<EvaluateAnswer>),
    Measure(Box<MeasureAnswer>),
}

impl Answer {
    /// Nothing a worker sends is believed unseen: artifacts must be there, levels must fit the shard and the grid.
    pub fn check(
        question: &Question,
        answer: Option<proto::commit_request::Answer>,
        store: &Store,
    ) -> Result<Answer, String> {
        use proto::commit_request::Answer as Sent;
        match (question, answer) {
            (Question::Train(question), Some(Sent::Train(sent))) => {
                let check = |sent: proto::Checkpoint| check_checkpoint(sent, question.epochs, store);
                let checkpoints: Vec<_> = sent.checkpoints.into_iter().map(check).collect::<Result<_, _>>()?;
                let epochs: std::collections::BTreeSet<_> = checkpoints.iter().map(|one| one.epoch).collect();
                if checkpoints.is_empty() || epochs.len() != checkpoints.len() {
                    return Err(
                        "a training run hands in one checkpoint for each of its epochs, and at least one".into()
                    );
                }
                Ok(Answer::Train(checkpoints))
            }
            (Question::Evaluate(question), Some(Sent::Evaluate(sent))) => {
                let levels = check_levels(&sent.levels, question.examples, &question.epsilons)?;
                let (family, epsilons, first) = (question.family(), question.epsilons.clone(), question.examples[0]);
                let witnesses = check_witnesses(&sent, question.witnesses, store)?;
                let trust = check_trust(&sent.trust)?;
                let answer = EvaluateAnswer { family, epsilons, first, levels, witnesses, trust };
                Ok(Answer::Evaluate(Box::new(answer)))
            }
            (Question::Certify(asked), Some(Sent::Evaluate(sent))) => {
                let levels = check_levels(&sent.levels, asked.examples, &asked.epsilons)?;
                let (family, epsilons, first) = (question.key(), asked.epsilons.clone(), asked.examples[0]);
                let answer = EvaluateAnswer { family, epsilons, first, levels, witnesses: None, trust: None };
                Ok(Answer::Evaluate(Box::new(answer)))
            }
            (Question::Measure(asked), Some(Sent::Measure(sent))) => {
                let answer: MeasureAnswer =
                    serde_json::from_slice(&sent.content).map_err(|error| format!("the measure: {error}"))?;
                answer.check(asked)?;
                Ok(Answer::Measure(Box::new(answer)))
            }
            _ => Err("the answer is not of the question's kind".into()),
        }
    }
}

/// Whether they hold is for `epsweep audit` to say; here they must be there when they were asked for.
fn check_witnesses(
    sent: &proto::EvaluateAnswer,
    asked: Witnesses,
    store: &Store,
) -> Result<Option<WitnessAnswer>, String> {
    if asked.is_none() {
        return Ok(None);
    }
    let id = ArtifactId::parse(&sent.witnesses).ok_or("the question asks for witnesses, and the answer names none")?;
    let bytes = store.witnesses().size(&id).ok_or_else(|| format!("witnesses {id} were never uploaded"))?;
    Ok(Some(WitnessAnswer { artifact: sent.witnesses.clone(), count: sent.witness_count, bytes }))
}

/// Facts are shown to people and added up: they must be what src/trust.rs describes, and small.
fn check_trust(sent: &[u8]) -> Result<Option<Trust>, String> {
    if sent.is_empty() {
        return Ok(None);
    }
    let unreadable = |error: serde_json::Error| format!("the facts about trust: {error}");
    let facts: serde_json::Value = serde_json::from_slice(sent).map_err(unreadable)?;
    let trust: Trust = serde_json::from_slice(sent).map_err(unreadable)?;
    if !are_counts(&facts) {
        return Err(format!("the facts about trust hold counts beyond {LARGEST_COUNT}"));
    }
    let odd = |name: &str| name.len() > 64 || name.chars().any(char::is_control);
    let long = trust.members.len() > 64 || trust.members.iter().any(|member| odd(&member.name));
    if long || trust.labels.len() > 1_000_000 {
        return Err("the facts about trust are too many".into());
    }
    Ok(Some(trust))
}

/// Whether no number in it is so large that a sum of many could overflow.
fn are_counts(facts: &serde_json::Value) -> bool {
    match facts {
        serde_json::Value::Number(number) => number.as_u64().is_none_or(|count| count <= LARGEST_COUNT),
        serde_json::Value::Array(values) => values.iter().all(are_counts),
        serde_json::Value::Object(fields) => fields.values().all(are_counts),
        _ => true,
    }
}

/// One level per example, none beyond the grid.
fn check_levels(sent: &[u32], [first, end]: [u32; 2], epsilons: &[f64]) -> Result<Vec<Level>, String> {
    let most = epsilons.len() as u32 + 1;
    if sent.len() != (end - first) as usize || sent.iter().any(|&level| level > most) {
        return Err(format!("expected {} levels of at most {most}", end - first));
    }
    Ok(sent.iter().map(|&level| Level(level as u16)).collect())
}

fn check_checkpoint(sent: proto::Checkpoint, epochs: u32, store: &Store) -> Result<CheckpointAnswer, String> {
    let id = ArtifactId::parse(&sent.artifact).ok_or("an artifact id is 64 hexadecimal digits")?;
    let bytes = store.size(&id).ok_or_else(|| format!("artifact {id} was never uploaded"))?;
    // A pretrained network, of 0 epochs, has its checkpoint at epoch 0.
    if sent.epoch < epochs.min(1)
        || sent.epoch > epochs
        || !sent.train_loss.is_finite()
        || !(0.0..=LONGEST_TASK).contains(&sent.train_seconds)
    {
        return Err(format!("checkpoint of epoch {} is not of this training run of {epochs} epochs", sent.epoch));
    }
    let facts = match sent.facts.as_str() {
        "" => Facts::default(),
        json => serde_json::from_str(json).map_err(|error| format!("facts that cannot be read: {error}"))?,
    };
    if !facts.is_sound(epochs) {
        return Err(format!("facts that cannot be true of a run of {epochs} epochs: {facts:?}"));
    }
    Ok(CheckpointAnswer {
        epoch: sent.epoch,
        train_loss: sent.train_loss,
        train_seconds: sent.train_seconds,
        artifact: sent.artifact,
        bytes,
        facts,
    })
}
