"""The test images have one door, and it is written down who opens it."""

import ast
from pathlib import Path

import numpy as np
import pytest

import api
import tuner
from tuner.data.catalogue import Dataset, open_dataset
from tuner.data.sealed import open_test_set
from tuner.errors import TestSetSealed

SOURCES = sorted(path for package in (tuner, api) for path in Path(package.__path__[0]).rglob("*.py"))


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset("mnist", tmp_path_factory.mktemp("datasets"))


def test_the_opening_is_recorded_first(mnist: Dataset) -> None:
    """When the ledger is written, the images have not been read: here they are not even there yet."""
    images = mnist.folder / "test_images.npy"
    hidden = images.rename(images.with_suffix(".hidden"))

    def record() -> None:
        hidden.rename(images)

    pixels, labels = open_test_set(mnist, record)
    assert pixels.shape == (10_000, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert pixels.dtype == labels.dtype == np.uint8


def test_the_ledger_can_refuse(mnist: Dataset) -> None:
    """What the recording raises is what the caller sees, and no image comes out."""

    def refuse() -> None:
        raise TestSetSealed("opened already")

    with pytest.raises(TestSetSealed, match="opened already"):
        open_test_set(mnist, refuse)


def names(path: Path) -> set[str]:
    """Every string and name in a source file that speaks of the test part's files."""
    words = (getattr(node, "value", None) for node in ast.walk(ast.parse(path.read_text())))
    files = ("test_images", "test_labels", "t10k")
    return {
        word for word in words if isinstance(word, str) and any(file in word for file in files) and "\n" not in word
    }


def test_nothing_else_names_the_test_files() -> None:
    """Only the door, and who puts the files there, know their names: the installation, which reads them once, by blocks, to
    describe them, and what takes an upload apart before there is anything to seal."""
    taking_in = {"datasets.py", "unpacking.py", "uploaded_files.py", "installation.py"}
    assert {path.name for path in SOURCES if names(path)} == {"sealed.py", *taking_in}
    installation = next(path for path in SOURCES if path.name == "installation.py").read_text()
    assert "np.load" not in installation


def test_arrays_are_loaded_in_two_places() -> None:
    """Nobody loads a stored array but the door and the catalogue's training part, whatever the name is made of."""
    loading = {path.name for path in SOURCES if any(f"{call}(" in path.read_text() for call in ("np.load", "read_idx"))}
    assert loading == {"sealed.py", "catalogue.py", "idx.py", "installation.py"}
