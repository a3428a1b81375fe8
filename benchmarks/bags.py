"""Which nets make the best bag: what a half of the images that no net was trained on chooses, judged on the other half.

    python -m benchmarks.goals ten-minutes --data-dir FOLDER
    python -m benchmarks.bags FOLDER ten-minutes-0 ten-minutes-1

Of each study the nets that race, verdict and ensemble have kept (for a day), but for the default's. Told is the accuracy in per
cent, over both halves of 20 random splits.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.catalogue import images_of, open_dataset
from tuner.data.splits import refit_sizes
from tuner.nets.bagging import Probabilities, average, select
from tuner.settings import Settings
from tuner.store import runs, studies
from tuner.store.database import open_database, reading
from tuner.store.model_files import StoredNet, read_weights
from tuner.store.runs import Run

STAGES: tuple[runs.Stage, ...] = ("promotion", "verdict", "ensemble")
SPLITS, MOST = 20, 5


def accuracy(members: Sequence[Probabilities], labels: NDArray[Any]) -> float:
    return float((average(members).argmax(1) == labels).mean())


def by_accuracy(members: Sequence[Probabilities], labels: NDArray[Any]) -> list[int]:
    """Greedy selection with replacement by the accuracy of the average."""
    chosen: list[int] = []
    for _ in range(MOST):
        reached = [accuracy([members[k] for k in [*chosen, new]], labels) for new in range(len(members))]
        if chosen and max(reached) <= accuracy([members[k] for k in chosen], labels):
            break
        chosen.append(int(np.argmax(reached)))
    return chosen


def compare(said: list[Probabilities], labels: NDArray[Any], kept: list[Run]) -> dict[str, float]:
    members = [k for k, run in enumerate(kept) if run.stage == "ensemble"]
    reached: dict[str, list[float]] = defaultdict(list)
    generator = np.random.default_rng(0)
    for _ in range(SPLITS):
        order = generator.permutation(len(labels))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for choosing, judging in (halves, halves[::-1]):
            seen, truth = [one[choosing] for one in said], labels[choosing]
            single = int(np.argmax([accuracy([one], truth) for one in seen]))
            choices = {
                "best net": [single],
                "bootstrap members": members,
                "greedy, accuracy": by_accuracy(seen, truth),
                "greedy, cross-entropy": select(seen, truth, MOST),
                "all nets": list(range(len(said))),
            }
            for name, chosen in choices.items():
                if chosen:
                    reached[name].append(accuracy([said[k][judging] for k in chosen], labels[judging]))
    return {name: 100 * float(np.mean(values)) for name, values in reached.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("studies", nargs="+")
    arguments = parser.parse_args()
    settings = Settings(data_dir=arguments.folder)
    dataset = open_dataset("mnist", settings.datasets_dir)
    images, labels = images_of(dataset, (refit_sizes(dataset.train_count)[0], dataset.train_count))
    engine = open_database(settings.database_url)
    for name in arguments.studies:
        with reading(engine) as connection:
            study = studies.find_study(connection, name)
            if study is None or study.job is None:
                parser.error(f"{name} must be a study of {arguments.folder}")
            whole = [run for stage in STAGES for run in runs.load_runs(connection, study.id, study.job.id, stage)]
        plain = [run for run in whole if (settings.models_dir / f"run-{run.id}").exists()]
        kept = [run for run in plain if run.contender != "default" and not run.contender.startswith("student")]
        nets = [
            StoredNet.from_bytes(read_weights(settings.models_dir / f"run-{r.id}"), r.hyperparameters.activation)
            for r in kept
        ]
        told = compare([net.predict(images) for net in nets], labels, kept)
        print(f"{name}, {len(kept)} nets: " + ", ".join(f"{choice} {value:.3f}" for choice, value in told.items()))
    engine.dispose()


if __name__ == "__main__":
    main()
