//! `measure`: what is measured on checkpoints besides how they withstand attacks.
//!
//! As in [`super::recipe`], a task's identity is computed from [`Measure`], so its serialised form is
//! stable: a new field must be skipped when it holds the value that reproduces the old behaviour.

use super::decode::{decode, mismatch, unknown};
use super::document::fields;
use super::epochs;
use super::error::{Problem, Problems, Span, join};
use super::format;
use super::regions::{self, Regions};
use super::sweep::EvalEpochs;
use super::yaml::{Entry, Kind, Map, Node};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// Something that is measured on one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    Uncertainty(Uncertainty),
    Regions(Regions),
}

/// The uncertainty relation of the network's loss: docs/uncertainty.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncertainty {
    /// Where psi lives.
    #[serde(default)]
    pub domain: Domain,
    /// Half the side of a [`Domain::Box`], pixel units of `[0,1]`; no other domain has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<f64>,
    /// Points drawn uniformly from each domain.
    #[serde(default = "default_samples")]
    pub samples: u32,
    #[serde(default)]
    pub loss: MeasuredLoss,
    /// Whether a box is cut off where pixels leave `[0,1]`.
    #[serde(default = "yes")]
    pub clip: bool,
}

/// Where the function psi of the uncertainty relation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// A box around each test example, with its label.
    #[default]
    Box,
    /// The smallest box that holds the training images, once for every class as the label.
    Data,
    /// The rectangle that holds the training images in the plane of their first two principal
    /// components, once for every class as the label.
    Plane,
}

/// The loss L of psi = L / sqrt(integral of L^2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredLoss {
    /// Cross-entropy.
    #[default]
    Ce,
    /// Probability of the other classes, 1 - p(label): at most 1.
    Error,
    /// max(0, 1 + largest other logit - the label's): 0 where the network is sure enough.
    Hinge,
}

impl Domain {
    /// The word of the file, and of the tables.
    pub fn word(self) -> &'static str {
        match self {
            Domain::Box => "box",
            Domain::Data => "data",
            Domain::Plane => "plane",
        }
    }
}

impl MeasuredLoss {
    /// The word of the file, and of the tables.
    pub fn word(self) -> &'static str {
        match self {
            MeasuredLoss::Ce => "ce",
            MeasuredLoss::Error => "error",
            MeasuredLoss::Hinge => "hinge",
        }
    }
}

/// A measure under the name that stands in the `measure` column.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedMeasure {
    pub name: String,
    pub measure: Measure,
    /// How many examples from the start of the test set, where each has a domain of its own.
    pub examples: u32,
    /// `None`: those of the evaluation.
    pub epochs: Option<EvalEpochs>,
}

impl NamedMeasure {
    /// How many units it is taken of, on data of so many classes.
    pub fn units(&self, classes: u32) -> u32 {
        match &self.measure {
            Measure::Regions(_) => 1,
            Measure::Uncertainty(_) if self.is_per_example() => self.examples,
            Measure::Uncertainty(_) => classes,
        }
    }

    /// The smallest test set on which it can be taken.
    pub fn least_examples(&self) -> u32 {
        match &self.measure {
            Measure::Regions(asked) => {
                asked.images.map_or(3, |images| images.iter().fold(3, |most, at| most.max(at.saturating_add(1))))
            }
            Measure::Uncertainty(_) if self.is_per_example() => self.examples,
            Measure::Uncertainty(_) => 0,
        }
    }

    /// Whether it looks at test examples one by one; otherwise at classes.
    pub fn is_per_example(&self) -> bool {
        match &self.measure {
            Measure::Uncertainty(asked) => asked.domain == Domain::Box,
            Measure::Regions(_) => false,
        }
    }
}

pub(super) const KINDS: [&str; 2] = ["uncertainty", "regions"];
pub(super) const UNCERTAINTY_KEYS: [&str; 7] = ["domain", "radius", "samples", "loss", "clip", "examples", "epochs"];

const DEFAULT_RADIUS: f64 = 0.1;
const DEFAULT_EXAMPLES: u32 = 100;
/// Standard errors come from this many groups of samples, of two at least.
pub const MIN_SAMPLES: u32 = 2 * crate::measure::GROUPS as u32;
const MAX_SAMPLES: u32 = 100_000_000;

fn default_samples() -> u32 {
    1024
}

fn yes() -> bool {
    true
}

/// Reads `measure`: one kind by name or with its fields, several kinds as one map, or a list of them.
pub(super) fn read(node: &Rc<Node>, problems: &mut Problems) -> Option<Vec<NamedMeasure>> {
    let items = node.list().map_or_else(|| vec![node.clone()], <[_]>::to_vec);
    let mut written: Vec<(NamedMeasure, Rc<Node>)> = Vec::new();
    let mut complete = true;
    for item in &items {
        for (kind, place, content) in kinds(item, problems)? {
            match read_kind(&kind, place, content.as_ref(), problems) {
                Some(measure) => written.push((measure, content.unwrap_or_else(|| item.clone()))),
                None => complete = false,
            }
        }
    }
    if items.is_empty() {
        let problem = Problem::new(node.span, "`measure` is empty").label("nothing would be measured");
        problems.push(problem.help("name a measure, e.g. `measure: uncertainty`, or remove the key"));
    }
    name(&mut written, problems);
    complete.then(|| written.into_iter().map(|(measure, _)| measure).collect())
}

/// A kind, where it stands, and its fields.
type Kinds = (String, Span, Option<Rc<Node>>);

/// The kinds that an item names, where each stands, and its fields.
fn kinds(item: &Rc<Node>, problems: &mut Problems) -> Option<Vec<Kinds>> {
    match &item.kind {
        Kind::Map(map) if !map.is_empty() => {
            Some(map.iter().map(|(kind, entry)| (kind.clone(), entry.key, Some(entry.node.clone()))).collect())
        }
        _ => match item.text() {
            Some(kind) => Some(vec![(kind.to_string(), item.span, None)]),
            None => {
                let problem = mismatch(item, "measure", format!("one of {}", join(&KINDS)));
                problems.push(problem.help("for example `measure: {uncertainty: {radius: 0.1, samples: 1024}}`"));
                None
            }
        },
    }
}

fn read_kind(kind: &str, place: Span, content: Option<&Rc<Node>>, problems: &mut Problems) -> Option<NamedMeasure> {
    let nothing = Node::new(place, Kind::Map(Map::new()));
    let node = content.filter(|node| !node.is_null()).unwrap_or(&nothing);
    match kind {
        "uncertainty" => uncertainty(node, problems),
        "regions" => regions::read(node, problems),
        _ => {
            problems.push(unknown("measure", kind, &KINDS).at(place));
            None
        }
    }
}

fn uncertainty(node: &Rc<Node>, problems: &mut Problems) -> Option<NamedMeasure> {
    let map = fields(node, "uncertainty", &UNCERTAINTY_KEYS, problems)?;
    let part = |key: &str| map.get(key).map(|entry| &entry.node).filter(|node| !node.is_null());
    let mut own = map.clone();
    own.retain(|key, _| UNCERTAINTY_KEYS[..5].contains(&key.as_str()));
    let mut asked: Uncertainty = problems.keep(decode(&Node::new(node.span, Kind::Map(own)), "uncertainty"))?;
    check(&mut asked, &part, node.span, problems);
    let examples = match part("examples") {
        Some(node) => problems.keep(decode(node, "examples"))?,
        None => DEFAULT_EXAMPLES,
    };
    if let (Some(place), true) = (part("examples"), asked.domain != Domain::Box) {
        let problem = Problem::new(place.span, "`examples` goes with `domain: box` only").label("of no effect here");
        problems.push(problem.help("the domains `data` and `plane` are measured once for every class; remove it"));
    } else if let (Some(node), 0) = (part("examples"), examples) {
        problems.push(mismatch(node, "examples", "1 or more"));
    }
    let epochs = match part("epochs") {
        Some(node) => Some(epochs::read(node, problems)?),
        None => None,
    };
    let name = "uncertainty".to_string();
    Some(NamedMeasure { name, measure: Measure::Uncertainty(asked), examples, epochs })
}

/// Notes what is out of range, and fills the radius of a box in.
fn check<'n>(
    asked: &mut Uncertainty,
    part: &impl Fn(&str) -> Option<&'n Rc<Node>>,
    place: Span,
    problems: &mut Problems,
) {
    let at = |key: &str| part(key).map_or(place, |node| node.span);
    if !(MIN_SAMPLES..=MAX_SAMPLES).contains(&asked.samples) {
        let message = format!("`samples` must be from {MIN_SAMPLES} to {MAX_SAMPLES}, found {}", asked.samples);
        let problem = Problem::new(at("samples"), message).label("out of range");
        problems.push(problem.help("a variance and its standard error need many points; 1024 is a good beginning"));
    }
    let radius = asked.radius;
    match (asked.domain, radius) {
        (Domain::Box, None) => asked.radius = Some(DEFAULT_RADIUS),
        (Domain::Box, Some(radius)) if !(radius > 0.0 && radius <= 1.0) => {
            let message = format!("`radius` must be above 0 and at most 1, found {radius}");
            let problem = Problem::new(at("radius"), message).label("out of range");
            problems.push(match radius {
                radius if radius <= 0.0 => problem.help("a box without a size has no room for an uncertainty"),
                radius if radius <= 255.0 => {
                    problem.help(format!("pixels lie in [0,1]; a radius in 8-bit steps is written `{radius}/255`"))
                }
                _ => problem.help("pixels lie in [0,1]: a box of radius 1 around any image holds all images"),
            });
        }
        (Domain::Box, Some(_)) => {}
        (domain, Some(_)) => {
            let message = format!("`radius` goes with `domain: box` only, and this one is `{}`", domain.word());
            let problem = Problem::new(at("radius"), message).label("of no effect here");
            problems.push(problem.help("this domain is as large as the training images need; remove it"));
        }
        (_, None) => {}
    }
    if let (Some(node), true) = (part("clip"), asked.domain != Domain::Box) {
        let problem = Problem::new(node.span, "`clip` goes with `domain: box` only").label("of no effect here");
        problems.push(problem.help("remove it"));
    }
}

/// A measure is called by its kind where that is unambiguous, else by its fields too.
fn name(written: &mut [(NamedMeasure, Rc<Node>)], problems: &mut Problems) {
    if written.len() < 2 {
        return;
    }
    let alone = |kind: &str| written.iter().filter(|(other, _)| other.name == kind).count() == 1;
    let names: Vec<String> = written
        .iter()
        .map(|(measure, node)| match &measure.name {
            kind if alone(kind) => kind.clone(),
            kind => {
                let entry = Entry { key: node.span, node: node.clone() };
                format::composite(&Node::new(node.span, Kind::Map(Map::from([(kind.clone(), entry)]))))
            }
        })
        .collect();
    for at in 0..written.len() {
        written[at].0.name = names[at].clone();
        let (measure, node) = &written[at];
        let clash =
            |(other, _): &&(NamedMeasure, Rc<Node>)| other.name == measure.name || other.measure == measure.measure;
        if let Some((_, first)) = written[..at].iter().find(clash) {
            let problem = Problem::new(node.span, format!("the same measure is listed twice: `{}`", measure.name));
            let problem = problem.label("again").also(first.span, "first");
            problems.push(problem.help("remove one of them; `examples` and `epochs` alone make no other measure"));
        }
    }
}

/// Notes a measure that would never be taken on some trial.
pub(super) fn check_epochs(place: Span, measures: &[NamedMeasure], lengths: &[u32], problems: &mut Problems) {
    for measure in measures {
        let Some(epochs) = &measure.epochs else { continue };
        if let Some(short) = lengths.iter().find(|&&length| epochs.of(length).is_empty()) {
            let message = format!("`{}` would never be measured on trials of {short} epochs", measure.name);
            problems.push(Problem::new(place, message).label("all of its epochs come later").help("add `final`"));
        }
    }
}
