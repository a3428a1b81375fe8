"""All that a training script needs to know of one training run."""

import math
from dataclasses import dataclass
from typing import Literal

from tuner.specs.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Origin:
    """Where a configuration comes from, and what is known of it."""

    study: str
    stage: Literal["search", "promotion"]
    rank: int
    contender: str
    """`default`, or `trial-<number>` of the search."""
    model: str | None
    validation_accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True)
class Images:
    """The study's data set, and the positions, half-open ranges of the split's order, that the run used of it."""

    dataset: str
    image_shape: tuple[int, ...]
    classes: int
    train_count: int
    """Images before the split into training and validation."""
    train: tuple[int, int]
    validation: tuple[int, int]
    test_split_off: bool = False
    """By the service: the user's files have no test part."""
    made_from: Literal["bytes", "whole numbers", "shares"] = "bytes"
    """What the pixels are in the user's files."""

    @property
    def inputs(self) -> int:
        return math.prod(self.image_shape)


@dataclass(frozen=True)
class Recipe:
    """One run: `epochs` epochs with a learning rate that warms up and decays to zero over them; its net is `kept_epoch`'s."""

    origin: Origin
    images: Images
    hyperparameters: Hyperparameters
    seed: int
    epochs: int
    kept_epoch: int
