//! What deploy/ says of the programs is so.

use std::collections::BTreeSet;

fn file(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name of a metric in a text; those of a histogram's series are its own.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("epsweep_") || word.starts_with("process_"));
    metrics
        .map(|name| {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            series.unwrap_or(name).to_string()
        })
        .collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_exists() {
    let documented = metrics_in(&file("docs/metrics.md"));
    assert!(documented.len() > 30, "the list was not found");
    for path in
        ["deploy/grafana/epsweep.json", "deploy/prometheus/epsweep.rules.yml", "deploy/prometheus/epsweep.tests.yml"]
    {
        let used = metrics_in(&file(path));
        assert!(!used.is_empty(), "{path} names no metric");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{path} names what docs/metrics.md does not: {unknown:?}");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("deploy/grafana/epsweep.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(
                target["datasource"]["uid"], "${datasource}",
                "{}: the importer chooses the source",
                panel["title"]
            );
        }
    }
}

#[test]
fn the_example_that_is_submitted_by_hand_is_the_demo() {
    assert_eq!(file("deploy/kubernetes/submit/sweep.yaml"), file("examples/digits.yaml"));
}
