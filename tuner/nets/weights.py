"""Trained nets as bytes: a safetensors file, never a pickle.

It holds, in float32, `weights.<layer>` (rows, columns) and `biases.<layer>` (rows,) as `tuner.nets.mlp` explains them, a
normalisation folded into them, and the scalars `mean` and `deviation` that scale raw pixels.
"""

import safetensors.torch
import torch
from safetensors import SafetensorError

from tuner.errors import DamagedData
from tuner.nets.mlp import MLP
from tuner.nets.pixel_scale import PixelScale
from tuner.specs.hyperparameters import Hyperparameters


def to_bytes(net: MLP) -> bytes:
    """A safetensors file that, with the hyperparameters, is all that is needed to use the net on raw pixels."""
    scale = {"mean": torch.tensor(net.scale.mean), "deviation": torch.tensor(net.scale.deviation)}
    return bytes(safetensors.torch.save({**net.folded(), **scale}))


def from_bytes(weights: bytes, hyperparameters: Hyperparameters, inputs: int, classes: int) -> MLP:
    """The net in evaluation mode, without normalisation; its outputs equal the saved net's, bit for bit where that had none.
    Raises DamagedData where they do not fit."""
    try:
        stored = safetensors.torch.load(weights)
        scale = PixelScale(stored.pop("mean").item(), stored.pop("deviation").item())
    except (SafetensorError, KeyError) as error:
        raise DamagedData(f"weights must be a whole safetensors file with its pixel scale, but {error}") from error
    plain = hyperparameters.model_copy(update={"batch_norm": False})
    net = MLP(inputs, classes, plain, torch.Generator(), scale)
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if found != expected:
        raise DamagedData(f"weights must have the shapes {expected}, but got {found}")
    net.load_state_dict(stored)
    return net.eval()
