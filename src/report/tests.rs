//! The report as a whole: what its files hold, and that it survives every shape of a sweep.

use super::*;
use crate::frontier::results::{CertificateName, TrialStatus};
use crate::frontier::synthetic::{Behaviour, Shape, study, sweep};
use crate::outcome::Level;

mod measures;

fn provenance() -> Provenance {
    Provenance {
        yaml: "name: digits-tradeoff\ndataset: digits\ntrial:\n  method: natural\n  epochs: 20\ngrid:\n  - {model: [mlp, smallcnn]}\n  - {method: [natural, {pgd: {epsilon: 0.1}}, {pgd: {epsilon: 0.2}}, {trades: {epsilon: 0.1, beta: 6}}]}\nseeds: 3\nevaluate:\n  epochs: [1, 5, final]\n  epsilons: {linspace: [0, 0.3, 11]}\n  attacks: [fgsm, {pgd: {steps: 40, restarts: 5}}, autoattack]\n".into(),
        epsweep: "0.1.0".into(),
        libtorch: "2.13.0".into(),
        algorithm: "3".into(),
        data: "digits".into(),
        data_digest: "blake3:5f8c0c0a4bb9a1a4de0b6a4e6a6ecf27c7a3b2a6b4b8c6d2f0b19a7f5e3d1c0b".into(),
        started: "2026-11-22 17:48:03Z".into(),
        finished: "2026-11-22 18:00:41Z".into(),
        wall_seconds: 758.0,
        workers: (0..4)
            .map(|i| WorkerLine { name: format!("node{i:02}"), device: "cpu".into(), slots: 1, tasks: 90 - 3 * i })
            .collect(),
        tasks: 352,
        reused: 0,
        retries: 2,
        failures: Vec::new(),
        command: "epsweep run digits-tradeoff.yaml --workers 4".into(),
    }
}

fn costs() -> Vec<CostRow> {
    let row = |i: u64| CostRow {
        task: format!("{:08x}", i.wrapping_mul(0x9e37_79b9)),
        kind: if i.is_multiple_of(8) { "train" } else { "evaluate" }.into(),
        worker: format!("node{:02}", i % 4),
        attempt: 1,
        seconds: 8.1,
        forwards: 120_000,
        backwards: 110_000,
        examples: 150,
    };
    (0..352).map(row).collect()
}

fn typical() -> Results {
    sweep(&study(), &["model", "method"], &Shape::default(), 11)
}

/// One sweep of every shape that people have: tiny, huge, broken, hostile.
fn shapes() -> Vec<(&'static str, Results)> {
    let shape = Shape::default();
    let mut partial = typical();
    partial.trials[4].status = TrialStatus::Failed("loss became NaN at step 812 (diverged)".into());
    partial.trials[4].checkpoints.truncate(1);
    partial.trials[9].status = TrialStatus::Pending;
    partial.trials[9].checkpoints[2].levels[1][100..].fill(Level::UNKNOWN);
    partial.trials[20].status = TrialStatus::Cancelled;
    partial.trials[20].checkpoints.clear();
    let mut nothing = typical();
    nothing.trials.iter_mut().for_each(|t| {
        t.status = TrialStatus::Pending;
        t.checkpoints.clear();
    });
    let one = Shape { seeds: 1, epochs: vec![20], attacks: vec!["fgsm".into()], ..shape.clone() };
    let many: Vec<Behaviour> = (0..200)
        .map(|i| Behaviour {
            axes: vec![
                ["mlp", "smallcnn"][i % 2].into(),
                format!("{}", (i / 2) as f64 / 1000.0),
                "0.0005".into(),
                "cosine".into(),
                format!("{}", 32 << (i % 4)),
            ],
            clean: 0.80 + 0.18 * ((i * 37 % 100) as f64 / 100.0),
            median: 0.03 + 0.2 * ((i * 61 % 100) as f64 / 100.0),
            spread: 0.03,
        })
        .collect();
    let five = ["model", "optimizer.sgd.lr", "weight_decay", "schedule", "batch_size"];
    let mut hostile = sweep(&study()[..2], &["seed", "a<b>&\"'"], &Shape { examples: 40, ..shape.clone() }, 2);
    hostile.sweep = "</title><script>alert(1)</script>".into();
    for trial in &mut hostile.trials {
        trial.axes[1] = format!(
            "</script><img src=x onerror=alert(1)>\u{0}\u{1b}{}, \"quoted\"\n{}",
            trial.axes[1],
            "very-".repeat(60)
        );
    }
    hostile.attacks[0] = "]]>&<fgsm>".into();
    let mut empty = typical();
    empty.trials.clear();
    empty.axes.clear();
    empty.attacks.clear();
    empty.epsilons.clear();
    let eighths: Vec<f64> = (0..=8).map(|i| f64::from(2 * i) / 255.0).collect();
    let clean_only = Shape { epsilons: vec![0.0], ..one.clone() };
    vec![
        ("typical", typical()),
        ("partial", partial),
        ("nothing", nothing),
        ("one", sweep(&study()[..1], &["model", "method"], &one, 3)),
        ("many", sweep(&many, &five, &Shape { examples: 120, seeds: 2, ..shape.clone() }, 4)),
        ("hostile", hostile),
        ("empty", empty),
        ("eighths", sweep(&study()[..4], &["model", "method"], &Shape { epsilons: eighths, ..shape.clone() }, 5)),
        ("clean-only", sweep(&study()[..3], &["model", "method"], &clean_only, 6)),
        ("no-axes", sweep(&[Behaviour { axes: Vec::new(), ..study()[0].clone() }], &[], &shape, 6)),
    ]
}

/// Writes all shapes to look at: `cargo test write_to_look_at -- --ignored`, into $EPSWEEP_LOOK or /tmp/epsweep-look.
#[test]
#[ignore = "for looking at"]
fn write_to_look_at() {
    let root = std::env::var("EPSWEEP_LOOK").unwrap_or_else(|_| "/tmp/epsweep-look".into());
    for (name, results) in shapes() {
        write(&Path::new(&root).join(name), &results, &costs(), &provenance()).unwrap();
    }
}

fn written(name: &str, results: &Results) -> (tempfile::TempDir, Written) {
    let dir = tempfile::tempdir().unwrap();
    let written = write(&dir.path().join(name), results, &costs(), &provenance()).unwrap();
    (dir, written)
}

fn read(written: &Written, name: &str) -> String {
    let path = written.files.iter().find(|p| p.ends_with(name)).unwrap();
    std::fs::read_to_string(path).unwrap()
}

/// A handful of examples by hand: one configuration, two seeds, one attack.
fn by_hand() -> Results {
    let mut results = crate::frontier::synthetic::one_trial(
        &[0.0, 0.1, 0.30000000000000004],
        &[&[Level(0), Level(2), Level(3), Level(3)]],
    );
    let mut second = results.trials[0].clone();
    (second.trial, second.seed) = ("t1".into(), 1);
    second.checkpoints[0].levels[0] = vec![Level(0), Level(1), Level(3), Level(3)];
    let mut third = second.clone();
    (third.trial, third.seed, third.status) = ("t2".into(), 2, TrialStatus::Failed("out of memory, \"twice\"".into()));
    third.checkpoints.clear();
    results.trials.extend([third, second]);
    results
}

#[test]
fn trials_have_a_row_per_checkpoint_and_one_for_those_without() {
    let (_dir, written) = written("r", &by_hand());
    insta::assert_snapshot!(read(&written, "trials.csv"), @r#"
    trial,model,seed,epoch,clean_accuracy,train_loss,train_seconds,status,config,n,clean_low,clean_high,area,median_break,reason,validation_accuracy,fgsm_accuracy,pgd_accuracy,note
    t0,mlp,0,1,0.750000,0.500000,1.000,done,c0,4,0.194120,0.993691,0.666667,0.30000000000000004,,,,,
    t1,mlp,1,1,0.750000,0.500000,1.000,done,c0,4,0.194120,0.993691,0.541667,0.1,,,,,
    t2,mlp,2,,,,,failed,c0,,,,,,"out of memory, ""twice""",,,,
    "#);
}

#[test]
fn curves_are_sorted_and_exact() {
    let (_dir, written) = written("r", &by_hand());
    insta::assert_snapshot!(read(&written, "curves.csv"), @r#"
    trial,model,seed,epoch,norm,attack,epsilon,n,robust,robust_accuracy,ci_low,ci_high
    t0,mlp,0,1,linf,attack0,0,4,3,0.750000,0.194120,0.993691
    t0,mlp,0,1,linf,attack0,0.1,4,3,0.750000,0.194120,0.993691
    t0,mlp,0,1,linf,attack0,0.30000000000000004,4,2,0.500000,0.067586,0.932414
    t0,mlp,0,1,linf,all,0,4,3,0.750000,0.194120,0.993691
    t0,mlp,0,1,linf,all,0.1,4,3,0.750000,0.194120,0.993691
    t0,mlp,0,1,linf,all,0.30000000000000004,4,2,0.500000,0.067586,0.932414
    t1,mlp,1,1,linf,attack0,0,4,3,0.750000,0.194120,0.993691
    t1,mlp,1,1,linf,attack0,0.1,4,2,0.500000,0.067586,0.932414
    t1,mlp,1,1,linf,attack0,0.30000000000000004,4,2,0.500000,0.067586,0.932414
    t1,mlp,1,1,linf,all,0,4,3,0.750000,0.194120,0.993691
    t1,mlp,1,1,linf,all,0.1,4,2,0.500000,0.067586,0.932414
    t1,mlp,1,1,linf,all,0.30000000000000004,4,2,0.500000,0.067586,0.932414
    "#);
}

/// `by_hand` with a bound and with smoothing; of the bound, one level is too high where asked for.
fn certified_by_hand(wrong: bool) -> Results {
    let mut results = by_hand();
    results.certificates = [("ibp", true), ("smoothing", false)]
        .map(|(name, deterministic)| CertificateName { name: name.into(), deterministic })
        .to_vec();
    for trial in &mut results.trials {
        for checkpoint in &mut trial.checkpoints {
            let second = if wrong { Level(3) } else { Level(1) };
            checkpoint.certified = vec![vec![Level(0), second, Level(2), Level(3)], vec![Level(3); 4]];
        }
    }
    results
}

#[test]
fn certificates_have_a_table_and_a_band() {
    let (dir, written) = written("r", &certified_by_hand(false));
    let table = read(&written, "certified.csv");
    insta::assert_snapshot!(table.lines().take(5).collect::<Vec<_>>().join("\n"), @r"
    trial,model,seed,epoch,norm,certificate,epsilon,n,certified,certified_accuracy,ci_low,ci_high,deterministic
    t0,mlp,0,1,linf,ibp,0,4,3,0.750000,0.194120,0.993691,true
    t0,mlp,0,1,linf,ibp,0.1,4,2,0.500000,0.067586,0.932414,true
    t0,mlp,0,1,linf,ibp,0.30000000000000004,4,1,0.250000,0.006309,0.805880,true
    t0,mlp,0,1,linf,smoothing,0,4,4,1.000000,0.397635,1.000000,false
    ");
    assert_eq!(table.lines().count(), 1 + 2 * 2 * 3);
    let page = read(&written, "index.html");
    assert_balanced("certified", &page);
    assert!(page.contains("What is certain") && page.contains("lies in the coloured band"));
    assert!(page.contains("certifies the smoothed network") && !page.contains("Do not trust this report"));
    assert!(written.contradictions.is_empty());
    let again = write(&dir.path().join("r"), &by_hand(), &[], &provenance()).unwrap();
    assert!(
        !dir.path().join("r/certified.csv").exists() && again.files.len() == 20,
        "no table of an older report stays"
    );
}

#[test]
fn a_certified_example_that_was_broken_is_shouted_about() {
    let (_dir, written) = written("r", &certified_by_hand(true));
    assert_eq!(written.contradictions.len(), 2, "one line per trial: {:?}", written.contradictions);
    assert!(written.contradictions[0].starts_with("ibp: t0") && written.contradictions[0].ends_with(": 1 example"));
    assert!(
        read(&written, "index.html").contains("Do not trust this report: an attack broke examples that are certified.")
    );
}

#[test]
fn the_frontier_table_keeps_its_columns() {
    let (_dir, written) = written("r", &by_hand());
    insta::assert_snapshot!(read(&written, "frontier.csv"), @r#"
    epsilon,config,model,epoch,seeds,clean_accuracy,clean_low,clean_high,robust_accuracy,robust_low,robust_high,on_frontier,p_on_frontier,n,interval
    0,c0,mlp,1,2,0.750000,0.250000,1.000000,0.750000,0.250000,1.000000,true,1.000000,4,seeds+examples
    0.1,c0,mlp,1,2,0.750000,0.250000,1.000000,0.625000,0.125000,1.000000,true,1.000000,4,seeds+examples
    0.30000000000000004,c0,mlp,1,2,0.750000,0.250000,1.000000,0.500000,0.000000,1.000000,true,1.000000,4,seeds+examples
    "#);
}

#[test]
fn statistics_have_tables_and_one_seed_is_not_asked_about_others() {
    let mut results = by_hand();
    // A second configuration with one network.
    let mut other = results.trials[0].clone();
    (other.trial, other.config, other.axes) = ("t3".into(), "c1".into(), vec!["cnn".into()]);
    other.checkpoints[0].levels[0] = vec![Level(3); 4];
    results.trials.push(other);
    let (_dir, written) = written("r", &results);
    insta::assert_snapshot!(read(&written, "summary.csv"), @r#"
    config,model,epoch,seeds,n,clean_accuracy,clean_low,clean_high,area,area_low,area_high,median_break,median_break_low,median_break_high,between_seeds,best_p_on_frontier,interval
    c1,cnn,1,1,4,1.000000,0.397635,1.000000,1.000000,0.397635,1.000000,inf,inf,inf,,1.000000,examples
    c0,mlp,1,2,4,0.750000,0.250000,1.000000,0.604167,0.104167,1.000000,0.30000000000000004,0,inf,0.088388,0.324000,seeds+examples
    "#);
    insta::assert_snapshot!(read(&written, "hypervolume.csv"), @r#"
    trials,configs,epsilon,n,hypervolume,hypervolume_low,hypervolume_high,optimism,interval
    3,1,0,4,0.562500,0.000000,1.000000,0.046562,examples
    3,1,0.1,4,0.468750,0.000000,1.000000,0.037062,examples
    3,1,0.30000000000000004,4,0.375000,0.000000,1.000000,0.027562,examples
    4,2,0,4,1.000000,0.158114,1.000000,0.000000,examples
    4,2,0.1,4,1.000000,0.158114,1.000000,0.000000,examples
    4,2,0.30000000000000004,4,1.000000,0.158114,1.000000,0.000000,examples
    "#);
    insta::assert_snapshot!(read(&written, "comparisons.csv"), @r#"
    epsilon,config_a,a,epoch_a,seeds_a,config_b,b,epoch_b,seeds_b,n,robust_a,robust_b,difference,difference_low,difference_high,interval,only_a,only_b,p_examples,p_examples_holm,q_examples,p_seeds,p_seeds_holm,q_seeds,family
    0,c1,cnn,1,1,c0,mlp,1,2,4,1.000000,0.750000,0.250000,-0.383185,0.716518,examples,1,0,1,1,1,,,,1
    0.1,c1,cnn,1,1,c0,mlp,1,2,4,1.000000,0.625000,0.375000,-0.303880,0.803880,examples,2,0,0.5,0.5,0.5,,,,1
    0.30000000000000004,c1,cnn,1,1,c0,mlp,1,2,4,1.000000,0.500000,0.500000,-0.263065,0.929731,examples,2,0,0.5,0.5,0.5,,,,1
    "#);
}

#[test]
fn the_page_says_how_sure_its_statistics_are() {
    let (_dir, written) = self::written("r", &typical());
    let page = read(&written, "index.html");
    for said in
        ["Who is really better", "correction for all 28 pairs", "picking the best of noisy means flatters that by"]
    {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("one seed</small>"), "three seeds each");
    assert_eq!(page.matches("<table class=\"forest\">").count(), 11, "one per epsilon");
    assert_eq!(page.matches(" hidden>").count(), 1 + 3 * 10, "of each set, one is shown; and the tip");
    let one = Shape { seeds: 1, ..Shape::default() };
    let (_dir, written) = self::written("r", &sweep(&study()[..2], &["model", "method"], &one, 3));
    let page = read(&written, "index.html");
    assert!(page.contains("one seed</small>") && page.contains("nothing is said about other seeds"));
    assert!(!page.contains("other seeds too (Student's t)"), "no test over seeds is mentioned where there is none");
}

#[test]
fn costs_keep_their_columns() {
    let (_dir, written) = written("r", &by_hand());
    let costs = read(&written, "costs.csv");
    assert!(costs.starts_with("task,kind,worker,attempt,seconds,forwards,backwards,examples\n00000000,train,node00,1,8.100,120000,110000,150\n"));
}

#[test]
fn equal_results_are_equal_bytes_whoever_computed_them() {
    let results = typical();
    let mut elsewhere = results.clone();
    elsewhere.trials.rotate_left(5);
    elsewhere.trials.iter_mut().flat_map(|t| &mut t.checkpoints).for_each(|c| c.train_seconds *= 3.0);
    let (_a, here) = written("a", &results);
    let dir = tempfile::tempdir().unwrap();
    let there = write(dir.path(), &elsewhere, &[], &Provenance::default()).unwrap();
    for name in ["curves.csv", "frontier.csv", "summary.csv", "comparisons.csv", "curves.parquet", "frontier.svg"] {
        let bytes = |w: &Written| std::fs::read(w.files.iter().find(|p| p.ends_with(name)).unwrap()).unwrap();
        assert!(bytes(&here) == bytes(&there), "{name} differs");
    }
}

#[test]
fn an_axis_named_like_a_column_does_not_hide_it() {
    let mut results = by_hand();
    results.axes = vec!["seed".into()];
    let (_dir, written) = written("r", &results);
    assert!(read(&written, "curves.csv").starts_with("trial,axis.seed,seed,epoch,"));
}

#[test]
fn parquet_holds_what_csv_holds() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;
    let (_dir, written) = written("r", &by_hand());
    let path = written.files.iter().find(|p| p.ends_with("trials.parquet")).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].get_string(0).unwrap(), "t0");
    assert_eq!(rows[0].get_long(3).unwrap(), 1);
    assert_eq!(rows[0].get_double(4).unwrap(), 0.75);
    assert!(rows[2].get_double(4).is_err(), "a trial without checkpoints has no accuracy");
    assert_eq!(rows[2].get_string(7).unwrap(), "failed");
    assert_eq!(rows[2].get_string(14).unwrap(), "out of memory, \"twice\"");
}

/// Tags of `text` that are opened and closed in order; void elements of HTML are left out.
fn assert_balanced(name: &str, text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if rest.starts_with('!') || rest.starts_with('?') {
            continue;
        }
        let end = rest.find('>').unwrap_or_else(|| panic!("{name}: a tag does not end"));
        let tag = &rest[..end];
        let word = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{name}: before {}", &rest[..rest.len().min(80)]);
        } else if !["meta", "input"].contains(&word) {
            open.push(word);
        }
        // What stands inside a script or a style is no markup.
        if ["script", "style"].contains(&word) && !tag.starts_with('/') {
            rest = &rest[rest.find(&format!("</{word}>")).unwrap()..];
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} stay open");
}

#[test]
fn every_shape_of_a_sweep_makes_a_sound_report() {
    for (name, results) in shapes() {
        let (_dir, written) = written(name, &results);
        let trajectories = written.files.iter().filter(|file| file.to_string_lossy().contains("trajectory.")).count();
        assert!(written.files.len() == 20 + trajectories && [0, 3].contains(&trajectories), "{name}");
        for file in ["index.html", "frontier.svg", "curves.svg", "tradeoff.svg"] {
            let text = read(&written, file);
            assert_balanced(&format!("{name}/{file}"), &text);
            assert!(!text.contains("NaN") || name == "partial", "{name}/{file} holds a number that is none");
            for request in [" src=", "href=\"http", "url(", "@import", "fetch("] {
                assert!(name == "hostile" || !text.contains(request), "{name}/{file} asks for more than itself");
            }
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}/{file} holds control characters");
        }
    }
}

#[test]
fn what_users_write_is_never_markup() {
    let hostile = shapes().into_iter().find(|s| s.0 == "hostile").unwrap().1;
    let mut provenance = provenance();
    provenance.yaml = "name: </code></pre><script>alert(2)</script>".into();
    provenance.workers[0].name = "<b onmouseover=alert(3)>".into();
    provenance.failures.push(Failure { trial: "<u>".into(), reason: "<script>alert(4)</script>".into() });
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &hostile, &costs(), &provenance).unwrap();
    for file in ["index.html", "frontier.svg", "curves.svg", "tradeoff.svg"] {
        let text = read(&written, file);
        for bad in ["<script>alert", "<img", "<b onmouse", "<u>", "<fgsm"] {
            assert!(!text.contains(bad), "{file} holds {bad}");
        }
    }
}

#[test]
fn a_page_says_what_is_missing() {
    let partial = shapes().into_iter().find(|s| s.0 == "partial").unwrap().1;
    let (_dir, written) = written("r", &partial);
    assert_eq!((written.finished, written.trials), (21, 24));
    let page = read(&written, "index.html");
    assert!(page.contains("This sweep is not complete: 1 failed, 1 pending, 1 cancelled of 24 trials."));
    assert!(page.contains("loss became NaN at step 812"));
    let (_dir, complete) = self::written("r", &typical());
    assert!(!read(&complete, "index.html").contains("not complete"));
}

#[test]
fn a_report_replaces_the_one_before_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &typical(), &costs(), &provenance()).unwrap();
    write(dir.path(), &by_hand(), &costs(), &provenance()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 20);
    let missing = write(Path::new("/proc/none"), &by_hand(), &[], &provenance()).unwrap_err();
    assert_eq!(missing.to_string(), "cannot write /proc/none");
}
