//! `epsweep launch kubernetes`: what it writes, and what it refuses. `make test-kubernetes` looks at the manifests.

use crate::harness::{Folder, SMALL};
use std::os::unix::fs::PermissionsExt;

const IMAGES: [&str; 4] = ["--image", "here/epsweep-worker:1", "--coordinator-image", "here/epsweep-coordinator:1"];

fn launch<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    [&["launch", "kubernetes", "sweep.yaml"], extra].concat()
}

#[test]
fn launch_kubernetes_writes_a_folder_and_renews_it() {
    let folder = Folder::with(SMALL);
    let first = folder.epsweep(&launch(&IMAGES)).expect(0).says(&["kubectl apply -k runs/small/kubernetes"]);
    assert_eq!(first.stdout.trim(), "runs/small/kubernetes");
    let out = folder.path().join("runs/small/kubernetes");
    assert_eq!(folder.read("runs/small/kubernetes/submit/sweep.yaml"), SMALL);
    let key = out.join("tls/certs/server/key.pem");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (ca, old) = (std::fs::read(out.join("tls/certs/ca.pem")).unwrap(), std::fs::read(&key).unwrap());
    folder.epsweep(&launch(&[&IMAGES[..], &["--workers", "5"]].concat())).expect(0);
    assert_eq!(std::fs::read(out.join("tls/certs/ca.pem")).unwrap(), ca, "under the same CA");
    assert_ne!(std::fs::read(&key).unwrap(), old);
    assert!(folder.read("runs/small/kubernetes/kustomization.yaml").contains("count: 5"));
}

#[test]
fn launch_kubernetes_refuses_what_cannot_run_and_says_what_to_do() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&launch(&[])).expect(2).says(&["--image is missing", "docker build", "worker.Dockerfile"]);
    folder.epsweep(&launch(&IMAGES[..2])).expect(2).says(&["--coordinator-image is missing"]);
    folder.epsweep(&launch(&["--image", "Bad Image"])).expect(2).says(&["NAME:TAG"]);
    folder.epsweep(&launch(&[&IMAGES[..], &["--workers", "0"]].concat())).expect(2).says(&["--workers 0"]);
    folder.epsweep(&launch(&[&IMAGES[..], &["--namespace", "A b"]].concat())).expect(2).says(&["no namespace"]);
    folder.epsweep(&["launch", "kubernetes", "nowhere.yaml"]).expect(2).says(&["nowhere.yaml"]);
    assert!(!folder.path().join("runs").exists(), "nothing is written before all is checked");
    let apply = launch(&[&IMAGES[..], &["--apply"]].concat());
    let mut without = folder.command(&apply);
    let output = without.env("PATH", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no kubectl on the PATH") && said.contains("kubectl apply -k"), "{said}");
    // Its place taken by one that fails, as without a cluster.
    folder.write("kubectl", "#!/bin/sh\necho \"asked: $*\" >&2\nexit 1\n");
    let kubectl = folder.path().join("kubectl");
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output =
        folder.command(&apply).env("PATH", format!("{}:/bin:/usr/bin", folder.path().display())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("asked: apply -k runs/small/kubernetes") && said.contains("kubectl apply failed"), "{said}");
    folder.write("sweep.yaml", "name: small\nepochs: [");
    folder.epsweep(&launch(&IMAGES)).expect(2).says(&["sweep.yaml"]);
}

#[test]
fn health_asks_the_standard_service() {
    let folder = Folder::with(SMALL);
    let (coordinator, address) = folder.serve(&[]);
    assert_eq!(folder.epsweep(&["health", "--to", &address]).expect(0).stdout.trim(), "serving");
    drop(coordinator);
    folder.epsweep(&["health", "--to", &address]).expect(4).says(&["no coordinator answers"]);
}
