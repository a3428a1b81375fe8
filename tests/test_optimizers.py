"""Our steps against torch's own optimizers, on a real net and real digits."""

import pytest
import torch
from torch.nn import functional as F

from tests.digits import CLASSES, digits
from tuner.nets.mlp import MLP
from tuner.nets.optimizers import Optimizer
from tuner.nets.pixel_scale import PixelScale
from tuner.specs.hyperparameters import Hyperparameters


def reference(net: MLP, h: Hyperparameters) -> torch.optim.Optimizer:
    """torch's optimizer of the same name, with weight decay on the weights alone."""
    groups = [
        {"params": list(net.weights), "weight_decay": h.weight_decay},
        {"params": list(net.biases), "weight_decay": 0.0},
    ]
    match h.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=h.learning_rate)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=h.learning_rate, alpha=h.rmsprop_alpha or 0)
        case _:
            return torch.optim.SGD(groups, lr=h.learning_rate, momentum=h.momentum or 0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "sgd", "learning_rate": 0.1},
        {"optimizer": "momentum", "learning_rate": 0.05},
        {"optimizer": "momentum", "learning_rate": 0.05, "momentum": 0.0},
        {"optimizer": "rmsprop", "learning_rate": 1e-3},
        {"optimizer": "rmsprop", "learning_rate": 1e-4, "rmsprop_alpha": 0.0},
        {"optimizer": "adam", "learning_rate": 1e-3},
    ],
)
def test_steps_equal_torchs(optimizer: dict[str, object], weight_decay: float) -> None:
    """After 20 steps every parameter is where `torch.optim` takes it; decay pulls at weights and not at biases."""
    h = Hyperparameters.model_validate({"width": 16, "weight_decay": weight_decay, **optimizer})
    data = digits(200)
    ours, theirs = (MLP(784, CLASSES, h, torch.Generator().manual_seed(1), PixelScale(33.0, 78.0)) for _ in range(2))
    our_optimizer, their_optimizer = Optimizer(ours), reference(theirs, h)
    for images, labels in zip(torch.split(data.train_images, 10), torch.split(data.train_labels, 10), strict=True):
        parameters = [*ours.weights, *ours.biases]
        gradients = torch.autograd.grad(F.cross_entropy(ours(images), labels), parameters)
        our_optimizer.step(gradients, h.learning_rate)
        their_optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(theirs(images), labels))
        their_optimizer.step()
    for our_parameter, their_parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(our_parameter, their_parameter, rtol=1e-3, atol=2e-5)
