"""CPU seconds of one trial: ours, a plain torch loop with a DataLoader, Keras 3 on TensorFlow.

    pip install -e '.[benchmarks]' -c constraints.txt
    python benchmarks/trial.py

A trial is 5 epochs on 5,000 MNIST images, 2×128 relu, Adam, batches of 100, with the accuracy on 2,000 other images after every
epoch. Counted are the building of the net and all of its training; imports and the loading of data are not, nor is a first,
uncounted trial that warms each process up. Every trial has a process of its own on one core and one thread; a round runs each
contender once, so that all of them see the same changes of the machine. The others get their pixels scaled beforehand; ours
are bytes, and their scaling is counted.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tuner.data.idx import read_idx
from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST
from tuner.data.splits import partition, search_slices

EPOCHS, TRAIN, VALIDATION, BATCH, WIDTH, CLASSES, RATE = 5, 5_000, 2_000, 100, 128, 10, 1e-3

Array = np.ndarray[Any, Any]
Trial = Callable[[], float]
"""Trains one net and says its accuracy on the validation images."""


def slices() -> tuple[Array, Array, Array, Array]:
    """Training images and labels, validation images and labels, as a search gets them."""
    images, labels = (read_idx(PACKAGED_MNIST / MNIST_FILES[part]) for part in ("train_images", "train_labels"))
    order = partition(labels).train
    train, validation = (order[slice(*bounds)] for bounds in search_slices(len(order), TRAIN, VALIDATION))
    return images[train], labels[train], images[validation], labels[validation]


def scaled(images: Array) -> Array:
    flat: Array = images.reshape(len(images), -1).astype(np.float32)
    return (flat - 33.3) / 78.6


def ours() -> Trial:
    import torch

    from tuner.nets.training import train
    from tuner.nets.training_data import prepare
    from tuner.specs.hyperparameters import Hyperparameters

    torch.set_num_threads(1)
    data = prepare(*slices())
    hyperparameters = Hyperparameters(depth=2, width=WIDTH, optimizer="adam", learning_rate=RATE, batch_size=BATCH)

    def trial() -> float:
        result = train(hyperparameters, data, classes=CLASSES, epochs=EPOCHS, seed=0)
        return result.records[-1].validation_accuracy

    return trial


def plain_torch() -> Trial:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    images, labels, validation_images, validation_labels = slices()
    train = TensorDataset(torch.from_numpy(scaled(images)), torch.from_numpy(labels.astype(np.int64)))
    pixels, truth = torch.from_numpy(scaled(validation_images)), torch.from_numpy(validation_labels.astype(np.int64))

    def trial() -> float:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(pixels.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
        loss_of = nn.CrossEntropyLoss()
        loader = DataLoader(train, batch_size=BATCH, shuffle=True)
        accuracy = 0.0
        for _ in range(EPOCHS):
            net.train()
            for batch, batch_labels in loader:
                optimizer.zero_grad()
                loss = loss_of(net(batch), batch_labels)
                loss.backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                accuracy = (net(pixels).argmax(1) == truth).float().mean().item()
        return accuracy

    return trial


def keras_fit() -> Trial:
    import keras
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    images, labels, validation_images, validation_labels = slices()
    x, validation = scaled(images), (scaled(validation_images), validation_labels)

    def trial() -> float:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        hidden = [layers.Dense(WIDTH, activation="relu") for _ in range(2)]
        net = keras.Sequential([layers.Input(x.shape[1:]), *hidden, layers.Dense(CLASSES, activation="softmax")])
        net.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = net.fit(x, labels, batch_size=BATCH, epochs=EPOCHS, validation_data=validation, verbose=0)
        return float(history.history["val_accuracy"][-1])

    return trial


CONTENDERS: dict[str, tuple[Callable[[], Trial], tuple[str, ...]]] = {
    "ours": (ours, ("torch",)),
    "plain torch, DataLoader": (plain_torch, ("torch",)),
    "Keras fit": (keras_fit, ("keras", "tensorflow")),
}
"""By name: what prepares the trial, and the modules it needs."""


def run_one(contender: str) -> None:
    """The child: print the CPU seconds and the accuracy of one warm trial as JSON."""
    trial = CONTENDERS[contender][0]()
    trial()
    began = time.process_time()
    accuracy = trial()
    print(json.dumps({"seconds": time.process_time() - began, "accuracy": accuracy}))


def measure(contender: str) -> dict[str, float]:
    """One child's answer; the child has one thread in every library that asks the environment."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")}
    environment = {
        **os.environ,
        **one,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, __file__, "--one", contender]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        sys.exit(f"{contender} failed:\n{child.stderr}")
    answer: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return answer


def versions(modules: tuple[str, ...]) -> str:
    packages = importlib.metadata.packages_distributions()
    return ", ".join(f"{module} {importlib.metadata.version(packages[module][0])}" for module in modules)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of one trial: ours, plain torch, Keras")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", choices=CONTENDERS, help="run one contender in this process; for the benchmark itself")
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one)
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    present = {
        name: modules for name, (_, modules) in CONTENDERS.items() if all(map(importlib.util.find_spec, modules))
    }
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in present}
    for _ in range(arguments.rounds):
        for name in present:
            answers[name].append(measure(name))
    print(f"CPU seconds of one trial, median (least to most) of {arguments.rounds} rounds, one core, one thread\n")
    print("| | CPU s | times ours, median of pairs | validation accuracy | versions |")
    print("|---|---|---|---|---|")
    for name, (_, modules) in CONTENDERS.items():
        if name not in present:
            print(f"| {name} | – | – | – | {' or '.join(modules)} is not installed: pip install -e '.[benchmarks]' |")
            continue
        seconds = [answer["seconds"] for answer in answers[name]]
        ratios = [mine / base["seconds"] for mine, base in zip(seconds, answers["ours"], strict=True)]
        spread = f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        accuracy = answers[name][0]["accuracy"]
        print(f"| {name} | {spread} | {statistics.median(ratios):.2f} | {accuracy:.4f} | {versions(modules)} |")


if __name__ == "__main__":
    main()
