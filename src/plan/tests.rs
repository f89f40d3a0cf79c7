//! What a question is, and what a plan asks.

use super::*;
use crate::data::DataInfo;
use crate::plan::question::DataId;
use crate::spec::{self, Attack, Norm, Precision, Search, Witnesses};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;

const WHY: &str = "\nThe identity of questions has changed. Every answer in every ledger would be computed anew.\n\
    If the same question would really get another answer now, raise ALGORITHM_VERSION and write the new\n\
    bytes down here. If not, this is a mistake: new fields must be skipped at their old behaviour's value.\n";

fn data() -> DataInfo {
    DataInfo {
        id: DataId { name: "digits".into(), digest: "5eed".into() },
        classes: 10,
        channels: 1,
        height: 8,
        width: 8,
        train_count: 1347,
        test_count: 450,
        given: Default::default(),
    }
}

fn sweep(text: &str) -> Sweep {
    spec::parse(text, "sweep.yaml", Path::new("/base")).expect("a valid file")
}

fn plan_with(text: &str, data: DataInfo) -> Result<Plan, PlanError> {
    Plan::new(Arc::new(sweep(text)), data)
}

fn plan(text: &str) -> Plan {
    plan_with(text, data()).expect("a valid plan")
}

/// Two methods times two seeds, two epochs, two attacks.
const SMALL: &str = "
name: small
dataset: digits
trial: {model: {mlp: {hidden: [64, 32]}}, method: natural, optimizer: sgd, epochs: 5, batch_size: 32}
grid: [{method: [natural, {pgd: {epsilon: 0.1}}]}]
seeds: 2
evaluate: {epochs: [1, final], epsilons: [0, 0.1, 0.2], attacks: [fgsm, {pgd: {steps: 20}}]}
";

fn keys(plan: &Plan) -> Vec<TaskKey> {
    plan.tasks.iter().map(|task| task.key).collect()
}

/// The evaluations of one checkpoint by one attack, in order: first example, and one past the last.
fn shards(plan: &Plan) -> HashMap<(u32, u32, u16), Vec<[u32; 2]>> {
    let mut shards: HashMap<_, Vec<_>> = HashMap::new();
    for task in &plan.tasks {
        if let Work::Evaluate { epoch, attack, examples } = task.work {
            shards.entry((task.trial, epoch, attack)).or_default().push(examples);
        }
    }
    shards
}

// ---- identity ------------------------------------------------------------------------------------

#[test]
fn the_canonical_bytes_of_a_train_question_are_these() {
    let plan = plan(
        "
dataset: digits
trial:
  model: {mlp: {hidden: [64, 32]}}
  method: {pgd: {epsilon: 0.1, steps: 7, step: 0.02}}
  optimizer: {sgd: {lr: 0.05, momentum: 0.9, weight_decay: 5e-4}}
  schedule: cosine
  epochs: 20
  batch_size: 128
seeds: [3]
evaluate: {epochs: [final], epsilons: [0, 0.1], attacks: [fgsm]}
",
    );
    assert_eq!(
        String::from_utf8(plan.question(0).canonical()).unwrap(),
        r#"{"train":{"version":3,"data":{"name":"digits","digest":"5eed"},"model":{"mlp":{"hidden":[64,32]}},"method":{"pgd":{"epsilon":0.1,"steps":7,"step":0.02,"norm":"linf"}},"optimizer":{"sgd":{"lr":0.05,"momentum":0.9,"weight_decay":0.0005,"nesterov":false}},"schedule":{"cosine":{}},"epochs":20,"batch_size":128,"seed":3}}"#,
        "{WHY}"
    );
    assert_eq!(
        plan.tasks[0].key.to_string(),
        "7e19626425f0e6172d2f584189ad49f83786479663fe3ad8ca9875329558e173",
        "{WHY}"
    );
}

#[test]
fn the_canonical_bytes_of_an_evaluate_question_are_these() {
    let mut question = EvaluateQuestion {
        version: ALGORITHM_VERSION,
        train: TaskKey([0xab; 32]),
        epoch: 5,
        data: data().id,
        model: spec::Model::Smallcnn { channels: [8, 16], hidden: 64 },
        normalize: None,
        norm: Norm::L2,
        attack: Attack::Pgd { steps: 40, step: None, restarts: 2 },
        search: Search::Ascending,
        epsilons: vec![8.0 / 255.0, 0.1, 1.0],
        examples: [128, 256],
        batch_size: 128,
        seed: 7,
        witnesses: Witnesses::None,
        search_precision: Precision::Fp32,
        warm_starts: false,
    };
    let bytes =
        |question: &EvaluateQuestion| String::from_utf8(Question::Evaluate(question.clone()).canonical()).unwrap();
    assert_eq!(
        bytes(&question),
        r#"{"evaluate":{"version":3,"train":"abababababababababababababababababababababababababababababababab","epoch":5,"data":{"name":"digits","digest":"5eed"},"model":{"smallcnn":{"channels":[8,16],"hidden":64}},"norm":"l2","attack":{"pgd":{"steps":40,"restarts":2}},"epsilons":[0.03137254901960784,0.1,1.0],"examples":[128,256],"batch_size":128,"seed":7}}"#,
        "{WHY}"
    );
    let key = Question::Evaluate(question.clone()).key();
    assert_eq!(key.to_string(), "f3718a00516c4114b06255fcac06b9cc250986e5eb7118737cd1bb8ef4add56e", "{WHY}");
    let before = bytes(&question);
    question.search = Search::Bisect;
    assert_eq!(bytes(&question), before.replace(r#","epsilons""#, r#","search":"bisect","epsilons""#), "{WHY}");
    question.search = Search::Ascending;
    question.witnesses = Witnesses::Break;
    assert_eq!(bytes(&question), before.replace(r#""seed":7"#, r#""seed":7,"witnesses":"break""#), "{WHY}");
}

#[test]
fn certificates_follow_their_checkpoint_and_have_keys_of_their_own() {
    let with = SMALL.replace("attacks: [", "certify: [ibp, crown], attacks: [");
    let (without, with) = (plan(SMALL), plan(&with));
    let certifies: Vec<&Task> = with.tasks.iter().filter(|task| matches!(task.work, Work::Certify { .. })).collect();
    assert_eq!(with.tasks.len() - certifies.len(), without.tasks.len());
    assert!(keys(&without).iter().all(|key| keys(&with).contains(key)), "what was asked before is asked alike");
    for epoch in [1, 5] {
        for certificate in [0, 1] {
            let of = |task: &&&Task| matches!(task.work, Work::Certify { epoch: e, certificate: c, .. } if (e, c) == (epoch, certificate));
            let shards = certifies.iter().filter(of).filter(|task| task.trial == 0).map(|task| match task.work {
                Work::Certify { examples, .. } => examples,
                _ => unreachable!("they were filtered"),
            });
            let covered: Vec<u32> = shards.flat_map(|[first, end]| first..end).collect();
            assert_eq!(covered, (0..450).collect::<Vec<_>>(), "every example once");
        }
    }
    let position = with.tasks.iter().position(|task| matches!(task.work, Work::Certify { .. })).unwrap() as u32;
    assert_eq!(with.after(position), Some(with.trials[0].task));
    let train = with.trials[0].key;
    let expected = format!(
        r#"{{"certify":{{"version":3,"train":"{train}","epoch":1,"data":{{"name":"digits","digest":"5eed"}},"model":{{"mlp":{{"hidden":[64,32]}}}},"norm":"linf","certificate":{{"ibp":{{}}}},"epsilons":[0.1,0.2],"examples":[0,450]}}}}"#
    );
    assert_eq!(String::from_utf8(with.question(position).canonical()).unwrap(), expected, "{WHY}");
    let unique: HashSet<TaskKey> = keys(&with).into_iter().collect();
    assert_eq!(unique.len(), with.tasks.len());
}

#[test]
fn measures_follow_their_checkpoint_and_have_keys_of_their_own() {
    let measure = "measure: [{uncertainty: {radius: 0.2, samples: 100000, examples: 70, epochs: [2]}}, {uncertainty: {domain: data, loss: error}}]\n";
    let (without, with) = (plan(SMALL), plan(&format!("{SMALL}{measure}")));
    assert!(keys(&without).iter().all(|key| keys(&with).contains(key)), "what was asked before is asked alike");
    assert_eq!(with.trials[0].keep, [1, 2, 5], "an epoch that is only measured is kept too");
    let units = |asked: (u32, u16)| -> Vec<u32> {
        let of = with.tasks.iter().filter(|task| task.trial == 0).filter_map(|task| match task.work {
            Work::Measure { epoch, measure, units } if (epoch, measure) == asked => Some(units[0]..units[1]),
            _ => None,
        });
        of.flatten().collect()
    };
    assert_eq!(units((2, 0)), (0..70).collect::<Vec<_>>(), "every example once");
    assert_eq!([units((1, 1)), units((5, 1))], [(0..10).collect::<Vec<_>>(), (0..10).collect()], "every class once");
    assert!(units((1, 0)).is_empty() && units((2, 1)).is_empty());
    assert!(shards(&with).keys().all(|(_, epoch, _)| *epoch != 2), "it is not attacked");
    let position = with.tasks.iter().position(|task| matches!(task.work, Work::Measure { .. })).unwrap() as u32;
    assert_eq!(with.after(position), Some(with.trials[0].task));
    let (train, Work::Measure { units, .. }) = (with.trials[0].key, with.tasks[position as usize].work) else {
        panic!()
    };
    let expected = format!(
        r#"{{"measure":{{"version":3,"train":"{train}","epoch":2,"data":{{"name":"digits","digest":"5eed"}},"model":{{"mlp":{{"hidden":[64,32]}}}},"measure":{{"uncertainty":{{"domain":"box","radius":0.2,"samples":100000,"loss":"ce","clip":true}}}},"units":[0,{}],"seed":0}}}}"#,
        units[1]
    );
    assert_eq!(String::from_utf8(with.question(position).canonical()).unwrap(), expected, "{WHY}");
    let fewer = plan(&format!("{SMALL}{}", measure.replace("examples: 70", "examples: 64")));
    let shared = keys(&fewer).iter().filter(|key| keys(&with).contains(key)).count();
    assert!(shared >= keys(&without).len() + 40, "{shared} questions are the same with fewer examples");
    let error = plan_with(&format!("{SMALL}{}", measure.replace("examples: 70", "examples: 451")), data()).unwrap_err();
    assert!(matches!(error, PlanError::TooFewToMeasure { asked: 451, available: 450, .. }));
}

#[test]
fn shards_of_measures_fit_a_message_whatever_the_images() {
    for (side, classes) in [(8, 10), (28, 10), (32, 100), (224, 256), (1024, 2)] {
        let info = DataInfo { channels: 3, height: side, width: side, classes, ..data() };
        let features = f64::from(3 * side * side).min(20_000.0);
        for per_unit in [1e-6, 0.1, 1000.0] {
            let units = cost::measure_shard(per_unit, &info);
            assert!(units.is_power_of_two() && f64::from(units.min(classes)) * features <= 140_000.0, "{side} {units}");
        }
    }
}

#[test]
fn only_noise_depends_on_the_seed() {
    let keys = |certify: &str, norm: &str, seed: u32| -> Vec<TaskKey> {
        let text = SMALL.replace("attacks: [", &format!("norm: {norm}, certify: [{certify}], attacks: ["));
        let plan = plan(&format!("{text}seed: {seed}\n"));
        plan.tasks.iter().filter(|task| matches!(task.work, Work::Certify { .. })).map(|task| task.key).collect()
    };
    assert_eq!(keys("crown", "linf", 0), keys("crown", "linf", 1));
    let smoothing = "{smoothing: {sigma: 0.25}}";
    assert_ne!(keys(smoothing, "l2", 0), keys(smoothing, "l2", 1));
}

#[test]
fn a_question_read_back_from_its_bytes_is_the_same_question() {
    let plan = plan(SMALL);
    for (position, task) in plan.tasks.iter().enumerate() {
        let question = plan.question(position as u32);
        assert_eq!(question.key(), task.key, "the planned key is that of the question that is sent");
        assert_eq!(serde_json::from_slice::<Question>(&question.canonical()).unwrap(), question);
    }
}

/// Questions that together use every choice of the vocabulary, and every optional field.
fn samples() -> Vec<Question> {
    let text = "
dataset: digits
trial: {model: linear, method: natural, optimizer: sgd, epochs: 5, batch_size: 32, label_smoothing: 0.1, augment: {crop: 2}, precision: bf16, stop_early: {epsilon: 0.1}}
grid:
  - model: [linear, {mlp: {hidden: [64, 32]}}, smallcnn]
  - method:
      - natural
      - {pgd: {epsilon: 0.1, step: 0.02}}
      - {trades: {epsilon: 0.1, step: 0.02}}
      - {mart: {epsilon: 0.1, step: 0.02}}
      - {fast_at: {epsilon: 0.1, step: 0.02}}
      - {free_at: {epsilon: 0.1, step: 0.02}}
      - {ibp: {epsilon: 0.1}}
  - {awp: [none, {gamma: 0.01}], when: {method: [pgd, mart]}}
  - optimizer: [{sgd: {weight_decay: 0.1}}, adamw]
  - {schedule: [constant, step, cosine, one_cycle], when: {model: linear}}
evaluate:
  epochs: [3]
  epsilons: [0, 0.1, 0.2]
  attacks: [fgsm, {pgd: {steps: 20, step: 0.02}}, {apgd: {loss: dlr}}, fab, square, autoattack]
  search: SEARCH
measure:
  - uncertainty
  - uncertainty: {domain: plane, samples: 100, loss: hinge}
";
    let of = |search| {
        let witnesses = if search == "bisect" { "break" } else { "none" };
        let plan = plan(&text.replace("SEARCH", &format!("{search}\n  witnesses: {witnesses}")));
        (0..plan.tasks.len() as u32).map(|position| plan.question(position)).collect::<Vec<_>>()
    };
    let closing_in = of("bisect").into_iter().filter(|question| matches!(question, Question::Evaluate(_)));
    of("ascending").into_iter().chain(closing_in).collect()
}

/// Every question that differs from `question` in one value, with the path of that value.
fn changed(question: &Question) -> Vec<(String, Question)> {
    let tree = serde_json::to_value(question).unwrap();
    let mut paths = Vec::new();
    leaves(&tree, String::new(), &mut paths);
    let mut variants = Vec::new();
    for path in paths {
        let others = others(tree.pointer(&path).unwrap());
        let valid = others.into_iter().filter_map(|other| {
            let mut tree = tree.clone();
            *tree.pointer_mut(&path).unwrap() = other;
            serde_json::from_value::<Question>(tree).ok()
        });
        let valid: Vec<_> = valid.map(|question| (path.clone(), question)).collect();
        assert!(!valid.is_empty(), "no other value is known for {path}; add one to `others`");
        variants.extend(valid);
    }
    variants
}

fn leaves(value: &Value, path: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| leaves(field, format!("{path}/{name}"), into)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| leaves(item, format!("{path}/{i}"), into)),
        _ => into.push(path),
    }
}

fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) if number.is_u64() => vec![Value::from(number.as_u64().unwrap() + 1)],
        Value::Number(number) => vec![Value::from(number.as_f64().unwrap() + 0.25)],
        Value::Bool(yes) => vec![Value::from(!yes)],
        Value::String(text) => {
            let digit = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { 1 } else { 0 });
            let words = [
                "linf",
                "l2",
                "ce",
                "dlr_targeted",
                "bisect",
                "exhaustive",
                "standard",
                "rand",
                "fp32",
                "bf16",
                "break",
                "box",
                "plane",
                "hinge",
                "all",
                &digit,
            ];
            words.into_iter().filter(|word| word != text).map(Value::from).collect()
        }
        other => panic!("{other:?} is not a value of a question"),
    }
}

#[test]
fn changing_any_one_value_changes_the_key() {
    for question in samples() {
        let changed = changed(&question);
        let mut keys: HashSet<TaskKey> = changed.iter().map(|(_, question)| question.key()).collect();
        assert_eq!(keys.len(), changed.len(), "two changes of {question:?} have one key");
        assert!(keys.insert(question.key()), "a change of {question:?} keeps its key");
    }
}

#[test]
fn a_family_forgets_the_epsilons_and_the_witnesses_and_nothing_else() {
    let forgotten = |path: &str| path.starts_with("/evaluate/epsilons") || path == "/evaluate/witnesses";
    for question in samples() {
        let Question::Evaluate(question) = question else { continue };
        let family = question.family();
        let more = EvaluateQuestion { epsilons: vec![0.05, 0.1, 0.4], ..question.clone() };
        assert_eq!(more.family(), family);
        for (path, changed) in changed(&Question::Evaluate(question)) {
            let Question::Evaluate(changed) = changed else { unreachable!("its kind was not changed") };
            assert_eq!(changed.family() == family, forgotten(&path), "{path}");
        }
    }
}

#[test]
fn different_choices_have_different_keys() {
    let samples = samples();
    let keys: HashSet<TaskKey> = samples.iter().map(Question::key).collect();
    assert_eq!(keys.len(), samples.len());
}

#[test]
fn a_key_is_read_back_from_its_digits_only() {
    let key = plan(SMALL).tasks[0].key;
    assert_eq!(TaskKey::parse(&key.to_string()), Some(key));
    assert_eq!(TaskKey::parse(&key.short()), None);
    assert_eq!(key.short().len(), 12);
}

#[test]
fn neither_the_name_nor_where_the_data_lies_is_part_of_a_question() {
    let original = keys(&plan(SMALL));
    assert_eq!(keys(&plan(&SMALL.replace("name: small", "name: other"))), original);
    let of = |dataset: &str| keys(&plan(&SMALL.replace("dataset: digits", &format!("dataset: {dataset}"))));
    assert_eq!(of("{mnist: {dir: here}}"), of("{mnist: {dir: /there}}"));
}

#[test]
fn other_examples_are_other_questions() {
    let mut other = data();
    other.id.digest = "0ther".into();
    let (here, there) = (keys(&plan(SMALL)), keys(&plan_with(SMALL, other).unwrap()));
    assert!(here.iter().all(|key| !there.contains(key)));
}

#[test]
fn two_sweeps_share_the_questions_that_they_both_ask() {
    let wider = SMALL
        .replace("seeds: 2", "seeds: 3")
        .replace("{pgd: {epsilon: 0.1}}", "{pgd: {epsilon: 0.1}}, {pgd: {epsilon: 0.2}}");
    let (small, wider) = (keys(&plan(SMALL)), keys(&plan(&wider)));
    assert!(small.iter().all(|key| wider.contains(key)), "an edited sweep runs only the difference");
    assert!(wider.len() > small.len());
}

#[test]
fn other_epochs_of_interest_train_nothing_anew() {
    let trains = |text: &str| plan(text).trials.iter().map(|trial| trial.key).collect::<Vec<_>>();
    assert_eq!(trains(SMALL), trains(&SMALL.replace("[1, final]", "[2, 3, final]")));
}

#[test]
fn seeds_of_one_recipe_share_a_configuration_and_no_key() {
    let plan = plan(SMALL);
    assert_eq!(plan.trials.len(), 4);
    let distinct: HashSet<TaskKey> = plan.trials.iter().map(|trial| trial.key).collect();
    assert_eq!(distinct.len(), 4);
    let configs: Vec<&str> = plan.trials.iter().map(|trial| trial.config.as_str()).collect();
    assert_eq!(configs[0], configs[1]);
    assert_eq!(configs[2], configs[3]);
    assert_ne!(configs[0], configs[2]);
}

#[test]
fn no_question_is_asked_twice() {
    let keys = keys(&plan(SMALL));
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

// ---- the graph -----------------------------------------------------------------------------------

#[test]
fn every_task_stands_behind_the_one_it_waits_for() {
    let plan = plan(SMALL);
    for (position, task) in plan.tasks.iter().enumerate() {
        match (task.work, plan.after(position as u32)) {
            (Work::Train, None) => assert_eq!(plan.trials[task.trial as usize].task, position as u32),
            (Work::Evaluate { .. }, Some(train)) => {
                assert!((train as usize) < position);
                assert_eq!(plan.tasks[train as usize].work, Work::Train);
                assert_eq!(plan.tasks[train as usize].trial, task.trial);
            }
            (work, after) => panic!("{work:?} waits for {after:?}"),
        }
    }
}

#[test]
fn every_kept_epoch_is_evaluated_by_every_attack() {
    let plan = plan(SMALL);
    let shards = shards(&plan);
    assert!(plan.trials.iter().all(|trial| trial.keep == [1, 5]));
    assert_eq!(shards.len(), 4 * 2 * 2, "trials, epochs, attacks");
}

#[test]
fn shards_do_not_depend_on_the_epsilons() {
    let more = SMALL.replace("[0, 0.1, 0.2]", "{linspace: [0, 0.3, 200]}");
    assert_eq!(shards(&plan(SMALL)), shards(&plan(&more)), "an edited grid must find the old answers");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn shards_cover_the_test_set_exactly_once(
        test_count in 1u32..20_000,
        asked in 1u32..20_000,
        size in 1u32..256,
        steps in 1u32..500,
    ) {
        let text = SMALL
            .replace("digits", "{mnist: {dir: here}}")
            .replace("steps: 20", &format!("steps: {steps}"))
            .replace("epsilons:", &format!("test_examples: {}, epsilons:", asked.min(test_count)));
        let plan = plan_with(&text, DataInfo { test_count, height: size, width: size, ..data() }).unwrap();
        for shards in shards(&plan).values() {
            prop_assert_eq!(shards[0][0], 0);
            prop_assert!(shards.iter().all(|shard| shard[0] < shard[1]));
            prop_assert!(shards.windows(2).all(|pair| pair[0][1] == pair[1][0]));
            prop_assert_eq!(shards[shards.len() - 1][1], asked.min(test_count));
        }
    }
}

#[test]
fn a_plan_knows_what_cannot_be_asked() {
    let many = SMALL.replace("digits", "{mnist: {dir: here}}").replace("epsilons:", "test_examples: 451, epsilons:");
    let error = plan_with(&many, data()).unwrap_err();
    assert_eq!(error, PlanError::TooFewExamples { asked: 451, available: 450, data: "digits".into() });
    assert_eq!(error.to_string(), "evaluate.test_examples asks for 451 examples, but the test set of digits has 450");
    let mut never = sweep(SMALL);
    never.evaluate.epochs = spec::EvalEpochs { at: vec![7], ..spec::EvalEpochs::default() };
    assert_eq!(Plan::new(Arc::new(never), data()).unwrap_err(), PlanError::NothingEvaluated { epochs: 5 });
}

#[test]
fn a_million_tasks_take_tens_of_megabytes() {
    let text = "
dataset: {mnist: {dir: here}}
trial: {model: smallcnn, method: natural, optimizer: sgd, epochs: 20, batch_size: 128}
grid: [{optimizer.sgd.lr: {linspace: [0.01, 0.1, 50]}}]
seeds: 50
evaluate: {epochs: [1, 5, 10, 20], epsilons: {linspace: [0, 0.3, 16]}, attacks: [fgsm, {pgd: {steps: 400, restarts: 5}}]}
";
    let sweep = Arc::new(sweep(text));
    let info = DataInfo { height: 28, width: 28, train_count: 60_000, test_count: 10_000, ..data() };
    let plan = Plan::new(sweep, info).unwrap();
    let megabytes = (plan.tasks.capacity() * size_of::<Task>()) as f64 / 1e6;
    println!("{} tasks, {megabytes:.0} MB", plan.tasks.len());
    assert_eq!(plan.trials.len(), 2500);
    assert!(plan.tasks.len() > 800_000, "{}", plan.tasks.len());
    assert_eq!(size_of::<Task>(), 56, "a million tasks should cost tens of megabytes");
}
