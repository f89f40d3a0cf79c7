"""A sweep under a real Prometheus: `make test-metrics`.

Starts a coordinator, a worker and Prometheus (Debian's package) on loopback, runs a short sweep, and demands that
- promtool accepts both pages of metrics, the alert rules, their tests and the scrape configuration;
- Prometheus scrapes both programs;
- every query of the Grafana dashboard returns data, its variables too, and every alert's expression can be evaluated.

usage: test_metrics.py FOLDER_OF_THE_PROGRAMS
Prometheus is taken from the PATH; otherwise its package is fetched and unpacked in a temporary folder, not installed.
Without it the script says so and ends with 0.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SWEEP = """
name: watched
dataset: digits
trial: {model: {mlp: {hidden: [64]}}, method: {pgd: {epsilon: 0.1, steps: 10}}, optimizer: {sgd: {lr: 0.05}}, epochs: 9, batch_size: 16}
seeds: 5
evaluate:
  epsilons: [0, 0.05, 0.1]
  attacks: [fgsm, {pgd: {steps: 20}}]
"""


def find_prometheus(temporary):
    """The programs prometheus and promtool, or None."""
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    if all(found):
        return found
    fetched = subprocess.run(["apt-get", "download", "-q", "prometheus"], cwd=temporary, capture_output=True, text=True)
    packages = list(temporary.glob("prometheus_*.deb"))
    if fetched.returncode != 0 or not packages:
        print(fetched.stderr.strip(), file=sys.stderr)
        return None
    subprocess.run(["dpkg-deb", "-x", packages[0], temporary / "unpacked"], check=True)
    return [str(temporary / "unpacked/usr/bin" / name) for name in ("prometheus", "promtool")]


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := condition()) is not None:
            return found
        time.sleep(0.2)
    raise SystemExit(f"never happened: {what}")


def logged(path, message, field):
    """A field of the last event of that message in a log file, or None."""
    if not path.exists():
        return None
    events = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return next((event[field] for event in reversed(events) if event["message"] == message), None)


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Prometheus:
    def __init__(self, address):
        self.address = address

    def ask(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return json.loads(fetch(url))["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{parameters}: {error.read().decode()}") from error

    def values(self, query):
        """The numbers that a query finds now, NaN left out."""
        found = self.ask("query", query=query)["result"]
        return [float(sample["value"][1]) for sample in found if sample["value"][1] != "NaN"]

    def is_ready(self):
        try:
            return fetch(f"http://{self.address}/-/ready") is not None or None
        except OSError:
            return None


def dashboard_queries():
    """(panel, query) of every panel, with Grafana's variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana/epsweep.json").read_text())
    filled = {"$__rate_interval": "20s", "$instance": ".*", "$sweep": ".*"}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in filled.items():
                query = query.replace(variable, value)
            yield panel["title"], query


def check_statically(promtool):
    rules = DEPLOY / "prometheus"
    for arguments in (["check", "rules", "epsweep.rules.yml"], ["test", "rules", "epsweep.tests.yml"], ["check", "config", "prometheus.yml"]):
        print("promtool", *arguments, flush=True)
        subprocess.run([promtool, *arguments], cwd=rules, check=True)


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_prometheus(program, folder, targets):
    """The scrape configuration of deploy/, every second, at the real addresses."""
    config = (DEPLOY / "prometheus/prometheus.yml").read_text().replace("15s", "1s")
    for written, real in targets.items():
        assert written in config
        config = config.replace(written, real)
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "prometheus/epsweep.rules.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    log = (folder / "prometheus.log").open("w")
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder), Prometheus(address)


def watch(prometheus, epsweep, address):
    """Asks all queries while the sweep runs; returns those that never found anything."""
    unanswered = dict.fromkeys(dashboard_queries())
    total = len(unanswered)
    ended = False
    while unanswered and not ended:
        status = subprocess.run([*epsweep, "status", "watched", "--json", "--to", address], check=True, capture_output=True, text=True)
        ended = json.loads(status.stdout)["state"] not in ("running", "paused")
        for panel, query in list(unanswered):
            if prometheus.values(query):
                del unanswered[panel, query]
        time.sleep(1)
    print(f"{total - len(unanswered)} of {total} queries of the dashboard found data while the sweep was running")
    return list(unanswered)


def check_variables(prometheus):
    dashboard = json.loads((DEPLOY / "grafana/epsweep.json").read_text())
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            found = prometheus.ask(f"label/{label}/values", **{"match[]": selector.replace("$instance", ".*")})
            assert found, f"the variable {variable['name']} has no values"


def check_alerts(prometheus):
    rules = prometheus.ask("rules")["groups"][0]["rules"]
    bad = [rule for rule in rules if rule["health"] != "ok"]
    assert rules and not bad, bad
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    assert not firing, f"alerts about a sound sweep: {firing}"
    print(f"{len(rules)} alert rules evaluated, none fires")


def main():
    programs = Path(sys.argv[1]).resolve()
    epsweep, started = [str(programs / "epsweep")], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = find_prometheus(folder)
        if found is None:
            print("skipped: there is no prometheus here, and its package cannot be fetched (apt-get install prometheus)")
            return
        prometheus_program, promtool = found
        check_statically(promtool)
        try:
            (folder / "sweep.yaml").write_text(SWEEP)
            quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            serve = ["serve", "--listen", "127.0.0.1:0", "--state", "state", "--metrics", "127.0.0.1:0"]
            started.append(subprocess.Popen([*epsweep, *serve], **quiet))
            log = folder / "state/logs/coordinator.jsonl"
            address = wait_for("the coordinator listens", lambda: logged(log, "listening", "address"))
            worker = ["--connect", address, "--cache", "cache", "--metrics", "127.0.0.1:0", "--log-file", "worker.jsonl"]
            started.append(subprocess.Popen([str(programs / "epsweep-worker"), *worker], **quiet))
            pages = {
                "127.0.0.1:9464": logged(log, "metrics shown", "address"),
                "127.0.0.1:9465": wait_for("the worker shows metrics", lambda: logged(folder / "worker.jsonl", "metrics shown", "address")),
            }
            process, prometheus = start_prometheus(prometheus_program, folder, pages)
            started.append(process)
            wait_for("prometheus is ready", prometheus.is_ready)
            wait_for("both programs are scraped", lambda: prometheus.values('up{job=~"epsweep.*"} == 1') == [1, 1] or None)
            subprocess.run([*epsweep, "submit", "sweep.yaml", "--to", address], cwd=folder, check=True)
            silent = watch(prometheus, epsweep, address)
            for page in pages.values():
                text = fetch(f"http://{page}/metrics")
                subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True)
            check_variables(prometheus)
            check_alerts(prometheus)
            if silent:
                raise SystemExit("these queries of the dashboard found nothing:\n" + "\n".join(f"  {panel}: {query}" for panel, query in silent))
        except SystemExit:
            if (folder / "prometheus.log").exists():
                targets = prometheus.ask("targets")["activeTargets"]
                print(*((target["scrapeUrl"], target["lastError"]) for target in targets), sep="\n", file=sys.stderr)
            raise
        finally:
            for process in reversed(started):
                process.kill()
                process.wait()
    print("metrics: ok")


if __name__ == "__main__":
    main()
