//! A sweep on Kubernetes: a folder for `kubectl apply -k`.
//!
//! The manifests are those of deploy/kubernetes, byte for byte, built into this program: what is rendered here and what
//! people apply by hand cannot drift apart. Beside them stands what belongs to one sweep: its file, and a small
//! `kustomization.yaml` that names images, numbers and the namespace.

mod names;

pub use names::Image;

use crate::plan::TaskKey;
use crate::spec::{self, SpecError, Sweep};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The manifests that every sweep shares, with their places below the folder.
const MANIFESTS: [(&str, &str); 12] = [
    ("base/kustomization.yaml", include_str!("../../deploy/kubernetes/base/kustomization.yaml")),
    ("base/accounts.yaml", include_str!("../../deploy/kubernetes/base/accounts.yaml")),
    ("base/coordinator.yaml", include_str!("../../deploy/kubernetes/base/coordinator.yaml")),
    ("base/worker.yaml", include_str!("../../deploy/kubernetes/base/worker.yaml")),
    ("base/network.yaml", include_str!("../../deploy/kubernetes/base/network.yaml")),
    ("base/disruption.yaml", include_str!("../../deploy/kubernetes/base/disruption.yaml")),
    ("overlays/cpu/kustomization.yaml", include_str!("../../deploy/kubernetes/overlays/cpu/kustomization.yaml")),
    ("overlays/cpu/worker.yaml", include_str!("../../deploy/kubernetes/overlays/cpu/worker.yaml")),
    ("overlays/gpu/kustomization.yaml", include_str!("../../deploy/kubernetes/overlays/gpu/kustomization.yaml")),
    ("overlays/gpu/worker.yaml", include_str!("../../deploy/kubernetes/overlays/gpu/worker.yaml")),
    ("submit/job.yaml", include_str!("../../deploy/kubernetes/submit/job.yaml")),
    ("tls/kustomization.yaml", include_str!("../../deploy/kubernetes/tls/kustomization.yaml")),
];

/// What workers and clients call the coordinator, as base/coordinator.yaml does.
const COORDINATOR: &str = "epsweep-coordinator";
/// Where a claim with data is mounted; relative paths of a sweep start there.
const DATA: &str = "/data";
/// A ConfigMap holds a mebibyte in all.
const LARGEST_SWEEP: usize = 1_000_000;

/// What is to run, and on what.
#[derive(Debug, Clone)]
pub struct Request {
    /// The sweep file's text.
    pub yaml: String,
    /// What errors call it.
    pub source: String,
    pub workers: u32,
    /// 0: workers compute on CPUs.
    pub gpus_per_worker: u32,
    /// Tasks at a time in each worker.
    pub slots_per_worker: u32,
    pub worker_image: Image,
    pub coordinator_image: Image,
    /// `None`: where kubectl's context points.
    pub namespace: Option<String>,
    /// A claim with the data sets and files of the sweep.
    pub data_claim: Option<String>,
    /// Size of the coordinator's volume, and its class.
    pub storage: Option<String>,
    pub storage_class: Option<String>,
    /// The certificates' Secrets are made from files; otherwise they are there already.
    pub make_secrets: bool,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RenderError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sweep(#[from] SpecError),
    #[error("the sweep reads {}, which no pod has", .path.display())]
    #[diagnostic(help(
        "put the files on a volume and name its claim with --data-claim: it is mounted at {DATA}, where the sweep's relative paths start"
    ))]
    NoData { path: PathBuf },
    #[error("the sweep reads {}, which lies outside {DATA}", .path.display())]
    #[diagnostic(help("write a path relative to the root of the claim's volume, which is mounted at {DATA}"))]
    Outside { path: PathBuf },
    #[error("{value:?} is no {what}")]
    #[diagnostic(help("{help}"))]
    Name { value: String, what: &'static str, help: &'static str },
    #[error("a sweep file of {bytes} bytes does not fit into a ConfigMap")]
    #[diagnostic(help("launch a small sweep first, then submit this one from outside: docs/kubernetes.md says how"))]
    TooLarge { bytes: usize },
}

/// What there is to write.
#[derive(Debug)]
pub struct Rendered {
    /// The sweep's name.
    pub name: String,
    /// Places below the folder, and contents.
    pub files: Vec<(String, String)>,
    /// The names that the coordinator's certificate must bear.
    pub hosts: Vec<String>,
}

/// Checks everything that can be checked without a cluster, and renders.
///
/// # Errors
/// When the sweep is not valid, or names files that pods do not have, or a name is not one to Kubernetes.
pub fn render(request: &Request) -> Result<Rendered, RenderError> {
    request.check_names()?;
    if request.yaml.len() > LARGEST_SWEEP {
        return Err(RenderError::TooLarge { bytes: request.yaml.len() });
    }
    // As the coordinator will read it: its relative paths start where the claim is mounted.
    let sweep = spec::parse(&request.yaml, &request.source, Path::new(DATA))?;
    request.check_paths(&sweep)?;
    let mut files: Vec<(String, String)> =
        MANIFESTS.iter().map(|(place, text)| (place.to_string(), text.to_string())).collect();
    files.push(("kustomization.yaml".into(), yaml(&request.kustomization())));
    files.push(("submit/kustomization.yaml".into(), yaml(&request.submission(&sweep))));
    files.push(("submit/sweep.yaml".into(), request.yaml.clone()));
    let mut hosts = vec![COORDINATOR.to_string()];
    if let Some(namespace) = &request.namespace {
        hosts.extend([format!("{COORDINATOR}.{namespace}"), format!("{COORDINATOR}.{namespace}.svc")]);
    }
    Ok(Rendered { name: sweep.name, files, hosts })
}

impl Request {
    fn check_names(&self) -> Result<(), RenderError> {
        let name = |value: &Option<String>, what, help, good: fn(&str) -> bool| match value {
            Some(value) if !good(value) => Err(RenderError::Name { value: value.clone(), what, help }),
            _ => Ok(()),
        };
        let letters = "lower-case letters, digits and '-', at most 63 of them, not beginning or ending with '-'";
        name(&self.namespace, "namespace", letters, names::is_label)?;
        name(&self.data_claim, "claim's name", letters, names::is_label)?;
        name(&self.storage_class, "storage class", letters, |text| text.split('.').all(names::is_label))?;
        name(&self.storage, "size", "write a number and a unit, such as 20Gi", names::is_size)
    }

    /// Every file that the sweep names must be where the pods see it.
    fn check_paths(&self, sweep: &Sweep) -> Result<(), RenderError> {
        let dataset = serde_json::to_value(&sweep.dataset).expect("a data set is a name and paths");
        let mut paths = Vec::new();
        strings(&dataset, &mut paths);
        let given = sweep.trials.iter().flat_map(|trial| trial.recipe.files()).filter_map(|file| file.path());
        let paths = paths.into_iter().map(PathBuf::from).chain(given.map(PathBuf::from));
        for path in paths.filter(|path| path.is_absolute()) {
            let inside = path.starts_with(DATA) && !path.components().any(|part| part.as_os_str() == "..");
            match (&self.data_claim, inside) {
                (Some(_), true) => {}
                (_, false) => return Err(RenderError::Outside { path }),
                (None, true) => return Err(RenderError::NoData { path }),
            }
        }
        Ok(())
    }

    /// The folder's own file.
    fn kustomization(&self) -> Value {
        let overlay = if self.gpus_per_worker > 0 { "overlays/gpu" } else { "overlays/cpu" };
        let mut resources = vec![overlay, "submit"];
        resources.extend(self.make_secrets.then_some("tls"));
        let mut whole = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": resources,
            "images": [
                self.coordinator_image.replaces("epsweep-coordinator"),
                self.worker_image.replaces("epsweep-worker"),
            ],
            "replicas": [{"name": "epsweep-worker", "count": self.workers}],
            "patches": self.patches(),
        });
        if let Some(namespace) = &self.namespace {
            whole["namespace"] = json!(namespace);
        }
        whole
    }

    fn patches(&self) -> Vec<Value> {
        let slots = self.slots_per_worker;
        let mut worker = json!({
            "name": "worker",
            "env": [{"name": "SLOTS", "value": slots.to_string()}],
            "resources": {"requests": {"cpu": slots.to_string()}},
        });
        if self.gpus_per_worker > 0 {
            worker["resources"]["limits"] = json!({"nvidia.com/gpu": self.gpus_per_worker});
        }
        let mut coordinator = json!({"name": "coordinator"});
        let (mut pod, mut keeper) = (json!({}), json!({}));
        if let Some(claim) = &self.data_claim {
            let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim, "readOnly": true}}]);
            let mount = json!([{"name": "data", "mountPath": DATA, "readOnly": true}]);
            (worker["volumeMounts"], coordinator["volumeMounts"]) = (mount.clone(), mount);
            (pod["volumes"], keeper["volumes"]) = (volume.clone(), volume);
        }
        (pod["containers"], keeper["containers"]) = (json!([worker]), json!([coordinator]));
        let mut patches = vec![patch("Deployment", "epsweep-worker", json!({"template": {"spec": pod}}))];
        if self.data_claim.is_some() {
            patches.push(patch("StatefulSet", COORDINATOR, json!({"template": {"spec": keeper}})));
        }
        // A list without names of its own: patched by place.
        let volume = |field: &str, value: &Option<String>| {
            let value = value.as_ref()?;
            Some(json!({"op": "add", "path": format!("/spec/volumeClaimTemplates/0/spec/{field}"), "value": value}))
        };
        let volume: Vec<Value> =
            [volume("resources/requests/storage", &self.storage), volume("storageClassName", &self.storage_class)]
                .into_iter()
                .flatten()
                .collect();
        if !volume.is_empty() {
            patches.push(json!({
                "target": {"kind": "StatefulSet", "name": COORDINATOR},
                "patch": Value::from(volume).to_string(),
            }));
        }
        patches
    }

    /// A job's template cannot be changed: its name changes with what it does instead.
    fn submission(&self, sweep: &Sweep) -> Value {
        let content = format!("{}\n{}\n{:?}", self.yaml, self.coordinator_image, self.data_claim);
        let suffix = format!("-{}-{}", names::label_of(&sweep.name), &TaskKey::of(content.as_bytes()).short()[..8]);
        json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "nameSuffix": suffix,
            "resources": ["job.yaml"],
            "generatorOptions": {
                "disableNameSuffixHash": true,
                "labels": {"app.kubernetes.io/name": "epsweep", "app.kubernetes.io/component": "submit"},
            },
            "configMapGenerator": [{"name": "epsweep-sweep", "files": ["sweep.yaml"]}],
        })
    }
}

/// A patch of an object's `spec`, merged by the names in its lists.
fn patch(kind: &str, name: &str, spec: Value) -> Value {
    let whole = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    json!({"target": {"kind": kind, "name": name}, "patch": whole.to_string()})
}

fn strings<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

fn yaml(value: &Value) -> String {
    let text = serde_yaml::to_string(value).expect("plain values");
    format!("# Written by `epsweep launch kubernetes`; the same command again overwrites it.\n{text}")
}

#[cfg(test)]
mod tests;
