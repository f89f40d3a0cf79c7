//! What valid files mean outside the grid.

use super::{around, outcome, render, sweep, with};
use crate::spec::{
    Attack, AttackLoss, Augment, AutoattackVersion, Awp, Certificate, Dataset, Domain, Effort, EvalEpochs, Measure,
    MeasuredLoss, Method, Model, Norm, Optimizer, Plane, Regions, Schedule, Search, Uncertainty,
};
use std::path::Path;

#[test]
fn defaults_are_filled_in() {
    let sweep = sweep(&with(""));
    assert_eq!((sweep.name.as_str(), sweep.seed, sweep.axes.len(), sweep.trials.len()), ("sweep", 0, 0, 1));
    let recipe = &sweep.trials[0].recipe;
    assert_eq!(recipe.optimizer, Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false });
    assert_eq!((&recipe.schedule, recipe.epochs, recipe.batch_size), (&Schedule::Cosine {}, 3, 128));
    let evaluate = &sweep.evaluate;
    assert_eq!((evaluate.norm, evaluate.test_examples, evaluate.batch_size), (Norm::Linf, None, 256));
    assert_eq!(evaluate.epochs, EvalEpochs::last_only());
    let names: Vec<&str> = evaluate.attacks.iter().map(|attack| attack.name.as_str()).collect();
    assert_eq!(names, ["fgsm", "pgd"]);
    assert_eq!(evaluate.attacks[1].attack, Attack::Pgd { steps: 40, step: None, restarts: 1 });
}

#[test]
fn fractions_and_other_spellings_are_numbers_everywhere() {
    let sweep = sweep(&around(
        "model: {mlp: {hidden: [0x40, 1e2]}}, method: {pgd: {epsilon: 8/255, step: 2 / 255}}, \
         optimizer: {adamw: {lr: 1/1000, betas: [9/10, 0.95]}}, batch_size: 256/2",
        "seeds: [18446744073709551615]",
        "epsilons: [8/255, 0, 4/255, 0.0, -0.0]",
    ));
    let recipe = &sweep.trials[0].recipe;
    assert_eq!(recipe.model, Model::Mlp { hidden: vec![64, 100] });
    let pgd = Method::Pgd { epsilon: 8.0 / 255.0, steps: 10, step: Some(2.0 / 255.0), norm: Norm::Linf };
    assert_eq!(recipe.method, pgd);
    assert_eq!(recipe.optimizer, Optimizer::Adamw { lr: 0.001, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.01 });
    assert_eq!((recipe.batch_size, sweep.trials[0].seed), (128, u64::MAX));
    assert_eq!(sweep.evaluate.epsilons, [0.0, 4.0 / 255.0, 8.0 / 255.0]);
    assert!(sweep.evaluate.epsilons[0].is_sign_positive());
}

#[test]
fn a_name_without_fields_is_the_same_as_one_with_none_written() {
    for method in ["natural", "{natural: {}}", "{natural: }", "{natural: ~}"] {
        let sweep = sweep(&around(&format!("model: linear, method: {method}"), "", "epsilons: [0]"));
        assert_eq!(sweep.trials[0].recipe.method, Method::Natural {}, "{method}");
    }
}

#[test]
fn options_that_change_nothing_are_no_options() {
    let recipe = |options: &str| {
        let text =
            around(&format!("model: linear, method: {{fast_at: {{epsilon: 0.1}}}}{options}"), "", "epsilons: [0]");
        sweep(&text).trials.remove(0).recipe
    };
    let plain = recipe("");
    assert!(plain.options.is_default());
    for nothing in [", awp: none", ", awp: {gamma: 0}", ", label_smoothing: -0.0", ", augment: {crop: 0, flip: false}"]
    {
        assert_eq!(recipe(nothing), plain, "{nothing}");
    }
    let text = serde_json::to_string(&plain).expect("finite");
    assert!(!text.contains("options"), "it would be another question: {text}");
    let used = recipe(", awp: {}, label_smoothing: 1/10, augment: {flip: true}").options;
    assert_eq!((used.awp, used.label_smoothing), (Some(Awp { gamma: 0.005, warmup: 0 }), 0.1));
    assert_eq!(used.augment, Some(Augment { crop: 0, flip: true }));
}

#[test]
fn options_vary_and_are_matched_like_any_setting() {
    let text = around(
        "model: linear, method: {pgd: {epsilon: 0.1}}",
        "grid:\n  - {method: [natural, {pgd: {epsilon: 0.1}}]}\n  - {awp: [none, {gamma: 0.01}], when: {method: pgd}}\n  \
         - {augment: [none, {crop: 1}]}\nexclude: [{awp: none, method: pgd, augment: {crop: 1}}]",
        "epsilons: [0]",
    );
    let sweep = sweep(&text);
    assert_eq!(sweep.axes, ["method", "awp", "augment"]);
    let rows: Vec<String> = sweep.trials.iter().map(|trial| trial.axes.join(" ")).collect();
    let pgd = "pgd(epsilon=0.1)";
    let expected = [
        "natural none none".to_string(),
        "natural none crop=1".to_string(),
        format!("{pgd} none none"),
        format!("{pgd} gamma=0.01 none"),
        format!("{pgd} gamma=0.01 crop=1"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn attacks_are_named_by_kind_by_parameters_or_by_their_own_name() {
    let names = |attacks: &str| -> Vec<String> {
        let sweep =
            sweep(&around("model: mlp, method: natural", "", &format!("epsilons: [0, 0.1], attacks: {attacks}")));
        sweep.evaluate.attacks.into_iter().map(|attack| attack.name).collect()
    };
    assert_eq!(names("[fgsm, {pgd: {steps: 40, restarts: 5}}]"), ["fgsm", "pgd"]);
    assert_eq!(names("[pgd, {pgd: {steps: 40, restarts: 5}}]"), ["pgd", "pgd(steps=40,restarts=5)"]);
    assert_eq!(names("[{name: quick, pgd: {steps: 5}}, {pgd: {steps: 100}}]"), ["quick", "pgd"]);
}

#[test]
fn dear_attacks_close_in_unless_told_otherwise_and_the_keys_of_old_questions_stay() {
    let search = |rest: &str| {
        let evaluate = format!("epsilons: [0, 0.1], attacks: [fgsm, pgd, autoattack]{rest}");
        let evaluate = sweep(&around("model: mlp, method: natural", "", &evaluate)).evaluate;
        evaluate.attacks.iter().map(|named| evaluate.search_of(&named.attack)).collect::<Vec<_>>()
    };
    assert_eq!(search(""), [Search::Ascending, Search::Bisect, Search::Bisect]);
    assert_eq!(search(", search: exhaustive"), [Search::Exhaustive; 3]);
    assert_eq!(search(", search: ascending"), [Search::Ascending; 3]);
    let evaluate = |attacks: &str| around("model: mlp, method: natural", "", &format!("epsilons: [0.1], {attacks}"));
    let apgd = sweep(&evaluate("attacks: [{apgd: {loss: dlr_targeted}}]")).evaluate.attacks.remove(0).attack;
    assert_eq!(apgd, Attack::Apgd { loss: AttackLoss::DlrTargeted, steps: 100, restarts: 1, targets: 9, samples: 1 });
    assert_eq!(apgd.passes(), (900, 900));
    let autoattack = |version| Attack::Autoattack { version, effort: Effort::Full };
    assert_eq!(autoattack(AutoattackVersion::Standard).passes(), (100 + 900 + 1800 + 5000, 1900));
    // As they were written before there was a choice.
    assert_eq!(
        serde_json::to_string(&apgd).unwrap(),
        r#"{"apgd":{"loss":"dlr_targeted","steps":100,"restarts":1,"targets":9}}"#
    );
    let fab = Attack::Fab { steps: 100, targets: 9, restarts: 1 };
    assert_eq!(serde_json::to_string(&fab).unwrap(), r#"{"fab":{"steps":100,"targets":9}}"#);
    let standard = autoattack(AutoattackVersion::Standard);
    assert_eq!(serde_json::to_string(&standard).unwrap(), r#"{"autoattack":{"version":"standard"}}"#);
    // The reference's list for L1, and its order for `plus`.
    let kinds = |version, norm| autoattack(version).members(norm).iter().map(Attack::kind).collect::<Vec<_>>();
    assert_eq!(kinds(AutoattackVersion::Plus, Norm::L2), ["apgd", "apgd", "fab", "square", "apgd", "fab"]);
    let l1 = autoattack(AutoattackVersion::Standard).members(Norm::L1);
    assert!(matches!(l1[0], Attack::Apgd { loss: AttackLoss::Ce, restarts: 5, .. }), "{l1:?}");
    assert!(matches!(l1[1], Attack::Apgd { loss: AttackLoss::DlrTargeted, restarts: 1, targets: 5, .. }), "{l1:?}");
}

#[test]
fn attacks_that_are_not_what_they_promise_are_said_to_be() {
    let doubts = |attacks: &str, norm: &str, classes: u32| {
        let text =
            around("model: mlp, method: natural", "", &format!("epsilons: [0.1], norm: {norm}, attacks: [{attacks}]"));
        let doubts = crate::spec::doubts(&sweep(&text), classes, "sweep.yaml", &text);
        doubts.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let dlr = "{apgd: {loss: dlr}}, {autoattack: {version: rand}}, autoattack, fab, cw";
    assert_eq!(doubts(dlr, "l2", 4), [""; 0]);
    let three = doubts(dlr, "l2", 3);
    assert_eq!(three.len(), 1);
    assert!(three[0].contains("4 classes or more; the data have 3"), "{}", three[0]);
    assert_eq!(doubts(dlr, "l2", 2).len(), 3);
    assert_eq!(doubts("ddn, cw, fab", "linf", 10).len(), 2);
    assert_eq!(doubts("pgd, apgd, autoattack, fab, square", "l2, warm_starts: true", 10).len(), 4);
}

#[test]
fn certificates_are_named_like_attacks() {
    let certify = |evaluate: &str| {
        let evaluate = sweep(&around("model: mlp, method: natural", "", evaluate)).evaluate;
        evaluate.certify.into_iter().map(|named| (named.name, named.certificate)).collect::<Vec<_>>()
    };
    assert_eq!(certify("epsilons: [0, 0.1]"), []);
    let bounds = certify("epsilons: [0, 0.1], certify: [ibp, crown]");
    assert_eq!(bounds, [("ibp".to_string(), Certificate::Ibp {}), ("crown".to_string(), Certificate::Crown {})]);
    let two = certify(
        "norm: l2, epsilons: [0, 0.1], certify: [{smoothing: {sigma: 0.25}}, {smoothing: {sigma: 0.5, n: 10}}]",
    );
    assert_eq!(two[0].0, "smoothing(sigma=0.25)");
    assert_eq!(two[0].1, Certificate::Smoothing { sigma: 0.25, n0: 100, n: 100_000, alpha: 0.001 });
    assert_eq!(two[1].0, "smoothing(sigma=0.5,n=10)");
}

#[test]
fn paths_start_at_the_file_and_keep_their_spelling() {
    let dir = |written: &str| {
        let text = format!(
            "dataset: {{mnist: {{dir: {written}}}}}\ntrial: {{model: mlp, method: natural, epochs: 1}}\nevaluate: {{epsilons: [0]}}\n"
        );
        match sweep(&text).dataset {
            Dataset::Mnist { dir } => dir.display().to_string(),
            other => panic!("asked for mnist: {other:?}"),
        }
    };
    assert_eq!(dir("../data/mnist"), "/base/../data/mnist");
    assert_eq!(dir("/data/mnist"), "/data/mnist");
    assert_eq!(dir("'with space'"), "/base/with space");
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let sweep = sweep(
        "x-pgd: &pgd {steps: 7, step: 2/255}\n\
         dataset: digits\n\
         trial:\n  model: mlp\n  method: {pgd: {<<: *pgd, epsilon: 8/255, steps: 9}}\n  epochs: &epochs 4\n\
         grid:\n  - method:\n      - natural\n      - {trades: {<<: [*pgd], epsilon: 0.1}}\n  - {epochs: [*epochs, 5]}\n\
         include:\n  - {}\n\
         evaluate: {epsilons: [0, 0.1], attacks: [{pgd: *pgd}]}\n",
    );
    assert_eq!(sweep.trials.len(), 5);
    let step = Some(2.0 / 255.0);
    assert_eq!(
        sweep.trials[2].recipe.method,
        Method::Trades { epsilon: 0.1, beta: 6.0, steps: 7, step, norm: Norm::Linf }
    );
    assert_eq!(sweep.trials[4].recipe.method, Method::Pgd { epsilon: 8.0 / 255.0, steps: 9, step, norm: Norm::Linf });
    assert_eq!(sweep.trials[4].axes, ["pgd(epsilon=8/255,steps=9,step=2/255)", "4"]);
}

#[test]
fn the_name_defaults_to_that_of_the_file() {
    let name = |file: &str| crate::spec::parse(&with(""), file, std::path::Path::new("/")).expect("valid").name;
    assert_eq!(name("/home/me/first try.yaml"), "first-try");
    assert_eq!(name("mnist.v2.yml"), "mnist.v2");
    assert_eq!(name("-"), "sweep");
}

#[test]
fn epochs_are_sorted_and_final_is_the_end_of_each_trial() {
    let sweep = sweep(&around("model: mlp, method: natural", "", "epsilons: [0], epochs: [3, final, 1, 3]"));
    assert_eq!(sweep.evaluate.epochs, EvalEpochs { at: vec![1, 3], ..EvalEpochs::last_only() });
}

#[test]
fn epochs_are_made_by_steps_and_on_a_logarithmic_scale() {
    let of = |epochs: &str, length: u32| {
        let text = format!(
            "dataset: digits\ntrial: {{epochs: 41, model: mlp, method: natural}}\nevaluate: {{epsilons: [0], epochs: {epochs}}}\n"
        );
        sweep(&text).evaluate.epochs.of(length)
    };
    assert_eq!(of("{every: 1}", 3), [1, 2, 3]);
    assert_eq!(of("{every: 10}", 41), [10, 20, 30, 40]);
    assert_eq!(of("[1, {every: 10}, final]", 41), [1, 10, 20, 30, 40, 41]);
    assert_eq!(of("{log: 8}", 41), [1, 2, 3, 5, 8, 14, 24, 41]);
    assert_eq!(of("{log: 20}", 5), [1, 2, 3, 4, 5], "each once");
    assert_eq!(of("final", 5), [5]);
    assert_eq!(of("{log: 3}", 0), [0], "a pretrained network has one state");
}

#[test]
fn a_measure_has_defaults_and_a_name() {
    let measures = |text: &str| sweep(&with(&format!("measure: {text}"))).measures;
    let plain = measures("uncertainty");
    let asked =
        Uncertainty { domain: Domain::Box, radius: Some(0.1), samples: 1024, loss: MeasuredLoss::Ce, clip: true };
    assert_eq!(plain[0].measure, Measure::Uncertainty(asked.clone()));
    assert_eq!((plain[0].name.as_str(), plain[0].examples, &plain[0].epochs), ("uncertainty", 100, &None));
    assert_eq!(measures("{uncertainty: {}}"), plain);
    assert_eq!(measures("[uncertainty]"), plain);
    let two = measures(
        "[{uncertainty: {radius: 8/255, samples: 64, epochs: [2], examples: 7}}, {uncertainty: {domain: plane}}]",
    );
    assert_eq!(two[0].name, "uncertainty(radius=8/255,samples=64,epochs=[2],examples=7)");
    assert_eq!(two[1].name, "uncertainty(domain=plane)");
    assert_eq!(two[1].measure, Measure::Uncertainty(Uncertainty { domain: Domain::Plane, radius: None, ..asked }));
    assert_eq!(two[0].epochs.as_ref().map(|epochs| epochs.of(3)), Some(vec![2]));
}

#[test]
fn maps_of_regions_have_defaults_too() {
    let measures = |text: &str| sweep(&with(&format!("measure: {text}"))).measures;
    let plain = measures("regions");
    let asked = Regions { plane: Plane::Images, images: None, points: 96, epsilon: 0.1, steps: 40, norm: Norm::Linf };
    assert_eq!((plain[0].name.as_str(), &plain[0].measure), ("regions", &Measure::Regions(asked.clone())));
    let both = measures("{uncertainty: {}, regions: {images: [7, 0, 3], epochs: [1]}}");
    let through = Measure::Regions(Regions { images: Some([7, 0, 3]), ..asked.clone() });
    assert!(both.iter().any(|named| named.measure == through && named.least_examples() == 8));
    let [components] = &measures("{regions: {plane: components}}")[..] else { panic!("one") };
    assert_eq!(components.measure, Measure::Regions(Regions { plane: Plane::Components, epsilon: 0.0, ..asked }));
}

#[test]
fn a_given_network_is_evaluated_once_as_it_is() {
    let text = "dataset: digits\ntrial: {method: pretrained}\ngrid:\n  - {model: [{torchscript: nets/m.pt}, linear], \
                weights: [none, w.pt]}\nseeds: 3\nevaluate: {epochs: [1, 5], epsilons: [0, 0.1]}\n";
    let sweep = sweep(text);
    let files: Vec<_> = sweep.trials.iter().flat_map(|trial| trial.recipe.files().map(|file| file.path())).collect();
    assert_eq!(files, [Some(Path::new("/base/nets/m.pt")), Some(Path::new("/base/w.pt"))], "relative to the file");
    assert_eq!(sweep.trials.len(), 2, "no seed changes it");
    assert!(sweep.trials.iter().all(|trial| trial.seed == 0 && trial.recipe.epochs == 0));
    assert_eq!(sweep.evaluate.epochs.of(0), [0]);
    assert_eq!(sweep.trials[0].axes, ["torchscript=nets/m.pt", "none"]);
}

#[test]
fn settings_of_the_training_mean_nothing_to_a_given_network() {
    let grid = "grid:\n  - {method: [natural, pretrained]}\n  - {optimizer.sgd.lr: [0.1, 0.01]}";
    let sweep = sweep(&around("model: linear, weights: w.pt", grid, "epsilons: [0]"));
    assert_eq!(sweep.counts.merged, 1, "the two pretrained points are one");
    assert_eq!(sweep.trials[2].axes, ["pretrained", ""]);
    let (_, warnings) =
        outcome(&around("model: linear, weights: w.pt, method: pretrained", "", "epsilons: [0]")).expect("valid");
    assert!(render(&warnings[0]).contains("`epochs` has no effect: every trial is pretrained"));
}

#[test]
fn normalisation_is_its_numbers_whatever_it_is_called() {
    let normalize = |trial: &str| {
        let sweep = sweep(&around(&format!("model: linear, method: natural{trial}"), "", "epsilons: [0]"));
        sweep.trials[0].recipe.normalize.clone()
    };
    assert_eq!(normalize(""), None);
    assert_eq!(normalize(", normalize: none"), None);
    let mnist = normalize(", normalize: mnist");
    assert_eq!(mnist, normalize(", normalize: {mean: [0.1307], std: [0.3081]}"));
    assert_eq!(mnist.map(|n| n.std), Some(vec![0.3081]));
    let grid = "grid:\n  - {normalize: [none, mnist, {mean: [0.5], std: [0.5]}]}\nexclude: [{normalize: mnist}]";
    let sweep = sweep(&around("model: linear, method: natural", grid, "epsilons: [0]"));
    assert_eq!(sweep.trials.len(), 2);
}
