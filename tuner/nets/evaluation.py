"""What a net says of images: always in evaluation mode, in which each function leaves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.nets.mlp import MLP

BATCH = 512
"""Images at once: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Validation:
    loss: float
    cross_entropy: float
    accuracy: float
    dead_units: float
    """Share of hidden units whose output is the same for every one of the first 512 validation images."""


@torch.inference_mode()
def validate(net: MLP, images: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Validation:
    """Mean `loss`, cross-entropy and accuracy over raw `images` (count, *image_shape) with `labels` (count,); both
    losses may be NaN."""
    net.eval()
    total, cross_entropy, right = 0.0, 0.0, 0
    dead_units = None
    for batch, batch_labels in zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True):
        *hidden, logits = net.layers(batch)
        if dead_units is None:
            dead_units = _dead_share(hidden)
        total += loss(logits, batch_labels).item() * len(batch)
        cross_entropy += F.cross_entropy(logits, batch_labels, reduction="sum").item()
        right += int((logits.argmax(1) == batch_labels).sum())
    count = len(images)
    return Validation(total / count, cross_entropy / count, right / count, dead_units or 0.0)


@torch.inference_mode()
def predict(net: MLP, images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The classes' probabilities (count, classes) for raw images (count, *image_shape)."""
    net.eval()
    pixels = torch.from_numpy(np.require(images, np.uint8, ["C", "W"]))
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    probabilities = torch.cat([net(batch).softmax(1) for batch in torch.split(pixels, BATCH)]).numpy()
    return probabilities


def accuracy(net: MLP, images: np.ndarray[Any, np.dtype[np.uint8]], labels: np.ndarray[Any, Any]) -> float:
    """The share of raw images (count, *image_shape) whose likeliest class is their label (count,)."""
    return float((predict(net, images).argmax(1) == labels).mean())


def _dead_share(hidden: list[Tensor]) -> float:
    units = torch.cat(hidden, dim=1)  # (batch, depth * width)
    return (units.amax(0) == units.amin(0)).float().mean().item()
