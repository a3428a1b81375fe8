import pytest

from tuner.errors import DamagedData
from tuner.store.model_files import StoredNet


@pytest.mark.parametrize("weights", [b"", b"not a safetensors file", b"\x08\0\0\0\0\0\0\0{}      "[:12]])
def test_damaged_weights_are_refused(weights: bytes) -> None:
    """What is no whole safetensors file is told as damaged, and not as an error of its reader."""
    with pytest.raises(DamagedData, match="safetensors"):
        StoredNet.from_bytes(weights, "relu")
