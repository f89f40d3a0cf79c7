#!/usr/bin/env python3
"""Robust accuracy and price of pyautoattack (version standard) on weights that the lab has trained.

    EPSWEEP_MNIST=DIR EPSWEEP_WEIGHTS=W cargo test --test lab mnist_strength -- --ignored --nocapture
    /tmp/venv-golden/bin/pip install --no-deps pyautoattack
    /tmp/venv-golden/bin/python scripts/strength.py DIR W/pgd.safetensors 0.2 [EXAMPLES] [linf|l2]

Prints what stands after each attack of its cascade, forward and backward passes per example, and seconds, on
one thread. The first prints of the Rust test are to be held against it.
"""

import gzip
import logging
import sys
import time

import numpy as np
import torch
from pyautoattack import AutoAttack
from safetensors.torch import load_file

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from golden_attacks import SmallCnn  # noqa: E402


def idx(path, offset):
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=offset)


class Counted(torch.nn.Module):
    """Counts examples going forward, and those whose gradient is taken."""

    def __init__(self, model):
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x):
        self.forwards += len(x)
        if x.requires_grad and torch.is_grad_enabled():
            self.backwards += len(x)
        return self.model(x)


def main():
    folder, weights, epsilon = sys.argv[1], sys.argv[2], float(sys.argv[3])
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    norm = {"linf": "Linf", "l2": "L2"}[sys.argv[5] if len(sys.argv) > 5 else "linf"]
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    logging.getLogger("auto-attack").setLevel(logging.DEBUG)
    logging.getLogger("auto-attack").addFilter(lambda record: "accuracy" in record.getMessage())
    x = torch.tensor(idx(f"{folder}/t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:count].astype(np.float32) / 255)
    y = torch.tensor(idx(f"{folder}/t10k-labels-idx1-ubyte.gz", 8)[:count].astype(np.int64))
    model = SmallCnn((1, 28, 28), (16, 32), 100, 10)
    model.load_state_dict(load_file(weights))
    model.eval().requires_grad_(False)
    counted = Counted(model)
    print(f"{weights}, {norm} {epsilon}, {count} examples")
    started = time.time()
    AutoAttack(counted, eps=epsilon, norm=norm, seed=0).run_standard_evaluation(x, y, batch_size=250)
    seconds = time.time() - started
    each = [n / count for n in (counted.forwards, counted.backwards, seconds)]
    print("  per example {:.0f} forwards {:.0f} backwards, {:.3f} s".format(*each))


if __name__ == "__main__":
    main()
