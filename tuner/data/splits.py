"""How the training images are divided: once, stratified by class, the same for everyone."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.errors import InvalidInput

SEED = 20_101
"""Fixed, so that two studies, and two versions of this program, speak of the same images."""

VALIDATION_SHARE = 1 / 6

KEPT_SHARE, FEWEST_KEPT = 1 / 5, 100
"""Of the validation images, those that no net is ever trained on; the others are trained on, too, once a study's race is over."""

TEST_SEED = 20_102
TEST_SHARE = 1 / 5
"""Of images that came without a test part."""

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Partition:
    """Positions among the training images, each in one of the two parts.

    Any contiguous slice of the order holds the classes in their overall shares, to within two images a class and mostly one.
    So a prefix is a stratified subset, and a smaller one is part of every larger one.
    """

    order: Indices
    """All positions, those of the validation images after those for training."""

    @property
    def train(self) -> Indices:
        return self.order[: part_sizes(len(self.order))[0]]

    @property
    def validation(self) -> Indices:
        return self.order[part_sizes(len(self.order))[0] :]


def partition(labels: np.ndarray[Any, Any]) -> Partition:
    """The partition of images with these `labels` (count,), whole numbers from 0: one sixth is validation."""
    return Partition(_stratified_order(labels, np.random.Generator(np.random.PCG64(SEED))))


def sealed_positions(labels: np.ndarray[Any, Any]) -> Indices:
    """Which of images with these `labels` (count,) are split off as a test part, in ascending order."""
    order = _stratified_order(labels, np.random.Generator(np.random.PCG64(TEST_SEED)))
    return np.sort(order[len(labels) - round(len(labels) * TEST_SHARE) :])


def part_sizes(count: int) -> tuple[int, int]:
    """How many of `count` training images are for training, and how many for validation."""
    validation = round(count * VALIDATION_SHARE)
    return count - validation, validation


def refit_sizes(count: int) -> tuple[int, int]:
    """On how many of `count` training images a net is trained once the race is over, and how many are left to judge it."""
    _, validation = part_sizes(count)
    kept = min(validation, max(FEWEST_KEPT, round(validation * KEPT_SHARE)))
    return count - kept, kept


def _stratified_order(labels: np.ndarray[Any, Any], generator: np.random.Generator) -> Indices:
    """All positions, random within a class, the classes spread evenly: the k-th of n images of a class stands at (k + ½) / n."""
    by_class = np.lexsort((generator.random(len(labels)), labels))
    _, first, count = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(first, count)
    place = (rank + 0.5) / np.repeat(count, count)
    return by_class[np.argsort(place, kind="stable")]


def search_slices(count: int, train: int, validation: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Half-open ranges of the train order of `count` images: what a search trains on, and what it is judged on.

    The validation images come from the end, which no training prefix reaches. Where both do not fit, the training part is cut
    down; a part that would not fit alone raises InvalidInput.
    """
    if train > count:
        raise InvalidInput(f"subset.train must be at most {count} images, but got {train}", ("subset", "train"))
    if validation >= count:
        rule = f"subset.validation must leave at least one of {count} images to train on"
        raise InvalidInput(f"{rule}, but got {validation}", ("subset", "validation"))
    return (0, min(train, count - validation)), (count - validation, count)
