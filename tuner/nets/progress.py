"""Where a training run stands, and its checkpoint."""

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from tuner.errors import DamagedData, InvalidInput
from tuner.nets.mlp import MLP
from tuner.nets.optimizers import Optimizer
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.spec import Spec


class Run(Spec):
    """What makes two runs on the same data the same, as far as they both go."""

    hyperparameters: Hyperparameters
    seed: int
    decay_epochs: int | None
    """Over which the learning rate falls to 0; None where it stays."""


class _Notes(Spec):
    """What a checkpoint holds besides tensors."""

    run: Run
    records: tuple[EpochRecord, ...]
    cpu_seconds: float


class Progress:
    """Everything that the rest of a run depends on, after a whole number of epochs."""

    def __init__(self, run: Run, net: MLP, optimizer: Optimizer, generator: torch.Generator) -> None:
        self._run, self.net, self.optimizer, self.generator = run, net, optimizer, generator
        self.records: list[EpochRecord] = []
        self.cpu_seconds = 0.0
        self._best_weights = _copy(net)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.records)

    @property
    def best_epoch(self) -> int:
        """The epoch of the best validation accuracy; the last of several."""
        return max(self.records, key=lambda record: (record.validation_accuracy, record.epoch)).epoch

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since the best validation accuracy was first reached."""
        first = max(self.records, key=lambda record: (record.validation_accuracy, -record.epoch), default=None)
        return self.epoch - first.epoch if first else 0

    def add(self, record: EpochRecord, cpu_seconds: float) -> None:
        self.records.append(record)
        self.cpu_seconds += cpu_seconds
        if self.best_epoch == record.epoch:
            self._best_weights = _copy(self.net)

    def restore_best(self) -> None:
        """The net has the weights of the best epoch."""
        self.net.load_state_dict(self._best_weights)

    def to_bytes(self) -> bytes:
        """A safetensors file from which `restore` continues bit for bit."""
        notes = _Notes(run=self._run, records=tuple(self.records), cpu_seconds=self.cpu_seconds)
        text = torch.frombuffer(bytearray(notes.model_dump_json().encode()), dtype=torch.uint8)
        return bytes(safetensors.torch.save({**self._tensors(), "notes": text}))

    def restore(self, checkpoint: bytes) -> None:
        """Stand where `to_bytes` was called. Raises DamagedData, or InvalidInput for another run's checkpoint."""
        try:
            stored = safetensors.torch.load(checkpoint)
            notes = _Notes.model_validate_json(bytes(stored["notes"].numpy()))
        except (SafetensorError, KeyError, ValidationError) as error:
            raise DamagedData(f"a checkpoint must be a whole safetensors file with its notes, but {error}") from error
        if notes.run != self._run:
            raise InvalidInput(f"a checkpoint continues only its own run, {notes.run}, but got {self._run}")
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(stored[name])
        self.generator.set_state(stored["generator"].clone())
        self.records = list(notes.records)
        self.cpu_seconds = notes.cpu_seconds

    def _tensors(self) -> dict[str, Tensor]:
        return {
            **{f"net.{name}": tensor for name, tensor in self.net.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self._best_weights.items()},
            **{f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()},
            "generator": self.generator.get_state(),
        }


def _copy(net: MLP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}
