"""The border between a stage and the place where its nets are trained.

A stage submits tasks and reads events; it sees neither processes nor pipes. An executor retries nothing: what was lost
is reported as lost, and the stage decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tuner.specs.build import Build
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class DataSlice:
    """Which images of a stored data set a task trains on and is judged on.

    Both are half-open ranges of the order of `tuner.data.splits`, in which MNIST's 10,000 validation images follow the 50,000
    for training.
    """

    folder: Path
    train: tuple[int, int]
    validation: tuple[int, int]
    bootstrap: int | None = None
    """The seed of a bootstrap sample: as many images as `train` has, drawn from it with replacement."""

    @property
    def train_count(self) -> int:
        return self.train[1] - self.train[0]

    @property
    def validation_count(self) -> int:
        return self.validation[1] - self.validation[0]


@dataclass(frozen=True)
class Teacher:
    """The nets that a student learns from beside the labels; `tuner.nets.distillation` says how."""

    weights: Path
    """Of its members, as `tuner.nets.bagging.pack` has packed them."""
    members: tuple[Hyperparameters, ...]
    votes: tuple[int, ...]
    """How often each member counts."""
    temperature: float
    weight: float


@dataclass(frozen=True)
class Task:
    """One training run: the same task gives the same numbers, bit for bit, on the same build and processor."""

    key: str
    hyperparameters: Hyperparameters
    data: DataSlice
    epochs: int
    seed: int
    decay: bool = False
    """Whether the learning rate warms up and then decays to zero over the epochs."""
    patience: int | None = None
    last: bool = False
    """Whether the net is the one of the last epoch, and not of the best."""
    timeout_seconds: float | None = None
    teacher: Teacher | None = None
    keep_weights: bool = False
    """Whether the outcome carries the net's weights."""
    checkpoint_seconds: float | None = None
    """Epochs carry a checkpoint, at most one in so many seconds."""
    checkpoint: bytes | None = None
    """Of an earlier run of this task: it goes on from there, after telling the epochs up to there again."""


@dataclass(frozen=True)
class EpochEnded:
    key: str
    record: EpochRecord
    checkpoint: bytes | None = None
    build: Build | None = None
    """Where it was trained, as far as the executor knows."""


@dataclass(frozen=True)
class Trained:
    """The run reached its last epoch, or its patience ended."""

    key: str
    best_epoch: int
    """Whose net it is."""
    validation_accuracy: float
    """Of that epoch."""
    seconds: float
    """Wall-clock, of the training alone."""
    cpu_seconds: float
    weights: bytes | None
    """A safetensors file."""


@dataclass(frozen=True)
class Diverged:
    """The loss became NaN or infinite, or the parameters did."""

    key: str
    epoch: int
    reason: str
    build: Build | None = None


@dataclass(frozen=True)
class Stopped:
    """`stop` was asked for this task, and its training has ended."""

    key: str


@dataclass(frozen=True)
class OutOfMemory:
    """The run asked for more memory than its worker may have, and would again; the worker goes on."""

    key: str
    detail: str


@dataclass(frozen=True)
class Lost:
    """The run ended from outside: its worker was killed, or it overran its time limit.

    `out_of_memory`: the kernel killed the worker, since the machine or its container had no memory left. That need not be this
    run's fault: the kernel takes the largest process.
    """

    key: str
    why: Literal["killed", "time_limit", "out_of_memory"]
    detail: str


@dataclass(frozen=True)
class Crashed:
    """The run raised an error of its own."""

    key: str
    traceback: str


Event = EpochEnded | Trained | Diverged | Stopped | OutOfMemory | Lost | Crashed


class Executor(Protocol):
    @property
    def slots(self) -> int:
        """How many tasks can run at once."""

    def submit(self, task: Task, deliver: Callable[[Event], None]) -> None:
        """Run `task` as soon as a slot is free; tasks that wait start in the order they were submitted.

        `deliver` is called from another thread, in order, once for each event, and the last event of a task is exactly
        one that is not `EpochEnded`. It should hand the event on and return, since other tasks' events wait behind it.
        It may submit, stop and close.
        """

    def stop(self, key: str) -> None:
        """Ask a task to end at its next batch; one that does not obey within a second is killed. Its last event is
        `Stopped`, unless it had ended already."""

    def close(self) -> None:
        """End every worker. Tasks still under way get no further event."""
