"""Nets that are built to be ill, each in one way, and healthy ones: those that the diagnosis was developed on, and others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from tuner.data.idx import read_idx
from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST
from tuner.nets.mlp import MLP
from tuner.nets.optimizers import Optimizer
from tuner.nets.pixel_scale import pixel_scale
from tuner.nets.progress import Progress, Run
from tuner.nets.training import TrainingDiverged, train
from tuner.nets.training_data import TrainingData, prepare
from tuner.specs import hyperparameters as names
from tuner.specs.epoch import EpochRecord
from tuner.specs.finding import FindingName
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import LEARNING_RATES
from tuner.statistics.diagnosis import TrainingRun

CLASSES = 10

Images = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@cache
def mnist() -> Images:
    """The 60,000 training images and their labels."""
    images, labels = (read_idx(PACKAGED_MNIST / MNIST_FILES[part]) for part in ("train_images", "train_labels"))
    return images, labels


@cache
def small_digits() -> Images:
    """scikit-learn's 1,797 digits of 8 × 8 pixels, in a random order, brightened to 0 to 240."""
    found = load_digits()
    order = np.random.default_rng(8).permutation(len(found.target))
    return (found.images[order] * 15).astype(np.uint8), found.target[order].astype(np.uint8)


@dataclass(frozen=True)
class Population:
    """Where nets are drawn from. Two populations share neither seeds nor sizes."""

    name: str
    images: Callable[[], Images]
    seed: int
    offset: int
    """The first image that is trained on."""
    train: tuple[int, ...]
    """Images enough for a healthy net."""
    few: tuple[int, ...]
    """So few that a wide net learns them by heart."""
    validation: int
    widths: tuple[int, ...]
    wide: tuple[int, ...]
    narrow: tuple[int, ...]
    deep: tuple[int, ...]
    epochs: int
    """Enough for a healthy net."""

    def data(self, train: int) -> TrainingData:
        images, labels = self.images()
        chosen = slice(self.offset, self.offset + train)
        return prepare(images[chosen], labels[chosen], images[-self.validation :], labels[-self.validation :])


DEVELOPMENT = Population(
    "MNIST, development", mnist, seed=1, offset=0, train=(2000, 3000), few=(100, 200), validation=1000,
    widths=(64, 128, 256), wide=(512, 1024), narrow=(1, 2, 3), deep=(8, 10, 12), epochs=8,
)  # fmt: skip
HELD_OUT = (
    Population(
        "MNIST, held out", mnist, seed=20_001, offset=20_000, train=(1700, 2500, 4000), few=(90, 130, 170), validation=1500,
        widths=(50, 90, 190, 300), wide=(400, 700), narrow=(1, 2, 4), deep=(7, 9, 11), epochs=10,
    ),
    Population(
        "8 × 8 digits", small_digits, seed=30_001, offset=0, train=(900, 1200), few=(60, 80, 100), validation=500,
        widths=(48, 80, 160), wide=(350, 600), narrow=(1, 2, 3), deep=(7, 9, 12), epochs=25,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """A net to be trained, and what it was built to have."""

    expected: FindingName
    hyperparameters: Hyperparameters
    train: int
    epochs: int
    seed: int
    dead_share: float = 0.0
    """Of its hidden units, which begin with biases that turn them off."""


Draw = np.random.Generator


def patients(population: Population, each: int) -> Iterator[Patient]:
    """`each` nets of every finding."""
    generator = np.random.default_rng(population.seed)
    for k in range(each):
        for recipe in RECIPES:
            yield recipe(generator, population, population.seed + k)


def train_patient(patient: Patient, population: Population) -> TrainingRun:
    """As the search trains: the learning rate decays to 0 over the epochs."""
    data, records = population.data(patient.train), list[EpochRecord]()
    h = patient.hyperparameters
    ending = "complete"
    try:
        train(
            h,
            data,
            classes=CLASSES,
            epochs=patient.epochs,
            seed=patient.seed,
            decay=True,
            on_epoch=lambda record, _: records.append(record),
            checkpoint=turned_off(patient, data) if patient.dead_share else None,
        )
    except TrainingDiverged:
        ending = "diverged"
    return TrainingRun(records, h, CLASSES, "diverged" if ending == "diverged" else "complete")


def turned_off(patient: Patient, data: TrainingData) -> bytes:
    """A checkpoint of the net before its first epoch, in which a share of each layer's units has biases far below zero."""
    h, generator = patient.hyperparameters, torch.Generator().manual_seed(patient.seed)
    net = MLP(data.inputs, CLASSES, h, generator, pixel_scale(h.normalisation, data.moments))
    with torch.no_grad():
        for bias in list(net.biases)[:-1]:
            bias[: round(patient.dead_share * len(bias))] = -1000.0
    run = Run(hyperparameters=h, seed=patient.seed, decay_epochs=patient.epochs)
    return Progress(run, net, Optimizer(net), generator).to_bytes()


Recipe = Callable[[Draw, Population, int], Patient]

SOUND: dict[names.Optimizer, tuple[float, float]] = {
    "sgd": (0.08, 0.2),
    "momentum": (0.01, 0.04),
    "rmsprop": (8e-4, 2e-3),
    "adam": (1e-3, 4e-3),
}


def _one(draw: Draw, values: Any) -> Any:
    return values[int(draw.integers(len(values)))]


def _log(draw: Draw, low: float, high: float) -> float:
    return float(np.exp(draw.uniform(np.log(low), np.log(high))))


def _sound(draw: Draw, population: Population, **changes: Any) -> Hyperparameters:
    """What a practitioner would call a good configuration, changed."""
    optimizer: names.Optimizer = changes.pop("optimizer", None) or _one(draw, tuple(SOUND))
    values = {
        "depth": _one(draw, (1, 2, 3)),
        "width": _one(draw, population.widths),
        "activation": _one(draw, ("relu", "tanh", "maxout")),
        "optimizer": optimizer,
        "learning_rate": _log(draw, *SOUND[optimizer]),
        "batch_size": 32,
        "dropout": _one(draw, (0.0, 0.0, 0.2)),
    }
    return Hyperparameters(**{**values, **changes})


def healthy(draw: Draw, population: Population, seed: int) -> Patient:
    return Patient("healthy", _sound(draw, population), _one(draw, population.train), population.epochs, seed)


def stopped_too_early(draw: Draw, population: Population, seed: int) -> Patient:
    """One epoch of a good configuration."""
    return Patient("stopped_too_early", _sound(draw, population), _one(draw, population.train), 1, seed)


def overfit(draw: Draw, population: Population, seed: int) -> Patient:
    """Few images, a wide net, many epochs."""
    h = _sound(draw, population, width=_one(draw, population.wide), dropout=0.0)
    return Patient("overfit", h, _one(draw, population.few), 3 * population.epochs, seed)


def underfit(draw: Draw, population: Population, seed: int) -> Patient:
    """Next to no units, or next to none left by dropout."""
    if draw.random() < 0.5:
        h = _sound(draw, population, width=_one(draw, population.narrow), depth=2, dropout=0.0)
    else:
        h = _sound(draw, population, dropout=float(draw.uniform(0.92, 0.97)), width=population.widths[0])
    return Patient("underfit", h, _one(draw, population.train), population.epochs, seed)


def vanishing_gradient(draw: Draw, population: Population, seed: int) -> Patient:
    """The notes' many sigmoid layers, or the squared error of a softmax that raw pixels have made sure of itself."""
    if draw.random() < 0.6:
        h = _sound(draw, population, activation="sigmoid", depth=_one(draw, population.deep), dropout=0.0)
    else:
        h = _sound(draw, population, loss="mse", normalisation="none", activation="tanh", optimizer="sgd", dropout=0.0)
        h = h.model_copy(update={"activation": "relu", "depth": 2})
    return Patient("vanishing_gradient", h, _one(draw, population.train), population.epochs, seed)


def diverged(draw: Draw, population: Population, seed: int) -> Patient:
    """Plain gradient descent in steps a hundred times too large."""
    h = _sound(
        draw, population, activation=_one(draw, ("relu", "maxout")), depth=_one(draw, (3, 4, 5)), optimizer="sgd"
    )
    h = h.model_copy(update={"learning_rate": _log(draw, 10, 100)})
    return Patient("diverged", h, _one(draw, population.train), population.epochs, seed)


def dead_units(draw: Draw, population: Population, seed: int) -> Patient:
    """Relus whose biases turn nearly all of them off."""
    h = _sound(draw, population, activation="relu", dropout=0.0)
    dead = float(draw.uniform(0.97, 1.0))
    return Patient("dead_units", h, _one(draw, population.train), population.epochs, seed, dead)


def learning_rate_too_high(draw: Draw, population: Population, seed: int) -> Patient:
    """Thirty to three hundred times a good one, where numbers stay finite: bounded steps, or bounded activations."""
    if draw.random() < 0.5:
        h = _sound(draw, population, optimizer=_one(draw, ("adam", "rmsprop")))
    else:
        h = _sound(draw, population, optimizer=_one(draw, ("sgd", "momentum")), activation="tanh")
    factor = _log(draw, 100, 300)
    h = h.model_copy(update={"learning_rate": min(100.0, h.learning_rate * factor)})
    return Patient("learning_rate_too_high", h, _one(draw, population.train), population.epochs, seed)


def learning_rate_too_low(draw: Draw, population: Population, seed: int) -> Patient:
    """A thirtieth of the lowest usual one, or less."""
    h = _sound(draw, population)
    rate = LEARNING_RATES[h.optimizer].low / _log(draw, 30, 1000)
    h = h.model_copy(update={"learning_rate": rate})
    return Patient("learning_rate_too_low", h, _one(draw, population.train), population.epochs, seed)


RECIPES: tuple[Recipe, ...] = (
    diverged,
    vanishing_gradient,
    dead_units,
    learning_rate_too_high,
    learning_rate_too_low,
    stopped_too_early,
    underfit,
    overfit,
    healthy,
)
