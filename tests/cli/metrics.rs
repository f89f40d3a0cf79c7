//! Metrics of both programs during a sweep: all that docs/metrics.md lists, and nothing else.

use crate::harness::{Folder, Running, SMALL};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

const DOCS: &str = include_str!("../../docs/metrics.md");

/// Name to type and labels, of one section's table.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented(heading: &str) -> Families {
    let section = DOCS.split("\n### ").find_map(|section| section.strip_prefix(heading)).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<BTreeSet<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (ticked(cells[1]).pop_first().unwrap(), (cells[2].to_string(), ticked(cells[3])))
    })
    .collect()
}

/// Reads a page back: families with their types and the labels of their samples, and the samples' values.
fn read(page: &str) -> (Families, BTreeMap<String, f64>) {
    let (mut families, mut values) = (Families::new(), BTreeMap::new());
    let mut family = String::new();
    for line in page.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            family = name.into();
            families.insert(name.into(), (kind.into(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            values.insert(sample.into(), value.parse().unwrap());
            let labels = sample.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_string()));
            families.get_mut(&family).unwrap().1.extend(names.filter(|name| name != "le"));
        }
    }
    (families, values)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_string()
}

/// Where a program shows its metrics, by its log.
fn shown_at(folder: &Folder, file: &str) -> String {
    let mut found = None;
    folder.wait_for("metrics are shown", || {
        let log = std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
        let mut events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        found = events.rfind(|event| event["message"] == "metrics shown");
        found.is_some()
    });
    found.unwrap()["address"].as_str().unwrap().to_string()
}

#[test]
fn both_programs_show_what_the_docs_list() {
    let folder = Folder::with(SMALL);
    let (_coordinator, address) = folder.serve(&["--metrics", "127.0.0.1:0"]);
    let coordinator = shown_at(&folder, "state/logs/coordinator.jsonl");
    let worker_options = ["--metrics", "127.0.0.1:0", "--log-file", "worker.jsonl"];
    let worker: Running = folder.worker(&address, "w", &worker_options);
    let at_worker = shown_at(&folder, "worker.jsonl");
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.epsweep(&["watch", "small", "--to", &address]).expect(0);

    assert_eq!(get(&coordinator, "/healthz"), "ok\n");
    let (shown, values) = read(&get(&coordinator, "/metrics"));
    let both = documented("Both programs");
    let of = |heading: &str| documented(heading).into_iter().chain(both.clone()).collect::<Families>();
    assert_eq!(shown, of("Coordinator"));
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("no {name} among {values:?}"));
    assert_eq!(value("epsweep_sweep_state{state=\"done\",sweep=\"small\"}"), 1.0);
    assert_eq!(value("epsweep_sweep_state{state=\"running\",sweep=\"small\"}"), 0.0);
    assert_eq!(value("epsweep_tasks{kind=\"train\",state=\"done\",sweep=\"small\"}"), 4.0);
    let done = 4.0 + value("epsweep_tasks{kind=\"evaluate\",state=\"done\",sweep=\"small\"}");
    assert_eq!(value("epsweep_attempts_total{outcome=\"answered\"}"), done);
    assert_eq!(value("epsweep_task_seconds_count{kind=\"train\"}"), 4.0);
    assert_eq!(value("epsweep_workers"), 1.0);
    assert!(value("epsweep_commit_seconds_count") > 4.0 && value("epsweep_ledger_bytes") > 0.0);

    let (shown, of_worker) = read(&get(&at_worker, "/metrics"));
    assert_eq!(shown, of("Worker"));
    assert_eq!(of_worker["epsweep_worker_coordinator_connected"], 1.0);
    assert_eq!(of_worker["epsweep_worker_tasks_total{kind=\"train\",outcome=\"answered\"}"], 4.0);
    for direction in ["forward", "backward"] {
        let name = |metric: &str| format!("{metric}{{direction=\"{direction}\"}}");
        assert_eq!(of_worker[&name("epsweep_worker_passes_total")], value(&name("epsweep_passes_total")));
    }
    drop(worker);
    folder
        .epsweep(&["serve", "--state", "other", "--listen", "127.0.0.1:0", "--metrics", &coordinator])
        .expect(2)
        .says(&["in use", "--metrics"]);
    folder.worker(&address, "w2", &["--metrics", "nowhere"]).wait().expect(2).says(&["HOST:PORT"]);
}
