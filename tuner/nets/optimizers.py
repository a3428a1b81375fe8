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
    """An update rule, with what it remembers of each parameter."""

    state: dict[str, list[Tensor]]

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None: ...


class Sgd:
    """As `torch.optim.SGD`; `momentum` is Polyak's, undamped."""

    def __init__(self, parameters: list[Tensor], momentum: float) -> None:
        self._parameters, self._momentum = parameters, momentum
        self.state = {"velocity": _zeros(parameters)} if momentum else {}

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        sgd(
            self._parameters,
            gradients,
            list(self.state.get("velocity", [None] * len(gradients))),
            lr=learning_rate,
            momentum=self._momentum,
            weight_decay=0,
            dampening=0,
            nesterov=False,
            maximize=False,
            fused=True,
        )


class RmsProp:
    """As `torch.optim.RMSprop` (Hinton 2012, lecture 6e): epsilon outside the root. torch has no fused one for the CPU."""

    def __init__(self, parameters: list[Tensor], alpha: float) -> None:
        self._parameters, self._alpha = parameters, alpha
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
            weight_decay=0,
            momentum=0,
            centered=False,
            foreach=True,
        )


class Adam:
    """As `torch.optim.Adam` (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self._parameters = parameters
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
            weight_decay=0,
            amsgrad=False,
            maximize=False,
            fused=True,
        )


class Optimizer:
    """The optimizer of a net's hyperparameters; weight decay is L2 added to the gradient of the weights, not of the biases."""

    def __init__(self, net: MLP) -> None:
        self._weights = list(net.weights)
        self._weight_decay = net.hyperparameters.weight_decay
        self._update = _update(net.hyperparameters, [*net.weights, *net.biases])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """The net has moved by one step; `gradients` are of its weights, then its biases, layer by layer, and are overwritten."""
        if self._weight_decay:
            for gradient, weight in zip(gradients, self._weights, strict=False):  # the biases' gradients are left over
                gradient.add_(weight, alpha=self._weight_decay)
        self._update(list(gradients), learning_rate)

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on besides the net: the tensors themselves, under stable names."""
        return {
            f"{name}.{k}": tensor for name, tensors in self._update.state.items() for k, tensor in enumerate(tensors)
        }


def _update(hyperparameters: Hyperparameters, parameters: list[Tensor]) -> Update:
    match hyperparameters.optimizer:
        case "adam":
            return Adam(parameters)
        case "rmsprop":
            return RmsProp(parameters, hyperparameters.rmsprop_alpha or 0.0)
        case "sgd" | "momentum":
            return Sgd(parameters, hyperparameters.momentum or 0.0)


def _zeros(parameters: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]
