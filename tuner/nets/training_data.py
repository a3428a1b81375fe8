"""The images of one training run, ready for any hyperparameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.nets.pixel_scale import PixelScale, pixel_moments

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TrainingData:
    """Pixels stay uint8 until a batch is taken, which is as fast and a quarter of the memory: the net scales them itself."""

    train_images: Tensor  # (count, *image_shape) uint8
    train_labels: Tensor  # (count,) int64
    validation_images: Tensor
    validation_labels: Tensor
    moments: PixelScale
    """Of the training images alone."""

    @property
    def inputs(self) -> int:
        """Pixels of one image."""
        return self.train_images[0].numel()


def prepare(
    train_images: Array, train_labels: Array, validation_images: Array, validation_labels: Array
) -> TrainingData:
    """The data of a run, from uint8 images (count, *image_shape) and labels (count,); read-only arrays are copied."""
    train_images = np.require(train_images, np.uint8, ["C", "W"])
    return TrainingData(
        train_images=torch.from_numpy(train_images),
        train_labels=torch.from_numpy(train_labels.astype(np.int64)),
        validation_images=torch.from_numpy(np.require(validation_images, np.uint8, ["C", "W"])),
        validation_labels=torch.from_numpy(validation_labels.astype(np.int64)),
        moments=pixel_moments(train_images),
    )
