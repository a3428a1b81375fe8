"""Weights as bytes."""

from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.digits import CLASSES, digits, images_and_labels
from tuner.errors import DamagedData
from tuner.nets.evaluation import predict
from tuner.nets.training import TrainedNet, train
from tuner.nets.weights import from_bytes, to_bytes
from tuner.specs.hyperparameters import Activation, Hyperparameters

H = Hyperparameters(width=20, activation="maxout", dropout=0.2)


@pytest.fixture(scope="module")
def trained() -> TrainedNet:
    return train(H, digits(300), classes=CLASSES, epochs=1, seed=0)


def test_a_round_trip_gives_equal_outputs(trained: TrainedNet) -> None:
    """Bytes and hyperparameters are enough to predict on raw pixels, bit for bit as before."""
    images = images_and_labels()[0][:1000]
    loaded = from_bytes(to_bytes(trained.net), H, 784, CLASSES)
    assert not loaded.training
    assert predict(loaded, images).tobytes() == predict(trained.net, images).tobytes()
    assert to_bytes(loaded) == to_bytes(trained.net)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "maxout"])
def test_a_normalisation_is_folded_into_the_weights(activation: Activation) -> None:
    """The kept net has as many parameters as announced, no normalisation, and the trained one's answers to within rounding."""
    h = Hyperparameters(width=20, depth=3, activation=activation, batch_norm=True, dropout=0.2)
    made = train(h, digits(300), classes=CLASSES, epochs=2, seed=0).net
    images = images_and_labels()[0][:1000]
    kept = from_bytes(to_bytes(made), h, 784, CLASSES)
    assert set(kept.state_dict()) == {f"{kind}.{k}" for kind in ("weights", "biases") for k in range(4)}
    assert np.abs(predict(kept, images) - predict(made, images)).max() < 1e-5
    assert to_bytes(kept) == to_bytes(made)


def test_the_file_says_what_it_holds(trained: TrainedNet) -> None:
    """Named tensors in float32 and nothing else: weights and biases by layer, and the pixels' mean and deviation."""
    tensors = safetensors.torch.load(to_bytes(trained.net))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "weights.0": (40, 784),
        "weights.1": (40, 20),
        "weights.2": (10, 20),
        "biases.0": (40,),
        "biases.1": (40,),
        "biases.2": (10,),
        "mean": (),
        "deviation": (),
    }
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert tensors["mean"].item() == digits(300).moments.mean


@pytest.mark.parametrize("damage", [lambda whole: whole[:0], lambda whole: whole[:-1], lambda whole: b"{" * len(whole)])
def test_damaged_bytes_are_refused(trained: TrainedNet, damage: Callable[[bytes], bytes]) -> None:
    """Nothing, a truncated file, something else."""
    with pytest.raises(DamagedData, match="weights must be a whole safetensors file"):
        from_bytes(damage(to_bytes(trained.net)), H, 784, CLASSES)


@pytest.mark.parametrize("other", [{"width": 21}, {"depth": 3}, {"activation": "relu"}])
def test_weights_of_another_net_are_refused(trained: TrainedNet, other: dict[str, object]) -> None:
    """The error shows the shapes that were expected and those that came."""
    given = {"width": 20, "activation": "maxout", **other}
    with pytest.raises(DamagedData, match=r"must have the shapes .*weights\.0.*, but got"):
        from_bytes(to_bytes(trained.net), Hyperparameters.model_validate(given), 784, CLASSES)
