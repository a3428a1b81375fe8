"""What bags and students of one configuration reach on the validation images of MNIST.

    python -m benchmarks.distillation --epochs 25 --seeds 3

The configuration is trial 1's, fitted to all images. Bags: of members on bootstrap samples, of nets on all images, which later
teach, and of both. Students, by temperature and weight of their teachers, are trained as long as these and longer, and held
against nets of the same seeds without a teacher. Prints accuracies in per cent; the sealed test set stays closed.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from safetensors.numpy import load

from tuner.data.catalogue import describe, images_of, training_labels
from tuner.data.installation import install_mnist
from tuner.data.splits import partition
from tuner.executors import training_task
from tuner.executors.protocol import DataSlice, Task, Teacher, Trained
from tuner.nets.bagging import Probabilities, average, pack
from tuner.specs.fitting import fit
from tuner.specs.neighbours import usual
from tuner.specs.search_space import SearchSpace
from tuner.specs.study import PATIENCE, TEACHERS
from tuner.store.model_files import StoredNet

LESSONS = [(1.0, 0.5), (1.0, 1.0), (2.0, 0.9), (4.0, 1.0)]
"""Temperature and weight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        _compare(Path(folder), pool, arguments)


def _compare(folder: Path, pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> None:
    space = SearchSpace()
    found = usual(space)
    assert found is not None
    point = fit(found, space, 0.1)
    install_mnist(folder)
    dataset = describe("mnist", folder)
    labels = training_labels(dataset)
    count = len(partition(labels).train)
    images, truth = images_of(dataset, (count, len(labels)))

    def task(seed: int, times: float = 1, bootstrap: int | None = None, teacher: Teacher | None = None) -> Task:
        data = DataSlice(dataset.folder, (0, count), (count, len(labels)), bootstrap)
        epochs = round(times * arguments.epochs)
        return Task("", point, data, epochs, seed, decay=True, last=True, teacher=teacher, keep_weights=True)

    def train(what: str, tasks: Sequence[Task]) -> list[bytes]:
        trained = list(pool.map(_run, tasks))
        accuracies = [100 * one.validation_accuracy for one in trained]
        each = " ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        print(
            f"{what:<46}{mean(accuracies):6.2f}   {each}   {mean(one.seconds for one in trained):.0f} s each",
            flush=True,
        )
        return [one.weights or b"" for one in trained]

    def ask(weights: Sequence[bytes]) -> list[Probabilities]:
        nets = [StoredNet.from_bytes(one, point.activation) for one in weights]
        return [np.asarray(net.predict(images), np.float32) for net in nets]

    seeds = range(arguments.seeds)
    taught_by = train("single nets", [task(100 + k) for k in range(TEACHERS)])
    members = train("members", [task(200 + k, bootstrap=200 + k) for k in range(arguments.members)])
    bags = {"members": ask(members), "single nets": ask(taught_by), "both": ask([*members, *taught_by])}
    for name, said in bags.items():
        print(f"{'bag of ' + name:<46}{100 * (average(said).argmax(1) == truth).mean():6.2f}", flush=True)
    file = folder / "teachers.safetensors"
    file.write_bytes(pack([load(one) for one in taught_by]))
    for times in reversed(PATIENCE):
        train(f"no teacher, {times:g} × the epochs", [task(seed, times) for seed in seeds])
        for temperature, weight in LESSONS:
            teacher = Teacher(file, (point,) * TEACHERS, (1,) * TEACHERS, temperature, weight)
            told = f"students, T = {temperature:g}, weight {weight:g}, {times:g} × the epochs"
            train(told, [task(seed, times, teacher=teacher) for seed in seeds])


def _run(task: Task) -> Trained:
    outcome = training_task.run(task, lambda _event: None, lambda: False)
    if not isinstance(outcome, Trained):
        raise RuntimeError(f"the training must reach its end, but got {outcome}")
    return outcome


if __name__ == "__main__":
    main()
