"""The state of training runs under way, a file a run among the models: what a run that was interrupted goes on from."""

import os
from pathlib import Path

from tuner.errors import Unavailable


def write_checkpoint(models_dir: Path, run_id: int, checkpoint: bytes) -> None:
    """The run's newest checkpoint, whole or not at all."""
    path = checkpoint_path(models_dir, run_id)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(checkpoint)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Unavailable(f"the checkpoint {path.name} cannot be written: {error.strerror}") from error


def read_checkpoint(models_dir: Path, run_id: int) -> bytes | None:
    try:
        return checkpoint_path(models_dir, run_id).read_bytes()
    except FileNotFoundError:
        return None


def remove_checkpoint(models_dir: Path, run_id: int) -> None:
    checkpoint_path(models_dir, run_id).unlink(missing_ok=True)


def checkpoint_path(models_dir: Path, run_id: int) -> Path:
    return models_dir / f"run-{run_id}.checkpoint"
