"""What whole studies reach on the sealed test set, over study seeds: single net, bag and student, and in what time.

    python -m benchmarks.goals default
    python -m benchmarks.goals ten-minutes --seeds 5 --data-dir FOLDER
    python -m benchmarks.goals no-shift

Each study is run as `tuner run` does it, one after the other; one that is there already is only told. The single net is the one
that the study delivers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tuner.client import Client
from tuner.client.answers import Report
from tuner.settings import Settings

TUNER = Path(sys.executable).with_name("tuner")

SPECS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-shift": {"search_space": {"shift_pixels": 0}},
    "ten-minutes": {
        "budget": {"n_trials": 120, "timeout_seconds": 600},
        "promotion": {"top_k": 5, "max_seeds": 5, "epochs": 25},
        "ensemble": {"members": 5, "student": True},
    },
}
SPECS["ten-minutes-no-shift"] = {**SPECS["ten-minutes"], **SPECS["no-shift"]}

MODELS = ("single", "bag", "student")


def run_study(settings: Settings, name: str, spec: dict[str, Any], seed: int) -> None:
    """Returns when the study has ended; CalledProcessError where it has failed."""
    body = json.dumps({**spec, "name": name, "seed": seed})
    environment = {**os.environ, "TUNER_DATA_DIR": str(settings.data_dir)}
    subprocess.run([TUNER, "run", "-"], input=body, text=True, env=environment, check=True, stdout=sys.stderr)


def tell(report: Report, seconds: float) -> dict[str, float]:
    """Print a row; answers the test accuracies of the models that there are."""
    models = {kind: getattr(report.ensemble, kind) for kind in MODELS}
    reached = {kind: model.test_accuracy for kind, model in models.items() if model and model.test_accuracy is not None}
    gain = report.gain
    low, high = gain.interval or (float("nan"), float("nan"))
    cells = [f"{reached[kind]:.4f}" if kind in reached else "" for kind in MODELS]
    size = f"{models['single'].parameters:,}" if models["single"] else ""
    told = (
        "" if gain.over_default is None else f"{100 * gain.over_default:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    )
    print(f"| {report.study} | {seconds:.0f} | {size} | {' | '.join(cells)} | {told} |", flush=True)
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", choices=SPECS)
    parser.add_argument("--seeds", type=int, default=5, help="studies, with the seeds from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, help="kept; without it, a folder that goes away at the end")
    arguments = parser.parse_args()
    print("| study | seconds | parameters | single | bag | student | gain over the default, points |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(data_dir=arguments.data_dir or Path(temporary))
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            name = f"{arguments.spec}-{seed}"
            with Client.in_process(settings) as client:
                states = {study.name: study.state for study in client.studies()}
            if name not in states:
                run_study(settings, name, SPECS[arguments.spec], seed)
            elif states[name] != "succeeded":
                raise SystemExit(f"{name} must have succeeded, but is {states[name]}")
            with Client.in_process(settings) as client:
                job = client.study(name).job
                found.append(tell(client.report(name), 0.0 if job is None else job.elapsed_seconds))
    for kind in MODELS:
        reached = [one[kind] for one in found if kind in one]
        if reached:
            spread = f"{min(reached):.4f} to {max(reached):.4f}"
            print(f"{kind}: mean {statistics.mean(reached):.4f}, {spread}, in {len(reached)} of {len(found)} studies")


if __name__ == "__main__":
    main()
