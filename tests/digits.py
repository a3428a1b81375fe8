"""Real digits for the tests of nets."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.data.idx import read_idx
from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST, install
from tuner.nets.training_data import TrainingData, prepare

# Sums over one thread are the same on every machine, and the tests share few cores.
torch.set_num_threads(1)

CLASSES = 10
TEST_IMAGES = 500


@cache
def images_and_labels() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The 60,000 training images and their labels."""
    return tuple(read_idx(PACKAGED_MNIST / MNIST_FILES[part]) for part in ("train_images", "train_labels"))  # type: ignore[return-value]


@cache
def digits(train: int, validation: int = 200) -> TrainingData:
    """The first `train` images to train on, and the `validation` last of all to judge by."""
    images, labels = images_and_labels()
    return prepare(images[:train], labels[:train], images[-validation:], labels[-validation:])


def install_digits(datasets: Path) -> None:
    """A data set `digits`, on which a promotion is quick: 3,000 images to train on, 600 to validate, 500 sealed."""
    images, labels = images_and_labels()
    arrays = {"train_images": images[:3600], "train_labels": labels[:3600]}
    tested = {"test_images": images[-TEST_IMAGES:], "test_labels": labels[-TEST_IMAGES:]}
    install("digits", datasets, {**arrays, **tested})
