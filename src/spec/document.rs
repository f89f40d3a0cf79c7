//! The file's top level: which keys there are, and the small values among them.

use super::decode::{decode, mismatch, unknown};
use super::error::{Problem, Problems, Span, nearest};
use super::sweep::Dataset;
use super::yaml::{Entry, Map, Node};
use std::collections::HashSet;
use std::path::Path;

/// The keys of a sweep's file. Keys that begin with `x-` are free, e.g. as a place for anchors.
pub(super) const KEYS: [&str; 11] =
    ["name", "seed", "dataset", "trial", "grid", "exclude", "include", "sample", "seeds", "evaluate", "measure"];

/// What messages call the map that is the whole file.
const ROOT: &str = "sweep";

/// Seeds beyond this many per point are a typing error.
const MAX_SEEDS: u32 = 100_000;

/// The largest side of an image.
const MAX_SIDE: u32 = 1024;

/// The parts of the file that are read by other modules; `None` where nothing is written.
pub(super) struct Document<'n> {
    pub root: &'n Map,
    pub trial: Option<&'n Entry>,
    pub grid: Option<&'n Entry>,
    pub exclude: Option<&'n Entry>,
    pub include: Option<&'n Entry>,
    pub sample: Option<&'n Entry>,
    pub evaluate: Option<&'n Entry>,
    pub measure: Option<&'n Entry>,
}

impl<'n> Document<'n> {
    /// Finds the parts; notes unknown keys and missing parts.
    pub fn read(tree: &'n Node, problems: &mut Problems) -> Option<Document<'n>> {
        let root = fields(tree, ROOT, &KEYS, problems)?;
        let part = |key: &str| root.get(key).filter(|entry| !entry.node.is_null());
        for (key, example) in [
            ("dataset", "dataset: digits"),
            ("trial", "trial: {model: smallcnn, method: natural, epochs: 20}"),
            ("evaluate", "evaluate: {epsilons: [0, 0.1, 0.2]}"),
        ] {
            if part(key).is_none() {
                problems.extend(missing(root, tree.span, "sweep", key, &KEYS, example));
            }
        }
        Some(Document {
            root,
            trial: part("trial"),
            grid: part("grid"),
            exclude: part("exclude"),
            include: part("include"),
            sample: part("sample"),
            evaluate: part("evaluate"),
            measure: part("measure"),
        })
    }

    fn part(&self, key: &str) -> Option<&'n Entry> {
        self.root.get(key).filter(|entry| !entry.node.is_null())
    }

    /// The sweep's name; the file's own name where none is written.
    pub fn name(&self, source_name: &str, problems: &mut Problems) -> Option<String> {
        let Some(entry) = self.part("name") else {
            let stem = Path::new(source_name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
            let name: String = stem.chars().map(|c| if is_name_char(c) { c } else { '-' }).collect();
            return Some(if is_name(&name) { name } else { "sweep".to_string() });
        };
        let name: String = problems.keep(decode(&entry.node, "name"))?;
        if is_name(&name) {
            return Some(name);
        }
        problems.push(
            Problem::new(entry.node.span, format!("`{name}` cannot be the name of a sweep"))
                .label("names a folder")
                .help("use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with `.` or `-`"),
        );
        None
    }

    pub fn seed(&self, problems: &mut Problems) -> Option<u64> {
        match self.part("seed") {
            Some(entry) => problems.keep(decode(&entry.node, "seed")),
            None => Some(0),
        }
    }

    /// The data set; relative paths start at `base_dir`.
    pub fn dataset(&self, base_dir: &Path, problems: &mut Problems) -> Option<Dataset> {
        let entry = self.part("dataset")?;
        let mut dataset: Dataset = problems.keep(decode(&entry.node, "dataset"))?;
        let what = if matches!(dataset, Dataset::Npz { .. }) { "file" } else { "folder" };
        let mut wrong = unfit(&dataset, entry.node.span);
        for path in dataset.paths_mut() {
            if path.starts_with("~") || path.as_os_str().is_empty() {
                let problem = Problem::new(entry.node.span, format!("`{}` is not a {what}", path.display()));
                wrong = Some(
                    problem
                        .label("`~` is not expanded here")
                        .help("write an absolute path, or one that starts at this file's folder"),
                );
            }
            *path = base_dir.join(&path);
        }
        match wrong {
            Some(problem) => problems.push(problem),
            None => return Some(dataset),
        }
        None
    }

    /// The seeds of every point: a count, or a list.
    pub fn seeds(&self, problems: &mut Problems) -> Option<Vec<u64>> {
        let Some(entry) = self.part("seeds") else { return Some(vec![0]) };
        let Some(items) = entry.node.list() else {
            let count: u32 =
                problems
                    .keep(decode(&entry.node, "seeds").map_err(|problem| {
                        problem.help("write how many (`5` for 0 to 4), or list them (`[1, 2, 3]`)")
                    }))?;
            let problem = mismatch(&entry.node, "seeds", format!("from 1 to {MAX_SEEDS}"));
            return if (1..=MAX_SEEDS).contains(&count) {
                Some((0..u64::from(count)).collect())
            } else {
                problems.push(problem.help("every point needs at least one seed; `1` trains it once"));
                None
            };
        };
        let mut seeds = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        for item in items {
            let seed: u64 = problems.keep(decode(item, "seeds"))?;
            if !seen.insert(seed) {
                let problem = Problem::new(item.span, format!("the seed {seed} is listed twice"));
                problems.push(problem.label("again").help("remove it: the same seed trains the same model"));
            }
            seeds.push(seed);
        }
        if seeds.is_empty() {
            let problem = Problem::new(entry.node.span, "`seeds` is empty").label("no seeds");
            problems.push(problem.help("every point needs at least one seed, e.g. `[0]`"));
        }
        Some(seeds)
    }
}

/// What is wrong with a data set that its types admit.
fn unfit(dataset: &Dataset, place: Span) -> Option<Problem> {
    match dataset {
        Dataset::Npz { file, train, test, .. } => {
            let given = [file, train, test].map(Option::is_some);
            let fits = given == [true, false, false] || given == [false, true, true];
            let problem = || {
                Problem::new(place, "`npz` needs one `file`, or `train` and `test`")
                    .label("not one of the two")
                    .help("write `{npz: {file: all.npz}}` or `{npz: {train: train.npz, test: test.npz}}`")
            };
            (!fits).then(problem)
        }
        Dataset::Folder { size: Some(size), .. } if size.iter().any(|side| !(1..=MAX_SIDE).contains(side)) => {
            let problem = Problem::new(place, format!("`size` must be from 1 to {MAX_SIDE}, found {size:?}"));
            Some(problem.label("out of range").help("write `[height, width]` in pixels"))
        }
        _ => None,
    }
}

/// The map at `node`, with unknown keys noted. `what` names it in messages.
pub(super) fn fields<'n>(node: &'n Node, what: &str, allowed: &[&str], problems: &mut Problems) -> Option<&'n Map> {
    let Some(map) = node.map() else {
        let problem = mismatch(node, what, "a map");
        problems.push(problem.help(format!("its keys are {}", super::error::join(allowed))));
        return None;
    };
    for (key, entry) in map {
        let free = what == ROOT && key.starts_with("x-");
        if !free && !allowed.contains(&key.as_str()) {
            problems.push(unknown("field", key, allowed).at(entry.key));
        }
    }
    Some(map)
}

/// The complaint that `owner` has no `key`; none when an unknown key was probably meant as that one,
/// because then that key's own complaint says all.
pub(super) fn missing(
    map: &Map,
    place: Span,
    owner: &str,
    key: &str,
    allowed: &[&str],
    example: &str,
) -> Option<Problem> {
    let misspelt = |written: &String| !allowed.contains(&written.as_str()) && nearest(written, allowed) == Some(key);
    if map.keys().any(misspelt) {
        return None;
    }
    let problem = Problem::new(map.get(key).map_or(place, |entry| entry.key), format!("the {owner} has no `{key}`"));
    Some(problem.label(format!("`{key}` is missing")).help(format!("add for example `{example}`")))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.chars().all(is_name_char) && !name.starts_with(['.', '-'])
}
