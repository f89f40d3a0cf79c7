//! What people see when a file is wrong. Read the snapshots as a user would: is it clear what to do?

use super::{around, outcome, refusal, render, with};

/// One snapshot per mistake, named after it.
macro_rules! refused {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), refusal(&$text));
        })*
    };
}

fn trial(settings: &str) -> String {
    around(settings, "", "epsilons: [0, 0.1]")
}

fn evaluate(settings: &str) -> String {
    around("model: mlp, method: natural", "", settings)
}

refused! {
    unknown_top_level_field: with("gird:\n  - {model: [mlp, linear]}");
    unknown_field_in_evaluate: evaluate("epsilon: [0, 0.1]");
    unknown_field_in_a_method: trial("model: mlp, method: {pgd: {eps: 0.1}}");
    unknown_field_of_a_name_without_fields: trial("model: {linear: {hidden: [3]}}, method: natural");
    unknown_variant: trial("model: smalcnn, method: natural");
    unknown_variant_far_from_all: trial("model: transformer, method: natural");
    wrong_type: trial("model: mlp, method: natural, batch_size: large");
    number_in_quotes: trial("model: mlp, method: {pgd: {epsilon: '8/255'}}");
    list_instead_of_number: trial("model: mlp, method: {pgd: {epsilon: [0.1, 0.2]}}");
    number_instead_of_fields: trial("model: mlp, method: {pgd: 0.1}");
    fields_beside_the_name: trial("model: mlp, method: {pgd: {}, epsilon: 0.1}");
    missing_field: trial("model: mlp, method: pgd");
    missing_section: trial("model: mlp");
    missing_parts: "name: x\n";
    negative_epsilon: evaluate("epsilons: [0, -0.1]");
    epsilon_beyond_linf: evaluate("epsilons: [0, 1.5]");
    epsilon_beyond_l2_of_digits: evaluate("norm: l2, epsilons: [0, 8.5]");
    training_epsilon_in_8_bit_steps: trial("model: mlp, method: {pgd: {epsilon: 8}}");
    infinite_number: trial("model: mlp, method: {pgd: {epsilon: .inf}}");
    learning_rate_of_zero: trial("model: mlp, method: natural, optimizer: {sgd: {lr: 0}}");
    nesterov_without_momentum: trial("model: mlp, method: natural, optimizer: {sgd: {momentum: 0, nesterov: true}}");
    milestones_out_of_order: trial("model: mlp, method: natural, schedule: {step: {milestones: [0.75, 0.5]}}");
    zero_epochs: "dataset: digits\ntrial: {model: mlp, method: natural, epochs: 0}\nevaluate: {epsilons: [0]}\n";
    width_of_zero: trial("model: {mlp: {hidden: [64, 0]}}, method: natural");
    one_channel_missing: trial("model: {smallcnn: {channels: [16]}}, method: natural");
    zip_of_unequal_lengths: with("grid:\n  - {optimizer.sgd.lr: [0.1, 0.01], batch_size: [128, 64, 32]}");
    empty_grid: with("grid: []");
    empty_axis: with("grid:\n  - {model: []}");
    scalar_axis: with("grid:\n  - {model: mlp}");
    grid_as_one_map: with("grid:\n  model: [mlp, linear]\n  batch_size: [32, 64]");
    unknown_path: with("grid:\n  - {optimiser.sgd.lr: [0.1]}");
    path_without_the_name: with("grid:\n  - {optimizer.lr: [0.1, 0.01]}");
    path_with_a_wrong_field: with("grid:\n  - {optimizer.sgd.learning_rate: [0.1]}");
    path_from_the_root: with("grid:\n  - {trial.model: [mlp]}");
    path_of_another_choice: with("grid:\n  - {optimizer: [sgd, adamw]}\n  - {optimizer.sgd.lr: [0.1, 0.01]}");
    path_of_another_choice_than_the_default: with("grid:\n  - {optimizer.adamw.lr: [0.1, 0.01]}");
    bad_value_on_an_axis: with("grid:\n  - {model: [mlp, linear]}\n  - {optimizer.sgd.lr: [0.1, fast]}");
    set_twice: with("grid:\n  - {batch_size: [32, 64]}\n  - {model: [mlp, linear], batch_size: [16, 128]}");
    when_before_its_axis: with("grid:\n  - {batch_size: [32, 64], when: {model: mlp}}\n  - {model: [mlp, linear]}");
    unknown_generator: evaluate("epsilons: {linspaced: [0, 0.3, 4]}");
    exponents_in_logspace: evaluate("epsilons: {logspace: [-3, 0, 4]}");
    all_points_excluded: with("grid:\n  - {model: [mlp, linear]}\n  - {batch_size: [32, 64]}\nexclude:\n  - {model: mlp}\n  - {model: linear, batch_size: [32, 64]}\n  - {batch_size: 64}");
    misspelt_exclude: with("exclude: [{model: mpl}]");
    sample_of_zero: with("sample: {n: 0}");
    duplicate_seeds: with("seeds: [1, 2, 1]");
    no_seeds: with("seeds: 0");
    too_many_points: with("grid:\n  - {batch_size: {range: [1, 2000, 1]}}\n  - {optimizer.sgd.lr: {linspace: [0.001, 0.1, 1000]}}");
    too_many_trials: with("grid:\n  - {batch_size: {range: [1, 20, 1]}}\nseeds: 100000");
    unknown_measure: with("measure: {certainty: {}}");
    measure_with_an_unknown_field: with("measure: {uncertainty: {radii: 0.1}}");
    measure_without_a_size: with("measure: {uncertainty: {radius: 0}}");
    measure_larger_than_all_images: with("measure: {uncertainty: {radius: 8}}");
    measure_of_one_sample: with("measure: {uncertainty: {samples: 1}}");
    measure_of_no_example: with("measure: {uncertainty: {examples: 0}}");
    measure_of_a_plane_with_a_radius: with("measure: {uncertainty: {domain: plane, radius: 0.1, examples: 5, clip: false}}");
    measure_twice: with("measure: [uncertainty, {uncertainty: {examples: 7}}]");
    regions_through_one_image_twice: with("measure: {regions: {images: [4, 2, 4]}}");
    regions_of_a_million_points: with("measure: {regions: {points: 1000, steps: 0, epsilon: 8}}");
    regions_of_components_and_images: with("measure: {regions: {plane: components, images: [1, 2, 3], epsilon: 0.1}}");
    measure_that_is_a_number: with("measure: [3]");
    measure_of_nothing: with("measure: []");
    measure_at_epochs_that_never_come: with("measure: {uncertainty: {epochs: [7]}}");
    measure_without_an_evaluation: "dataset: digits\ntrial: {model: mlp, method: natural, epochs: 1}\nmeasure: uncertainty\n";
    epochs_every_zero: evaluate("epsilons: [0, 0.1], epochs: [1, {every: 0}]");
    epochs_of_an_unknown_generator: evaluate("epsilons: [0, 0.1], epochs: {each: 3}");
    one_epoch_on_a_logarithmic_scale: evaluate("epsilons: [0, 0.1], epochs: {log: 1}");
    pretrained_without_weights: trial("model: mlp, method: pretrained");
    torchscript_without_a_file: trial("model: torchscript, method: pretrained");
    normalisation_of_unequal_lengths: trial("model: mlp, method: natural, normalize: {mean: [0.5], std: [1, 2]}");
    normalisation_by_nothing: trial("model: mlp, method: natural, normalize: {mean: [0.5], std: [0]}");
    residual_network_of_no_depth: trial("model: {wrn: {depth: 20}}, method: natural");
    mart_with_a_negative_beta: trial("model: mlp, method: {mart: {epsilon: 0.1, beta: -1}}");
    fast_step_beyond_every_image: trial("model: mlp, method: {fast_at: {epsilon: 0.1, step: 2}}");
    free_training_without_replays: trial("model: mlp, method: {free_at: {epsilon: 0.1, replays: 0}}");
    ibp_that_ends_before_its_ramp: trial("model: mlp, method: {ibp: {epsilon: 0.1, warmup: 0.6, ramp: 0.5}}");
    ibp_through_batch_normalisation: trial("model: wrn, method: {ibp: {epsilon: 0.1}}");
    awp_beside_natural_training: with("grid:\n  - {method: [natural, {pgd: {epsilon: 0.1}}]}\n  - {awp: [none, {gamma: 0.005}]}");
    awp_in_percent: trial("model: mlp, method: {pgd: {epsilon: 0.1}}, awp: {gamma: 5}");
    awp_as_a_number: trial("model: mlp, method: {pgd: {epsilon: 0.1}}, awp: 0.005");
    path_into_an_option: around("model: mlp, method: {pgd: {epsilon: 0.1}}", "grid:\n  - {awp.gamma: [0.005, 0.01]}", "epsilons: [0]");
    augmentation_with_an_unknown_field: trial("model: mlp, method: natural, augment: {crops: 4}");
    all_smoothed_away: trial("model: mlp, method: natural, label_smoothing: 1");
    early_stopping_without_a_radius: trial("model: mlp, method: natural, stop_early: {patience: 3}");
    early_stopping_on_everything: trial("model: mlp, method: {pgd: {epsilon: 0.1}}, stop_early: {fraction: 1}");
    unknown_precision: trial("model: mlp, method: natural, precision: fp16");
    misspelt_attack_loss: evaluate("epsilons: [0, 0.1], attacks: [{apgd: {loss: dlr-targeted}}]");
    misspelt_search: evaluate("epsilons: [0, 0.1], search: binary");
    warm_starts_of_an_exhaustive_search: evaluate("epsilons: [0, 0.1], search: exhaustive, warm_starts: true");
    warm_starts_as_a_word: evaluate("epsilons: [0, 0.1], warm_starts: maybe");
    attack_without_targets: evaluate("epsilons: [0, 0.1], attacks: [{apgd: {loss: dlr_targeted, targets: 0}}]");
    same_attack_twice: evaluate("epsilons: [0, 0.1], attacks: [pgd, {pgd: {steps: 40}}]");
    attack_named_all: evaluate("epsilons: [0, 0.1], attacks: [{name: all, pgd: {}}]");
    more_test_examples_than_digits_has: evaluate("epsilons: [0, 0.1], test_examples: 500");
    npz_without_a_test_file: "dataset: {npz: {train: a.npz}}\ntrial: {model: mlp, method: natural, epochs: 1}\nevaluate: {epsilons: [0]}\n";
    folder_of_a_wrong_size: "dataset: {folder: {dir: d, size: [0, 32]}}\ntrial: {model: mlp, method: natural, epochs: 1}\nevaluate: {epsilons: [0]}\n";
    epsilon_beyond_l2_of_cifar: "dataset: {cifar10: {dir: d}}\ntrial: {model: mlp, method: natural, epochs: 1}\nevaluate: {norm: l2, epsilons: [56]}\n";
    certificate_of_another_norm: evaluate("epsilons: [0, 0.1], certify: [ibp, {smoothing: {sigma: 0.25}}]");
    bounds_in_l2: evaluate("norm: l2, epsilons: [0, 0.1], certify: [crown]");
    certificate_twice: evaluate("epsilons: [0, 0.1], certify: [ibp, crown, {ibp: {}}]");
    certificate_without_sigma: evaluate("norm: l2, epsilons: [0, 0.1], certify: [smoothing]");
    noise_of_zero: evaluate("norm: l2, epsilons: [0, 0.1], certify: [{smoothing: {sigma: 0, alpha: 0.7}}]");
    bounds_of_a_residual_network: around("model: preactresnet18, method: natural", "", "epsilons: [0, 0.1], certify: [ibp]");
    never_evaluated: evaluate("epsilons: [0, 0.1], epochs: [5, 10]");
    epochs_with_a_wrong_word: evaluate("epsilons: [0, 0.1], epochs: [1, last]");
    home_folder: "dataset: {mnist: {dir: ~/mnist}}\ntrial: {model: mlp, method: natural, epochs: 1}\nevaluate: {epsilons: [0]}\n";
    bad_name: format!("name: my sweep/1\n{}", with(""));
    bad_syntax: "dataset: digits\ntrial: {model: mlp, method: natural\nevaluate: {epsilons: [0]}\n";
    tab_indentation: "dataset: digits\ntrial:\n\tmodel: mlp\n\tmethod: natural\n";
    duplicate_key: "dataset: digits\ntrial: {model: mlp}\nseeds: 3\ntrial: {model: linear}\n";
    unknown_anchor: with("exclude: *dropped");
    merge_of_a_word: with("x-a: &a 3\ngrid:\n  - {<<: *a}");
    custom_tag: with("grid: !include grid.yaml");
    two_documents: format!("{}---\nname: second\n", with(""));
    empty_file: "# nothing yet\n";
    a_list_as_file: "- digits\n";
    several_mistakes: "name: x\nsede: 3\ndataset: digit\ntrial:\n  model: mlp\n  method: {pgd: {epsilon: 2}}\n  epochs: 3\nevaluate:\n  epsilons: [0, 2]\n  attacks: [fgms]\n";
}

#[test]
fn warnings_point_at_what_has_no_effect() {
    let text = around(
        "model: mlp, method: natural",
        "grid:\n  - {model: [mlp, linear]}\n  - {batch_size: [32, 64], when: {model: smallcnn}}\nexclude: [{method: trades}]",
        "epsilons: [0, 0.1], epochs: [1, 50, final]",
    );
    let (_, warnings) = outcome(&text).expect("valid");
    let rendered: Vec<String> = warnings.iter().map(|warning| render(warning)).collect();
    insta::assert_snapshot!("warnings", rendered.join("\n"));
}

#[test]
fn a_bad_value_of_an_axis_is_reported_once_however_many_points_have_it() {
    let text = with(
        "grid:\n  - {batch_size: {range: [1, 500, 1]}}\n  - {optimizer.sgd.lr: [0.1, -1]}\n  - {optimizer.sgd.momentum: [0, 0.5, 0.9]}",
    );
    assert_eq!(outcome(&text).expect_err("refused").problems().len(), 1);
}

#[test]
fn aliases_cannot_blow_a_small_file_up() {
    let chain = |link: fn(usize) -> String| -> String {
        let links: String = (1..300).map(|i| format!("x-{i}: &a{i} {}\n", link(i - 1))).collect();
        with(&format!("x-0: &a0 [1]\n{links}"))
    };
    let wide = refusal(&chain(|before| format!("[*a{before}, *a{before}, *a{before}]")));
    assert!(wide.contains("larger than 5000000 nodes"), "{wide}");
    let deep = refusal(&chain(|before| format!("[*a{before}]")));
    assert!(deep.contains("nested more than 200 levels deep"), "{deep}");
    let itself = refusal(&with("x-a: &a [*a]"));
    assert!(itself.contains("cannot contain itself"), "{itself}");
}

#[test]
fn any_text_gives_a_sweep_or_an_error_that_can_be_shown() {
    let valid = include_str!("../../../examples/digits.yaml");
    let noise =
        ["\0", "{", "]", ": ", "\t", "&a ", "*a", "- ", "'", "\u{fffd}", "é", "<<: ", "!x ", "0/0", "-1", "~", "\n"];
    for at in (0..valid.len()).filter(|&at| valid.is_char_boundary(at)) {
        let _ = outcome(&valid[..at]).map_err(|error| render(&error));
        let inserted = format!("{}{}{}", &valid[..at], noise[at % noise.len()], &valid[at..]);
        let _ = outcome(&inserted).map_err(|error| render(&error));
    }
}
