"""One step of training: parameters move against their gradients.

torch's own update functions, called without the `torch.optim.Optimizer` around them: its bookkeeping costs as much as the update
of a small net, and the first one made takes over a second, for importing a compiler. A test holds the two equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Group:
    """Those parameters that have one weight decay, L2 that the update adds to their gradients while it reads them anyway."""

    members: slice
    weight_decay: float


class Sgd:
    """As `torch.optim.SGD`; `momentum` is Polyak's, undamped."""

    def __init__(self, parameters: list[Tensor], groups: Sequence[Group], momentum: float) -> None:
        self._parameters, self._groups, self._momentum = parameters, groups, momentum
        self.state = {"velocity": _zeros(parameters)} if momentum else {}

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        velocity: list[Tensor | None] = [*self.state.get("velocity", [None] * len(gradients))]
        for group in self._groups:
            sgd(
                self._parameters[group.members],
                gradients[group.members],
                velocity[group.members],
                lr=learning_rate,
                momentum=self._momentum,
                weight_decay=group.weight_decay,
                dampening=0,
                nesterov=False,
                maximize=False,
                fused=True,
            )


class Adam:
    """As `torch.optim.Adam` (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, parameters: list[Tensor], groups: Sequence[Group]) -> None:
        self._parameters, self._groups = parameters, groups
        self.state = {
            "mean": _zeros(parameters),
            "square": _zeros(parameters),
            "step": [torch.zeros(()) for _ in parameters],
        }

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        for group in self._groups:
            adam(
                self._parameters[group.members],
                gradients[group.members],
                self.state["mean"][group.members],
                self.state["square"][group.members],
                [],
                self.state["step"][group.members],
                lr=learning_rate,
                beta1=ADAM_BETAS[0],
                beta2=ADAM_BETAS[1],
                eps=EPSILON,
                weight_decay=group.weight_decay,
                amsgrad=False,
                maximize=False,
                fused=True,
            )


class RmsProp:
    """As `torch.optim.RMSprop` (Hinton 2012, lecture 6e): epsilon outside the root. torch has no fused one for the CPU."""

    def __init__(self, parameters: list[Tensor], groups: Sequence[Group], alpha: float) -> None:
        self._parameters, self._groups, self._alpha = parameters, groups, alpha
        self.state = {"square": _zeros(parameters), "step": [torch.zeros(()) for _ in parameters]}

    def __call__(self, gradients: list[Tensor], learning_rate: float) -> None:
        for group in self._groups:
            rmsprop(
                self._parameters[group.members],
                gradients[group.members],
                self.state["square"][group.members],
                [],
                [],
                self.state["step"][group.members],
                lr=learning_rate,
                alpha=self._alpha,
                eps=EPSILON,
                weight_decay=group.weight_decay,
                momentum=0,
                centered=False,
                foreach=True,
            )


class Optimizer:
    """The optimizer of a net's hyperparameters; weight decay is L2 added to the gradient of the weights, not of the biases."""

    def __init__(self, net: MLP) -> None:
        decay, weights = net.hyperparameters.weight_decay, len(net.weights)
        groups = (
            [Group(slice(weights), decay), Group(slice(weights, None), 0.0)] if decay else [Group(slice(None), 0.0)]
        )
        self._update = _update(net.hyperparameters, [*net.weights, *net.biases], groups)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """The net has moved by one step; `gradients` are of its weights, then its biases, layer by layer."""
        self._update(list(gradients), learning_rate)

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on besides the net: the tensors themselves, under stable names."""
        return {
            f"{name}.{k}": tensor for name, tensors in self._update.state.items() for k, tensor in enumerate(tensors)
        }


def _update(hyperparameters: Hyperparameters, parameters: list[Tensor], groups: Sequence[Group]) -> Update:
    match hyperparameters.optimizer:
        case "adam":
            return Adam(parameters, groups)
        case "rmsprop":
            return RmsProp(parameters, groups, hyperparameters.rmsprop_alpha or 0.0)
        case "sgd" | "momentum":
            return Sgd(parameters, groups, hyperparameters.momentum or 0.0)


def _zeros(parameters: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]
