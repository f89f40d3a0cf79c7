//! The rules that keep the rooms apart, read off the sources.

use std::path::{Path, PathBuf};

/// The one file that must name what it forbids.
const THIS: &str = "tests/engine/house.rs";
/// The rooms that know no clock, file, socket or tensor.
const PURE: [&str; 6] = ["src/spec", "src/plan", "src/engine", "src/frontier", "src/measure", "src/outcome.rs"];

/// A source file: its path from the root of the package, and its code without comments.
struct Source {
    path: String,
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("build.rs")];
    for folder in ["src", "tests"] {
        collect(&root.join(folder), &mut files);
    }
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a readable source file");
        let path = file.strip_prefix(root).expect("below the root").display().to_string();
        Source { path, code: without_comments(&text), lines: text.lines().count() }
    };
    let sources: Vec<Source> = files.into_iter().map(read).collect();
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether a path like `std::fs` or a word like `tch` stands in the code, whole.
fn mentions(code: &str, name: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + name.len()..].chars().next();
        !before.is_some_and(part_of_a_word) && !after.is_some_and(part_of_a_word)
    })
}

impl Source {
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || self.path.starts_with(&format!("{place}/")))
    }

    fn is_test(&self) -> bool {
        self.is_in(&["tests"]) || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// Fails with every file of a place that mentions one of `names`.
#[track_caller]
fn nowhere(why: &str, names: &[&str], place: impl Fn(&Source) -> bool) {
    let sources = sources();
    let searched: Vec<&Source> = sources.iter().filter(|source| source.path != THIS && place(source)).collect();
    assert!(!searched.is_empty(), "the rule speaks of no file");
    let mut found = Vec::new();
    for source in searched {
        let named = names.iter().filter(|name| mentions(&source.code, name));
        found.extend(named.map(|name| format!("{}: {name}", source.path)));
    }
    assert!(found.is_empty(), "{why}:\n  {}", found.join("\n  "));
}

#[test]
fn what_is_sought_would_be_found() {
    assert!(mentions("use std::fs::File;", "std::fs"));
    assert!(mentions("fn now() -> Instant {", "Instant"));
    assert!(mentions("tch::no_grad(|| ())", "tch"));
    assert!(!mentions("the_catch::batch(torch)", "tch"));
    assert!(!mentions(&without_comments("let a = 1; // never std::fs here"), "std::fs"));
}

#[test]
fn the_pure_rooms_know_no_clock_file_socket_or_tensor() {
    let impure = [
        "tokio",
        "tonic",
        "tch",
        "rusqlite",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
    ];
    nowhere("spec, plan, engine, frontier, measure and outcome are pure", &impure, |source| {
        source.is_in(&PURE) && !source.is_test() && source.path != "src/spec/load.rs"
    });
}

#[test]
fn the_pure_rooms_import_no_room_with_hands() {
    let hands = [
        "crate::artifacts",
        "crate::cli",
        "crate::coordinator",
        "crate::launch",
        "crate::ledger",
        "crate::proto",
        "crate::report",
        "crate::telemetry",
    ];
    nowhere("pure rooms are used, they use nobody", &hands, |source| source.is_in(&PURE) && !source.is_test());
}

#[test]
fn only_the_lab_knows_libtorch() {
    nowhere("libtorch is loaded by the worker's program alone", &["tch"], |source| {
        !source.is_in(&["src/lab", "tests/lab"])
    });
}

#[test]
fn only_the_worker_calls_the_lab() {
    let names = ["crate::lab", "epsweep::lab", "mod lab", "mod worker"];
    nowhere("lab and worker are compiled into epsweep-worker alone", &names, |source| {
        !source.is_in(&["src/lab", "src/worker", "src/bin/epsweep-worker.rs", "tests"])
    });
}

#[test]
fn the_workers_shell_runs_without_the_lab() {
    nowhere("what computes is given to it", &["crate::lab", "lab::"], |source| source.is_in(&["src/worker/shell"]));
}

#[test]
fn nothing_imports_the_command_line() {
    nowhere("cli is the outermost room", &["crate::cli", "epsweep::cli"], |source| {
        !source.is_in(&["src/cli", "src/bin/epsweep.rs"])
    });
}

#[test]
fn nothing_is_left_to_be_written() {
    nowhere("finish it or leave it out", &["todo!", "unimplemented!", "dbg!"], |_| true);
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let sources = sources();
    let long = sources.iter().filter(|source| source.lines > 500);
    let long: Vec<String> = long.map(|source| format!("{}: {} lines", source.path, source.lines)).collect();
    assert!(long.is_empty(), "split these by what they speak of:\n  {}", long.join("\n  "));
}
