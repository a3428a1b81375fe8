"""What a bag and its students reach on the validation images of MNIST, by temperature and weight of the teacher.

    python -m benchmarks.distillation --shift 1 --width 384 --epochs 10

One configuration: single nets with a few seeds, the bag's members on bootstrap samples, and students of the bag with the single
nets' seeds. Prints each accuracy, in per cent. The sealed test set stays closed.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean

import torch
from safetensors.numpy import load

from tuner.data.catalogue import describe, images_of, training_labels
from tuner.data.installation import install_mnist
from tuner.data.splits import partition
from tuner.executors import training_task
from tuner.executors.protocol import DataSlice, Task, Teacher, Trained
from tuner.nets.bagging import average, pack
from tuner.specs.hyperparameters import Hyperparameters
from tuner.store.model_files import StoredNet

TEACHERS = [(1.0, 0.5), (1.0, 0.9), (2.0, 0.9)]
"""Temperature and weight."""

STUDENTS = {"with dropout": True, "without dropout": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shift", type=int, default=1)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    point = Hyperparameters(
        width=arguments.width, dropout=arguments.dropout, shift_pixels=arguments.shift, learning_rate=2e-3
    )
    print(f"{point.parameter_count(784, 10):,} parameters, {arguments.epochs} epochs, shifts of {arguments.shift}")
    with tempfile.TemporaryDirectory() as folder, _pool() as pool:
        _compare(Path(folder), pool, point, arguments)


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


def _compare(folder: Path, pool: ProcessPoolExecutor, point: Hyperparameters, arguments: argparse.Namespace) -> None:
    install_mnist(folder)
    dataset = describe("mnist", folder)
    labels = training_labels(dataset)
    count = len(partition(labels).train)

    def task(seed: int, bootstrap: int | None = None, teacher: Teacher | None = None, dropped: bool = True) -> Task:
        data = DataSlice(dataset.folder, (0, count), (count, len(labels)), bootstrap)
        return Task(
            "",
            point if dropped else point.model_copy(update={"dropout": 0.0}),
            data,
            arguments.epochs,
            seed,
            decay=True,
            teacher=teacher,
            keep_weights=True,
        )

    def train(tasks: Sequence[Task]) -> list[Trained]:
        return list(pool.map(_run, tasks))

    seeds = range(arguments.seeds)
    for name, dropped in STUDENTS.items():
        _tell(f"single nets {name}", train([task(seed, dropped=dropped) for seed in seeds]))
    members = train([task(100 + k, bootstrap=100 + k) for k in range(arguments.members)])
    _tell("members", members)
    nets = [StoredNet.from_bytes(member.weights or b"", point.activation) for member in members]
    images, truth = images_of(dataset, (count, len(labels)))
    bag = float((average([net.predict(images) for net in nets]).argmax(1) == truth).mean())
    print(f"{'bag':<46}{100 * bag:6.2f}", flush=True)
    file = folder / "bag.safetensors"
    file.write_bytes(pack([load(member.weights or b"") for member in members]))

    def teacher(temperature: float, weight: float) -> Teacher:
        return Teacher(file, (point,) * len(members), (1,) * len(members), temperature, weight)

    for name, dropped in STUDENTS.items():
        students = train([task(seed, teacher=teacher(t, w), dropped=dropped) for t, w in TEACHERS for seed in seeds])
        for k, (temperature, weight) in enumerate(TEACHERS):
            told = f"students {name}, T = {temperature:g}, weight {weight:g}"
            _tell(told, students[k * len(seeds) : (k + 1) * len(seeds)])


def _run(task: Task) -> Trained:
    outcome = training_task.run(task, lambda _event: None, lambda: False)
    if not isinstance(outcome, Trained):
        raise RuntimeError(f"the training must reach its end, but got {outcome}")
    return outcome


def _tell(what: str, trained: Sequence[Trained]) -> None:
    accuracies = [100 * one.validation_accuracy for one in trained]
    each = " ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    print(f"{what:<46}{mean(accuracies):6.2f}   {each}   {mean(one.seconds for one in trained):.0f} s each", flush=True)


if __name__ == "__main__":
    main()
