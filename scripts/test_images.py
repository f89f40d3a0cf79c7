"""The images of deploy/docker without a container engine: `make test-images`.

What an engine and a kubelet would do is done by hand, with chroot and namespaces:
- the tree is copied as .dockerignore lets it through, and the coordinator's build stage runs there (unless programs are given);
- the last stage of each Dockerfile is carried out on a Debian file system that debootstrap makes (kept in the cache);
- the containers of deploy/kubernetes run in it as the manifests say: the same options and ports in a network of their own, as
  user 10001 without new privileges, on a read-only root with the declared volumes, Secrets and environment;
- the probes are asked, a sweep is handed in by the Job's container, and its report read; SIGTERM ends each in its time.

usage: test_images.py FOLDER_OF_THE_PROGRAMS [--prebuilt]
Needs root, debootstrap, iproute2 and kubectl; says what is missing, and ends with 0. The worker's PyTorch base is replaced by
Debian and the libtorch that epsweep-worker was linked with.
"""

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from test_kubernetes import MANIFESTS, ROOT, build, find_kustomize, own_python, pod_of

CACHE = Path(os.environ.get("EPSWEEP_CACHE") or Path.home() / ".cache/epsweep")
SWEEP = """
name: contained
dataset: digits
trial: {model: {mlp: {hidden: [16]}}, method: natural, optimizer: {sgd: {lr: 0.05}}, epochs: 3, batch_size: 64}
seeds: 2
evaluate: {epsilons: [0, 0.05, 0.1], attacks: [fgsm, {pgd: {steps: 5}}]}
"""
# What a kubelet does between its fork and the program: mounts, then no way back to privileges.
KUBELET = """
set -e
root=$1; user=$2; shift 2
mount --rbind "$root" "$root"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"; shift 3
done
shift
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""

# True of a container that is confined as its manifest says.
CONFINED = """
[ "$(id -u)" = 10001 ] && grep -q 'NoNewPrivs:.*1' /proc/self/status && grep -Eq 'CapBnd:\\s*0+$' /proc/self/status || exit 1
for folder in / /etc /usr/local/bin; do ! touch $folder/x 2>/dev/null || exit 2; done
"""


def missing():
    if os.geteuid() != 0:
        return "root"
    return next((name for name in ("debootstrap", "ip", "unshare", "setpriv", "chroot") if not shutil.which(name)), None) or (
        None if find_kustomize() else "kubectl or kustomize"
    )


def debian():
    """A Debian file system, made once."""
    final = CACHE / "debian-bookworm"
    if not final.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="installing-") as scratch:
            made = Path(scratch) / "root"
            print("making a Debian file system with debootstrap", flush=True)
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", made], check=True, stdout=subprocess.DEVNULL)
            made.rename(final)
    return final


class Dockerfile:
    """The last stage of a Dockerfile, and the commands of its build stage."""

    def __init__(self, path):
        text = re.sub(r"\\\n", " ", path.read_text())
        lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
        last = max(number for number, line in enumerate(lines) if line[0] == "FROM")
        self.path, self.build, self.last = path, [rest for word, rest in lines[:last] if word == "RUN"], lines[last + 1 :]
        self.entrypoint = next(json.loads(rest) for word, rest in self.last if word == "ENTRYPOINT")
        self.user = next(rest for word, rest in self.last if word == "USER")

    def carry_out(self, base, root, out):
        """Makes the image's file system in `root`, with /out of the build stage in `out`."""
        subprocess.run(["cp", "-a", f"{base}/.", root], check=True)
        for word, rest in self.last:
            if word == "COPY":
                *sources, target = rest.split()
                built = sources[0].startswith("--from=build")
                into = root / target.lstrip("/")
                into = into if target.endswith("/") else into.parent
                into.mkdir(parents=True, exist_ok=True)
                for source in sources[1:] if built else sources:
                    shutil.copy(out / Path(source).name if built else ROOT / source, into)
            elif word == "RUN":
                subprocess.run(["chroot", root, "sh", "-c", rest], check=True)
            else:
                assert word in ("USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"), f"{self.path}: {word} is not carried out here"


def context(target):
    """The tree as .dockerignore lets it through."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if any(fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in allowed):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def build_coordinator(dockerfile, temporary, programs):
    """Runs the build stage's command in the context; its /out is a folder here."""
    tree, out = temporary / "context", temporary / "out"
    context(tree)
    command = dockerfile.build[0].replace("/out/", f"{out}/").replace("target/", '"$CARGO_TARGET_DIR"/')
    environment = os.environ | {"CARGO_TARGET_DIR": str(programs.parent / "images")}
    print("build stage:", " ".join(command.split()), flush=True)
    subprocess.run(["sh", "-c", command], cwd=tree, env=environment, check=True)
    return out


class Container:
    """A container of a manifest, in a file system made for its image."""

    def __init__(self, root, pod, files, temporary, environment=None):
        """`files`: folders of Secrets and claims, by the name of the volume."""
        spec = pod["spec"]
        self.spec, self.root = spec["containers"][0], root
        self.grace = spec.get("terminationGracePeriodSeconds", 30)
        self.user = spec["securityContext"]["runAsUser"]
        self.mounts = []
        for mount in self.spec["volumeMounts"]:
            source = files.get(mount["name"])
            if source is None:  # an emptyDir, or a new claim
                source = temporary / f"{self.spec['name']}-{mount['name']}"
                source.mkdir(exist_ok=True)
                os.chown(source, self.user, self.user)
            (root / mount["mountPath"].lstrip("/")).mkdir(parents=True, exist_ok=True)
            self.mounts += [source, mount["mountPath"], "ro" if mount.get("readOnly") else "rw"]
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        for variable in self.spec.get("env", []):
            self.env[variable["name"]] = variable.get("value") or environment[variable["name"]]
        expand = lambda word: re.sub(r"\$\((\w+)\)", lambda found: self.env[found.group(1)], word)
        self.command = [expand(word) for word in self.spec["command"] + self.spec["args"]]

    def run(self, command, log):
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", KUBELET, "sh", self.root, str(self.user), *self.mounts, "--", *command]
        return subprocess.Popen([str(word) for word in words], env=self.env, stdout=log, stderr=log)

    def start(self, log):
        self.process = self.run(self.command, log)
        return self

    def check_probe(self, name):
        probe = self.spec[name]
        if "exec" in probe:
            return self.run(probe["exec"]["command"], subprocess.DEVNULL).wait(probe["timeoutSeconds"]) == 0
        port = next(port["containerPort"] for port in self.spec["ports"] if port["name"] == probe["httpGet"]["port"])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_for_probe(self, name):
        end = time.monotonic() + 60
        while not self.check_probe(name):
            assert self.process.poll() is None, f"{self.spec['name']} ended with {self.process.returncode}"
            assert time.monotonic() < end, f"{name} of {self.spec['name']} never succeeded"
            time.sleep(0.3)
        print(f"{self.spec['name']}: {name} succeeds")

    def stop(self):
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(self.grace)
        assert code == 0, f"{self.spec['name']} ended with {code}"
        print(f"{self.spec['name']}: ended {time.monotonic() - started:.1f} s after SIGTERM, of {self.grace} s")


def secret(source, target):
    """As a kubelet mounts it: readable by the pod's group alone."""
    shutil.copytree(source, target)
    for path in (target, *target.iterdir()):
        os.chown(path, 0, 10001)
        path.chmod(0o550 if path.is_dir() else 0o440)
    return target


def libtorch_of(worker):
    """The folders in which the program finds its libraries beyond the system's."""
    listed = subprocess.run(["ldd", worker], check=True, capture_output=True, text=True).stdout
    assert "not found" not in listed, listed
    return sorted({Path(path).parent for path in re.findall(r"=> (/\S+)", listed) if not re.match(r"/(usr/)?lib", path)})


def prepare_roots(programs, prebuilt, temporary):
    dockerfiles = {name: Dockerfile(ROOT / f"deploy/docker/{name}.Dockerfile") for name in ("coordinator", "worker")}
    roots = {name: temporary / f"root-{name}" for name in dockerfiles}
    outs = {"worker": programs, "coordinator": programs if prebuilt else build_coordinator(dockerfiles["coordinator"], temporary, programs)}
    for name, dockerfile in dockerfiles.items():
        assert dockerfile.user == "10001:10001"
        dockerfile.carry_out(debian(), roots[name], outs[name])
        (roots[name] / "etc/hosts").write_text("127.0.0.1 localhost epsweep-coordinator\n")
        version = subprocess.run(["chroot", roots[name], *dockerfile.entrypoint, "--version"], capture_output=True, text=True)
        print(name, "image:", version.stdout.strip() or "waits for its libtorch", flush=True)
    for folder in libtorch_of(programs / "epsweep-worker"):
        place = roots["worker"] / str(folder).lstrip("/")
        place.mkdir(parents=True)
        for above in place.parents[: len(folder.parts) - 2]:
            above.chmod(0o755)  # it may lie in a home that others may not enter
        subprocess.run(["mount", "--bind", folder, place], check=True)
    listed = subprocess.run(["chroot", roots["coordinator"], "ldd", "/usr/local/bin/epsweep"], check=True, capture_output=True, text=True).stdout
    assert "torch" not in listed and "not found" not in listed, listed
    return roots


def pods_of():
    kustomize = find_kustomize()
    objects = build(kustomize, MANIFESTS / "overlays/cpu") + build(kustomize, MANIFESTS / "submit")
    return {found["kind"]: pod_of(found) for found in objects if pod_of(found)}


def run_sweep(roots, temporary, log):
    pods, made = pods_of(), temporary / "certs"
    epsweep = roots["coordinator"] / "usr/local/bin/epsweep"
    subprocess.run([epsweep, "certs", "--out", made, "--host", "epsweep-coordinator"], check=True, capture_output=True)
    secrets = {side: secret(made / side, temporary / f"secret-{side}") for side in ("server", "worker", "client", "read-only")}
    sweep = temporary / "configmap"
    sweep.mkdir()
    (sweep / "sweep.yaml").write_text(SWEEP)
    coordinator = Container(roots["coordinator"], pods["StatefulSet"], {"tls": secrets["server"], "probe-tls": secrets["read-only"]}, temporary)
    worker = Container(roots["worker"], pods["Deployment"], {"tls": secrets["worker"]}, temporary, {"POD_NAME": "epsweep-worker-0"})
    submit = Container(roots["coordinator"], pods["Job"], {"tls": secrets["client"], "sweep": sweep}, temporary)
    for container in (coordinator, worker, submit):
        assert container.run(["sh", "-c", CONFINED], log).wait(30) == 0, f"{container.spec['name']} is not confined"
    started = []
    try:
        started.append(coordinator.start(log))
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            coordinator.wait_for_probe(probe)
        started.append(worker.start(log))
        for probe in ("startupProbe", "livenessProbe"):
            worker.wait_for_probe(probe)
        assert submit.run(submit.command, log).wait(60) == 0, "the sweep was not taken"
        report = temporary / "coordinator-state/reports/contained/index.html"
        end = time.monotonic() + 120
        while not report.exists():
            assert time.monotonic() < end, "the sweep never ended"
            time.sleep(0.3)
        curves = (report.parent / "curves.csv").read_text().splitlines()
        print(f"the sweep is done: {len(curves) - 1} rows of curves.csv")
        worker.stop()
        coordinator.stop()
    finally:
        for container in started:
            container.process.kill()
            container.process.wait()


def main():
    if lacking := missing():
        print(f"skipped: this test needs {lacking}")
        return
    if "--inside" not in sys.argv:
        # A network and mounts of its own: the manifests' ports are free there, and nothing stays mounted.
        command = ["unshare", "--mount", "--propagation", "private", "--net", own_python(), __file__, *sys.argv[1:], "--inside"]
        debian()
        raise SystemExit(subprocess.run(command).returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    programs = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        temporary.chmod(0o755)
        log = (temporary / "log").open("wb")
        roots = prepare_roots(programs, "--prebuilt" in sys.argv, temporary)
        try:
            run_sweep(roots, temporary, log)
        except BaseException:
            sys.stderr.write((temporary / "log").read_text()[-4000:])
            raise
        finally:
            mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for path in (path for path in mounted if path.startswith(name)):
                subprocess.run(["umount", "-l", path], check=True)
    print("images: ok")


if __name__ == "__main__":
    main()
