"""Nets from the models' folders, held ready to predict."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import DamagedData
from tuner.store.model_files import AnyNet, ModelConfig, load_net, read_config, read_weights
from tuner.store.model_registry import Model

HELD_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class ServedNet:
    net: AnyNet
    config: ModelConfig

    def bytes(self) -> int:
        return self.net.bytes()


def load(folder: Path, model: Model) -> ServedNet:
    """Raises DamagedData where its files are not the ones that were kept."""
    config, weights = read_config(folder), read_weights(folder)
    found = hashlib.sha256(weights).hexdigest()
    if found != model.sha256:
        raise DamagedData(f"the weights of model {model.id} must have the SHA-256 {model.sha256}, but got {found}")
    return ServedNet(load_net(weights, config), config)
