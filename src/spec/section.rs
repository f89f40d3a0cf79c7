//! The settings of a trial: its sections, the names and fields that each allows, and dotted paths.

use super::decode::{decode, mismatch, several_keys, unknown};
use super::error::{Problem, Problems, Span};
use super::inputs::{GivenFile, Normalize};
use super::method::{Augment, Awp, Method, Precision, StopEarly};
use super::recipe::{Model, Optimizer, Schedule};
use super::yaml::{Entry, Kind, Map, Node};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;
use std::rc::Rc;
use std::sync::OnceLock;

/// A key of `trial`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Model,
    Method,
    Optimizer,
    Schedule,
    Epochs,
    BatchSize,
    LabelSmoothing,
    Augment,
    Awp,
    Precision,
    StopEarly,
    Normalize,
    Weights,
}

/// A section's value, decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Setting {
    Model(Model),
    Method(Method),
    Optimizer(Optimizer),
    Schedule(Schedule),
    Count(u32),
    Real(f64),
    #[serde(serialize_with = "or_none")]
    Augment(Option<Augment>),
    #[serde(serialize_with = "or_none")]
    Awp(Option<Awp>),
    Precision(Precision),
    #[serde(serialize_with = "or_none")]
    StopEarly(Option<StopEarly>),
    Normalize(Normalize),
    /// `None` for initial weights.
    #[serde(serialize_with = "or_none")]
    Weights(Option<GivenFile>),
}

/// `none` as the word that is written, so that patterns can name it.
fn or_none<T: Serialize, S: serde::Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(NONE),
    }
}

/// The word for an option that is not used.
const NONE: &str = "none";

impl Setting {
    /// Whether this is an option that changes nothing.
    pub fn is_absent(&self, section: Section) -> bool {
        match self {
            Setting::Real(value) => section == Section::LabelSmoothing && *value == 0.0,
            Setting::Augment(augment) => augment.is_none(),
            Setting::Awp(awp) => awp.is_none(),
            Setting::Precision(precision) => *precision == Precision::Fp32,
            Setting::StopEarly(rule) => rule.is_none(),
            Setting::Normalize(normalize) => normalize.numbers().is_none(),
            Setting::Weights(weights) => weights.is_none(),
            _ => false,
        }
    }

    /// Whether it does not go with every other setting, so that whole recipes have to be looked at.
    pub fn is_choosy(&self, section: Section) -> bool {
        match self {
            Setting::Method(method) => matches!(method, Method::Ibp { .. } | Method::Pretrained {}),
            _ => matches!(section, Section::Awp | Section::StopEarly) && !self.is_absent(section),
        }
    }
}

/// What a section's names are, and the fields of each.
pub(super) struct Shape {
    pub names: Vec<String>,
    fields: Vec<Vec<String>>,
}

impl Section {
    pub const COUNT: usize = 13;
    pub const ALL: [Section; Section::COUNT] = [
        Section::Model,
        Section::Method,
        Section::Optimizer,
        Section::Schedule,
        Section::Epochs,
        Section::BatchSize,
        Section::LabelSmoothing,
        Section::Augment,
        Section::Awp,
        Section::Precision,
        Section::StopEarly,
        Section::Normalize,
        Section::Weights,
    ];
    pub const NAMES: [&str; Section::COUNT] = [
        "model",
        "method",
        "optimizer",
        "schedule",
        "epochs",
        "batch_size",
        "label_smoothing",
        "augment",
        "awp",
        "precision",
        "stop_early",
        "normalize",
        "weights",
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    pub fn from_name(name: &str) -> Option<Section> {
        Self::NAMES.iter().position(|candidate| *candidate == name).map(|at| Self::ALL[at])
    }

    /// What holds when neither `trial` nor `grid` says anything; `None` where a choice is required.
    pub fn default(self) -> Option<&'static str> {
        match self {
            Section::Optimizer => Some("sgd"),
            Section::Schedule => Some("cosine"),
            Section::BatchSize => Some("128"),
            Section::LabelSmoothing => Some("0"),
            Section::Augment | Section::Awp | Section::StopEarly => Some(NONE),
            Section::Normalize | Section::Weights => Some(NONE),
            Section::Precision => Some("fp32"),
            Section::Model | Section::Method | Section::Epochs => None,
        }
    }

    /// Whether it says how weights come about, which means nothing to a pretrained network.
    pub fn is_about_training(self) -> bool {
        !matches!(self, Section::Model | Section::Method | Section::Normalize | Section::Weights)
    }

    /// For the remedy when a required section is missing.
    pub fn example(self) -> &'static str {
        match self {
            Section::Model => "smallcnn",
            Section::Method => "natural",
            Section::Epochs => "20",
            other => other.default().unwrap_or(""),
        }
    }

    pub fn decode(self, node: &Node) -> Result<Setting, Problem> {
        let what = self.name();
        Ok(match self {
            Section::Model => Setting::Model(decode(node, what)?),
            Section::Method => Setting::Method(decode(node, what)?),
            Section::Optimizer => Setting::Optimizer(decode(node, what)?),
            Section::Schedule => Setting::Schedule(decode(node, what)?),
            Section::Epochs | Section::BatchSize => Setting::Count(decode(node, what)?),
            Section::LabelSmoothing => Setting::Real(decode::<f64>(node, what)? + 0.0),
            Section::Augment => {
                let augment: Option<Augment> = optional(node, what, "{crop: 4, flip: true}")?;
                Setting::Augment(augment.filter(|augment| augment.crop > 0 || augment.flip))
            }
            Section::Awp => {
                let awp: Option<Awp> = optional(node, what, "{gamma: 0.005}")?;
                Setting::Awp(awp.filter(|awp| awp.gamma != 0.0))
            }
            Section::Precision => Setting::Precision(decode(node, what)?),
            Section::StopEarly => Setting::StopEarly(optional(node, what, "{fraction: 0.1, patience: 5}")?),
            Section::Normalize => Setting::Normalize(decode(node, what)?),
            Section::Weights if node.text() == Some(NONE) => Setting::Weights(None),
            Section::Weights => Setting::Weights(Some(decode(node, what)?)),
        })
    }

    /// The names and fields, or `None` for a section whose values have no names. Read off the JSON
    /// Schema of the decoded type, so it cannot disagree with what decoding accepts.
    pub fn shape(self) -> Option<&'static Shape> {
        static SHAPES: OnceLock<[Shape; 5]> = OnceLock::new();
        let shapes = SHAPES.get_or_init(|| {
            [shape::<Model>(), shape::<Method>(), shape::<Optimizer>(), shape::<Schedule>(), shape::<Normalize>()]
        });
        match self {
            Section::Model | Section::Method | Section::Optimizer | Section::Schedule => shapes.get(self.index()),
            Section::Normalize => shapes.last(),
            _ => None,
        }
    }

    /// A value with its short spelling written out: `{mean, std}` alone is `{channels: {mean, std}}`.
    pub fn spelled_out(self, node: &Rc<Node>) -> Rc<Node> {
        let short = |map: &Map| map.contains_key("mean") || map.contains_key("std");
        if self != Section::Normalize || !node.map().is_some_and(short) {
            return node.clone();
        }
        let entry = Entry { key: node.span, node: node.clone() };
        Node::new(node.span, Kind::Map(Map::from([("channels".to_string(), entry)])))
    }
}

/// Fields, or the word `none`.
fn optional<T: serde::de::DeserializeOwned>(node: &Node, what: &str, example: &str) -> Result<Option<T>, Problem> {
    if node.text() == Some(NONE) {
        return Ok(None);
    }
    if node.map().is_none() {
        return Err(mismatch(node, what, "`none` or a map of fields").help(format!("for example `{what}: {example}`")));
    }
    decode(node, what).map(Some)
}

impl Shape {
    /// The fields of one name; `None` for an unknown name.
    pub fn fields(&self, name: &str) -> Option<&[String]> {
        self.names.iter().position(|candidate| candidate == name).map(|at| &self.fields[at][..])
    }
}

fn shape<T: JsonSchema>() -> Shape {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let variants = schema["oneOf"].as_array().cloned().unwrap_or_default();
    let keys = |object: &Value| -> Vec<String> {
        object.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let mut found = Shape { names: Vec::new(), fields: Vec::new() };
    for variant in &variants {
        for name in keys(&variant["properties"]) {
            found.fields.push(keys(&variant["properties"][&name]["properties"]));
            found.names.push(name);
        }
    }
    found
}

/// Where a setting lives in `trial`: `model`, `optimizer.sgd` or `optimizer.sgd.lr`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Path {
    pub section: Section,
    pub name: Option<String>,
    pub field: Option<String>,
}

impl Path {
    /// Parses a dotted path that stands at `span`.
    pub fn parse(text: &str, span: Span) -> Result<Path, Problem> {
        let parts: Vec<&str> = text.split('.').collect();
        let section = Section::from_name(parts[0]).ok_or_else(|| unknown_section(parts[0], text).at(span))?;
        let too_deep = |limit: &str| {
            Problem::new(span, format!("`{text}` leads nowhere"))
                .label("path too long")
                .help(format!("write `{limit}`"))
        };
        let mut path = Path { section, name: None, field: None };
        let Some(name) = parts.get(1) else { return Ok(path) };
        let shape = section.shape().ok_or_else(|| too_deep(section.name()))?;
        let Some(fields) = shape.fields(name) else {
            let problem = unknown(section.name(), name, &shape.names).at(span);
            let owner = shape.names.iter().find(|n| shape.fields(n).is_some_and(|f| f.iter().any(|f| f == name)));
            return Err(match owner {
                Some(owner) => problem
                    .help(format!("name the {section} too: `{section}.{owner}.{name}`", section = section.name())),
                None => problem,
            });
        };
        path.name = Some((*name).to_string());
        let Some(field) = parts.get(2) else { return Ok(path) };
        if !fields.iter().any(|candidate| candidate == field) {
            return Err(unknown_field(name, field, fields).at(span));
        }
        path.field = Some((*field).to_string());
        if parts.len() > 3 { Err(too_deep(&parts[..3].join("."))) } else { Ok(path) }
    }

    /// How many parts the path has, 1 to 3.
    pub fn depth(&self) -> usize {
        1 + usize::from(self.name.is_some()) + usize::from(self.field.is_some())
    }

    /// Whether setting `self` also decides what `other` is.
    pub fn covers(&self, other: &Path) -> bool {
        self.section == other.section
            && (self.name.is_none() || self.name == other.name)
            && (self.field.is_none() || self.field == other.field)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.section.name())?;
        [&self.name, &self.field].into_iter().flatten().try_for_each(|part| write!(f, ".{part}"))
    }
}

fn unknown_section(word: &str, path: &str) -> Problem {
    match path.strip_prefix("trial.") {
        Some(rest) => Problem::unplaced("paths start inside `trial`").help(format!("write `{rest}`")),
        None => unknown("setting", word, &Section::NAMES),
    }
}

fn unknown_field(name: &str, field: &str, fields: &[String]) -> Problem {
    let problem = unknown("field", field, fields);
    if fields.is_empty() { problem.help(format!("`{name}` takes no fields")) } else { problem }
}

/// Notes names and fields in `node` that the section does not know. Values are left alone: what is
/// missing or wrong here may be replaced by the grid.
pub(super) fn check_names(section: Section, node: &Node, wildcard: bool, problems: &mut Problems) {
    let Some(shape) = section.shape() else { return };
    let known = |name: &str| shape.fields(name).is_some() || wildcard && name == "any";
    match &node.kind {
        Kind::List(items) if wildcard => {
            items.iter().for_each(|item| check_names(section, item, wildcard, problems));
        }
        Kind::Map(map) if map.len() > 1 => problems.push(several_keys(node, map, section.name(), &shape.names)),
        Kind::Map(map) => {
            for (name, entry) in map {
                let Some(fields) = shape.fields(name) else {
                    problems.push(unknown(section.name(), name, &shape.names).at(entry.key));
                    continue;
                };
                let written = entry.node.map().into_iter().flatten();
                for (field, inner) in written.filter(|(field, _)| !fields.contains(field)) {
                    problems.push(unknown_field(name, field, fields).at(inner.key));
                }
            }
        }
        _ => {
            if let Some(name) = node.text().filter(|name| !known(name)) {
                problems.push(unknown(section.name(), name, &shape.names).at(node.span));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_recipe_types() {
        let shape = Section::Optimizer.shape().expect("optimizers have names");
        assert_eq!(shape.names, ["sgd", "adamw"]);
        assert_eq!(shape.fields("sgd").expect("sgd"), ["lr", "momentum", "nesterov", "weight_decay"]);
        assert_eq!(Section::Method.shape().expect("methods").fields("natural").expect("natural").len(), 0);
        assert!(Section::Epochs.shape().is_none());
    }

    #[test]
    fn a_path_covers_what_lies_below_it() {
        let path = |text| Path::parse(text, Span::default()).expect(text);
        assert!(path("optimizer").covers(&path("optimizer.sgd.lr")));
        assert!(path("optimizer.sgd.lr").covers(&path("optimizer.sgd.lr")));
        assert!(!path("optimizer.sgd.lr").covers(&path("optimizer")));
        assert!(!path("optimizer.sgd").covers(&path("optimizer.adamw.lr")));
        assert_eq!(path("optimizer.sgd.lr").to_string(), "optimizer.sgd.lr");
        assert_eq!([path("model").depth(), path("model.mlp").depth(), path("model.mlp.hidden").depth()], [1, 2, 3]);
    }
}
