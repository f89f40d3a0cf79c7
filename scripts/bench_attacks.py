#!/usr/bin/env python3
"""What a robustness curve costs: ours against loops over torchattacks and pyautoattack.

    python3 scripts/bench_attacks.py target/debug/epsweep [--mnist DIR] [--examples N] [--rows pgd,autoattack]

Trains one network adversarially, on the digits inside the program or on MNIST's four gzipped files, and
gives its weights to all: the curves of 16 epsilons here, a loop of PGD-40 over the 16 in torchattacks, and
pyautoattack's standard version at one epsilon, in the middle of the grid. One thread, the same examples,
one run. A pass is one example going through the network once. What it compares with is installed from
PyPI into a virtual environment (--venv).
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
            found = torch.cat([attack(x[i:i + 64], y[i:i + 64]) for i in range(0, len(x), 64)])
        else:
            from pyautoattack import AutoAttack

            attack = AutoAttack(counted, eps=epsilon, norm="Linf", seed=0)
            found = attack.run_standard_evaluation(x, y, batch_size=250)[0]
        with torch.no_grad():
            curve[epsilon] = (model(found).argmax(1) == y).float().mean().item()
    seconds = time.time() - started
    cost = [value / len(x) for value in (counted.forwards, counted.backwards, seconds)]
    print(json.dumps({"cost": cost, "curve": curve}))


def environment(args):
    if not (args.venv / "bin" / "python").exists():
        venv.create(args.venv, with_pip=True)
        pip = [args.venv / "bin" / "pip", "install", "--quiet"]
        subprocess.run(pip + ["torch", "numpy", "safetensors", "requests", "tqdm"], check=True)
        # They ask for old versions of what is there.
        subprocess.run(pip + ["--no-deps", "torchattacks", "pyautoattack"], check=True)
    within(args, kind="data")


def row(name, cost, accuracy):
    forwards, backwards, seconds = cost
    print(f"{name:<58} {forwards:>9.0f} {backwards:>9.0f} {seconds:>9.3f} {100 * accuracy:>7.1f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("epsweep", nargs="?")
    parser.add_argument("--mnist", help="folder of MNIST's four files, gzipped; else the digits")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--radius", type=float, default=0.2, help="of the adversarial training")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-attacks"))
    parser.add_argument("--venv", type=Path, default=Path("runs/bench-attacks/venv"))
    parser.add_argument("--rows", default="pgd,autoattack")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        inside(json.loads(args.inside))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    environment(args)
    middle = grid(0.3)[GRID // 2 - 1]
    print(f"{'per example':<58} {'forward':>9} {'backward':>9} {'seconds':>9} robust at {middle}")
    if "pgd" in args.rows:
        cost, curve, weights = ours(args, "{pgd: {steps: 40}}", "pgd")
        loop, their_curve = theirs(args, "pgd", weights, grid(0.3))
        row("torchattacks PGD-40, loop over 16 epsilons", loop, their_curve[middle])
        row("epsweep pgd (40 steps), curve of 16 epsilons", cost, curve[middle])
        print(f"  ours over theirs: {(cost[0] + cost[1]) / (loop[0] + loop[1]):.2f} of the passes, "
              f"{cost[2] / loop[2]:.2f} of the seconds")
    if "autoattack" in args.rows:
        versions = [("autoattack", "autoattack"), ("{autoattack: {effort: thrifty}}", "autoattack, thrifty")]
        results = [(label, *ours(args, attack, label.replace(", ", "-"))) for attack, label in versions]
        weights = results[0][3]
        one, their_curve = theirs(args, "autoattack", weights, [middle])
        row("pyautoattack standard, ONE epsilon", one, their_curve[middle])
        for label, cost, curve, _ in results:
            row(f"epsweep {label}, curve of 16 epsilons", cost, curve[middle])
            print(f"  ours over theirs: {(cost[0] + cost[1]) / (one[0] + one[1]):.2f} of the passes "
                  f"(forward {cost[0] / one[0]:.2f}, backward {cost[1] / one[1]:.2f}), {cost[2] / one[2]:.2f} of the seconds")


if __name__ == "__main__":
    main()
