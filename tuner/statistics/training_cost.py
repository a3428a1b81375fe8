"""The seconds of an epoch as a function of its net, its batches and its images: what a machine was seen to need.

Each feature is work of one kind, in millions; its coefficient, seconds for a unit, cannot be negative (non-negative least
squares, Lawson & Hanson 1974). Residuals are relative, so that small nets count as much as large ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from tuner.specs.estimate import Timing
from tuner.specs.hyperparameters import Hyperparameters

Floats = NDArray[np.float64]

UPDATES = {"sgd": 1, "momentum": 2, "rmsprop": 3, "adam": 4}
"""Passes over the weights in one step of an optimizer."""

SMOOTH = ("sigmoid", "tanh")


@dataclass(frozen=True)
class Epoch:
    """What is trained: a net on so many images, judged on so many."""

    hyperparameters: Hyperparameters
    inputs: int
    classes: int
    train: int
    validation: int

    def features(self) -> list[float]:
        h = self.hyperparameters
        steps, weights = self.train / h.batch_size, h.parameter_count(self.inputs, self.classes)
        units = h.depth * h.width * (h.maxout_pieces or 1)
        return [
            value / 1e6
            for value in (
                steps,
                steps * h.depth,
                steps * weights * UPDATES[h.optimizer],
                self.train * weights,
                self.validation * weights,
                self.train * units,
                self.train * units * (h.activation in SMOOTH),
                self.train * units * (h.dropout > 0),
                self.train * units * h.batch_norm,
                self.train * self.inputs,
                self.train * self.inputs * (h.shift_pixels > 0),
                self.train * self.inputs * (h.rotate_degrees > 0 or h.zoom > 0),
                self.train * self.inputs * (h.input_dropout > 0),
            )
        ]


@dataclass(frozen=True)
class TrainingCost:
    coefficients: Floats

    def seconds(self, epochs: Sequence[Epoch]) -> Floats:
        """Of each of them, shape (count,)."""
        predicted: Floats = _matrix(epochs) @ self.coefficients
        return predicted


def learn(timings: Sequence[Timing]) -> TrainingCost:
    """At least one timing; the more kinds of nets among them, the better."""
    epochs = [Epoch(t.hyperparameters, t.inputs, t.classes, t.train, t.validation) for t in timings]
    matrix, seconds = _matrix(epochs), np.array([timing.seconds for timing in timings])
    coefficients: Floats = scipy.optimize.nnls(matrix / seconds[:, None], np.ones(len(seconds)))[0]
    return TrainingCost(coefficients)


def _matrix(epochs: Sequence[Epoch]) -> Any:
    return np.array([epoch.features() for epoch in epochs])
