"""Seconds from the end of an epoch in a worker until the Optuna dashboard's own API shows its value.

    pip install -e '.[dev]' -c constraints.txt
    python -m benchmarks.live

`tuner serve` trains two nets at a time; the study is asked for twenty times a second. No table says when an epoch ended.
It was not before the trial's start plus the seconds of its epochs up to there; from there is counted, so the figures are upper
bounds: between them and the truth lie a task's way to its worker and the loading of its images.
"""

import argparse
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.serving import Service, serving

POLL_SECONDS = 0.05


def study(trials: int) -> dict[str, Any]:
    space = {
        "depth": 4,
        "width": 512,
        "activation": "relu",
        "optimizer": "sgd",
        "learning_rate": {"low": 1e-3, "high": 1e-2},
    }
    subset = {"train": 10_000, "validation": 2_000, "epochs": 5}
    body = {"name": "live", "search_space": space, "subset": subset, "budget": {"n_trials": trials, "parallel": 2}}
    return {**body, "pruner": {"kind": "none"}, "sampler": {"kind": "random"}, "promotion": None}


def watch(service: Service, study_id: int) -> dict[tuple[int, int], float]:
    """When each epoch of each trial was first seen, until the study has ended."""
    seen: dict[tuple[int, int], float] = {}
    while True:
        answer = service.get(f"/api/studies/{study_id}?after=0")
        at = time.time()
        for trial in answer["trials"]:
            for entry in trial["intermediate_values"]:
                seen.setdefault((trial["number"], entry["step"]), at)
        if service.get("/v1/studies/live")["state"] not in ("queued", "running"):
            return seen
        time.sleep(POLL_SECONDS)


def ends(service: Service, number: int) -> list[float]:
    """The earliest time at which each epoch of the trial can have ended."""
    trial = service.get(f"/v1/studies/live/trials/{number}")
    start = datetime.fromisoformat(trial["datetime_start"]).timestamp()
    seconds = trial["curves"]["seconds"]
    return [start + sum(seconds[: i + 1]) for i in range(len(seconds))]


def main() -> None:
    parser = argparse.ArgumentParser(description="how late the dashboard shows an epoch")
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data") as service:
        service.post("/v1/studies", study(arguments.trials))
        [summary] = service.get("/api/studies")["study_summaries"]
        seen = watch(service, summary["study_id"])
        lags = [
            seen[number, epoch] - end
            for number in range(arguments.trials)
            for epoch, end in enumerate(ends(service, number), start=1)
        ]
    high = statistics.quantiles(lags, n=20)[-1]
    print(
        f"{len(lags)} epochs: {statistics.median(lags):.2f} s in the median, {high:.2f} s at the 95th percentile, "
        f"{max(lags):.2f} s at most"
    )


if __name__ == "__main__":
    main()
