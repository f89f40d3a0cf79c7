"""The manifests of deploy/kubernetes, and those that `epsweep launch kubernetes` renders: `make test-kubernetes`.

- kustomize builds them (kubectl's own, or kustomize);
- kubernetes-validate (PyPI, in .venv/kubernetes) finds them valid, strictly, for the three newest versions it knows;
- what they name exists: Secrets, ConfigMaps, accounts, ports, selectors; every container is confined;
- the programs know every option that the manifests and docs/kubernetes.md give them, and every field and Secret that
  the page mentions is there.

usage: test_kubernetes.py EPSWEEP [EPSWEEP_WORKER]
Without kubectl and kustomize the script says so and ends with 0.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "deploy/kubernetes"
VENV = ROOT / ".venv/kubernetes"
DATA_SWEEP = "dataset: {mnist: {dir: mnist}}"


def find_kustomize():
    for program, arguments in (("kubectl", ["kustomize"]), ("kustomize", ["build"])):
        if found := shutil.which(program):
            return [found, *arguments]
    return None


def own_python():
    """A virtual environment with kubernetes-validate; runs this script again inside it."""
    python = VENV / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "kubernetes-validate>=1.37", "pyyaml"], check=True)
    return str(python)


def objects_of(text):
    import yaml

    return [found for found in yaml.safe_load_all(text) if found]


def newest_versions(count=3):
    import kubernetes_validate

    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = {tuple(map(int, match.groups())) for path in folder.iterdir() if (match := re.match(r"v(\d+)\.(\d+)\.\d+-local-strict$", path.name))}
    return [f"{major}.{minor}" for major, minor in sorted(found)[-count:]]


def validate(objects, where):
    import kubernetes_validate

    for version in newest_versions():
        for found in objects:
            kubernetes_validate.validate(found, version, strict=True)
    print(f"{where}: {len(objects)} objects, valid for Kubernetes {', '.join(newest_versions())}")


def pod_of(found):
    return found["spec"]["template"] if found["kind"] in ("StatefulSet", "Deployment", "Job") else None


def check_confined(found, where):
    spec = pod_of(found)["spec"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] > 0 and security["seccompProfile"]["type"] == "RuntimeDefault", where
    assert spec["automountServiceAccountToken"] is False, where
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}, where
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"} and "memory" in container["resources"]["limits"], where
        # Whatever is mounted is declared, and the other way round.
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in found["spec"].get("volumeClaimTemplates", [])}
        declared = {volume["name"] for volume in spec["volumes"]} | claims
        assert mounted == declared, f"{where}: {mounted ^ declared}"


def check_references(objects, where, given=()):
    """What objects say of one another; `given` is there already."""
    names = {(found["kind"], found["metadata"]["name"]) for found in objects} | set(given)
    pods = [pod_of(found) for found in objects if pod_of(found)]
    for found in filter(pod_of, objects):
        check_confined(found, f"{where}: {found['metadata']['name']}")
        spec = pod_of(found)["spec"]
        wanted = [("ServiceAccount", spec["serviceAccountName"])]
        for volume in spec["volumes"]:
            wanted += [("Secret", volume["secret"]["secretName"])] if "secret" in volume else []
            wanted += [("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
        missing = [want for want in wanted if want not in names]
        assert not missing, f"{where}: {missing}"

    def selected(labels):
        return [pod for pod in pods if labels.items() <= pod["metadata"]["labels"].items()]

    def ports(chosen):
        return {port["name"] for pod in chosen for container in pod["spec"]["containers"] for port in container.get("ports", [])}

    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "Service":
            chosen = selected(spec["selector"])
            assert len(chosen) == 1 and {port["targetPort"] for port in spec["ports"]} <= ports(chosen), where
        if found["kind"] in ("PodDisruptionBudget", "StatefulSet", "Deployment"):
            assert len(selected(spec["selector"]["matchLabels"])) == 1, f"{where}: {found['metadata']['name']}"
        if found["kind"] == "NetworkPolicy":
            named = {port["port"] for rule in spec["ingress"] + spec["egress"] for port in rule.get("ports", [])}
            assert {port for port in named if isinstance(port, str)} <= ports(pods), where


def build(kustomize, folder):
    built = subprocess.run([*kustomize, str(folder)], capture_output=True, text=True)
    assert built.returncode == 0 and not built.stderr, f"{folder}: {built.stderr}"
    return objects_of(built.stdout)


def check_by_hand(kustomize, epsweep, temporary):
    """What docs/kubernetes.md says to apply by hand."""
    copy = temporary / "by-hand"
    shutil.copytree(MANIFESTS, copy)
    certs = [epsweep, "certs", "--out", copy / "tls/certs", "--host", "epsweep-coordinator"]
    subprocess.run(certs, check=True, capture_output=True)
    shared = build(kustomize, copy / "tls")
    found = []
    for name in ("overlays/cpu", "overlays/gpu", "submit"):
        objects = build(kustomize, copy / name)
        validate(objects, name)
        account = [("ServiceAccount", "epsweep-worker")]
        check_references(objects + shared, name, account if name == "submit" else ())
        found += objects
    validate(shared, "tls")
    return found + shared


def check_rendered(kustomize, epsweep, temporary):
    """What `epsweep launch kubernetes` renders, for several wishes."""
    small = (ROOT / "examples/digits.yaml").read_text()
    (temporary / "digits.yaml").write_text(small)
    (temporary / "mnist.yaml").write_text(re.sub(r"(?m)^dataset:.*$", DATA_SWEEP, small))
    images = ["--image", "host.example:5000/lab/epsweep-worker:1", "--coordinator-image", "host.example:5000/lab/epsweep-coordinator:1"]
    gpu = ["--workers", "8", "--gpus-per-worker", "2", "--namespace", "sweeps", "--data-claim", "datasets", "--storage", "50Gi", "--storage-class", "fast-ssd"]
    whole = []
    for name, file, options in (("cpu", "digits.yaml", []), ("gpu", "mnist.yaml", gpu), ("without certificates", "digits.yaml", ["--no-certs"])):
        out = temporary / f"rendered {name}"
        command = [epsweep, "launch", "kubernetes", file, "--out", out, *images, *options]
        subprocess.run(command, check=True, capture_output=True, cwd=temporary)
        objects = build(kustomize, out)
        validate(objects, f"launch kubernetes, {name}")
        secrets = [("Secret", f"epsweep-{side}-tls") for side in ("server", "worker", "client", "probe")]
        check_references(objects, name, secrets if name.startswith("without") else ())
        for found in filter(pod_of, objects):
            for container in pod_of(found)["spec"]["containers"]:
                assert container["image"].startswith("host.example:5000/lab/epsweep-"), container["image"]
        whole.append(objects)
    check_gpu(whole[1])
    for path in (temporary / "rendered cpu/tls/certs").rglob("*key.pem"):
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
    return whole[1]


def check_gpu(objects):
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    assert all(found["metadata"]["namespace"] == "sweeps" for found in objects)
    worker = by_name["Deployment", "epsweep-worker"]
    container = worker["spec"]["template"]["spec"]["containers"][0]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert worker["spec"]["replicas"] == 8 and container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert (env["DEVICE"], env["SLOTS"]) == ("cuda", "2")
    claim = by_name["StatefulSet", "epsweep-coordinator"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert claim["resources"]["requests"]["storage"] == "50Gi" and claim["storageClassName"] == "fast-ssd"
    job = next(found for kind, found in ((key[0], by_name[key]) for key in by_name) if kind == "Job")
    sweep = next(found for found in objects if found["kind"] == "ConfigMap")
    assert DATA_SWEEP in sweep["data"]["sweep.yaml"]
    assert job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == sweep["metadata"]["name"]


def options_of(program, *verb):
    text = subprocess.run([program, *verb, "--help"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"(--[a-z][a-z-]+)", text))


def check_options(objects, programs):
    """Every option in a manifest is one of its program's."""
    for found in filter(pod_of, objects):
        for container in pod_of(found)["spec"]["containers"]:
            probes = [container[probe]["exec"]["command"] for probe in container if probe.endswith("Probe") and "exec" in container[probe]]
            for command in [container["command"] + container["args"], *probes]:
                program, rest = programs.get(command[0]), command[1:]
                if program is None:
                    continue
                verb = [] if rest[0].startswith("-") else [rest[0]]
                unknown = {word.split("=")[0] for word in rest if word.startswith("--")} - options_of(program, *verb)
                assert not unknown, f"{command[0]} {verb} knows no {unknown}"


def keys_of(value):
    if isinstance(value, dict):
        return set(value) | set().union(*map(keys_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    return set()


def check_docs(objects, programs):
    """Fields (`likeThis`), options and names of ours in docs/kubernetes.md exist."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    known = set().union(*(keys_of(found) for found in objects)) | {found["kind"] for found in objects}
    fields = {word for word in re.findall(r"`([a-z]+(?:[A-Z][a-z]+)+)`", page)}
    assert fields and fields <= known, f"docs/kubernetes.md names fields that no manifest has: {fields - known}"
    options = set().union(*(options_of(programs["epsweep"], *verb) for verb in (["launch", "kubernetes"], ["submit"], ["certs"], ["serve"], ["health"], ["watch"])))
    if worker := programs.get("epsweep-worker"):
        options |= options_of(worker)
        others = {"--from-literal", "--from-file", "--replicas", "--build-arg"}
        used = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", page))
        assert used <= options | others, f"docs/kubernetes.md gives options that nothing has: {used - options - others}"
    names = {found["metadata"]["name"] for found in objects}
    mentioned = set(re.findall(r"`(epsweep-[a-z-]+-tls)`", page))
    assert mentioned <= names, f"docs/kubernetes.md names Secrets that are not there: {mentioned - names}"


def main():
    kustomize = find_kustomize()
    if kustomize is None:
        print("skipped: neither kubectl nor kustomize is here")
        return
    try:
        import kubernetes_validate  # noqa: F401
    except ImportError:
        raise SystemExit(subprocess.run([own_python(), __file__, *sys.argv[1:]]).returncode)
    programs = dict(zip(("epsweep", "epsweep-worker"), (str(Path(path).resolve()) for path in sys.argv[1:])))
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        by_hand = check_by_hand(kustomize, programs["epsweep"], temporary)
        rendered = check_rendered(kustomize, programs["epsweep"], temporary)
        check_options(by_hand + rendered, programs)
        check_docs(by_hand + rendered, programs)
    print("kubernetes: ok")


if __name__ == "__main__":
    main()
