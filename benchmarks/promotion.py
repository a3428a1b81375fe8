"""What promotion buys over the subset's own best, as a study of the method: over study seeds, on the sealed test set.

    python -m benchmarks.promotion
    python -m benchmarks.promotion --seeds 2 --spec tiny.json --data-dir FOLDER

For each study seed a whole study is run, as `tuner run` does it. Its winner is what the verdict has tested, with fresh seeds.
Against it stands the search's best trial, retrained verbatim: the same hyperparameters, not fitted to the amount of data, on the
same images, with the same epochs, the same decaying learning rate and the same seeds as the winner. The difference of their
mean test accuracies is one number a study; told is its mean over the studies with Student's 95 % interval.

A verbatim net that explodes has no accuracy: the mean of its study is over its other seeds, and a study without any is told and
left out, which is no help to promotion's winner.

The nets that were retrained verbatim are scored on one opening of the test set, with an entry of its own in the data folder's
ledger. A study that is there already is not run again.
"""

import argparse
import hashlib
import json
import os
import queue
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit
from sqlalchemy import Engine

from benchmarks.goals import run_study
from tuner.data.catalogue import Dataset, open_dataset
from tuner.data.sealed import open_test_set
from tuner.data.splits import part_sizes
from tuner.executors.local import LocalExecutor
from tuner.executors.protocol import DataSlice, Diverged, EpochEnded, Event, Task, Trained
from tuner.settings import Settings
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import PromotionSpec, StudySpec
from tuner.specs.verdict import Verdict
from tuner.store import ledger, runs, studies, trials, verdicts
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.ledger import Opener
from tuner.store.model_files import StoredNet


@dataclass(frozen=True)
class Studied:
    """What one study has found. `tasks` train its search's best again, one for each seed of the verdict."""

    name: str
    verdict: Verdict
    best: int
    """The search's best trial."""
    point: Hyperparameters
    tasks: tuple[Task, ...]

    @property
    def winner_accuracy(self) -> float:
        gain = self.verdict.gain
        assert gain is not None
        assert gain.winner_accuracy is not None
        return gain.winner_accuracy


def studied(engine: Engine, dataset: Dataset, name: str) -> Studied | None:
    """None where there is no such study, or it has no verdict."""
    with reading(engine) as connection:
        study = studies.find_study(connection, name)
        verdict = None if study is None else verdicts.of_study(connection, study.id)
        if study is None or study.job is None or verdict is None:
            return None
        assert isinstance(study.spec, StudySpec)
        [best] = trials.best_trials(connection, study.id, minimize=False, limit=1)
        fresh = runs.load_runs(connection, study.id, study.job.id, "verdict")
    promotion = study.spec.promotion or PromotionSpec()
    point = study.spec.search_space.restore(best.params)
    seeds = sorted({run.seed for run in fresh if run.contender == verdict.race.winner})
    count = verdict.delivered.train_images or part_sizes(dataset.train_count)[0]
    data = DataSlice(dataset.folder, (0, count), (count, dataset.train_count))
    task = Task("", point, data, promotion.epochs, 0, decay=True, last=True, keep_weights=True)
    tasks = tuple(replace(task, key=f"{name}/{seed}", seed=seed) for seed in seeds)
    return Studied(name, verdict, best.number, point, tasks)


def train(tasks: list[Task], slots: int) -> Iterator[tuple[str, bytes]]:
    """The weights of each that does not explode, as they come; one that fails is an error."""
    executor, events = LocalExecutor(slots), queue.SimpleQueue[Event]()
    try:
        for task in tasks:
            executor.submit(task, events.put)
        left = {task.key for task in tasks}
        while left:
            event = events.get()
            if isinstance(event, EpochEnded):
                continue
            left.remove(event.key)
            if isinstance(event, Diverged):
                print(f"{event.key} exploded in epoch {event.epoch}, {len(left)} to go", file=sys.stderr)
                continue
            if not isinstance(event, Trained) or event.weights is None:
                raise SystemExit(f"{event.key}: must reach its end, but got {event}")
            print(f"{event.key} is trained, {len(left)} to go", file=sys.stderr)
            yield event.key, event.weights
    finally:
        executor.close()


def test(engine: Engine, dataset: Dataset, found: list[Studied], weights: dict[str, bytes]) -> dict[str, float]:
    """By the tasks' keys, on one opening of the sealed test set."""
    activations = {task.key: one.point.activation for one in found for task in one.tasks}
    hashes = [hashlib.sha256(content).hexdigest() for content in weights.values()]

    def record() -> None:
        # Of no study; with force, since it is another opening whatever was opened before.
        opener = Opener(None, "benchmarks/promotion.py", None, dataset.name, dataset.checksum, force=True)
        with writing(engine) as connection:
            ledger.record_opening(connection, opener, hashes)

    images, labels = open_test_set(dataset, record)
    nets = {key: StoredNet.from_bytes(content, activations[key]) for key, content in weights.items()}
    return {key: float((net.predict(images).argmax(axis=1) == labels).mean()) for key, net in nets.items()}


def tell(found: list[Studied], accuracy: dict[str, float]) -> None:
    print("| study | winner | its test accuracy | subset's best, verbatim | its test accuracy | difference, points |")
    print("|---|---|---|---|---|---|")
    differences = []
    for one in found:
        reached = [accuracy[task.key] for task in one.tasks if task.key in accuracy]
        if not reached:
            print(
                f"| {one.name} | {one.verdict.race.winner} | {one.winner_accuracy:.4f} | trial-{one.best} | exploded | |"
            )
            continue
        verbatim = float(np.mean(reached))
        differences.append(100 * (one.winner_accuracy - verbatim))
        print(
            f"| {one.name} | {one.verdict.race.winner} | {one.winner_accuracy:.4f} | trial-{one.best} | {verbatim:.4f} "
            f"| {differences[-1]:+.2f} |"
        )
    mean, count = float(np.mean(differences)), len(differences)
    if count > 1:
        reach = float(-stdtrit(count - 1, 0.025) * np.std(differences, ddof=1) / np.sqrt(count))
        print(
            f"\nmean {mean:+.3f} points, 95 % interval {mean - reach:+.3f} to {mean + reach:+.3f}, over {count} studies"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="studies, with the seeds from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--spec", type=Path, help="a StudySpec; without it, the default study")
    parser.add_argument("--data-dir", type=Path, help="kept; without it, a folder that goes away at the end")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec.read_text()) if arguments.spec is not None else {}
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(data_dir=arguments.data_dir or Path(temporary))
        dataset = open_dataset(spec.get("dataset", "mnist"), settings.datasets_dir)
        engine = open_database(settings.database_url)
        migrate(engine)
        found = []
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            name = f"promotion-{seed}"
            if (one := studied(engine, dataset, name)) is None:
                run_study(settings, name, spec, seed)
                one = studied(engine, dataset, name)
            if one is None:
                raise SystemExit(f"the study with seed {seed} must end with a verdict, but has none")
            found.append(one)
        weights = dict(train([task for one in found for task in one.tasks], settings.parallel or os.cpu_count() or 1))
        tell(found, test(engine, dataset, found, weights))
        engine.dispose()


if __name__ == "__main__":
    main()
