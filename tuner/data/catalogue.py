"""The data sets this installation has.

    root/<name>/dataset.json        StoredDataset: shape, classes, counts, checksums
    root/<name>/train_images.npy    (count, *image_shape) uint8
    root/<name>/train_labels.npy    (count,) uint8
    root/<name>/test_images.npy     these two are sealed: only `tuner.data.sealed` looks into them
    root/<name>/test_labels.npy

A folder is there whole or not at all: `tuner.data.installation` and `tuner.data.staging` see to it. The folders are the
catalogue: workers, replays and backups read it without a database.
"""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tuner.data.installation import MNIST, StoredDataset, install_mnist
from tuner.data.splits import partition
from tuner.errors import Conflict, DamagedData, NotFound
from tuner.specs.study import NAME

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

BUILT_IN = "mnist"
"""Comes with the package, and cannot be removed."""


@dataclass(frozen=True)
class Dataset:
    """A data set in `folder`; `checksum` is of the arrays' bytes, so it names the images wherever they lie.

    `test_checksum` is of the test part alone, in whatever order: two data sets with the same one are tested on the same images.
    """

    name: str
    folder: Path
    image_shape: tuple[int, ...]
    classes: int
    train_count: int
    test_count: int
    checksum: str
    test_checksum: str = ""

    @property
    def inputs(self) -> int:
        """Pixels of one image."""
        return math.prod(self.image_shape)


def describe(name: str, root: Path) -> Dataset:
    """What is known of a data set without reading an image or installing anything. Raises NotFound for an unknown name."""
    return _dataset(name, root, description(name, root))


def description(name: str, root: Path) -> StoredDataset:
    """All that is known of a data set. Raises NotFound for an unknown name."""
    return MNIST if name == BUILT_IN else _read_description(name, root)


def names(root: Path) -> list[str]:
    """Of all data sets, the built-in one among them, in no order."""
    found = (path.parent.name for path in root.glob("*/dataset.json"))
    return [BUILT_IN, *(name for name in found if name != BUILT_IN and not name.startswith("."))]


def open_dataset(name: str, root: Path) -> Dataset:
    """The data set, with every file under `root` there and its checksum verified; MNIST is installed on first use.

    Raises NotFound for an unknown name, DamagedData naming the file, Unavailable where `root` cannot be written.
    """
    if name == BUILT_IN and not (root / name).exists():
        install_mnist(root)
    stored = _read_description(name, root)
    if name == BUILT_IN and stored.checksum != MNIST.checksum:
        raise DamagedData(f"{root / name}: MNIST has the checksum {MNIST.checksum}, but got {stored.checksum}")
    for file, expected in stored.files.items():
        _verify(root / name / file, expected)
    return _dataset(name, root, stored)


def check_same_data(study: str, checksum: str | None, dataset: Dataset) -> None:
    """Raises Conflict where the study was posted on other data of this name; `checksum` is None where that is not known."""
    if checksum not in (None, dataset.checksum):
        rule = f"the study {study!r} is of the data set {dataset.name!r} with the checksum {checksum}"
        raise Conflict(f"{rule}, but the one of that name here has {dataset.checksum}")


def training_images(dataset: Dataset) -> Pixels:
    """The training images (count, *image_shape), memory-mapped and read-only."""
    return _memory_map(dataset.folder / "train_images.npy")


def training_labels(dataset: Dataset) -> Pixels:
    """The training images' labels (count,), memory-mapped and read-only."""
    return _memory_map(dataset.folder / "train_labels.npy")


def images_of(dataset: Dataset, positions: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Training images (count, *image_shape) and their labels (count,): a half-open range of the order of `tuner.data.splits`."""
    labels = training_labels(dataset)
    at = partition(labels).order[slice(*positions)]
    return training_images(dataset)[at], labels[at]


def _dataset(name: str, root: Path, stored: StoredDataset) -> Dataset:
    return Dataset(
        name=name,
        folder=root / name,
        image_shape=stored.image_shape,
        classes=stored.classes,
        train_count=stored.train_count,
        test_count=stored.test_count,
        checksum=stored.checksum,
        test_checksum=stored.test_checksum or (MNIST.test_checksum if name == BUILT_IN else ""),
    )


def _read_description(name: str, root: Path) -> StoredDataset:
    path = root / name / "dataset.json"
    # A name comes from outside; it must not lead out of the root, nor be longer than a file's may.
    if re.fullmatch(NAME, name) is None or not path.exists():
        raise NotFound(f"no data set is named {name!r}")
    try:
        return StoredDataset.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedData(f"{path}: must describe a data set, but {error.errors()[0]['msg']}") from error


def _verify(path: Path, expected: str) -> None:
    if not path.exists():
        raise DamagedData(f"{path}: is missing")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DamagedData(f"{path}: must have the SHA-256 {expected}, but got {found}")


def _memory_map(path: Path) -> Pixels:
    mapped: Pixels = np.load(path, mmap_mode="r")
    return mapped
