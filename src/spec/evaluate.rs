//! `evaluate`: at which epochs, with which attacks, at which epsilons.

use super::attack::{Attack, Certificate, Search};
use super::check::{self, Radii};
use super::decode::{decode, mismatch};
use super::document::{fields, missing};
use super::epochs;
use super::error::{Problem, Problems, Span};
use super::format;
use super::method::Precision;
use super::recipe::{Model, Norm};
use super::sweep::{Dataset, EvalEpochs, Evaluate, NamedAttack, NamedCertificate, Witnesses};
use super::values::values;
use super::yaml::{Kind, Map, Node};
use std::rc::Rc;

pub(super) const KEYS: [&str; 11] = [
    "epochs",
    "norm",
    "epsilons",
    "attacks",
    "test_examples",
    "batch_size",
    "search",
    "search_precision",
    "warm_starts",
    "witnesses",
    "certify",
];

/// Outcomes are stored as positions in the epsilon grid, 16 bits each; curves this fine help nobody.
const MAX_EPSILONS: usize = 10_000;
const MAX_BATCH: u32 = 1_000_000;
const DEFAULT_BATCH: u32 = 256;

/// Reads `evaluate`; `None` when problems were noted.
pub(super) fn read(node: &Node, dataset: Option<&Dataset>, radii: Radii, problems: &mut Problems) -> Option<Evaluate> {
    let map = fields(node, "evaluate", &KEYS, problems)?;
    let part = |key: &str| map.get(key).map(|entry| &entry.node).filter(|node| !node.is_null());
    let norm = match part("norm") {
        Some(node) => problems.keep(decode(node, "norm"))?,
        None => Norm::default(),
    };
    let epochs = part("epochs").map_or(Some(EvalEpochs::last_only()), |node| epochs::read(node, problems));
    let epsilons = match part("epsilons") {
        Some(node) => epsilons(node, norm, radii, problems),
        None => {
            let example = "epsilons: {linspace: [0, 0.3, 16]}";
            problems.extend(missing(map, node.span, "evaluation", "epsilons", &KEYS, example));
            None
        }
    };
    let attacks = match part("attacks") {
        Some(node) => attacks(node, norm, radii, problems),
        None => Some(default_attacks(node.span)),
    };
    let most = dataset.and_then(Dataset::test_examples).unwrap_or(u32::MAX);
    let test_examples = match part("test_examples") {
        Some(node) => Some(count(node, "test_examples", most, problems)?),
        None => None,
    };
    let batch_size =
        part("batch_size").map_or(Some(DEFAULT_BATCH), |node| count(node, "batch_size", MAX_BATCH, problems));
    let search = match part("search") {
        Some(node) => Some(problems.keep(decode(node, "search"))?),
        None => None,
    };
    let certify = match part("certify") {
        Some(node) => certificates(node, norm, problems)?,
        None => Vec::new(),
    };
    let witnesses = match part("witnesses") {
        Some(node) => problems.keep(decode(node, "witnesses"))?,
        None => Witnesses::default(),
    };
    let search_precision = match part("search_precision") {
        Some(node) => problems.keep(decode(node, "search_precision"))?,
        None => Precision::default(),
    };
    let warm_starts = match part("warm_starts") {
        Some(node) => warm_starts(node, search, problems)?,
        None => false,
    };
    Some(Evaluate {
        search,
        certify,
        witnesses,
        search_precision,
        warm_starts,
        epochs: epochs?,
        norm,
        epsilons: epsilons?,
        attacks: attacks?,
        test_examples,
        batch_size: batch_size?,
    })
}

fn warm_starts(node: &Node, search: Option<Search>, problems: &mut Problems) -> Option<bool> {
    let warm: bool = problems.keep(decode(node, "warm_starts"))?;
    if warm && search == Some(Search::Exhaustive) {
        let message = "`search: exhaustive` attacks every epsilon on its own, so nothing can start warm";
        problems.push(Problem::new(node.span, message).label("not with this search").help("leave one of the two out"));
    }
    Some(warm)
}

fn count(node: &Node, what: &str, most: u32, problems: &mut Problems) -> Option<u32> {
    let count: u32 = problems.keep(decode(node, what))?;
    if (1..=most).contains(&count) {
        return Some(count);
    }
    let problem = mismatch(node, what, format!("from 1 to {most}"));
    problems.push(if what == "test_examples" {
        problem.help("leave `test_examples` out to use the whole test set")
    } else {
        problem
    });
    None
}

/// Ascending and distinct, whatever the order in the file.
fn epsilons(node: &Rc<Node>, norm: Norm, radii: Radii, problems: &mut Problems) -> Option<Vec<f64>> {
    let mut epsilons = Vec::new();
    for item in problems.keep(values(node, "epsilons"))? {
        let epsilon: f64 = problems.keep(decode(&item, "epsilons"))?;
        if let Some(problem) = check::radius(epsilon, "epsilon", item.span, norm, radii) {
            problems.push(problem);
        }
        // Turns -0 into 0.
        epsilons.push(epsilon + 0.0);
    }
    epsilons.sort_by(f64::total_cmp);
    epsilons.dedup();
    if epsilons.len() > MAX_EPSILONS {
        problems.push(
            Problem::new(
                node.span,
                format!("{} epsilons are more than the {MAX_EPSILONS} that a curve may have", epsilons.len()),
            )
            .label("too many")
            .help("use a coarser grid"),
        );
    }
    Some(epsilons)
}

fn default_attacks(span: Span) -> Vec<NamedAttack> {
    ["fgsm", "pgd"]
        .into_iter()
        .filter_map(|name| {
            let attack = decode(&Node::plain(span, name), "attacks").ok()?;
            Some(NamedAttack { name: name.to_string(), attack })
        })
        .collect()
}

/// An item of `attacks`, before it has a name.
struct Written {
    own_name: Option<(String, Span)>,
    attack: Attack,
    node: Rc<Node>,
}

fn attacks(node: &Node, norm: Norm, radii: Radii, problems: &mut Problems) -> Option<Vec<NamedAttack>> {
    let Some(items) = node.list() else {
        let problem = mismatch(node, "attacks", "a list of attacks");
        problems.push(problem.help("for example `[fgsm, {pgd: {steps: 40, restarts: 5}}]`"));
        return None;
    };
    let mut written = Vec::new();
    for item in items {
        let Some(attack) = read_attack(item, problems) else { continue };
        problems.extend(check::attack(&attack.attack, &attack.node, norm, radii));
        written.push(attack);
    }
    if items.is_empty() {
        problems.push(
            Problem::new(node.span, "`attacks` is empty")
                .label("nothing would be attacked")
                .help("list at least one, or remove `attacks` for the default `[fgsm, pgd]`"),
        );
    }
    if written.len() < items.len() {
        return None;
    }
    Some(name_attacks(&written, problems))
}

/// `pgd`, `{pgd: {...}}` or `{name: strong, pgd: {...}}`.
fn read_attack(item: &Rc<Node>, problems: &mut Problems) -> Option<Written> {
    let own = item.map().and_then(|map| map.get("name"));
    let (own_name, node) = match (own, item.map()) {
        (Some(entry), Some(map)) => {
            let name: String = problems.keep(decode(&entry.node, "name"))?;
            if !is_attack_name(&name) {
                problems.push(
                    Problem::new(entry.node.span, format!("`{name}` cannot be the name of an attack"))
                        .label("names a row of the tables")
                        .help("use 1 to 60 letters, digits, `-`, `_` and `.`; `all` stands for the worst case over all attacks"),
                );
                return None;
            }
            let rest: Map = map.iter().filter(|(key, _)| *key != "name").map(|(k, e)| (k.clone(), e.clone())).collect();
            (Some((name, entry.node.span)), Node::new(item.span, Kind::Map(rest)))
        }
        _ => (None, item.clone()),
    };
    let attack = problems.keep(decode(&node, "attack"))?;
    Some(Written { own_name, attack, node })
}

fn is_attack_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=60).contains(&name.len()) && name.chars().all(allowed) && name != "all"
}

/// An attack is called by its kind where that is unambiguous, else by its parameters too.
fn name_attacks(written: &[Written], problems: &mut Problems) -> Vec<NamedAttack> {
    let mut named: Vec<NamedAttack> = Vec::new();
    for (position, item) in written.iter().enumerate() {
        let kind = item.attack.kind();
        let alone = written.iter().filter(|other| other.own_name.is_none() && other.attack.kind() == kind).count() <= 1;
        let (name, place) = match &item.own_name {
            Some((name, place)) => (name.clone(), *place),
            None if alone => (kind.to_string(), item.node.span),
            None => (format::composite(&item.node), item.node.span),
        };
        let clash = |attack: &NamedAttack| attack.name == name || attack.attack == item.attack;
        if let Some(first) = named.iter().position(clash) {
            let same = named[first].attack == item.attack;
            let what = if same { "the same attack is listed twice" } else { "two attacks have the same name" };
            problems.push(
                Problem::new(place, format!("{what}: `{name}`"))
                    .label("second")
                    .also(written[first].node.span, "first")
                    .help(if same { "remove one of them" } else { "choose another `name` for one of them" }),
            );
        }
        debug_assert_eq!(named.len(), position);
        named.push(NamedAttack { name, attack: item.attack.clone() });
    }
    named
}

/// A certificate is called by its kind where that is unambiguous, else by its parameters too.
fn certificates(node: &Node, norm: Norm, problems: &mut Problems) -> Option<Vec<NamedCertificate>> {
    let Some(items) = node.list() else {
        let problem = mismatch(node, "certify", "a list of certificates");
        problems.push(problem.help("for example `[ibp, crown]`, or `[{smoothing: {sigma: 0.25}}]` with `norm: l2`"));
        return None;
    };
    let mut named: Vec<NamedCertificate> = Vec::new();
    for item in items {
        let certificate: Certificate = problems.keep(decode(item, "certificate"))?;
        problems.extend(check::certificate(&certificate, item));
        if certificate.norm() != norm {
            let kind = certificate.kind();
            let word = |norm| match norm {
                Norm::Linf => "linf",
                Norm::L2 => "l2",
                Norm::L1 => "l1",
            };
            let (own, asked) = (word(certificate.norm()), word(norm));
            problems.push(
                Problem::new(item.span, format!("`{kind}` certifies {own}, and this evaluation is about {asked}"))
                    .label("of another norm")
                    .help(match norm {
                        Norm::Linf => "`ibp` and `crown` certify linf; `smoothing` needs `norm: l2`",
                        Norm::L2 => "`smoothing` certifies l2; `ibp` and `crown` need `norm: linf`",
                        Norm::L1 => "there are certificates for linf (`ibp`, `crown`) and l2 (`smoothing`)",
                    }),
            );
        }
        let alone = items.iter().filter(|other| format::composite(other).starts_with(certificate.kind())).count() == 1;
        let name = if alone { certificate.kind().to_string() } else { format::composite(item) };
        if named.iter().any(|other| other.certificate == certificate || other.name == name) {
            let problem = Problem::new(item.span, format!("the same certificate is listed twice: `{name}`"));
            problems.push(problem.label("again").help("remove one of them"));
        }
        named.push(NamedCertificate { name, certificate });
    }
    Some(named)
}

/// Notes certificates that do not exist for a model of the sweep.
pub(super) fn check_certificates<'m>(
    node: &Node,
    evaluate: &Evaluate,
    mut models: impl Iterator<Item = &'m Model>,
    problems: &mut Problems,
) {
    let Some(named) = evaluate.certify.iter().find(|named| named.certificate.is_deterministic()) else { return };
    let Some(model) = models.find(|model| !model.has_trainable_bounds()) else { return };
    let place = node.map().and_then(|map| map.get("certify")).map_or(node.span, |entry| entry.node.span);
    problems.push(
        Problem::new(place, format!("`{}` has no bounds for the model `{}`", named.name, model.kind()))
            .label("not for this model")
            .help("bounds exist for feed-forward models only; put the others into a sweep of their own, or use `smoothing` with `norm: l2`"),
    );
}

/// Notes epochs that no trial, or a trial that no epoch, reaches.
pub(super) fn check_epochs(
    node: &Node,
    evaluate: &Evaluate,
    lengths: &[u32],
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    let place = node.map().and_then(|map| map.get("epochs")).map_or(node.span, |entry| entry.node.span);
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if longest == 0 {
        return; // nothing is trained: all are evaluated as they are
    }
    if let Some(short) = lengths.iter().find(|&&epochs| evaluate.epochs.of(epochs).is_empty()) {
        problems.push(
            Problem::new(place, format!("trials of {short} epochs would never be evaluated"))
                .label("all of these come later")
                .help("add `final`"),
        );
    } else if let Some(beyond) = evaluate.epochs.at.iter().find(|&&epoch| epoch > longest) {
        warnings.push(
            Problem::new(place, format!("no trial reaches epoch {beyond}: the longest has {longest}"))
                .label("partly out of reach")
                .help("epochs beyond the end of a trial are skipped"),
        );
    }
}
