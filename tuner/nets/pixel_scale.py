"""How raw pixels become the net's input."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.specs.hyperparameters import Normalisation


@dataclass(frozen=True)
class PixelScale:
    """input = (pixel − mean) / deviation, for pixels of 0 to 255. Both are float32 numbers, which a file holds exactly."""

    mean: float
    deviation: float


def pixel_moments(images: np.ndarray[Any, np.dtype[np.uint8]]) -> PixelScale:
    """Mean and standard deviation over all pixels of all `images`; a deviation of 0 is given as 1."""
    # Exact sums of whole numbers: the same moments whatever the order of the images.
    total = int(images.sum(dtype=np.int64))
    squares = int(np.square(images, dtype=np.uint16).sum(dtype=np.int64))
    variance = (squares * images.size - total**2) / images.size**2
    return PixelScale(float(np.float32(total / images.size)), float(np.float32(variance**0.5)) or 1.0)


def pixel_scale(normalisation: Normalisation, moments: PixelScale) -> PixelScale:
    """The scale of a `normalisation`, given the training images' `moments`."""
    return {"none": PixelScale(0.0, 1.0), "scale": PixelScale(0.0, 255.0), "standardise": moments}[normalisation]
