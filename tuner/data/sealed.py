"""The one door to the test images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tuner.data.catalogue import Dataset

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def open_test_set(dataset: Dataset, record_opening: Callable[[], None]) -> tuple[Pixels, Pixels]:
    """The test images (count, *image_shape) and labels (count,) of an opened data set.

    `record_opening` writes the ledger, and refuses by raising; not a byte is read before it has returned.
    """
    record_opening()
    return np.load(dataset.folder / "test_images.npy"), np.load(dataset.folder / "test_labels.npy")
