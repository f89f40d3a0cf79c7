//! Epochs of interest: a list, every so many, spaced evenly on a logarithmic scale, the last one.

use super::decode::{decode, mismatch};
use super::document::fields;
use super::error::{Problem, Problems};
use super::sweep::EvalEpochs;
use super::yaml::{Kind, Map, Node};

const HELP: &str = "write for example `[1, 5, final]`, `{every: 5}`, `{log: 8}` or `[1, {every: 10}, final]`; `final` is the last epoch of each trial";

/// What generates epochs beside numbers and `final`.
pub(super) const GENERATORS: [&str; 2] = ["every", "log"];

/// More checkpoints than this of one trial are a typing error.
const MAX_LOG: u32 = 1_000;

/// Reads a list of epochs, or what makes one; `None` when it was nothing of the kind.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<EvalEpochs> {
    let mut epochs = EvalEpochs::default();
    match &node.kind {
        Kind::Map(map) => generator(node, map, &mut epochs, problems)?,
        Kind::List(items) => {
            for item in items {
                match &item.kind {
                    Kind::Map(map) => generator(item, map, &mut epochs, problems)?,
                    _ => single(item, &mut epochs, problems),
                }
            }
            if items.is_empty() {
                let problem = Problem::new(node.span, "`epochs` is empty").label("nothing would be evaluated");
                problems.push(problem.help(HELP));
            }
        }
        _ if node.text() == Some("final") => epochs.last = true,
        _ => {
            problems.push(mismatch(node, "epochs", "a list of epochs").help(HELP));
            return None;
        }
    }
    epochs.at.sort_unstable();
    epochs.at.dedup();
    Some(epochs)
}

fn single(item: &Node, epochs: &mut EvalEpochs, problems: &mut Problems) {
    if item.text() == Some("final") {
        epochs.last = true;
        return;
    }
    match decode(item, "epochs") {
        Ok(0) | Err(_) => problems.push(mismatch(item, "epochs", "epochs from 1 on, or `final`").help(HELP)),
        Ok(epoch) => epochs.at.push(epoch),
    }
}

/// `{every: 5}` or `{log: 8}`.
fn generator(node: &Node, map: &Map, epochs: &mut EvalEpochs, problems: &mut Problems) -> Option<()> {
    fields(node, "epochs", &GENERATORS, problems)?;
    if map.is_empty() {
        problems.push(mismatch(node, "epochs", "`every` or `log` with a number").help(HELP));
        return None;
    }
    for (key, entry) in map {
        let (least, most) = if key == "every" { (1, u32::MAX) } else { (2, MAX_LOG) };
        let into = match key.as_str() {
            "every" => &mut epochs.every,
            "log" => &mut epochs.log,
            _ => return None, // it was noted
        };
        let number: u32 = problems.keep(decode(&entry.node, key))?;
        if (least..=most).contains(&number) {
            into.push(number);
            continue;
        }
        let problem = mismatch(&entry.node, key, format!("from {least} to {most}"));
        problems.push(problem.help(match key.as_str() {
            "every" => "`{every: 5}` stands for 5, 10, 15, ...",
            _ => "`{log: 8}` stands for 8 epochs from 1 to the last, each the same multiple of the one before",
        }));
        return None;
    }
    Some(())
}
