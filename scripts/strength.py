#!/usr/bin/env python3
"""How strong the lab's AutoAttack is beside pyautoattack's `standard`, on the same TorchScript models.

    epsweep run scripts/strength.yaml                        # trains three models and attacks them
    python scripts/strength.py runs/strength --data DIR      # attacks the same ones with pyautoattack, prints both

DIR holds MNIST's IDX files. Takes hours on one core; every (model, epsilon) that is done is kept in
RUN/strength.json and not done again. Needs torch, safetensors, and pyautoattack (pip install --no-deps).
"""

import argparse
import gzip
import json
import logging
import sqlite3
import time
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack
from safetensors.torch import load_file

from counted import Counted
from golden_attacks import SmallCnn


def idx(path, offset):
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=offset)


def test_set(folder, count):
    x = idx(f"{folder}/t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:count].astype(np.float32) / 255
    return torch.tensor(x), torch.tensor(idx(f"{folder}/t10k-labels-idx1-ubyte.gz", 8)[:count].astype(np.int64))


def models(run, ledger):
    """Trial, its method, its last checkpoint's digest, and that as a frozen TorchScript module."""
    query = "SELECT t.trial, t.axes, c.artifact FROM live_sweeps s JOIN sweep_trials t ON t.sweep = s.id " \
            "JOIN checkpoints c ON c.trial = t.trial"
    for trial, axes, artifact in ledger.execute(query):
        weights = load_file(run / "checkpoints" / f"{artifact}.safetensors")
        widths = [weights["conv1.weight"].shape[0], weights["conv2.weight"].shape[0]]
        model = SmallCnn((1, 28, 28), widths, weights["fc1.weight"].shape[0], 10)
        model.load_state_dict(weights)
        model.eval().requires_grad_(False)
        file = run / "torchscript" / f"{trial}.pt"
        file.parent.mkdir(exist_ok=True)
        torch.jit.trace(model, torch.zeros(2, 1, 28, 28)).save(file)
        yield trial, json.loads(axes)["method"], artifact, torch.jit.load(file)


def reference(model, x, y, epsilon):
    """What pyautoattack leaves standing, example by example, and its price per example."""
    counted, started = Counted(model), time.time()
    attack = AutoAttack(counted, eps=epsilon, norm="Linf", seed=0)
    adversarial = attack.run_standard_evaluation(x, y, batch_size=250)
    adversarial = adversarial[0] if isinstance(adversarial, tuple) else adversarial
    seconds = time.time() - started
    with torch.no_grad():
        standing = (model(adversarial).argmax(1) == y).tolist()
    price = [n / len(x) for n in (counted.forwards, counted.backwards, seconds)]
    return {"standing": standing, "forwards": price[0], "backwards": price[1], "seconds": price[2]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--epsilons", default="0.3,0.25,0.2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    x, y = test_set(args.data, args.examples)
    ledger = sqlite3.connect(f"file:{args.run}/ledger.sqlite?mode=ro", uri=True)
    kept = args.run / "strength.json"
    done = json.loads(kept.read_text()) if kept.exists() else {}
    trials = list(models(args.run, ledger))
    for epsilon in [float(e) for e in args.epsilons.split(",")]:
        for trial, method, artifact, model in trials:
            key = f"{artifact[:12]} {epsilon:g} {args.examples}"
            if key not in done:
                done[key] = reference(model, x, y, epsilon)
                kept.write_text(json.dumps(done))
            compare(ledger, trial, method, epsilon, done[key])


def compare(ledger, trial, method, epsilon, theirs):
    """One line: both robust accuracies in percent, and who broke what the other did not."""
    standing = theirs["standing"]
    count = len(standing)
    print(f"{method:32} eps {epsilon:<5g} n {count}  pyautoattack {100 * sum(standing) / count:5.1f}", end="")
    attacks = [name for (name,) in ledger.execute("SELECT DISTINCT attack FROM curves WHERE trial = ? AND attack != 'all'", [trial])]
    for attack in attacks:
        rows = ledger.execute(
            "SELECT example, broken_from IS NULL OR broken_from > ? + 1e-9 FROM outcomes "
            "WHERE trial = ? AND attack = ? AND example < ? ORDER BY example", [epsilon, trial, attack, count]).fetchall()
        if len(rows) == count:
            ours = [bool(stands) for _, stands in rows]
            only_we = sum(t and not o for t, o in zip(standing, ours))
            only_they = sum(o and not t for t, o in zip(standing, ours))
            print(f"  {attack} {100 * sum(ours) / count:5.1f} (only it breaks {only_we}, only they {only_they})", end="")
    print("  {:.0f} fwd {:.0f} bwd {:.3f} s per example".format(theirs["forwards"], theirs["backwards"], theirs["seconds"]), flush=True)


if __name__ == "__main__":
    main()
