"""What a deterministic search costs: whole searches of the default space, asked for one by one and in generations.

    python -m benchmarks.generations --seeds 3 --train 5000
    python -m benchmarks.generations --seeds 10 --toy

Prints for each kind of search and seed how long it took on two workers, the mean of its three best values, how many trials were
pruned, and the share of the time in which workers would wait for the end of a generation, for 2, 4 and 8 of them: the trials'
own seconds, dealt out anew. With --toy the sampler alone is judged, on a toy objective without training.
"""

import argparse
import heapq
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import optuna

from benchmarks.warm_start import grow
from tuner.client import Client
from tuner.runner.runner import run
from tuner.settings import Settings
from tuner.specs.study import StudySpec
from tuner.stages.view import View

KINDS: dict[str, dict[str, Any]] = {
    "one by one": {},
    **{f"generations of {size}": {"deterministic": True, "generation_size": size} for size in (4, 8, 16)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=5000, help="images of the subset")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    if arguments.toy:
        _toy(arguments.seeds, arguments.trials)
        return
    print(
        f"{'search':<20}{'seed':>5}{'s':>8}{'best three':>12}{'pruned':>8}{'waiting: 2':>12}{'4':>6}{'8 workers':>11}"
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), parallel=2, log_level="ERROR")
        ending = threading.Event()
        with Client.in_process(settings) as client:
            runner = threading.Thread(target=run, args=(settings, ending))
            runner.start()
            try:
                for seed in range(arguments.seeds):
                    for kind, changes in KINDS.items():
                        _measure(client, kind, changes, seed, arguments)
            finally:
                ending.set()
                runner.join()


def _toy(seeds: int, trials: int) -> None:
    """The mean of the best values, by TPE."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for kind, changes in KINDS.items():
        specs = [StudySpec.model_validate({"name": "toy", "seed": seed, **changes}) for seed in range(seeds)]
        best = [max(grow(View(spec, [], {}), trials, apart=0.0)) for spec in specs]
        print(f"{kind:<20}{statistics.mean(best):>10.4f}{max(best):>10.4f}{min(best):>10.4f}", flush=True)


def _measure(client: Client, kind: str, changes: dict[str, Any], seed: int, arguments: argparse.Namespace) -> None:
    name = f"{kind.replace(' ', '-')}-{seed}"
    spec = {"name": name, "seed": seed, "promotion": None, "budget": {"n_trials": arguments.trials}, **changes}
    client.create_study({**spec, "subset": {"train": arguments.train, "validation": 2000, "epochs": 5}})
    while (status := client.study(name)).state not in ("succeeded", "failed"):
        time.sleep(0.2)
    trials = list(client.trials(name))
    values = sorted((t.value for t in trials if t.state == "COMPLETE" and t.value is not None), reverse=True)
    seconds = [trial.seconds or 0.0 for trial in sorted(trials, key=lambda trial: trial.number)]
    size = changes.get("generation_size")
    waiting = [f"{_waiting(seconds, workers, size):.0%}" for workers in (2, 4, 8)]
    elapsed = 0.0 if status.job is None else status.job.elapsed_seconds
    print(
        f"{kind:<20}{seed:>5}{elapsed:>8.1f}{sum(values[:3]) / 3:>12.4f}{status.trials.pruned:>8}"
        f"{waiting[0]:>12}{waiting[1]:>6}{waiting[2]:>11}",
        flush=True,
    )


def _waiting(seconds: list[float], workers: int, size: int | None) -> float:
    """The share of the workers' time in which they have no trial; `size` of a generation, None: there are none."""
    begun = 0.0
    for first in range(0, len(seconds), size or len(seconds)):
        free = [begun] * workers
        for duration in seconds[first : first + (size or len(seconds))]:
            heapq.heappush(free, heapq.heappop(free) + duration)
        begun = max(free)
    return 1 - sum(seconds) / (workers * begun)


if __name__ == "__main__":
    main()
