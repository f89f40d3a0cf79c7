//! The examples are valid, fit the JSON Schema, and so does all that this room accepts.

use crate::spec::yaml::{self, Kind, Node};
use crate::spec::{load_with_warnings, schema};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).expect("examples/").map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_example_is_valid_without_warnings() {
    assert!(examples().len() >= 2);
    for path in examples() {
        let (sweep, warnings) = load_with_warnings(&path).unwrap_or_else(|error| panic!("{}", super::render(&error)));
        assert!(warnings.is_empty(), "{}: {}", path.display(), super::render(&warnings[0]));
        assert_eq!(Some(sweep.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
    }
}

#[test]
fn the_schema_accepts_the_examples() {
    let schema = schema();
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(complaints(&schema, &text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_schema_accepts_every_spelling_and_refuses_mistakes() {
    let schema = schema();
    let accepts = |text: &str| complaints(&schema, text).is_empty();
    let file = |trial: &str, rest: &str, evaluate: &str| {
        format!("dataset: digits\ntrial: {{{trial}}}\n{rest}\nevaluate: {{{evaluate}}}\n")
    };
    for (trial, rest, evaluate) in [
        ("method: {pgd: {epsilon: 8/255}}", "", "epsilons: [0]"),
        ("method: {natural: {}}, optimizer: adamw", "seeds: [1, 2]", "epsilons: {linspace: [0, 8/255, 3]}"),
        ("schedule: {step: {milestones: [1/2]}}", "x-any: {thing: 3}", "epsilons: [0], epochs: [1, final]"),
        ("epochs: 3", "grid: {model: [mlp]}", "epsilons: [0], attacks: [pgd, {name: strong, pgd: {steps: 3}}]"),
        (
            "epochs: 3",
            "",
            "epsilons: [0], attacks: [autoattack, {autoattack: {version: rand}}, fab], search: bisect, warm_starts: true",
        ),
        ("epochs: 3", "", "epsilons: [0], attacks: [square, {apgd: {loss: dlr_targeted, targets: 3}}]"),
        ("epochs: 3", "", "epsilons: [0, 0.1], certify: [ibp, crown]"),
        ("epochs: 3", "", "epsilons: [0], norm: l2, certify: [{smoothing: {sigma: 1/4, n: 1000}}]"),
        ("epochs: 3", "grid: [{model.mlp.hidden: [[3]], when: {model: any}}]", "epsilons: [0], norm: l2"),
        ("epochs: 3", "measure: uncertainty", "epsilons: [0], epochs: {every: 2}"),
        ("epochs: 3", "measure: {uncertainty: {radius: 8/255, samples: 4096}}", "epsilons: [0], epochs: final"),
        (
            "epochs: 3",
            "measure: [uncertainty, {uncertainty: {domain: plane, loss: hinge}}]",
            "epsilons: [0], epochs: [1, {log: 4}]",
        ),
        ("epochs: 3", "exclude: [{optimizer.sgd.lr: 3}]\ninclude: [{}]\nsample: {n: 3}", "epsilons: [0]"),
    ] {
        let text = file(trial, rest, evaluate);
        assert_eq!(complaints(&schema, &text), Vec::<String>::new(), "{text}");
    }
    for (trial, rest, evaluate) in [
        ("method: {pgd: {}}", "", "epsilons: [0]"),
        ("method: pgd", "", "epsilons: [0]"),
        ("metod: natural", "", "epsilons: [0]"),
        ("optimizer: {sgd: {lr: fast}}", "", "epsilons: [0]"),
        ("epochs: 3", "grid: [{modle: [mlp]}]", "epsilons: [0]"),
        ("epochs: 3", "sample: {n: 0}", "epsilons: [0]"),
        ("epochs: 3", "", "epsilons: 0.1"),
        ("epochs: 3", "", "epsilon: [0.1]"),
        ("epochs: 3", "", "epsilons: [0], attacks: [autoatack]"),
        ("epochs: 3", "", "epsilons: [0], search: binary"),
        ("epochs: 3", "measure: {certainty: {}}", "epsilons: [0]"),
        ("epochs: 3", "measure: {uncertainty: {radius: 2}}", "epsilons: [0]"),
        ("epochs: 3", "", "epsilons: [0], epochs: {every: 0}"),
    ] {
        let text = file(trial, rest, evaluate);
        assert!(!accepts(&text), "the schema must refuse:\n{text}");
    }
}

#[test]
fn the_schema_names_exactly_the_keys_that_are_read() {
    let schema = schema();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value["properties"].as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        keys.sort();
        keys
    };
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(keys(&schema), sorted(&crate::spec::document::KEYS));
    assert_eq!(keys(&schema["$defs"]["Evaluation"]), sorted(&crate::spec::evaluate::KEYS));
    assert_eq!(keys(&schema["$defs"]["MeasureKinds"]), sorted(&crate::spec::measure::KINDS));
    assert_eq!(keys(&schema["$defs"]["UncertaintyFields"]), sorted(&crate::spec::measure::UNCERTAINTY_KEYS));
    assert_eq!(keys(&schema["$defs"]["EpochMaker"]), sorted(&crate::spec::epochs::GENERATORS));
    assert_eq!(keys(&schema["$defs"]["TrialFields"]), sorted(&crate::spec::section::Section::NAMES));
}

/// What a JSON Schema validator would say: as much of one as our schema needs.
fn complaints(schema: &Value, text: &str) -> Vec<String> {
    let tree = yaml::parse(text).expect("valid YAML");
    let mut found = Vec::new();
    validate(schema, schema, &json_of(&tree), "", &mut found);
    found
}

/// As a YAML 1.2 parser of an editor would read it: fractions are strings there.
fn json_of(node: &Node) -> Value {
    match &node.kind {
        _ if node.is_null() => Value::Null,
        Kind::Scalar(scalar) if scalar.quoted || scalar.text.contains('/') => json!(scalar.text),
        Kind::Scalar(scalar) => match (scalar.boolean(), scalar.integer(), scalar.number()) {
            (Some(value), _, _) => json!(value),
            (_, Some(value), _) => json!(i64::try_from(value).expect("small")),
            (_, _, Some(value)) => json!(value),
            _ => json!(scalar.text),
        },
        Kind::List(items) => items.iter().map(|item| json_of(item)).collect(),
        Kind::Map(map) => map.iter().map(|(key, entry)| (key.clone(), json_of(&entry.node))).collect(),
    }
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else {
        assert!(schema.is_boolean(), "a schema is an object or a boolean: {schema}");
        return;
    };
    let fits = |schema: &Value| {
        let mut inner = Vec::new();
        validate(root, schema, value, at, &mut inner);
        inner.is_empty()
    };
    let matching = |all: &Value| all.as_array().expect("a list").iter().filter(|schema| fits(schema)).count();
    for (rule, wanted) in rules {
        let holds = match rule.as_str() {
            "$ref" => {
                let path = wanted.as_str().and_then(|path| path.strip_prefix('#')).expect("a local reference");
                fits(root.pointer(path).expect("a definition"))
            }
            "oneOf" => matching(wanted) == 1,
            "anyOf" => matching(wanted) >= 1,
            "const" => value == wanted,
            "enum" => wanted.as_array().expect("a list").contains(value),
            "type" => has_type(wanted, value),
            "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|value| value <= wanted.as_f64().expect("a number")),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().expect("a count")),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().expect("a count")),
            "minProperties" => {
                value.as_object().is_none_or(|map| map.len() as u64 >= wanted.as_u64().expect("a count"))
            }
            "required" => {
                let has = |key: &Value| value.get(key.as_str().expect("a key")).is_some();
                !value.is_object() || wanted.as_array().expect("a list").iter().all(has)
            }
            // The only pattern of strings whose choice matters here is the fraction.
            "pattern" => value.as_str().is_none_or(|text| !wanted.to_string().contains('/') || text.contains('/')),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.for_each(|(i, item)| validate(root, wanted, item, &format!("{at}/{i}"), found));
                true
            }
            "properties" => {
                for (key, schema) in wanted.as_object().expect("a map") {
                    if let Some(inner) = value.get(key) {
                        validate(root, schema, inner, &format!("{at}/{key}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(*wanted, json!(false));
                let empty = Map::new();
                let known = rules.get("properties").and_then(Value::as_object).unwrap_or(&empty);
                let free = |key: &String| rules.contains_key("patternProperties") && key.starts_with("x-");
                value.as_object().into_iter().flatten().all(|(key, _)| known.contains_key(key) || free(key))
            }
            "$schema" | "$defs" | "title" | "description" | "default" | "format" | "patternProperties" => true,
            other => panic!("this test does not know the rule `{other}`"),
        };
        if !holds {
            found.push(format!("{at}: {rule} {wanted}"));
        }
    }
}

fn has_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    wanted.as_array().map_or_else(|| is(wanted), |any| any.iter().any(is))
}
