//! Where artifacts are kept: a folder that several machines share, and what is removed from it.

use super::harness::{Folder, SMALL};

fn files(folder: &Folder, name: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.path().join(name)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[test]
fn a_shared_folder_serves_the_coordinator_and_those_workers_that_see_it() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let (_coordinator, address) = folder.serve(&["--artifacts", "shared"]);
    // A folder of the same name on another machine is not the coordinator's.
    let stranger = folder.worker(&address, "stranger", &["--artifacts", "elsewhere"]).wait();
    stranger
        .expect(2)
        .says(&["elsewhere is not where the coordinator keeps its artifacts", "shared with this machine"]);
    let _near = folder.worker(&address, "near", &["--artifacts", "shared"]);
    let _far = folder.worker(&address, "far", &[]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.epsweep(&["watch", "--to", &address]).expect(0);
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(folder.results("out"), folder.results("calm/report"));
    let kept = files(&folder, "shared/checkpoints");
    assert_eq!(kept, files(&folder, "calm/checkpoints"));
    assert!(kept.len() > 4);
    assert_eq!(files(&folder, "near/checkpoints"), Vec::<String>::new(), "what is shared is not copied");
}

#[test]
fn artifacts_do_not_end_up_in_two_places() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "run", "--workers", "1"]).expect(0);
    let moved = folder.epsweep(&["run", "sweep.yaml", "--out", "run", "--workers", "1", "--artifacts", "shared"]);
    moved.expect(2).says(&["holds artifacts already", "mv "]);
}

#[test]
fn what_no_ledger_names_is_removed_and_nothing_else() {
    let folder = Folder::with(&SMALL.replace("seeds: 2", "seeds: 1"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "run"]).expect(0);
    let kept = files(&folder, "run/checkpoints");
    let stray = format!("run/checkpoints/{}.safetensors", "ab".repeat(32));
    folder.write(&stray, "of an attempt whose answer was not taken");
    folder.write("run/checkpoints/notes.txt", "somebody's own");
    // It is too young: an answer may be about to name it.
    let young = folder.epsweep(&["gc", "run"]).expect(0);
    assert!(young.stdout.contains("0 artifacts removed"), "{}", young.stdout);
    let dry = folder.epsweep(&["gc", "run", "--older-than", "0", "--dry-run"]).expect(0);
    assert!(
        dry.stdout.contains(&"ab".repeat(32)) && dry.stdout.contains("1 artifact would be removed"),
        "{}",
        dry.stdout
    );
    assert!(folder.path().join(&stray).exists());
    let json = folder.epsweep(&["gc", "run", "--older-than", "0", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["artifacts"].as_array().unwrap().len(), json["removed"].as_bool()), (1, Some(true)));
    assert!(!folder.path().join(&stray).exists());
    assert!(folder.path().join("run/checkpoints/notes.txt").exists());
    let names: Vec<_> = files(&folder, "run/checkpoints").into_iter().filter(|name| name != "notes.txt").collect();
    assert_eq!(names, kept);
    folder.epsweep(&["gc", "nowhere"]).expect(2);
    folder.epsweep(&["gc", "run", "--older-than=-1"]).expect(2).says(&["--older-than"]);
}

#[test]
fn nothing_is_removed_from_a_shared_folder_while_a_ledger_that_uses_it_is_not_named() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--out", "ours", "--artifacts", "shared"]).expect(0);
    folder.write("sweep.yaml", &SMALL.replace("lr: 0.05", "lr: 0.1"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "theirs", "--artifacts", "shared"]).expect(0);
    let all = files(&folder, "shared/checkpoints");
    let gc = |dirs: &[&str]| folder.epsweep(&[&["gc", "--older-than", "0"], dirs].concat());
    gc(&["ours"]).expect(2).says(&["nothing was removed", "theirs", "--forget"]);
    gc(&["ours", "--dry-run"]).expect(0).says(&["last seen at", "theirs"]);
    // A copy may be older than the original, and name less.
    folder.epsweep(&["backup", "theirs", "copy"]).expect(0);
    gc(&["ours", "copy"]).expect(2).says(&["nothing was removed", "theirs"]);
    gc(&["ours", "theirs"]).expect(0);
    assert_eq!(files(&folder, "shared/checkpoints"), all);
    std::fs::remove_dir_all(folder.path().join("theirs")).unwrap();
    let ledgers = files(&folder, "shared/ledgers");
    assert_eq!(ledgers.len(), 2, "{ledgers:?}");
    let gone = ledgers.into_iter().find(|name| {
        std::fs::read_to_string(folder.path().join("shared/ledgers").join(name)).unwrap().ends_with("theirs")
    });
    let gone = gone.unwrap();
    gc(&["ours", "--forget", &gone]).expect(0);
    assert_eq!(files(&folder, "shared/checkpoints").len(), all.len() / 2);
    assert_eq!(files(&folder, "shared/ledgers").len(), 1);
    gc(&["ours"]).expect(0);
}
