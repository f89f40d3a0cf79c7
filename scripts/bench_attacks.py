#!/usr/bin/env python3
"""What a robustness curve costs: ours against loops over torchattacks and pyautoattack.

    python3 scripts/bench_attacks.py target/debug/epsweep [--mnist DIR] [--examples N] [--rows pgd,autoattack]

Trains one network adversarially, on the digits inside the program or on MNIST's four gzipped files, and
gives its weights to all: the curves of 16 epsilons here, a loop of PGD-40 over the 16 in torchattacks, and
pyautoattack's standard version at one epsilon, the one that the network was trained for, and at others
(--at): what it costs grows with the share of examples that stand there. One thread, the same examples, one run. A pass is one example going
through the network once. What it compares with is installed from PyPI into a virtual environment (--venv).
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

GRID = 16

SWEEP = """
name: {name}
dataset: {{npz: {{file: {data}}}}}
trial:
  model: {{smallcnn: {{channels: [8, 16], hidden: 64}}}}
  method: {{pgd: {{epsilon: {radius}, steps: 7}}}}
  optimizer: {{adamw: {{lr: 2e-3}}}}
  epochs: {epochs}
  batch_size: 64
evaluate:
  epsilons: {epsilons}
  attacks: [{attack}]
  test_examples: {examples}
"""


def grid(largest):
    return [round(largest * k / GRID, 10) for k in range(1, GRID + 1)]


def ours(args, attack, name):
    """Runs the sweep over one worker: cost per example, and robust accuracy by epsilon."""
    folder, report = args.out / "run", args.out / name
    text = SWEEP.format(name=name, data=(args.out / "data.npz").resolve(), radius=args.radius, epochs=args.epochs,
                        epsilons=grid(0.3), attack=attack, examples=args.examples)
    sweep = args.out / f"{name}.yaml"
    sweep.write_text(text)
    for command in (["run", sweep, "--workers", "1", "--out", folder],
                    ["report", folder, "--sweep", name, "--out", report]):
        subprocess.run([args.epsweep, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    costs = [row for row in csv.DictReader(open(report / "costs.csv")) if row["kind"] == "evaluate"]
    cost = [sum(float(row[column]) for row in costs) / args.examples for column in ("forwards", "backwards", "seconds")]
    curve = {round(float(row["epsilon"]), 10): float(row["robust_accuracy"])
             for row in csv.DictReader(open(report / "curves.csv")) if row["attack"] == "all"}
    weights = max((folder / "checkpoints").glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    return cost, curve, str(weights)


def within(args, **request):
    """Runs `inside` in the virtual environment."""
    request |= {"data": str(args.out / "data.npz"), "mnist": args.mnist, "examples": args.examples}
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [args.venv / "bin" / "python", __file__, "--inside", json.dumps(request)]
    out = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(out.stdout.decode().strip().splitlines()[-1])


def theirs(args, kind, weights, epsilons):
    answer = within(args, kind=kind, weights=weights, epsilons=epsilons)
    return answer["cost"], {round(float(e), 10): a for e, a in answer["curve"].items()}


def write_data(request):
    import numpy as np

    if request["mnist"]:
        def read(name, skip):
            return np.frombuffer(gzip.open(f"{request['mnist']}/{name}.gz").read(), np.uint8, offset=skip)

        parts = [(read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28), read(f"{part}-labels-idx1-ubyte", 8))
                 for part in ("train", "t10k")]
        (x_train, y_train), (x_test, y_test) = parts
    else:
        table = np.loadtxt(Path(__file__).parent.parent / "src/data/digits.csv.gz", delimiter=",", dtype=np.int64)
        table = table[np.random.default_rng(0).permutation(len(table))]
        x, y = (table[:, :-1].reshape(-1, 1, 8, 8) * 255 // 16).astype(np.uint8), table[:, -1]
        x_train, y_train, x_test, y_test = x[450:], y[450:], x[:450], y[:450]
    np.savez(request["data"], x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    print("{}")


def inside(request):
    if request["kind"] == "data":
        return write_data(request)
    import numpy as np
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parent))
    from counted import Counted
    from golden_attacks import SmallCnn

    data = np.load(request["data"])
    x = torch.tensor(data["x_test"][:request["examples"]].astype(np.float32) / 255)
    y = torch.tensor(data["y_test"][:request["examples"]].astype(np.int64))
    shape = tuple(x.shape[1:])
    model = SmallCnn(shape, (8, 16), 64, 10)
    model.load_state_dict(load_file(request["weights"]))
    model.eval().requires_grad_(False)
    counted = Counted(model)
    curve, started = {}, time.time()
    for epsilon in request["epsilons"]:
        if request["kind"] == "pgd":
            import torchattacks

            attack = torchattacks.PGD(counted, eps=epsilon, alpha=2.5 * epsilon / 40, steps=40, random_start=True)
            found = torch.cat([attack(x[i:i + 256], y[i:i + 256]) for i in range(0, len(x), 256)])
        else:
            from pyautoattack import AutoAttack

            attack = AutoAttack(counted, eps=epsilon, norm="Linf", seed=0)
            found = attack.run_standard_evaluation(x, y, batch_size=256)[0]
        with torch.no_grad():
            curve[epsilon] = (model(found).argmax(1) == y).float().mean().item()
    seconds = time.time() - started
    cost = [value / len(x) for value in (counted.forwards, counted.backwards, seconds)]
    print(json.dumps({"cost": cost, "curve": curve}))


def environment(args):
    if not (args.venv / "bin" / "python").exists():
        venv.create(args.venv, with_pip=True)
        pip = [args.venv / "bin" / "pip", "install", "--quiet"]
        subprocess.run(pip + ["torch", "numpy", "safetensors", "requests", "tqdm", "scipy"], check=True)
        # They ask for old versions of what is there.
        subprocess.run(pip + ["--no-deps", "torchattacks", "pyautoattack"], check=True)
    within(args, kind="data")


def row(name, cost, curve, at):
    forwards, backwards, seconds = cost
    robust = "".join(f"{100 * curve[e]:>10.1f} %" if e in curve else f"{'':>12}" for e in at)
    print(f"{name:<50} {forwards:>8.0f} {backwards:>8.0f} {seconds:>8.3f} {robust}", flush=True)


def ratios(cost, others):
    def over(part):
        return ", ".join(f"{part(cost) / part(other):.2f}" for other in others)

    print(f"  ours over theirs: {over(lambda c: c[0] + c[1])} of the passes, {over(lambda c: c[2])} of the seconds",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("epsweep", nargs="?")
    parser.add_argument("--mnist", help="folder of MNIST's four files, gzipped; else the digits")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--epochs", type=int, help="of the training: 60, on MNIST 10")
    parser.add_argument("--radius", type=float, help="of the adversarial training: 0.1125, on MNIST 0.1875")
    parser.add_argument("--at", type=lambda text: [float(part) for part in text.split(",")],
                        help="epsilons of the grid at which pyautoattack is run, one by one: half the radius, the radius, half more")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-attacks"))
    parser.add_argument("--venv", type=Path, default=Path("runs/bench-attacks/venv"))
    parser.add_argument("--rows", default="pgd,autoattack")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        inside(json.loads(args.inside))
        return
    args.epochs = args.epochs or (10 if args.mnist else 60)
    args.radius = args.radius or (0.1875 if args.mnist else 0.1125)
    args.at = args.at or [round(min(args.radius * share, 0.3), 10) for share in (0.5, 1, 1.5)]
    args.out.mkdir(parents=True, exist_ok=True)
    environment(args)
    header = "".join(f"{'at ' + str(e):>12}" for e in args.at)
    print(f"robust accuracy is that of a network trained with PGD at {args.radius}\n")
    print(f"{'per example':<50} {'forward':>8} {'backward':>8} {'seconds':>8} {header}", flush=True)
    if "pgd" in args.rows:
        cost, curve, weights = ours(args, "{pgd: {steps: 40}}", "pgd")
        loop, their_curve = theirs(args, "pgd", weights, grid(0.3))
        row("torchattacks PGD-40, loop over 16 epsilons", loop, their_curve, args.at)
        row("epsweep pgd (40 steps), curve of 16 epsilons", cost, curve, args.at)
        ratios(cost, [loop])
    if "autoattack" in args.rows:
        versions = [("autoattack", "autoattack"), ("{autoattack: {effort: thrifty}}", "autoattack, thrifty")]
        results = [(label, *ours(args, attack, label.replace(", ", "-"))) for attack, label in versions]
        points = [theirs(args, "autoattack", results[0][3], [e]) for e in args.at]
        for epsilon, (cost, curve) in zip(args.at, points):
            row(f"pyautoattack standard, ONE epsilon: {epsilon}", cost, curve, args.at)
        for label, cost, curve, _ in results:
            row(f"epsweep {label}, curve of 16 epsilons", cost, curve, args.at)
            ratios(cost, [cost for cost, _ in points])


if __name__ == "__main__":
    main()
