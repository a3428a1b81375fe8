import numpy as np
import pytest

from tuner.errors import DamagedData
from tuner.store.model_files import StoredNet


@pytest.mark.parametrize("weights", [b"", b"not a safetensors file", b"\x08\0\0\0\0\0\0\0{}      "[:12]])
def test_damaged_weights_are_refused(weights: bytes) -> None:
    """What is no whole safetensors file is told as damaged, and not as an error of its reader."""
    with pytest.raises(DamagedData, match="safetensors"):
        StoredNet.from_bytes(weights, "relu")


def test_a_saturated_sigmoid_is_zero_or_one() -> None:
    """However large what goes into it: no overflow, and so no warning."""
    weights = {"weights.0": np.array([[1000.0], [-1000.0]], np.float32), "biases.0": np.zeros(2, np.float32)}
    output = {"weights.1": np.eye(2, dtype=np.float32), "biases.1": np.zeros(2, np.float32)}
    scale = {"mean": np.zeros((), np.float32), "deviation": np.ones((), np.float32)}
    [answer] = StoredNet({**weights, **output, **scale}, "sigmoid").predict(np.full((1, 1), 255, np.uint8))
    assert answer == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e)])
