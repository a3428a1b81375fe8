"""One step of training: parameters move against their gradients.

torch's own update functions, called without the `torch.optim.Optimizer` around them: its bookkeeping costs as much as the update
of a small net, and the first one made takes over a second, for importing a compiler. A test holds the two equal.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from tuner.nets.mlp import MLP
from tuner.specs.hyperparameters import Hyperparameters

ADAM_BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Update(Protocol):
    """An update rule for parameters that have one weight decay, with what it remembers of each of them."""

    state: dict[str, list[Tensor]]

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None: ...


class Sgd:
    """As `torch.optim.SGD`; `momentum` is Polyak's, undamped."""

    def __init__(self, parameters: list[Tensor], weight_decay: float, momentum: float) -> None:
        self._parameters, self._weight_decay, self._momentum = parameters, weight_decay, momentum
        self.state = {"velocity": _zeros(parameters)} if momentum else {}

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        sgd(
            self._parameters,
            gradients,
            list(self.state.get("velocity", [None] * len(gradients))),
            lr=learning_rate,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            dampening=0,
            nesterov=False,
            maximize=False,
            fused=True,
        )


class RmsProp:
    """As `torch.optim.RMSprop` (Hinton 2012, lecture 6e): epsilon outside the root. torch has no fused one for the CPU."""

    def __init__(self, parameters: list[Tensor], weight_decay: float, alpha: float) -> None:
        self._parameters, self._weight_decay, self._alpha = parameters, weight_decay, alpha
        self.state = {"square": _zeros(parameters), "step": [torch.zeros(()) for _ in parameters]}

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        rmsprop(
            self._parameters,
            gradients,
            self.state["square"],
            [],
            [],
            self.state["step"],
            lr=learning_rate,
            alpha=self._alpha,
            eps=EPSILON,
            weight_decay=self._weight_decay,
            momentum=0,
            centered=False,
            foreach=True,
        )


class Adam:
    """As `torch.optim.Adam` (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, parameters: list[Tensor], weight_decay: float) -> None:
        self._parameters, self._weight_decay = parameters, weight_decay
        self.state = {
            "mean": _zeros(parameters),
            "square": _zeros(parameters),
            "step": [torch.zeros(()) for _ in parameters],
        }

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        adam(
            self._parameters,
            gradients,
            self.state["mean"],
            self.state["square"],
            [],
            self.state["step"],
            lr=learning_rate,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            eps=EPSILON,
            weight_decay=self._weight_decay,
            amsgrad=False,
            maximize=False,
            fused=True,
        )


class Optimizer:
    """The optimizer of a net's hyperparameters; weight decay is L2 added to the gradient of the weights, not of the biases: by
    the update itself, which reads the gradients anyway."""

    def __init__(self, net: MLP) -> None:
        h, self._weights = net.hyperparameters, len(net.weights)
        self._updates = _update(h, list(net.weights), h.weight_decay), _update(h, list(net.biases), 0.0)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """The net has moved by one step; `gradients` are of its weights, then its biases, layer by layer."""
        of_weights, of_biases = self._updates
        of_weights(list(gradients[: self._weights]), learning_rate)
        of_biases(list(gradients[self._weights :]), learning_rate)

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on besides the net: the tensors themselves, under stable names."""
        of_weights, of_biases = (update.state for update in self._updates)
        return {
            f"{name}.{k}": tensor
            for name in of_weights
            for k, tensor in enumerate([*of_weights[name], *of_biases[name]])
        }


def _update(hyperparameters: Hyperparameters, parameters: list[Tensor], weight_decay: float) -> Update:
    match hyperparameters.optimizer:
        case "adam":
            return Adam(parameters, weight_decay)
        case "rmsprop":
            return RmsProp(parameters, weight_decay, hyperparameters.rmsprop_alpha or 0.0)
        case "sgd" | "momentum":
            return Sgd(parameters, weight_decay, hyperparameters.momentum or 0.0)


def _zeros(parameters: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]
