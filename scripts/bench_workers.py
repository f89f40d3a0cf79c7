#!/usr/bin/env python3
"""How much faster are two workers than one, on a sweep of equal tasks?

Runs the same sweep with one and with two single-threaded workers in turn, each time in a fresh
directory, and prints the time of each run and the ratio pair by pair. Start-up, planning, the
ledger and the report are included: it is the time a user waits.

    bench_workers.py path/to/epsweep [pairs]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Twenty-four equal training runs, each followed by one equal evaluation.
SWEEP = """
name: bench
dataset: digits
trial: {model: {smallcnn: {channels: [8, 16], hidden: 64}}, method: {pgd: {epsilon: 0.1, steps: 5}}, optimizer: {sgd: {lr: 0.05}}, epochs: 4, batch_size: 64}
seeds: 24
evaluate: {epsilons: [0.05], attacks: [{pgd: {steps: 20}}]}
"""


def run(program, sweep, workers):
    """Seconds that one whole run takes."""
    with tempfile.TemporaryDirectory() as out:
        command = [program, "run", str(sweep), "--workers", str(workers), "--out", out, "--quiet"]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started


def main():
    program = str(Path(sys.argv[1]).resolve())
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "bench.yaml"
        sweep.write_text(SWEEP)
        run(program, sweep, 1)  # warms the file cache
        ratios = []
        print("pair  1 worker  2 workers  ratio")
        for pair in range(1, pairs + 1):
            one, two = run(program, sweep, 1), run(program, sweep, 2)
            ratios.append(two / one)
            print(f"{pair:4}  {one:7.1f}s  {two:8.1f}s  {two / one:5.3f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f} (0.5 is perfect)")


if __name__ == "__main__":
    main()
