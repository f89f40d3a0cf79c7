//! Partial descriptions of points, as `exclude` and `when` use them: `{model: mlp, method: {trades: any}}`.

use super::decode::mismatch;
use super::error::{Problem, Problems, Span};
use super::section::{Path, Section, check_names};
use super::settings::{Point, Settings};
use super::yaml::{Entry, Kind, Map, Node};
use serde_json::Value;
use std::rc::Rc;

/// Matches the points that agree with it in all that it mentions.
///
/// A word matches the setting of that name whatever its fields; `any` matches everything; numbers
/// match by value; a list matches an equal list, or else any setting that one of its items matches.
pub(super) struct Pattern {
    /// How many points it matched, once that is known.
    pub hits: usize,
    pub span: Span,
    parts: Vec<Part>,
}

struct Part {
    /// What the pattern looks at, as far down as it goes.
    paths: Vec<Path>,
    section: Section,
    wanted: Rc<Node>,
    /// The verdict per resolved setting: the same setting comes up at thousands of points.
    known: Vec<Option<bool>>,
}

impl Pattern {
    /// Reads the pattern at `node`, the value or an item of the key `what`.
    pub fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Pattern> {
        let map = node.map().filter(|map| !map.is_empty());
        let Some(map) = map else {
            let problem = mismatch(node, what, "a map of settings");
            problems.push(problem.help("for example `{model: mlp, method: {trades: any}}`"));
            return None;
        };
        let parts: Vec<Part> = map.iter().filter_map(|(key, entry)| Part::read(key, entry, problems)).collect();
        (parts.len() == map.len()).then_some(Pattern { hits: 0, span: node.span, parts })
    }

    /// Whether `point` agrees with the pattern.
    pub fn matches(&mut self, settings: &mut Settings, point: &Point) -> bool {
        self.parts.iter_mut().all(|part| part.matches(settings, point))
    }

    /// The deepest settings that the pattern looks at.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().flat_map(|part| &part.paths)
    }
}

impl Part {
    fn read(key: &str, entry: &Entry, problems: &mut Problems) -> Option<Part> {
        if key == "seed" || key == "seeds" {
            problems.push(
                Problem::new(entry.key, "a point has no seed yet")
                    .label("not a setting of a point")
                    .help("every point is trained once per entry of `seeds`; choose them there"),
            );
            return None;
        }
        let path = problems.keep(Path::parse(key, entry.key))?;
        let below = |name: &Option<String>, node: Rc<Node>| match name {
            Some(name) => {
                let map = Map::from([(name.clone(), Entry { key: entry.key, node })]);
                Node::new(entry.key, Kind::Map(map))
            }
            None => node,
        };
        let wanted = below(&path.name, below(&path.field, entry.node.clone()));
        check_names(path.section, &wanted, true, problems);
        Some(Part { paths: leaves(path.section, &wanted), section: path.section, wanted, known: Vec::new() })
    }

    fn matches(&mut self, settings: &mut Settings, point: &Point) -> bool {
        let id = settings.resolve(self.section, point);
        if self.known.len() <= id {
            self.known.resize(id + 1, None);
        }
        let wanted = &self.wanted;
        *self.known[id].get_or_insert_with(|| agrees(wanted, &settings.get(self.section, id).value))
    }
}

/// The ends of the branches of a pattern, e.g. `method` and `method.pgd.epsilon`.
fn leaves(section: Section, wanted: &Node) -> Vec<Path> {
    let top = Path { section, name: None, field: None };
    let mut found = vec![top.clone()];
    for (name, entry) in wanted.map().into_iter().flatten() {
        let named = Path { name: Some(name.clone()), ..top.clone() };
        let fields = entry.node.map().into_iter().flatten();
        found.extend(fields.map(|(field, _)| Path { field: Some(field.clone()), ..named.clone() }));
        found.push(named);
    }
    found
}

fn agrees(wanted: &Node, value: &Value) -> bool {
    if value.is_null() {
        return false;
    }
    match &wanted.kind {
        _ if wanted.is_null() => true,
        Kind::Scalar(scalar) => match value {
            _ if scalar.text == "any" && !scalar.quoted => true,
            Value::Bool(value) => scalar.boolean() == Some(*value),
            Value::Number(value) => scalar.number() == value.as_f64(),
            Value::String(value) => scalar.text == *value,
            Value::Object(map) => map.contains_key(&scalar.text),
            _ => false,
        },
        Kind::List(items) => match value {
            Value::Array(values) => {
                items.len() == values.len() && items.iter().zip(values).all(|(item, value)| agrees(item, value))
            }
            _ => items.iter().any(|item| agrees(item, value)),
        },
        Kind::Map(map) => map.iter().all(|(key, entry)| match value {
            Value::Object(fields) => fields.get(key).is_some_and(|field| agrees(&entry.node, field)),
            // A bare name is the same as a name without fields.
            Value::String(name) => name == key && agrees(&entry.node, &Value::Object(serde_json::Map::new())),
            _ => false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_agree_by_name_by_number_and_by_field() {
        let pgd = json!({"pgd": {"epsilon": 8.0 / 255.0, "steps": 10, "norm": "linf"}});
        for (pattern, expected) in [
            ("pgd", true),
            ("any", true),
            ("natural", false),
            ("[natural, pgd]", true),
            ("{pgd: any}", true),
            ("{pgd: {}}", true),
            ("{pgd: {epsilon: 8/255}}", true),
            ("{pgd: {epsilon: 0.1}}", false),
            ("{pgd: {epsilon: [0.1, 8/255], norm: linf}}", true),
            ("{pgd: {step: any}}", false),
            ("{trades: any}", false),
        ] {
            assert_eq!(agrees(&yaml::parse(pattern).expect("YAML"), &pgd), expected, "{pattern}");
        }
        let list = |pattern: &str| agrees(&yaml::parse(pattern).expect("YAML"), &json!([16, 32]));
        assert!(list("[16, 32]") && list("any") && !list("[16]") && !list("[32, 16]"));
    }
}
