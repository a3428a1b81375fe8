"""Model folders: `weights.safetensors`, `config.json`, `metrics.json` and `README.md`, the card. Nothing here is a pickle."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from tuner import __version__
from tuner.errors import DamagedData, Unavailable
from tuner.nets import forward
from tuner.nets.bagging import average, unpack
from tuner.specs.hyperparameters import Activation, Hyperparameters
from tuner.specs.spec import Spec
from tuner.specs.verdict import BagMember
from tuner.store.model_registry import ModelMetrics

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


class ModelConfig(Spec):
    """What, beside the weights, a program needs to rebuild the net, and where it comes from."""

    study: str
    kind: str
    hyperparameters: Hyperparameters
    dataset: str
    dataset_checksum: str
    image_shape: tuple[int, ...]
    classes: int
    parameters: int
    seed: int
    train_images: int | None = None
    """Of a bag those that members and fresh nets have; None of an earlier version."""
    epochs: int
    best_epoch: int
    members: tuple[BagMember, ...] = ()
    """Of a bag; the tensors of member k have names that begin with `member.k.`."""
    tuner_version: str = __version__


@dataclass(frozen=True)
class StoredNet:
    """A trained net, ready to predict, without torch."""

    tensors: dict[str, NDArray[np.floating[Any]]]
    activation: Activation

    @classmethod
    def from_bytes(cls, weights: bytes, activation: Activation) -> Self:
        """Raises DamagedData where `weights` is no safetensors file."""
        try:
            return cls(safetensors.numpy.load(weights), activation)
        except SafetensorError as error:
            raise DamagedData(f"weights must be a safetensors file, but reading says: {error}") from error

    def predict(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Class probabilities (N, classes) of raw images (N, …), pixels 0 to 255."""
        return forward.predict(self.tensors, self.activation, images)

    def milliseconds_per_image(self, images: NDArray[np.uint8]) -> float:
        """The median time of one image at a time."""
        return _milliseconds_per_image(self, images)

    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class StoredBag:
    """Several nets, whose probabilities are averaged, each as often as it has votes."""

    members: tuple[StoredNet, ...]
    votes: tuple[int, ...]

    @classmethod
    def from_bytes(cls, weights: bytes, members: tuple[BagMember, ...]) -> Self:
        """Raises DamagedData where `weights` is no safetensors file of these members."""
        packed = unpack(weights, len(members))
        nets = [StoredNet(own, member.hyperparameters.activation) for own, member in zip(packed, members, strict=True)]
        return cls(tuple(nets), tuple(member.votes for member in members))

    def predict(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Class probabilities (N, classes) of raw images (N, …), pixels 0 to 255."""
        said = [net.predict(images) for net in self.members]
        return average([one for one, votes in zip(said, self.votes, strict=True) for _ in range(votes)])

    def milliseconds_per_image(self, images: NDArray[np.uint8]) -> float:
        """The median time of one image at a time, its members one after another."""
        return _milliseconds_per_image(self, images)

    def bytes(self) -> int:
        return sum(net.bytes() for net in self.members)


AnyNet = StoredNet | StoredBag


def load_net(weights: bytes, config: ModelConfig) -> AnyNet:
    """Raises DamagedData where `weights` are not those of `config`."""
    if config.members:
        return StoredBag.from_bytes(weights, config.members)
    return StoredNet.from_bytes(weights, config.hyperparameters.activation)


def _milliseconds_per_image(net: AnyNet, images: NDArray[np.uint8]) -> float:
    times = []
    for image in images:
        began = time.perf_counter()
        net.predict(image[np.newaxis])
        times.append(time.perf_counter() - began)
    return round(float(np.median(times)) * 1000, 4)


def write_weights(folder: Path, weights: bytes) -> None:
    _replace_folder(folder, {WEIGHTS: weights})


def read_weights(folder: Path) -> bytes:
    """Raises DamagedData where the folder has no weights."""
    try:
        return (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise DamagedData(
            f"a model folder must hold {WEIGHTS}, but {folder.name} cannot be read: {error.strerror}"
        ) from error


def remove_weights(folder: Path) -> None:
    """The folder is gone, if it was there; at once, so that nobody finds a part of it."""
    going = folder.with_name(f".{folder.name}-0{os.getpid()}")
    with suppress(OSError):
        folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def read_config(folder: Path) -> ModelConfig:
    """Raises DamagedData where the folder has no config, or one that is none."""
    try:
        return ModelConfig.model_validate_json((folder / CONFIG).read_bytes())
    except OSError as error:
        raise DamagedData(
            f"a model folder must hold {CONFIG}, but {folder.name} cannot be read: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise DamagedData(f"{folder.name}/{CONFIG}: must describe a model, but {error.errors()[0]['msg']}") from error


def write_model(folder: Path, weights: bytes, config: ModelConfig, metrics: ModelMetrics) -> None:
    """The whole folder or, after an interruption, none of it; an earlier one of the same name is replaced."""
    files: dict[str, bytes] = {
        WEIGHTS: weights,
        CONFIG: config.model_dump_json(indent=2).encode(),
        "metrics.json": metrics.model_dump_json(indent=2).encode(),
        "README.md": _card(config, metrics).encode(),
    }
    _replace_folder(folder, files)


def _replace_folder(folder: Path, files: dict[str, bytes]) -> None:
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in files.items():
            (partial / name).write_bytes(content)
        remove_weights(folder)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unavailable(f"the model folder {folder.name} cannot be written: {error.strerror}") from error


def _card(config: ModelConfig, metrics: ModelMetrics) -> str:
    rows: dict[str, Any] = {**config.hyperparameters.model_dump(exclude_none=True)}
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    shape = "×".join(map(str, config.image_shape))
    tested = ""
    if metrics.test_accuracy is not None and metrics.test_interval is not None:
        low, high = metrics.test_interval
        tested = f"* sealed test set, read once: {metrics.test_accuracy:.4f} (95 % interval {low:.4f} to {high:.4f})\n"
    holds = "each layer's weight and bias, and the mean and deviation that normalise raw pixels (0 to 255)"
    layers = f"`weights.safetensors` holds {holds}."
    chosen = " (it was chosen by it, so it flatters)" if config.members else ""
    on = f" on {metrics.validation_images:,} images" if metrics.validation_images is not None else ""
    images = f" on {config.train_images:,} images" if config.train_images is not None else ""
    what, how = (
        "A net",
        f"trained {config.epochs} epochs{images} with seed {config.seed}; the weights are those of epoch {config.best_epoch}",
    )
    if config.members:
        what = f"A bag of {len(config.members)} nets, whose probabilities are averaged, together"
        how = "its nets, their seeds and votes are `members` of `config.json`; the table has the winner's configuration"
        layers += "\nThe tensors of net k, from 0 on, have names that begin with `member.k.`."
    return f"""# {config.study}: {config.kind}

{what} of {config.parameters:,} parameters for {config.classes} classes of {config.dataset} images, {shape} pixels.

* validation accuracy: {metrics.validation_accuracy:.4f}{on}{chosen}
{tested}* {how}

| hyperparameter | value |
|---|---|
{table}

{layers}
"""
