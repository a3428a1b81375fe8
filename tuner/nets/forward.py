"""The forward pass of a trained net in numpy: what serves predictions and scores the sealed test set needs no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.specs.hyperparameters import Activation

Array = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8] | NDArray[np.float32]


def predict(tensors: Mapping[str, Array], activation: Activation, images: Pixels, batch: int = 1000) -> Array:
    """Class probabilities (N, classes) of raw images (N, *image_shape), pixels 0 to 255.

    `tensors` are those of `tuner.nets.weights`: weights.k and biases.k of each layer, and the mean and deviation that scale the
    pixels.
    """
    flat = images.reshape(len(images), -1)
    parts = [_softmax(_logits(tensors, activation, flat[i : i + batch])) for i in range(0, len(flat), batch)]
    return np.concatenate(parts)


def _logits(tensors: Mapping[str, Array], activation: Activation, pixels: Pixels) -> Array:
    x: Array = (pixels.astype(np.float32) - tensors["mean"]) / tensors["deviation"]
    layers = sum(name.startswith("weights.") for name in tensors)
    for k in range(layers):
        weight, bias = tensors[f"weights.{k}"], tensors[f"biases.{k}"]
        z = x @ weight.T + bias
        if k == layers - 1:
            return np.asarray(z)
        x = _activate(z, activation, tensors[f"weights.{k + 1}"].shape[1])
    raise ValueError("a net has at least one layer")


def _activate(z: Array, activation: Activation, width: int) -> Array:
    match activation:
        case "sigmoid":
            return np.asarray((1 + np.tanh(z / 2)) / 2)  # 1 / (1 + exp(−z)), which overflows for large z
        case "tanh":
            return np.asarray(np.tanh(z))
        case "relu":
            return np.asarray(np.maximum(z, 0))
        case "maxout":  # the rows of a maxout layer stand piece by piece
            return np.asarray(z.reshape(len(z), -1, width).max(axis=1))


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
