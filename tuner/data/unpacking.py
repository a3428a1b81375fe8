"""From the files of an upload to the files of a data set: all is checked, and nothing is in memory as a whole but labels."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuner.data.foreign_array import ForeignArray
from tuner.data.installation import Pixels, StoredDataset, describe_files
from tuner.data.pixels import as_bytes, common_scale
from tuner.data.splits import Indices, sealed_positions
from tuner.data.uploaded_files import UploadedFile, finding_arrays
from tuner.errors import DamagedData, InvalidInput

MAX_UNPACKED = 2 << 30
"""Bytes of all arrays of an upload together, as they are in its files."""

MAX_IMAGES = 1_000_000
"""For training and testing together. Their labels are in memory, with what divides them some 60 bytes each."""

MAX_PIXELS = 200_000
"""Of an image: 224 × 224 in three colours has 150,528."""

MAX_RANK = 4
MAX_CLASSES = 256
"""A label is a byte."""

MIN_PER_CLASS = 10
"""Training images: two of them are for validation, and of the others two or three for the search's."""

MIN_TRAIN = 60
"""So that no part of the split has fewer than ten images."""

MIN_TEST = 10

Labels = Indices


def unpack(files: Sequence[UploadedFile], folder: Path, created_at: str) -> StoredDataset:
    """`folder`, which is empty, holds the data set of `files` and its description, which is answered.

    Without a test part, a fifth of the images is split off as one. Raises InvalidInput, which names the rule and the value;
    OSError where the folder cannot be written.
    """
    try:
        with finding_arrays(files) as arrays:
            made_from, notes = _write(arrays, folder)
    except DamagedData as damage:
        raise InvalidInput(str(damage), ("files",)) from damage
    split_off = "test_images" not in arrays
    return describe_files(
        folder, created_at=created_at, test_split_off=split_off, made_from=made_from, notes=tuple(notes)
    )


def _write(arrays: dict[str, ForeignArray], folder: Path) -> tuple[Pixels, list[str]]:
    """Answers what the pixels were, and notes of what was made of the arrays that is not plain to see."""
    _check_shapes(arrays)
    labels = {half: _read_labels(arrays[f"{half}_labels"]) for half in ("train", "test") if f"{half}_labels" in arrays}
    train, test = arrays["train_images"], arrays.get("test_images")
    sealed = np.empty(0, np.int64) if test is not None else sealed_positions(labels["train"])
    kept = np.ones(len(labels["train"]), bool)
    kept[sealed] = False
    test_labels = labels["train"][~kept] if test is None else labels["test"]
    _check_classes(labels["train"][kept], test_labels, split_off=test is None)
    scale = common_scale(train, test)
    counts = {"train": int(kept.sum()), "test": len(test_labels)}
    with (
        _Writer(folder, "train", train.shape[1:], counts["train"]) as to_train,
        _Writer(folder, "test", train.shape[1:], counts["test"]) as to_test,
    ):
        first = 0
        for block in as_bytes(train, scale):
            mask = kept[first : first + len(block)]
            first += len(block)
            to_train.write(block[mask])
            to_test.write(block[~mask])
        for block in as_bytes(test, scale) if test is not None else ():
            to_test.write(block)
    np.save(folder / "train_labels.npy", labels["train"][kept].astype(np.uint8))
    np.save(folder / "test_labels.npy", test_labels.astype(np.uint8))
    plain = all(images.dtype == np.uint8 for images in (train, test) if images is not None)
    made_from: Pixels = "shares" if scale == "shares" else "bytes" if plain else "whole numbers"
    return made_from, _notes(made_from, counts if test is None else None)


def _notes(made_from: Pixels, split: dict[str, int] | None) -> list[str]:
    notes = []
    if split is not None:
        whole = split["train"] + split["test"]
        notes.append(
            f"there was no test part: {split['test']} of the {whole} images, drawn by class, were split off and sealed"
        )
    if made_from == "shares":
        notes.append("pixels were floats from 0 to 1, and were multiplied by 255; images to predict have 0 to 255")
    if made_from == "whole numbers":
        notes.append("pixels were whole numbers of another type than uint8, and are stored as bytes")
    return notes


class _Writer:
    """A file of images (count, *shape), which are added block by block."""

    def __init__(self, folder: Path, half: str, shape: tuple[int, ...], count: int) -> None:
        self._file = (folder / f"{half}_images.npy").open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, block: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        self._file.write(np.ascontiguousarray(block).data)


def _check_shapes(arrays: dict[str, ForeignArray]) -> None:
    for part, array in arrays.items():
        if part.endswith("images"):
            _check_image_shape(array)
            count, labels = array.shape[0], arrays[part.replace("images", "labels")]
            if labels.shape not in ((count,), (count, 1)):
                rule = f"{labels.name}: there must be one label for each of the {count} images of {array.name}"
                raise _refused(f"{rule}, but got the shape {labels.shape}")
    train, test = arrays["train_images"], arrays.get("test_images")
    if test is not None and test.shape[1:] != train.shape[1:]:
        rule = "training and test images must have one shape"
        raise _refused(f"{rule}, but {train.name} has {train.shape[1:]} and {test.name} {test.shape[1:]}")
    count = train.shape[0] + (test.shape[0] if test is not None else 0)
    if count > MAX_IMAGES:
        raise _refused(f"a data set may have at most {MAX_IMAGES:,} images, but got {count:,}")
    unpacked = sum(array.nbytes for array in arrays.values())
    if unpacked > MAX_UNPACKED:
        raise _refused(f"the arrays may take at most {MAX_UNPACKED:,} bytes unpacked, but take {unpacked:,}")


def _check_image_shape(array: ForeignArray) -> None:
    _, *shape = array.shape if array.shape else (0,)
    if not 1 <= len(shape) <= MAX_RANK or 0 in array.shape:
        rule = f"{array.name}: images must have the shape (count, …) with 1 to {MAX_RANK} sizes of an image, none of them 0"
        raise _refused(f"{rule}, but got {array.shape}")
    if (pixels := math.prod(shape)) > MAX_PIXELS:
        raise _refused(f"{array.name}: an image may have at most {MAX_PIXELS:,} pixels, but got {pixels:,}")


def _read_labels(array: ForeignArray) -> Labels:
    """(count,) from 0 to 255."""
    rule = f"{array.name}: labels must be whole numbers from 0 to {MAX_CLASSES - 1}"
    if array.dtype.kind not in "uif":
        raise _refused(f"{rule}, but got the type {array.dtype}")
    blocks = []
    for block in array.blocks():
        whole = np.isfinite(block) & (block == np.rint(block)) & (block >= 0) & (block < MAX_CLASSES)
        if not whole.all():
            raise _refused(f"{rule}, but got {block[~whole].flat[0]:g}")
        blocks.append(block.reshape(-1).astype(np.int64))
    return np.concatenate(blocks)


def _check_classes(train: Labels, test: Labels, *, split_off: bool) -> None:
    per_class = np.bincount(train)
    classes = len(per_class)
    left = " after a test part was split off" if split_off else ""
    if classes < 2:
        raise _refused("there must be at least 2 classes, but every label is 0")
    if (per_class == 0).any():
        rule = f"labels must count from 0, each with training images, and the largest is {classes - 1}"
        raise _refused(f"{rule}, but class {int(np.flatnonzero(per_class == 0)[0])} has none")
    if per_class.min() < MIN_PER_CLASS:
        rule = f"each class must have at least {MIN_PER_CLASS} training images"
        raise _refused(f"{rule}, but class {int(per_class.argmin())} has {int(per_class.min())}{left}")
    if len(train) < MIN_TRAIN:
        raise _refused(f"there must be at least {MIN_TRAIN} training images, but there are {len(train)}{left}")
    if len(test) < MIN_TEST:
        raise _refused(f"there must be at least {MIN_TEST} test images, but there are {len(test)}")
    if test.max() >= classes:
        rule = f"a test label must be one of the {classes} classes that are trained"
        raise _refused(f"{rule}, but got {int(test.max())}")


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, ("files",))
