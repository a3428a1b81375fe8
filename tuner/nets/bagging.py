"""Bagging (Breiman 1996): nets trained on bootstrap samples, and the average of what they say. It needs no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.floating[Any]]


def bootstrap(count: int, seed: int) -> NDArray[np.int64]:
    """Positions (count,) among `count` images, drawn with replacement; the same for the same seed."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, count, count)


def average(members: Sequence[Probabilities]) -> Probabilities:
    """The bag's class probabilities (images, classes) from those of each member; a bag of one says what its member says."""
    if not members:
        raise ValueError("a bag has at least one member")
    mean: Probabilities = np.mean(members, axis=0)
    return mean
