//! Points of the grid as the settings they stand for: `trial` with overrides applied, decoded and checked.
//!
//! A point is a short list of overrides. Points share nearly all their settings, so every distinct
//! setting is merged, decoded and checked once, and points are compared by small numbers: this is
//! what lets a grid of 100,000 points expand in a fraction of a second.

use super::check::{self, Radii};
use super::error::{Problem, Span};
use super::format;
use super::method::{Method, Options};
use super::recipe::Model;
use super::section::{Path, Section, Setting};
use super::sweep::Recipe;
use super::yaml::{Entry, Kind, Map, Node};
use serde_json::Value;
use std::collections::HashMap;
use std::rc::Rc;

/// One value for one setting, from an axis or from `include`.
pub(super) struct Override {
    pub path: Path,
    /// The place of the key.
    pub key: Span,
    pub node: Rc<Node>,
    /// The value as the columns of tables show it.
    pub shown: String,
}

/// The overrides of one point, by their position in [`Settings`].
pub(super) type Point = Vec<u32>;

/// One setting of one section, as far as it could be understood.
pub(super) struct Resolved {
    /// What is written, overrides applied; `None` if that is contradictory.
    node: Option<Rc<Node>>,
    /// What patterns look at: with defaults filled in, or as written where that fails.
    pub value: Value,
    outcome: Result<Valid, Vec<Problem>>,
}

struct Valid {
    setting: Setting,
    /// The number that equal settings share.
    identity: u32,
    /// The setting as JSON without white space.
    content: Rc<str>,
}

#[derive(Default)]
struct Table {
    by_overrides: HashMap<Box<[u32]>, usize>,
    resolved: Vec<Resolved>,
    by_content: HashMap<Rc<str>, u32>,
}

/// The settings of `trial`, all overrides, and what has been resolved from them.
pub(super) struct Settings {
    /// The place of the key `trial`.
    trial: Span,
    base: [Option<Rc<Node>>; Section::COUNT],
    overrides: Vec<Override>,
    /// The sections that some override changes: the others are the same at every point.
    touched: [bool; Section::COUNT],
    tables: [Table; Section::COUNT],
    radii: Radii,
}

/// What a point is, by content: equal for points that train equal models.
pub(super) type Identity = [u32; Section::COUNT];

impl Settings {
    /// `trial`: the map under the key `trial` at `key`.
    pub fn new(key: Span, trial: &Map, radii: Radii) -> Settings {
        let base = Section::ALL.map(|section| {
            let written = trial.get(section.name()).map(|entry| section.spelled_out(&entry.node));
            let written = written.filter(|node| !node.is_null());
            written.or_else(|| section.default().map(|text| Node::plain(key, text)))
        });
        Settings {
            trial: key,
            base,
            overrides: Vec::new(),
            touched: [false; Section::COUNT],
            tables: Default::default(),
            radii,
        }
    }

    /// Registers an override; points refer to it by the number returned.
    pub fn add(&mut self, path: Path, key: Span, node: Rc<Node>) -> u32 {
        let node = if path.name.is_none() { path.section.spelled_out(&node) } else { node };
        let shown = format::setting(&node);
        self.touched[path.section.index()] = true;
        self.overrides.push(Override { path, key, node, shown });
        u32::try_from(self.overrides.len() - 1).unwrap_or(u32::MAX)
    }

    fn overridden(&self, id: u32) -> &Override {
        &self.overrides[id as usize]
    }

    /// The number of the point's setting of `section`, for [`Settings::get`].
    pub fn resolve(&mut self, section: Section, point: &Point) -> usize {
        // Whatever is resolved for an untouched section stands first in its table, and alone.
        if !self.touched[section.index()] && !self.tables[section.index()].resolved.is_empty() {
            return 0;
        }
        let mut ids: Vec<u32> =
            point.iter().copied().filter(|&id| self.overridden(id).path.section == section).collect();
        // A whole setting first, then its fields, whatever the order of the axes.
        ids.sort_by_key(|&id| self.overridden(id).path.depth());
        if let Some(&known) = self.tables[section.index()].by_overrides.get(&ids[..]) {
            return known;
        }
        let resolved = self.resolve_anew(section, &ids);
        let table = &mut self.tables[section.index()];
        table.resolved.push(resolved);
        table.by_overrides.insert(ids.into(), table.resolved.len() - 1);
        table.resolved.len() - 1
    }

    pub fn get(&self, section: Section, id: usize) -> &Resolved {
        &self.tables[section.index()].resolved[id]
    }

    fn resolve_anew(&mut self, section: Section, ids: &[u32]) -> Resolved {
        let node = match self.merge(section, ids) {
            Ok(node) => node,
            Err(problem) => return Resolved { node: None, value: Value::Null, outcome: Err(vec![problem]) },
        };
        let as_written =
            |problems| Resolved { value: written(&node), node: Some(node.clone()), outcome: Err(problems) };
        let setting = match section.decode(&node) {
            Ok(setting) => setting,
            Err(problem) => return as_written(vec![problem]),
        };
        let problems = check::setting(&setting, section.name(), &node, self.radii);
        let Ok(value) = serde_json::to_value(&setting) else { return as_written(problems) };
        if !problems.is_empty() {
            return Resolved { value, node: Some(node), outcome: Err(problems) };
        }
        let contents = &mut self.tables[section.index()].by_content;
        let next = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let content: Rc<str> = value.to_string().into();
        let identity = *contents.entry(content.clone()).or_insert(next);
        Resolved { value, node: Some(node), outcome: Ok(Valid { setting, identity, content }) }
    }

    /// What is written for `section` once the overrides, shallow ones first, are applied.
    fn merge(&self, section: Section, ids: &[u32]) -> Result<Rc<Node>, Problem> {
        let mut node = self.base[section.index()].clone();
        let mut applied: Vec<&Override> = Vec::new();
        for change in ids.iter().map(|&id| self.overridden(id)) {
            if let Some(first) = applied.iter().find(|earlier| earlier.path == change.path) {
                return Err(set_twice(change, first.key));
            }
            node = Some(self.set(node.as_deref(), change, &applied)?);
            applied.push(change);
        }
        node.ok_or_else(|| {
            let name = section.name();
            Problem::new(self.trial, format!("`trial` has no `{name}`"))
                .label(format!("`{name}` is missing"))
                .help(format!("add for example `{name}: {}`, or vary it in `grid`", section.example()))
        })
    }

    fn set(&self, node: Option<&Node>, change: &Override, applied: &[&Override]) -> Result<Rc<Node>, Problem> {
        let Some(name) = &change.path.name else { return Ok(change.node.clone()) };
        let (current, content) = node.and_then(chosen).ok_or_else(|| self.nothing_to_refine(change, name))?;
        if current != name {
            return Err(self.not_in_use(change, name, current, node));
        }
        let content = match &change.path.field {
            None => change.node.clone(),
            Some(field) => {
                let mut fields = content.and_then(Node::map).cloned().unwrap_or_default();
                let whole = applied.iter().find(|earlier| earlier.path.field.is_none());
                if let (Some(whole), true) = (whole, fields.contains_key(field)) {
                    return Err(set_twice(change, whole.key));
                }
                fields.insert(field.clone(), Entry { key: change.key, node: change.node.clone() });
                Node::new(change.key, Kind::Map(fields))
            }
        };
        let span = node.map_or(change.key, |node| node.span);
        let key = node.and_then(Node::map).and_then(Map::first).map_or(span, |(_, entry)| entry.key);
        Ok(Node::new(span, Kind::Map(Map::from([(name.clone(), Entry { key, node: content })]))))
    }

    fn nothing_to_refine(&self, change: &Override, name: &str) -> Problem {
        let section = change.path.section.name();
        Problem::new(change.key, format!("`{}` refines a `{section}` that is not chosen", change.path))
            .help(format!("add `{section}: {name}` to `trial`"))
    }

    fn not_in_use(&self, change: &Override, name: &str, current: &str, node: Option<&Node>) -> Problem {
        let section = change.path.section.name();
        let problem =
            Problem::new(change.key, format!("`{}` does not apply where `{section}` is `{current}`", change.path));
        let problem = problem.label(format!("only for `{section}: {name}`"));
        match node.map(|node| node.span) {
            Some(span) if span == self.trial => {
                problem.help(format!("`{current}` is the default; add `{section}: {name}` to `trial`"))
            }
            Some(span) => problem
                .also(span, format!("`{current}` is chosen here"))
                .help(format!("limit this to the points it applies to: add `when: {{{section}: {name}}}` beside it")),
            None => problem,
        }
    }

    /// The identity of a valid point, or what is wrong with it.
    pub fn identify(&mut self, point: &Point) -> Result<Identity, Vec<Problem>> {
        let mut identity = Identity::default();
        let mut problems = Vec::new();
        let mut choosy = false;
        for section in self.sections(point) {
            let id = self.resolve(section, point);
            match &self.get(section, id).outcome {
                Ok(valid) => {
                    identity[section.index()] = valid.identity;
                    choosy |= valid.setting.is_choosy(section);
                }
                Err(found) => problems.extend_from_slice(found),
            }
        }
        if problems.is_empty() && choosy {
            problems = self.contradictions(point);
        }
        if problems.is_empty() { Ok(identity) } else { Err(problems) }
    }

    /// Settings that are valid each, and not together.
    fn contradictions(&mut self, point: &Point) -> Vec<Problem> {
        let Some(recipe) = self.recipe(point) else { return Vec::new() };
        let mut problems = Vec::new();
        for section in Section::ALL {
            let found = check::contradiction(section, &recipe);
            let id = self.resolve(section, point);
            let place = self.get(section, id).node.as_ref().map_or(self.trial, |node| node.span);
            problems.extend(found.map(|problem| problem.at(place)));
        }
        problems
    }

    /// The sections that say something about `point`.
    fn sections(&mut self, point: &Point) -> impl Iterator<Item = Section> + use<> {
        let pretrained = self.is_pretrained(point);
        Section::ALL.into_iter().filter(move |section| !(pretrained && section.is_about_training()))
    }

    fn is_pretrained(&mut self, point: &Point) -> bool {
        let id = self.resolve(Section::Method, point);
        let method = self.get(Section::Method, id).outcome.as_ref();
        method.is_ok_and(|valid| valid.setting == Setting::Method(Method::Pretrained {}))
    }

    /// What a valid point is made of, as JSON, one section after the other; without the options that
    /// change nothing, so that a sample stays what it was when a new option is invented.
    pub fn content(&mut self, point: &Point) -> Vec<Option<Rc<str>>> {
        let sections: Vec<Section> = self.sections(point).collect();
        let content = sections.into_iter().map(|section| {
            let id = self.resolve(section, point);
            let valid = self.get(section, id).outcome.as_ref().ok();
            valid.filter(|valid| !valid.setting.is_absent(section)).map(|valid| valid.content.clone())
        });
        content.collect()
    }

    /// The recipe of a valid point; `None` for any other.
    pub fn recipe(&mut self, point: &Point) -> Option<Recipe> {
        let mut recipe = Recipe {
            model: Model::Linear {},
            normalize: None,
            weights: None,
            method: Method::Natural {},
            optimizer: super::recipe::Optimizer::Sgd { lr: 0.0, momentum: 0.0, weight_decay: 0.0, nesterov: false },
            schedule: super::recipe::Schedule::Cosine {},
            epochs: 0,
            batch_size: 0,
            options: Options::default(),
        };
        for section in self.sections(point) {
            let id = self.resolve(section, point);
            match self.get(section, id).outcome.as_ref().ok()?.setting.clone() {
                Setting::Normalize(normalize) => recipe.normalize = normalize.numbers(),
                Setting::Weights(weights) => recipe.weights = weights,
                Setting::Model(model) => recipe.model = model,
                Setting::Method(method) => recipe.method = method,
                Setting::Optimizer(optimizer) => recipe.optimizer = optimizer,
                Setting::Schedule(schedule) => recipe.schedule = schedule,
                Setting::Count(count) if section == Section::Epochs => recipe.epochs = count,
                Setting::Count(count) => recipe.batch_size = count,
                Setting::Real(share) => recipe.options.label_smoothing = share,
                Setting::Augment(augment) => recipe.options.augment = augment,
                Setting::Awp(awp) => recipe.options.awp = awp,
                Setting::Precision(precision) => recipe.options.precision = precision,
                Setting::StopEarly(rule) => recipe.options.stop_early = rule,
            }
        }
        Some(recipe)
    }

    /// What the column `path` shows for `point`: the value chosen for it, else what is in force
    /// there, else nothing because the point has no such setting.
    pub fn shown(&mut self, point: &Point, path: &Path) -> String {
        if path.section.is_about_training() && self.is_pretrained(point) {
            return String::new();
        }
        if let Some(&id) = point.iter().find(|&&id| self.overridden(id).path == *path) {
            return self.overridden(id).shown.clone();
        }
        let id = self.resolve(path.section, point);
        let resolved = self.get(path.section, id);
        let written = resolved.node.as_deref().and_then(|node| match &path.name {
            None => Some(node),
            Some(name) => {
                let (_, content) = chosen(node).filter(|(current, _)| current == name)?;
                path.field.as_ref().map_or(content, |field| Some(&*content?.map()?.get(field)?.node))
            }
        });
        if let Some(node) = written {
            return format::setting(node);
        }
        let mut parts = [&path.name, &path.field].into_iter().flatten();
        let in_force = parts.try_fold(&resolved.value, |value, part| value.get(part));
        in_force.map(format::default).unwrap_or_default()
    }
}

fn set_twice(change: &Override, first: Span) -> Problem {
    Problem::new(change.key, format!("`{}` is set twice for the same point", change.path))
        .label("second")
        .also(first, "first")
        .help("remove one of the two, or give both a `when` so that they never meet")
}

/// The name that a written setting chooses, and its fields.
fn chosen(node: &Node) -> Option<(&str, Option<&Node>)> {
    match &node.kind {
        Kind::Map(map) if map.len() == 1 => map.first().map(|(name, entry)| (name.as_str(), Some(&*entry.node))),
        _ => node.text().map(|name| (name, None)),
    }
}

/// A node as JSON, as it is written.
fn written(node: &Node) -> Value {
    match &node.kind {
        _ if node.is_null() => Value::Null,
        Kind::Scalar(scalar) => match (scalar.boolean(), scalar.number()) {
            (Some(value), _) => Value::Bool(value),
            (_, Some(value)) => serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number),
            _ => Value::String(scalar.text.clone()),
        },
        Kind::List(items) => items.iter().map(|item| written(item)).collect(),
        Kind::Map(map) => map.iter().map(|(key, entry)| (key.clone(), written(&entry.node))).collect(),
    }
}
