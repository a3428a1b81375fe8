"""How estimates compare with what small studies of different specs then take.

    python -m benchmarks.estimates --runs 40

On a quiet machine: one study after another, on as many workers as there are cores. Prints each, and at the end the share of
actual times within the 80 % interval (asked: 70 to 90 %) and the median of high/low (asked: at most 2).
"""

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tuner.client import Client, Refused
from tuner.runner.runner import run
from tuner.settings import Settings
from tuner.specs.estimate import Estimate


def small_spec(number: int, chance: random.Random) -> dict[str, Any]:
    """One that takes seconds: space, subset, budget, pruner, sampler and promotion are drawn."""
    space: dict[str, Any] = {
        "width": {"low": 16, "high": chance.choice([64, 128, 256])},
        "depth": {"low": 1, "high": chance.choice([1, 2, 4])},
    }
    if chance.random() < 0.4:
        space["activation"] = chance.choice(["relu", "tanh", "maxout"])
    if chance.random() < 0.4:
        space["optimizer"] = chance.choice(["adam", "sgd", "momentum"])
    if chance.random() < 0.4:
        space["batch_size"] = chance.choice([32, 128, 256])
    if chance.random() < 0.4:
        space["shift_pixels"] = 0
    promoted = chance.random() < 0.3
    return {
        "name": f"run-{number}",
        "seed": number,
        "search_space": space,
        "subset": {"train": chance.choice([500, 1000, 2000]), "validation": 500, "epochs": chance.choice([2, 4, 5])},
        "budget": {"n_trials": chance.choice([10, 20, 30]), "parallel": chance.choice([1, 2, None])},
        "pruner": {"kind": chance.choice(["hyperband", "median", "none", "successive_halving"])},
        "sampler": {"kind": chance.choice(["tpe", "random"])},
        "promotion": {"top_k": 1, "max_seeds": chance.choice([1, 2]), "epochs": 1} if promoted else None,
        "deterministic": chance.random() < 0.2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    within, widths, ratios = 0, [], []
    print(f"{'run':>4}{'low':>8}{'told':>8}{'high':>8}{'took':>8}  inside")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), parallel=os.cpu_count() or 1, log_level="ERROR")
        ending = threading.Event()
        with Client.in_process(settings) as client:
            runner = threading.Thread(target=run, args=(settings, ending))
            runner.start()
            try:
                for number in range(arguments.runs):
                    told, took = _measure(client, small_spec(number, chance))
                    inside = told.low <= took <= told.high
                    within += inside
                    widths.append(told.high / told.low)
                    ratios.append(took / told.seconds)
                    figures = "".join(f"{figure:>8.1f}" for figure in (told.low, told.seconds, told.high, took))
                    print(f"{number:>4}{figures}  {'yes' if inside else 'no'}", flush=True)
            finally:
                ending.set()
                runner.join()
    print(f"within the interval: {within} of {arguments.runs} ({within / arguments.runs:.0%})")
    print(f"median of high/low: {statistics.median(widths):.2f}; median of took/told: {statistics.median(ratios):.2f}")


def _measure(client: Client, spec: dict[str, Any]) -> tuple[Estimate, float]:
    while True:  # the first one waits for the nets that are timed
        try:
            told = client.estimate(spec)
            break
        except Refused as refused:
            if refused.status != 503:
                raise
            time.sleep(0.5)
    client.create_study(spec)
    while (status := client.study(spec["name"])).state not in ("succeeded", "failed"):
        time.sleep(0.1)
    assert status.state == "succeeded", status.error
    assert status.job is not None
    return told, status.job.elapsed_seconds


if __name__ == "__main__":
    main()
