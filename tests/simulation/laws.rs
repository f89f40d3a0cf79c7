//! What must hold in the end: what the ledger says, read from its file.

use crate::site::Site;
use epsweep::coordinator::publish;
use rusqlite::Connection;
use std::path::Path;

/// What people get: equal however it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Every answer, but for who gave it.
    pub answers: Vec<String>,
    /// Files of the reports.
    pub files: Vec<(String, String)>,
}

/// Every answer there is, by what it answers.
const ANSWERS: [&str; 4] = [
    "SELECT 'train', hex(train), epoch, train_loss, train_seconds, artifact, bytes FROM train_answers",
    "SELECT 'evaluate', hex(task), hex(family), epsilons, first, levels FROM evaluate_answers",
    "SELECT 'witnesses', hex(task), artifact, count, bytes FROM witness_files",
    "SELECT 'sweep', name, state FROM live_sweeps",
];

/// What must find nothing.
const NEVER: [(&str, &str); 7] = [
    (
        "a task was committed twice",
        "SELECT hex(task), count(*) FROM history WHERE event = 'committed' GROUP BY task HAVING count(*) > 1",
    ),
    ("a task was paid for twice", "SELECT hex(task), count(*) FROM costs GROUP BY task HAVING count(*) > 1"),
    (
        "an answer is of an attempt that was never leased to who gave it",
        "SELECT hex(task), attempt, worker FROM history c WHERE event = 'committed' AND NOT EXISTS (SELECT 1 FROM history l \
         WHERE l.event = 'leased' AND l.task = c.task AND l.attempt = c.attempt AND l.worker = c.worker)",
    ),
    (
        "an attempt was leased twice",
        "SELECT hex(task), attempt FROM history WHERE event = 'leased' GROUP BY task, attempt HAVING count(*) > 1",
    ),
    (
        "a task of a sweep has no answer",
        "SELECT hex(task) FROM sweep_tasks WHERE task NOT IN (SELECT task FROM history WHERE event = 'committed')",
    ),
    ("a row is damaged", "SELECT place, lost FROM damage"),
    ("a state of a training run that has ended was kept", "SELECT hex(train) FROM unfinished"),
];

/// What a world leaves, if it obeys the laws; else, which it breaks.
pub fn results(site: &Site) -> Result<Results, String> {
    let state = site.state();
    let ledger = Connection::open(state.join("ledger.sqlite")).map_err(|error| error.to_string())?;
    for (law, query) in NEVER {
        let found = rows(&ledger, query);
        if !found.is_empty() {
            return Err(format!("{law}: {}", found.join("; ")));
        }
    }
    let mut answers: Vec<String> = ANSWERS.into_iter().flat_map(|query| rows(&ledger, query)).collect();
    answers.sort();
    nothing_is_left(site)?;
    let sweeps = rows(&ledger, "SELECT name FROM live_sweeps ORDER BY name");
    let mut files = Vec::new();
    for sweep in sweeps {
        let into = site.dir.join("report").join(&sweep);
        publish(&state, Some(&sweep), &into).map_err(|error| format!("no report: {error:?}"))?;
        for name in ["trials.csv", "curves.csv", "frontier.csv"] {
            files.push((format!("{sweep}/{name}"), std::fs::read_to_string(into.join(name)).unwrap()));
        }
    }
    Ok(Results { answers, files })
}

/// Workers that have left have handed everything in; the coordinator keeps nothing half-written.
fn nothing_is_left(site: &Site) -> Result<(), String> {
    let caches = std::fs::read_dir(site.dir.join("caches")).into_iter().flatten().flatten();
    let mut places: Vec<_> =
        caches.flat_map(|cache| ["answers", "passing"].map(|name| cache.path().join(name))).collect();
    places.push(site.state().join("unfinished"));
    let mut left = Vec::new();
    places.iter().for_each(|place| collect(place, &mut left));
    left.retain(|path| !path.ends_with("/lock"));
    if left.is_empty() { Ok(()) } else { Err(format!("files are left: {}", left.join(", "))) }
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, files),
            path => files.push(path.display().to_string()),
        }
    }
}

fn rows(ledger: &Connection, query: &str) -> Vec<String> {
    let mut statement = ledger.prepare(query).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |column| match row.get::<_, rusqlite::types::Value>(column).unwrap() {
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        found.push((0..columns).map(cell).collect::<Vec<_>>().join(" "));
    }
    found
}
