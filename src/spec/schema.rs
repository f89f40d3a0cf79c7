//! The JSON Schema of a sweep's file, for editors (`# yaml-language-server: $schema=...`).
//!
//! Models, methods and so on come from the very types that are decoded. What only the file has,
//! such as lists of values and patterns, is described by the types here, which nothing else uses;
//! a test holds their keys against those that reading accepts.

use super::attack::{Attack, Certificate, Search};
use super::inputs::{Normalization, Normalize};
use super::measure::{Domain, MeasuredLoss};
use super::method::{Augment, Awp, Method, Precision, StopEarly};
use super::recipe::{Model, Norm, Optimizer, Schedule};
use super::regions::Plane;
use super::section::Section;
use super::sweep::{Dataset, Witnesses};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// What a number may also be written as.
const FRACTION: &str = r"^[-+0-9.eE]+\s*/\s*[-+0-9.eE]+$";

/// The JSON Schema (draft 2020-12) of a sweep's YAML file.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    schema["patternProperties"] =
        json!({"^x-": {"description": "Free for your own use, e.g. as a place for YAML anchors."}});
    accept_spellings(&mut schema);
    schema
}

/// A sweep: a grid of training runs, and a grid of attacks and epsilons that all of them face.
#[derive(JsonSchema)]
#[schemars(title = "epsweep sweep", deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
struct File {
    /// Names the folder of the results; the file's own name when absent.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"))]
    name: Option<String>,
    /// Seed of the evaluation's random streams; 0 when absent.
    seed: Option<u64>,
    dataset: Dataset,
    /// One training run: what holds wherever `grid` says nothing else.
    trial: TrialFields,
    /// What is varied: a list of maps is a product, keys inside one map vary together.
    grid: Option<GridItems>,
    /// Partial descriptions of points to leave out; `any` matches everything.
    exclude: Option<Vec<SettingPattern>>,
    /// Extra points: overrides of `trial`.
    include: Option<Vec<SettingOverride>>,
    sample: Option<Sample>,
    /// How often every point is trained, or with which seeds; 1 when absent.
    seeds: Option<Seeds>,
    evaluate: Evaluation,
    /// What is measured on checkpoints besides.
    measure: Option<MeasureSpelling>,
}

/// One training run.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
struct TrialFields {
    model: Option<Model>,
    method: Option<Method>,
    /// `sgd` when absent.
    optimizer: Option<Optimizer>,
    /// `cosine` when absent.
    schedule: Option<Schedule>,
    /// Passes over the training set.
    #[schemars(range(min = 1))]
    epochs: Option<u32>,
    /// Examples per step; 128 when absent.
    #[schemars(range(min = 1))]
    batch_size: Option<u32>,
    /// Share of the target that is spread over all classes; 0 when absent.
    #[schemars(range(min = 0, max = 1))]
    label_smoothing: Option<f64>,
    /// Random changes of the training images; `none` when absent.
    augment: Option<OrNone<Augment>>,
    /// Adversarial weight perturbation, beside pgd, fast_at, trades and mart; `none` when absent.
    awp: Option<OrNone<Awp>>,
    /// `fp32` when absent.
    precision: Option<Precision>,
    /// Early stopping on robust accuracy; `none` when absent.
    stop_early: Option<OrNone<StopEarly>>,
    /// What happens to pixels before they enter the network; `none` when absent.
    normalize: Option<NormalizeSpelling>,
    /// A safetensors file or a PyTorch state dict that the weights are taken from; `none` when absent.
    weights: Option<String>,
}

/// Fields, or the word `none`.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "{T}OrNone")]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum OrNone<T> {
    Fields(T),
    #[schemars(with = "NoneWord")]
    None,
}

/// A choice, or one mean and one standard deviation per channel.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum NormalizeSpelling {
    Choice(Normalize),
    Numbers(Normalization),
}

/// A seeded random part of the points, before seeds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
struct Sample {
    /// How many points to keep.
    #[schemars(range(min = 1))]
    n: u32,
    /// Another seed keeps other points; 0 when absent.
    seed: Option<u64>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum Seeds {
    /// This many: 0, 1, 2 and so on.
    Count(#[schemars(range(min = 1))] u32),
    List(#[schemars(length(min = 1))] Vec<u64>),
}

/// The evaluation that every trial faces.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
struct Evaluation {
    /// Epochs whose weights are attacked; `[final]` when absent.
    epochs: Option<Epochs>,
    norm: Option<Norm>,
    /// Radii of the attacks, pixel units of `[0,1]`; 0 stands for clean accuracy.
    epsilons: Values,
    /// `[fgsm, pgd]` when absent.
    #[schemars(length(min = 1))]
    attacks: Option<Vec<AttackItem>>,
    /// How many examples from the start of the test set; all when absent.
    #[schemars(range(min = 1))]
    test_examples: Option<u32>,
    /// Examples per forward pass of the attack loop; 256 when absent.
    #[schemars(range(min = 1))]
    batch_size: Option<u32>,
    /// `ascending` for fgsm, `bisect` for the other attacks when absent.
    search: Option<Search>,
    /// What attacks compute with while they search; `fp32` when absent. What they find counts when 32 bits confirm it.
    search_precision: Option<Precision>,
    /// Whether `pgd` begins at one epsilon where it ended at another; `false` when absent.
    warm_starts: Option<bool>,
    /// Which adversarial examples are kept, for `epsweep audit` and `epsweep witnesses`; `none` when absent.
    witnesses: Option<Witnesses>,
    /// Lower bounds on robustness beside the attacks' upper ones; none when absent.
    certify: Option<Vec<Certificate>>,
}

/// What is measured: one kind by name, kinds with their fields, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum MeasureSpelling {
    One(MeasureItem),
    Several(#[schemars(length(min = 1))] Vec<MeasureItem>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum MeasureItem {
    #[schemars(with = "MeasureWord")]
    Name,
    Kinds(MeasureKinds),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
pub(super) struct MeasureKinds {
    uncertainty: Option<UncertaintyFields>,
    regions: Option<RegionsFields>,
}

/// Maps of the classes that are named on a plane of images, before and after an attack on them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
pub(super) struct RegionsFields {
    /// `images` when absent.
    plane: Option<Plane>,
    /// The three test images that span the plane; the first of each of three classes when absent.
    images: Option<[u32; 3]>,
    /// Points along each side of a map; 96 when absent.
    #[schemars(range(min = 8, max = 256))]
    points: Option<u32>,
    /// Of the attack (PGD) on the images; 0.1 when absent, 0 for no second map.
    #[schemars(range(min = 0))]
    epsilon: Option<f64>,
    /// Of that attack; 40 when absent.
    #[schemars(range(min = 1, max = 10_000))]
    steps: Option<u32>,
    /// Of that attack.
    norm: Option<Norm>,
    /// Epochs whose weights are mapped; those of `evaluate` when absent.
    epochs: Option<Epochs>,
}

/// The uncertainty relation of the loss: dx, dp, their product and its bound.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
struct UncertaintyFields {
    /// `box` when absent.
    domain: Option<Domain>,
    /// Half the side of the box, pixel units of `[0,1]`; 0.1 when absent.
    #[schemars(range(max = 1))]
    radius: Option<f64>,
    /// Points drawn from each domain; 1024 when absent.
    #[schemars(range(min = 64))]
    samples: Option<u32>,
    /// `ce` when absent.
    loss: Option<MeasuredLoss>,
    /// Whether boxes are cut off where pixels leave `[0,1]`; `true` when absent.
    clip: Option<bool>,
    /// How many examples from the start of the test set have a box; 100 when absent.
    #[schemars(range(min = 1))]
    examples: Option<u32>,
    /// Epochs whose weights are measured; those of `evaluate` when absent.
    epochs: Option<Epochs>,
}

/// Epochs: a list, or what makes one.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum Epochs {
    One(EpochMaker),
    List(#[schemars(length(min = 1))] Vec<EpochItem>),
    #[schemars(with = "FinalWord")]
    Final,
}

/// An epoch, what makes several, or `final`: the last one of each trial.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
enum EpochItem {
    Number(#[schemars(range(min = 1))] u32),
    Maker(EpochMaker),
    #[schemars(with = "FinalWord")]
    Final,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "a description for editors; only its schema is used")]
pub(super) struct EpochMaker {
    /// All multiples of this.
    #[schemars(range(min = 1))]
    every: Option<u32>,
    /// So many epochs from 1 to the last, each the same multiple of the one before.
    #[schemars(range(min = 2, max = 1000))]
    log: Option<u32>,
}

/// Implements `JsonSchema` by a schema written out.
macro_rules! written_schema {
    ($(#[doc = $doc:literal])* $name:ident, $body:expr) => {
        $(#[doc = $doc])*
        struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let body: fn(&mut SchemaGenerator) -> Schema = $body;
                body(generator)
            }
        }
    };
}

written_schema!(FinalWord, |_| json_schema!({"const": "final"}));

written_schema!(MeasureWord, |_| json_schema!({"enum": super::measure::KINDS}));

written_schema!(NoneWord, |_| json_schema!({"const": "none"}));

written_schema!(Values, |_| {
    let triple = |third: &str| json!({"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}, "description": third});
    let generator = |name: &str, meaning: &str| json!({"type": "object", "properties": {name: triple(meaning)}, "required": [name], "additionalProperties": false});
    json_schema!({
        "description": "Values: a list, or a generator.",
        "oneOf": [
            {"type": "array", "minItems": 1},
            generator("linspace", "first, last, count: evenly spaced, both ends included"),
            generator("logspace", "first, last, count: evenly spaced ratios, both ends included"),
            generator("range", "first, last, step: `last` is included when a step lands on it"),
        ]
    })
});

/// The keys of `trial` and the dotted paths below them.
fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for section in Section::ALL {
        paths.push(section.name().to_string());
        for name in section.shape().map_or(&[][..], |shape| &shape.names) {
            paths.push(format!("{}.{name}", section.name()));
            let fields = section.shape().and_then(|shape| shape.fields(name)).unwrap_or_default();
            paths.extend(fields.iter().map(|field| format!("{}.{name}.{field}", section.name())));
        }
    }
    paths
}

fn every_path(value: &Value) -> Map<String, Value> {
    paths().into_iter().map(|path| (path, value.clone())).collect()
}

written_schema!(SettingPattern, |_| {
    let properties = every_path(&json!({"description": "A value, `any`, or a list of which one must match."}));
    json_schema!({"type": "object", "minProperties": 1, "properties": properties, "additionalProperties": false})
});

written_schema!(SettingOverride, |_| {
    let properties = every_path(&json!({"description": "The value at this point."}));
    json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
});

written_schema!(Axis, |generator| {
    let mut properties = every_path(&generator.subschema_for::<Values>().to_value());
    let mut when = generator.subschema_for::<SettingPattern>().to_value();
    when["description"] = json!("The axis applies only to points that match.");
    properties.insert("when".to_string(), when);
    json_schema!({"type": "object", "minProperties": 1, "properties": properties, "additionalProperties": false})
});

written_schema!(GridItems, |generator| {
    let axis = generator.subschema_for::<Axis>();
    json_schema!({"oneOf": [{"type": "array", "minItems": 1, "items": axis}, axis]})
});

written_schema!(AttackItem, |generator| {
    let attack = generator.subschema_for::<Attack>();
    let kinds = Attack::json_schema(generator).to_value()["oneOf"].clone();
    let named: Vec<Value> = kinds.as_array().into_iter().flatten().cloned().map(with_name).collect();
    let mut all = vec![attack.to_value()];
    all.extend(named);
    json_schema!({"anyOf": all})
});

/// The schema of `{name: strong, pgd: {...}}` from that of `{pgd: {...}}`.
fn with_name(mut kind: Value) -> Value {
    kind["properties"]["name"] =
        json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,60}$", "description": "Stands in the tables."});
    kind
}

/// Admits what YAML users write beyond the decoded types: fractions as numbers, `natural` for
/// `{natural: {}}`.
fn accept_spellings(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(accept_spellings),
        Value::Object(map) => {
            map.values_mut().for_each(accept_spellings);
            accept_fractions(map);
            accept_bare_names(map);
        }
        _ => {}
    }
}

fn accept_fractions(map: &mut Map<String, Value>) {
    let is = |kind: &Value, name: &str| {
        *kind == json!(name) || kind.as_array().is_some_and(|kinds| kinds.contains(&json!(name)))
    };
    let Some(kind) = map.get("type").filter(|kind| is(kind, "number")) else { return };
    let mut choices = vec![json!({"type": "number"}), json!({"type": "string", "pattern": FRACTION})];
    if is(kind, "null") {
        choices.push(json!({"type": "null"}));
    }
    map.remove("type");
    map.remove("format");
    map.insert("anyOf".to_string(), Value::Array(choices));
}

fn accept_bare_names(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.get_mut("oneOf") else { return };
    let bare = |variant: &Value| -> Option<Value> {
        let required = variant.get("required")?.as_array()?;
        let [name] = &required[..] else { return None };
        let fields = &variant["properties"][name.as_str()?];
        let complete = fields["type"] == "object" && fields.get("required").is_none();
        complete.then(|| name.clone())
    };
    let names: Vec<Value> = variants.iter().filter_map(bare).collect();
    if !names.is_empty() {
        variants.push(json!({"enum": names, "description": "With default fields."}));
    }
}
