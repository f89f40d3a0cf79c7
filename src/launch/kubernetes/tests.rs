//! What is rendered, and what is refused.

use super::*;

const SMALL: &str = "
name: My_Sweep.1
dataset: digits
trial: {model: linear, method: natural, epochs: 2, batch_size: 64}
seeds: 1
evaluate: {epsilons: [0, 0.1], attacks: [fgsm]}
";

fn request(yaml: &str) -> Request {
    let image = |text: &str| text.parse().expect("an image");
    Request {
        yaml: yaml.into(),
        source: "small.yaml".into(),
        workers: 3,
        gpus_per_worker: 0,
        slots_per_worker: 4,
        worker_image: image("registry.example:5000/lab/epsweep-worker:1.2"),
        coordinator_image: image("epsweep-coordinator:1.2"),
        namespace: Some("sweeps".into()),
        data_claim: None,
        storage: None,
        storage_class: None,
        make_secrets: true,
    }
}

fn file<'a>(rendered: &'a Rendered, place: &str) -> &'a str {
    let found = rendered.files.iter().find(|(name, _)| name == place);
    &found.unwrap_or_else(|| panic!("no {place}")).1
}

fn parsed(rendered: &Rendered, place: &str) -> Value {
    serde_yaml::from_str(file(rendered, place)).expect("YAML")
}

#[test]
fn the_folder_holds_the_shared_manifests_and_the_sweep() {
    let rendered = render(&request(SMALL)).expect("rendered");
    assert_eq!(rendered.name, "My_Sweep.1");
    assert_eq!(file(&rendered, "submit/sweep.yaml"), SMALL);
    assert_eq!(rendered.hosts, ["epsweep-coordinator", "epsweep-coordinator.sweeps", "epsweep-coordinator.sweeps.svc"]);
    let whole = parsed(&rendered, "kustomization.yaml");
    assert_eq!(whole["resources"], json!(["overlays/cpu", "submit", "tls"]));
    assert_eq!(whole["namespace"], "sweeps");
    assert_eq!(whole["replicas"][0]["count"], 3);
    assert_eq!(
        whole["images"][1],
        json!({"name": "epsweep-worker", "newName": "registry.example:5000/lab/epsweep-worker", "newTag": "1.2"})
    );
    let submit = parsed(&rendered, "submit/kustomization.yaml");
    let suffix = submit["nameSuffix"].as_str().expect("text");
    assert!(suffix.starts_with("-my-sweep-1-") && suffix.len() == "-my-sweep-1-".len() + 8, "{suffix}");
}

#[test]
fn every_manifest_that_a_kustomization_names_is_there() {
    let rendered = render(&request(SMALL)).expect("rendered");
    for (place, _) in rendered.files.iter().filter(|(place, _)| place.ends_with("kustomization.yaml")) {
        let folder = Path::new(place).parent().expect("a folder");
        let resources = parsed(&rendered, place)["resources"].clone();
        for name in resources.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut path = folder.join(name);
            while let Some((before, after)) = path.to_str().and_then(|text| text.split_once("/../")) {
                let before = Path::new(before).parent().unwrap_or(Path::new("")).to_path_buf();
                path = before.join(after);
            }
            let path = path.to_str().expect("text").trim_start_matches('/');
            let there = |(file, _): &(String, String)| file == path || *file == format!("{path}/kustomization.yaml");
            assert!(rendered.files.iter().any(there), "{place} names {name}: no {path}");
        }
    }
}

#[test]
fn another_sweep_image_or_claim_is_another_job() {
    let suffix = |request: &Request| {
        parsed(&render(request).expect("rendered"), "submit/kustomization.yaml")["nameSuffix"].clone()
    };
    let first = request(SMALL);
    assert_eq!(suffix(&first), suffix(&first.clone()));
    let longer = request(&SMALL.replace("epochs: 2", "epochs: 3"));
    let newer = Request { coordinator_image: "epsweep-coordinator:1.3".parse().expect("an image"), ..first.clone() };
    assert!(suffix(&longer) != suffix(&first) && suffix(&newer) != suffix(&first));
}

#[test]
fn gpus_data_and_storage_reach_the_pods() {
    let yaml = SMALL.replace("digits", "{mnist: {dir: mnist}}");
    let rendered = render(&Request {
        gpus_per_worker: 2,
        data_claim: Some("datasets".into()),
        storage: Some("50Gi".into()),
        storage_class: Some("fast-ssd".into()),
        make_secrets: false,
        ..request(&yaml)
    });
    let whole = parsed(&rendered.expect("rendered"), "kustomization.yaml");
    assert_eq!(whole["resources"], json!(["overlays/gpu", "submit"]));
    let patch = |n: usize| -> Value {
        serde_json::from_str(whole["patches"][n]["patch"].as_str().expect("text")).expect("JSON")
    };
    for n in [0, 1] {
        let pod = patch(n)["spec"]["template"]["spec"].clone();
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "datasets");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/data");
    }
    let worker = &patch(0)["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(worker["resources"]["limits"], json!({"nvidia.com/gpu": 2}));
    assert_eq!(patch(2)[0]["value"], "50Gi");
    assert_eq!(patch(2)[1]["path"], "/spec/volumeClaimTemplates/0/spec/storageClassName");
}

#[test]
fn what_no_pod_could_run_is_refused_with_a_remedy() {
    let mnist = SMALL.replace("digits", "{mnist: {dir: mnist}}");
    let absolute = SMALL.replace("digits", "{mnist: {dir: /home/me/mnist}}");
    let above = SMALL.replace("digits", "{mnist: {dir: ../mnist}}");
    let claim = || Some("datasets".to_string());
    let of = |change: fn(&mut Request)| {
        let mut changed = request(SMALL);
        change(&mut changed);
        changed
    };
    for (request, says) in [
        (request("name: x"), "dataset"),
        (request(&mnist), "--data-claim"),
        (Request { data_claim: claim(), ..request(&absolute) }, "outside /data"),
        (Request { data_claim: claim(), ..request(&above) }, "outside /data"),
        (of(|request| request.namespace = Some("My Space".into())), "\"My Space\" is no namespace"),
        (of(|request| request.storage = Some("much".into())), "20Gi"),
        (of(|request| request.yaml += &"#".repeat(LARGEST_SWEEP)), "ConfigMap"),
    ] {
        let error = render(&request).expect_err("refused");
        let text = format!("{:?}", miette::Report::new(error)).replace("\n  │", "");
        assert!(text.contains(says), "no {says:?} in {text}");
    }
}

#[test]
fn images_are_read_as_registries_spell_them() {
    let digest = format!("a/b@sha256:{}", "0".repeat(64));
    for good in ["epsweep-worker:0.1.0", "host.example:5000/a/b_c.d:Tag-1", &digest] {
        assert_eq!(good.parse::<Image>().expect("an image").to_string(), good);
    }
    for bad in ["", "a", "a b:1", "A:1", "host:5000/a", "a:", "a:1:2", "a@sha256:12", "/a:1", "a//b:1"] {
        assert!(bad.parse::<Image>().is_err(), "{bad:?}");
    }
}
