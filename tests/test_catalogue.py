"""The catalogue of data sets: installed whole or not at all, verified when opened."""

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.data.catalogue import Dataset, describe, open_dataset, training_images, training_labels
from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST, install, install_mnist
from tuner.errors import DamagedData, NotFound, Unavailable

FILES = ["dataset.json", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with MNIST and a small set of noise."""
    root: Path = tmp_path_factory.mktemp("datasets")
    open_dataset("mnist", root)
    generator = np.random.Generator(np.random.PCG64(0))
    noise = {
        "train_images": generator.integers(0, 256, (30, 4, 5, 3), dtype=np.uint8),
        "train_labels": np.arange(30, dtype=np.uint8) % 3,
        "test_images": generator.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "test_labels": np.arange(6, dtype=np.uint8) % 3,
    }
    install("noise", root, noise)
    return root


@pytest.fixture
def root(installed: Path, tmp_path: Path) -> Path:
    """A root of its own for a test that damages it."""
    return Path(shutil.copytree(installed, tmp_path / "root"))


def test_mnist_is_installed_on_first_use(installed: Path) -> None:
    """What is known of MNIST beforehand is what is found after the installation."""
    dataset = open_dataset("mnist", installed)
    assert dataset == describe("mnist", installed)
    assert (dataset.train_count, dataset.test_count, dataset.image_shape, dataset.inputs) == (
        60_000,
        10_000,
        (28, 28),
        784,
    )
    assert dataset.checksum == describe("mnist", Path("nowhere")).checksum
    assert sorted(path.name for path in dataset.folder.iterdir()) == FILES


def test_training_arrays_are_memory_maps(installed: Path) -> None:
    """The pixels are those whose mean the literature gives, and stay on the disk until used."""
    dataset = open_dataset("mnist", installed)
    images, labels = training_images(dataset), training_labels(dataset)
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert images.shape == (60_000, 28, 28)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_a_set_of_any_shape_is_described(installed: Path) -> None:
    """Colour images with three classes; the checksum names the content."""
    dataset = open_dataset("noise", installed)
    assert dataset == describe("noise", installed)
    assert (dataset.image_shape, dataset.inputs, dataset.classes) == ((4, 5, 3), 60, 3)
    assert (dataset.train_count, dataset.test_count) == (30, 6)


@pytest.mark.parametrize("look", [describe, open_dataset])
@pytest.mark.parametrize("name", ["cifar", "", ".", "..", "../datasets/noise", "noise/../noise", "/etc"])
def test_an_unknown_name_is_not_found(installed: Path, look: Callable[[str, Path], Dataset], name: str) -> None:
    """A name that leads out of the root is as unknown as any other."""
    with pytest.raises(NotFound, match="no data set is named"):
        look(name, installed)


@pytest.mark.parametrize("file", FILES)
def test_a_changed_file_is_named(root: Path, file: str) -> None:
    """One flipped bit anywhere is found when the set is opened."""
    content = bytearray((root / "noise" / file).read_bytes())
    content[-3] ^= 1
    (root / "noise" / file).write_bytes(content)
    with pytest.raises(DamagedData, match=file):
        open_dataset("noise", root)


@pytest.mark.parametrize("file", FILES[1:])
def test_a_missing_file_is_named(root: Path, file: str) -> None:
    """So is a file that has gone."""
    (root / "noise" / file).unlink()
    with pytest.raises(DamagedData, match=f"{file}: is missing"):
        open_dataset("noise", root)


def test_another_set_under_mnists_name_is_refused(root: Path) -> None:
    """Results on MNIST are compared by its checksum, so nothing else may bear the name."""
    shutil.rmtree(root / "mnist")
    (root / "noise").rename(root / "mnist")
    with pytest.raises(DamagedData, match="MNIST has the checksum"):
        open_dataset("mnist", root)


def test_a_damaged_package_is_not_installed(tmp_path: Path) -> None:
    """A gzip file that has not its checksum is named, and nothing is left behind."""
    package = shutil.copytree(PACKAGED_MNIST, tmp_path / "package")
    (package / MNIST_FILES["test_labels"]).write_bytes(b"not it")
    with pytest.raises(DamagedData, match=r"t10k-labels-idx1-ubyte\.gz: must have the SHA-256"):
        install_mnist(tmp_path / "root", package)
    assert not (tmp_path / "root").exists()


def test_two_at_once_install_one(tmp_path: Path) -> None:
    """Processes that want MNIST at the same time all get it, whole."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        opened = pool.starmap(open_dataset, [("mnist", tmp_path)] * 3)
    assert opened[0] == opened[1] == opened[2]
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == FILES


def test_a_killed_installation_leaves_no_half(tmp_path: Path) -> None:
    """What a killed one left is cleared away by the next."""
    (tmp_path / ".mnist.part").mkdir()
    (tmp_path / ".mnist.part" / "train_images.npy").write_bytes(b"half")
    open_dataset("mnist", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mnist.lock", "mnist"]


def test_a_root_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=f"{tmp_path}/file/root"):
        open_dataset("mnist", tmp_path / "file" / "root")


FULL_DISK = """
import resource, sys
from pathlib import Path
from tuner.data.catalogue import open_dataset
from tuner.errors import Unavailable
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # no file may grow beyond 1 MB
try:
    open_dataset("mnist", Path(sys.argv[1]))
except Unavailable as error:
    sys.exit(0 if sys.argv[1] in str(error) else "the folder is not named")
sys.exit("nothing was raised")
"""


def test_a_disk_that_fills_up_is_unavailable(tmp_path: Path) -> None:
    """A write that fails half-way leaves no data set, and the next attempt succeeds."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True)
    assert not (tmp_path / "mnist").exists()
    assert open_dataset("mnist", tmp_path).train_count == 60_000


def test_the_data_package_needs_no_torch() -> None:
    """The API imports it, and must start without torch."""
    code = "import sys, tuner.data.catalogue, tuner.data.splits, tuner.data.sealed; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
