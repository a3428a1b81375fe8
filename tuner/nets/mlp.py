"""The net: a multilayer perceptron on raw pixels.

Special about it: it scales its pixels itself, so that weights and hyperparameters are all that is needed to use it; its
initialisation and its dropout draw from a generator of its own; it gives every layer's output when asked; its normalisation
adds no parameters, and is folded into the weights of a net that is kept.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.nets.dropout import dropout_mask
from tuner.nets.pixel_scale import PixelScale
from tuner.specs.hyperparameters import Activation, Hyperparameters

NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5
"""How much a batch moves the running mean and variance, and what is added to a variance: torch's own values."""


class MLP(nn.Module):
    """`depth` hidden layers of `width` units, and a linear output layer.

    Layer k computes weights[k] x + biases[k]; a maxout layer has `maxout_pieces` times as many rows, piece by piece. Dropout
    is in force in training mode only. With `batch_norm` a hidden layer's weights[k] x is first normalised, row by row: in
    training mode by the batch's mean and variance (Ioffe & Szegedy 2015; the scale γ is left to the next layer's weights, as it
    may be where a unit is a multiple of its input), in evaluation mode, and for a batch of one image, by the running ones.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        hyperparameters: Hyperparameters,
        generator: torch.Generator,
        scale: PixelScale = PixelScale(0.0, 1.0),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        h = hyperparameters
        self.hyperparameters, self.scale = h, scale
        self._generator = generator
        self._pieces = h.maxout_pieces or 1
        columns = [inputs] + [h.width] * h.depth
        hidden = [_hidden_weights(self._pieces * h.width, fan_in, h.activation, generator) for fan_in in columns[:-1]]
        # LeCun et al. 1998, section 4.6: the first logits have about the variance 1.
        output = torch.randn(classes, h.width, generator=generator) / math.sqrt(h.width)
        self.weights = nn.ParameterList([*hidden, output])
        self.biases = nn.ParameterList([torch.zeros(len(weight)) for weight in self.weights])
        for k, weight in enumerate(hidden if h.batch_norm else ()):
            self.register_buffer(f"mean_{k}", torch.zeros(len(weight)))
            self.register_buffer(f"variance_{k}", torch.ones(len(weight)))
        # The same parameters, as plain lists: iterating a ParameterList takes longer than a small layer's arithmetic.
        *self._hidden, self._output = zip(self.weights, self.biases, strict=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (batch, classes) of raw pixels 0 to 255, (batch, *image_shape) or (batch, inputs)."""
        return self.layers(pixels)[-1]

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """The output of each hidden layer (batch, width), then the logits (batch, classes)."""
        h = self.hyperparameters
        x = self._drop(self._scale(pixels), h.input_dropout)
        outputs = []
        for k, (weight, bias) in enumerate(self._hidden):
            z = self._normalised(k, F.linear(x, weight), bias) if h.batch_norm else F.linear(x, weight, bias)
            x = self._drop(self._activate(z), h.dropout)
            outputs.append(x)
        return [*outputs, F.linear(x, *self._output)]

    def folded(self) -> dict[str, Tensor]:
        """The parameters, by their names, of the net without normalisation that answers as this one does in evaluation mode."""
        parameters = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}
        for k in range(self.hyperparameters.depth if self.hyperparameters.batch_norm else 0):
            mean, variance = self._statistics(k)
            scale = (variance + NORM_EPSILON).rsqrt()
            parameters[f"weights.{k}"] *= scale[:, None]
            parameters[f"biases.{k}"] -= mean * scale
        return parameters

    def _statistics(self, k: int) -> tuple[Tensor, Tensor]:
        """The running mean and variance of hidden layer k."""
        return self.get_buffer(f"mean_{k}"), self.get_buffer(f"variance_{k}")

    def _normalised(self, k: int, z: Tensor, bias: Tensor) -> Tensor:
        by_batch = self.training and len(z) > 1
        return F.batch_norm(z, *self._statistics(k), None, bias, by_batch, NORM_MOMENTUM, NORM_EPSILON)

    def _scale(self, pixels: Tensor) -> Tensor:
        # Converted first: arithmetic between bytes and floats is several times slower.
        return pixels.flatten(1).to(torch.float32, copy=True).sub_(self.scale.mean).mul_(1 / self.scale.deviation)

    def _activate(self, z: Tensor) -> Tensor:
        if self.hyperparameters.activation == "maxout":
            return torch.amax(z.view(len(z), self._pieces, -1), 1)  # Goodfellow et al. 2013, section 3
        return _ACTIVATIONS[self.hyperparameters.activation](z)

    def _drop(self, x: Tensor, share: float) -> Tensor:
        if not self.training or share == 0:
            return x
        return x * dropout_mask(x.shape, share, self._generator)


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}


def _hidden_weights(rows: int, columns: int, activation: Activation, generator: torch.Generator) -> Tensor:
    """Normal weights that keep the signal's variance from layer to layer: by He et al. 2015 (eq. 10) for relu, else by Glorot &
    Bengio 2010 (eq. 12), in which the many rows of a maxout layer make up for the maximum being larger than its pieces."""
    variance = 2 / columns if activation == "relu" else 2 / (rows + columns)
    return torch.randn(rows, columns, generator=generator) * math.sqrt(variance)
