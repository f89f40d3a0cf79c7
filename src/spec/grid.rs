//! From `trial`, `grid`, `exclude`, `sample` and `include` to distinct configurations, in that order.

use super::check::Radii;
use super::document::{Document, fields};
use super::error::{Problem, Problems, Span};
use super::pattern::Pattern;
use super::section::{Path, Section, check_names};
use super::settings::{Identity, Point, Settings};
use super::sweep::{GridCounts, Recipe};
use super::values::values;
use super::yaml::{Entry, Map, Node};
use std::collections::HashSet;

/// More points than this cannot be meant: at one second each they would train for eleven days.
pub(super) const MAX_POINTS: usize = 1_000_000;

/// One distinct point: what is trained once per seed.
pub(super) struct Config {
    /// One formatted value per axis.
    pub axes: Vec<String>,
    pub recipe: Recipe,
}

/// What the grid became.
pub(super) struct Expanded {
    pub axes: Vec<String>,
    pub configs: Vec<Config>,
    pub counts: GridCounts,
}

/// An item of `grid`: one setting that is varied, or several that vary together.
struct Axis {
    span: Span,
    when: Option<(Span, Pattern)>,
    paths: Vec<Path>,
    /// The overrides of each of its values.
    rows: Vec<Vec<u32>>,
}

/// Expands the document's grid; `None` when problems were noted.
pub(super) fn expand(
    document: &Document<'_>,
    radii: Radii,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<Expanded> {
    let known = problems.len();
    let trial = document.trial?;
    let base = trial_settings(trial, problems)?;
    let mut settings = Settings::new(trial.key, base, radii);
    let axes = document.grid.map_or_else(Vec::new, |entry| read_axes(entry, &mut settings, problems));
    let mut excludes = document.exclude.map_or_else(Vec::new, |entry| read_excludes(&entry.node, problems));
    let extra = document.include.map_or_else(Vec::new, |entry| read_includes(&entry.node, &mut settings, problems));
    let sample = document.sample.and_then(|entry| read_sample(&entry.node, problems));
    let mut columns: Vec<Path> = Vec::new();
    for path in axes.iter().flat_map(|axis| &axis.paths).chain(extra.iter().flat_map(|(_, paths)| paths)) {
        if !columns.contains(path) {
            columns.push(path.clone());
        }
    }
    if problems.len() > known {
        return None;
    }

    let mut counts = GridCounts::default();
    let mut points = multiply(axes, &mut settings, problems, warnings)?;
    counts.points = points.len();
    drop_excluded(&mut points, &mut excludes, &mut settings, warnings);
    counts.excluded = counts.points - points.len();
    if points.is_empty() && extra.is_empty() {
        problems.push(all_excluded(document, counts.points, &excludes));
        return None;
    }
    let mut merger = Merger { settings: &mut settings, seen: HashSet::new(), merged: 0 };
    let mut points = merger.distinct(points, problems);
    if let Some(sample) = sample {
        let before = points.len();
        points = sample.choose(points, merger.settings);
        counts.unsampled = before - points.len();
        merger.forget_all_but(&points);
    }
    counts.included = extra.len();
    points.extend(merger.distinct(extra.into_iter().map(|(point, _)| point).collect(), problems));
    counts.merged = merger.merged;
    counts.configs = points.len();
    if problems.len() > known {
        return None;
    }
    let configs = points.iter().filter_map(|point| {
        let axes = columns.iter().map(|path| settings.shown(point, path)).collect();
        settings.recipe(point).map(|recipe| Config { axes, recipe })
    });
    let configs: Vec<Config> = configs.collect();
    if configs.iter().all(|config| config.recipe.is_pretrained()) {
        warnings.extend(unused_training(base));
    }
    Some(Expanded { configs, axes: columns.iter().map(Path::to_string).collect(), counts })
}

/// Settings of the training, where nothing is trained.
fn unused_training(trial: &Map) -> Vec<Problem> {
    let written = trial.iter().filter(|(key, _)| Section::from_name(key).is_some_and(Section::is_about_training));
    let unused = written.map(|(key, entry)| {
        Problem::new(entry.key, format!("`{key}` has no effect: every trial is pretrained"))
            .label("nothing is trained")
            .help("remove it, or choose a `method` that trains; with `weights`, training goes on from them")
    });
    unused.collect()
}

fn trial_settings<'n>(trial: &'n Entry, problems: &mut Problems) -> Option<&'n Map> {
    let map = fields(&trial.node, "trial", &Section::NAMES, problems)?;
    for section in Section::ALL {
        if let Some(entry) = map.get(section.name()) {
            check_names(section, &section.spelled_out(&entry.node), false, problems);
        }
    }
    Some(map)
}

fn read_axes(entry: &Entry, settings: &mut Settings, problems: &mut Problems) -> Vec<Axis> {
    let items = match (entry.node.list(), entry.node.map()) {
        (Some(items), _) => items,
        // With one key, or one and a `when`, a product and a zip are the same.
        (_, Some(map)) if map.keys().filter(|key| *key != "when").count() <= 1 => std::slice::from_ref(&entry.node),
        (_, Some(map)) => {
            let keys: Vec<&str> = map.keys().map(String::as_str).collect();
            problems.push(
                Problem::new(entry.node.span, "a grid of several keys does not say how they combine")
                    .label(format!("{} keys in one map", keys.len()))
                    .help(format!(
                        "for all combinations put `- ` before each key (`- {}: [...]`); \
                         to vary them together put one `- ` before the first",
                        keys.first().unwrap_or(&"model")
                    )),
            );
            return Vec::new();
        }
        _ => {
            let problem = super::decode::mismatch(&entry.node, "grid", "a list of axes");
            problems.push(problem.help("for example `- {model: [mlp, smallcnn]}`"));
            return Vec::new();
        }
    };
    if items.is_empty() {
        problems.push(
            Problem::new(entry.node.span, "the grid is empty")
                .label("no axes")
                .help("add an axis such as `- {model: [mlp, smallcnn]}`, or remove `grid` to train `trial` alone"),
        );
    }
    let axes: Vec<Axis> = items.iter().filter_map(|item| read_axis(item, settings, problems)).collect();
    check_order(&axes, problems);
    axes
}

fn read_axis(node: &Node, settings: &mut Settings, problems: &mut Problems) -> Option<Axis> {
    let Some(map) = node.map() else {
        let problem = super::decode::mismatch(node, "grid", "a list of maps");
        problems.push(problem.help("for example `- {model: [mlp, smallcnn]}`"));
        return None;
    };
    let when = match map.get("when") {
        Some(entry) => Some((entry.key, Pattern::read(&entry.node, "when", problems)?)),
        None => None,
    };
    let mut axis = Axis { span: node.span, when, paths: Vec::new(), rows: Vec::new() };
    let mut first: Option<(&str, Span)> = None;
    for (key, entry) in map.iter().filter(|(key, _)| *key != "when") {
        let path = problems.keep(Path::parse(key, entry.key))?;
        let list = problems.keep(values(&entry.node, key))?;
        match first {
            None => {
                first = Some((key, entry.key));
                axis.rows = vec![Vec::new(); list.len()];
            }
            Some((other, place)) if axis.rows.len() != list.len() => {
                problems.push(unequal((other, place, axis.rows.len()), (key, entry.key, list.len())));
                return None;
            }
            Some(_) => {}
        }
        for (row, value) in axis.rows.iter_mut().zip(list) {
            row.push(settings.add(path.clone(), entry.key, value));
        }
        axis.paths.push(path);
    }
    if axis.paths.is_empty() {
        problems.push(
            Problem::new(node.span, "an axis varies nothing")
                .help("add a key with a list, such as `model: [mlp, smallcnn]`"),
        );
        return None;
    }
    Some(axis)
}

fn unequal(first: (&str, Span, usize), second: (&str, Span, usize)) -> Problem {
    Problem::new(
        second.1,
        format!("`{}` has {} values and `{}` has {}, but they vary together", first.0, first.2, second.0, second.2),
    )
    .label(format!("{} values", second.2))
    .also(first.1, format!("{} values", first.2))
    .help("keys of one map are paired value by value: make the lists equally long, or give each key its own `- ` for all combinations")
}

/// A `when` must not look at what an axis below it still changes.
fn check_order(axes: &[Axis], problems: &mut Problems) {
    for (position, axis) in axes.iter().enumerate() {
        let Some((key, when)) = &axis.when else { continue };
        for later in &axes[position..] {
            let decided_below = |path: &&Path| when.paths().any(|seen| path.covers(seen));
            if let Some(path) = later.paths.iter().find(decided_below) {
                problems.push(
                    Problem::new(*key, format!("`when` looks at `{path}`, which is not yet decided at this axis"))
                        .label("decided too late")
                        .also(later.span, format!("`{path}` is varied here"))
                        .help("move this axis below the one it depends on"),
                );
            }
        }
    }
}

fn read_excludes(node: &Node, problems: &mut Problems) -> Vec<Pattern> {
    match node.list() {
        Some(items) => items.iter().filter_map(|item| Pattern::read(item, "exclude", problems)).collect(),
        None => {
            let problem = super::decode::mismatch(node, "exclude", "a list of maps");
            problems.push(problem.help("for example `- {model: mlp, method: {trades: any}}`"));
            Vec::new()
        }
    }
}

fn read_includes(node: &Node, settings: &mut Settings, problems: &mut Problems) -> Vec<(Point, Vec<Path>)> {
    let Some(items) = node.list() else {
        let problem = super::decode::mismatch(node, "include", "a list of maps");
        problems.push(problem.help("for example `- {model: linear, epochs: 5}`"));
        return Vec::new();
    };
    let mut points = Vec::new();
    for item in items {
        let Some(map) = item.map() else {
            problems.push(super::decode::mismatch(item, "include", "a list of maps"));
            continue;
        };
        let mut point = Vec::new();
        let mut paths = Vec::new();
        for (key, entry) in map {
            if let Some(path) = problems.keep(Path::parse(key, entry.key)) {
                point.push(settings.add(path.clone(), entry.key, entry.node.clone()));
                paths.push(path);
            }
        }
        points.push((point, paths));
    }
    points
}

/// All combinations of the axes; an axis whose `when` does not match leaves a point as it is.
fn multiply(
    axes: Vec<Axis>,
    settings: &mut Settings,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<Vec<Point>> {
    let mut points: Vec<Point> = vec![Vec::new()];
    for mut axis in axes {
        let applies: Vec<bool> = match &mut axis.when {
            Some((_, when)) => points.iter().map(|point| when.matches(settings, point)).collect(),
            None => vec![true; points.len()],
        };
        let matching = applies.iter().filter(|&&applies| applies).count();
        if let (Some((key, _)), 0) = (&axis.when, matching) {
            warnings.push(
                Problem::new(*key, "this axis is never used: its `when` matches no point")
                    .help("check the names and values of `when`"),
            );
        }
        let total = matching.saturating_mul(axis.rows.len()).saturating_add(points.len() - matching);
        if total > MAX_POINTS {
            problems.push(
                Problem::new(axis.span, format!("the grid has more than {MAX_POINTS} points"))
                    .label(format!("with this axis there are {total}"))
                    .help("use fewer or coarser axes, or vary several keys together in one map"),
            );
            return None;
        }
        let mut next = Vec::with_capacity(total);
        for (point, applies) in points.into_iter().zip(applies) {
            if applies {
                next.extend(axis.rows.iter().map(|row| point.iter().chain(row).copied().collect()));
            } else {
                next.push(point);
            }
        }
        points = next;
    }
    Some(points)
}

fn drop_excluded(points: &mut Vec<Point>, excludes: &mut [Pattern], settings: &mut Settings, warnings: &mut Problems) {
    let mut hits = vec![0_usize; excludes.len()];
    points.retain(|point| {
        let mut keep = true;
        for (pattern, hits) in excludes.iter_mut().zip(&mut hits) {
            if pattern.matches(settings, point) {
                *hits += 1;
                keep = false;
            }
        }
        keep
    });
    for (pattern, hits) in excludes.iter_mut().zip(hits) {
        pattern.hits = hits;
        if hits == 0 {
            warnings.push(
                Problem::new(pattern.span, "this exclude matches no point")
                    .help("check its names and values, or remove it"),
            );
        }
    }
}

fn all_excluded(document: &Document<'_>, points: usize, excludes: &[Pattern]) -> Problem {
    let place = document.exclude.map_or(Span::default(), |entry| entry.key);
    let what = if points == 1 { "the only point is".to_string() } else { format!("all {points} points are") };
    let problem = Problem::new(place, format!("{what} excluded, nothing is left to train"))
        .label("together these drop every point")
        .help("make the patterns narrower, or remove one of them");
    let guilty = excludes.iter().filter(|pattern| pattern.hits > 0);
    guilty.fold(problem, |problem, pattern| problem.also(pattern.span, format!("drops {} of {points}", pattern.hits)))
}

/// Drops points that train the same models as an earlier one.
struct Merger<'s> {
    settings: &'s mut Settings,
    seen: HashSet<Identity>,
    merged: usize,
}

impl Merger<'_> {
    fn distinct(&mut self, points: Vec<Point>, problems: &mut Problems) -> Vec<Point> {
        let mut distinct = Vec::with_capacity(points.len());
        for point in points {
            match self.settings.identify(&point) {
                Ok(identity) if self.seen.insert(identity) => distinct.push(point),
                Ok(_) => self.merged += 1,
                Err(found) => problems.extend(found),
            }
        }
        distinct
    }

    /// After sampling: a point that was left out may be included by name.
    fn forget_all_but(&mut self, points: &[Point]) {
        self.seen = points.iter().filter_map(|point| self.settings.identify(point).ok()).collect();
    }
}

/// `sample: {n, seed}`.
struct Sample {
    n: usize,
    seed: u64,
}

fn read_sample(node: &Node, problems: &mut Problems) -> Option<Sample> {
    let map = fields(node, "sample", &["n", "seed"], problems)?;
    let seed = match map.get("seed") {
        Some(entry) => problems.keep(super::decode::decode(&entry.node, "seed"))?,
        None => 0,
    };
    let Some(entry) = map.get("n") else {
        problems.push(
            Problem::new(node.span, "`sample` has no `n`")
                .label("`n` is missing")
                .help("say how many points to keep: `{n: 50, seed: 0}`"),
        );
        return None;
    };
    let n: u32 = problems.keep(super::decode::decode(&entry.node, "n"))?;
    if n == 0 {
        problems.push(
            Problem::new(entry.node.span, "a sample of 0 points leaves nothing to train")
                .label("at least 1")
                .help("remove `sample` to keep every point"),
        );
        return None;
    }
    Some(Sample { n: n as usize, seed })
}

impl Sample {
    /// The `n` points whose hashes with the seed are smallest, in grid order. Membership depends on
    /// a point's content alone, so most of a sample survives when the grid is edited, and its
    /// trained models with it.
    fn choose(&self, points: Vec<Point>, settings: &mut Settings) -> Vec<Point> {
        let rank = |(position, point): (usize, &Point)| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.seed.to_le_bytes());
            for content in settings.content(point).iter().flatten() {
                hasher.update(content.as_bytes());
            }
            (*hasher.finalize().as_bytes(), position)
        };
        let mut ranked: Vec<([u8; 32], usize)> = points.iter().enumerate().map(rank).collect();
        ranked.sort_unstable();
        let chosen: HashSet<usize> = ranked.into_iter().take(self.n).map(|(_, position)| position).collect();
        points
            .into_iter()
            .enumerate()
            .filter(|(position, _)| chosen.contains(position))
            .map(|(_, point)| point)
            .collect()
    }
}
