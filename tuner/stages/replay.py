"""A trial, trained again from its record: whether the same numbers come out, bit for bit."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.data.catalogue import Dataset
from tuner.errors import InvalidInput, TunerError
from tuner.executors.protocol import Crashed, Diverged, EpochEnded, Event, Executor, Lost, OutOfMemory
from tuner.specs.build import Build
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.stages.trial_task import trial_task

MEASURED = frozenset({"seconds"})
"""The numbers of an epoch that say how long it took, and are never the same."""

DIVERGED = "diverged"


@dataclass(frozen=True)
class TrialRecord:
    """What a trial has left behind. `detail` says of a diverged one what became infinite; `build` is None where unknown."""

    number: int
    state: str
    hyperparameters: Hyperparameters
    seed: int
    value: float | None
    reason: str | None
    detail: str | None
    epochs: tuple[EpochRecord, ...]
    build: Build | None


@dataclass(frozen=True)
class Difference:
    """A number, or word, of the record that has come out otherwise; `where` is `epoch 3`, `trial` or `build`."""

    where: str
    name: str
    recorded: object
    replayed: object


@dataclass(frozen=True)
class Replay:
    compared: int
    """Numbers and words, equal or not."""
    differences: tuple[Difference, ...]
    builds: tuple[Difference, ...]
    """How the build of today differs from the recorded one, which can be why numbers do."""


def replay(record: TrialRecord, spec: StudySpec, dataset: Dataset, executor: Executor) -> Replay:
    """Train the trial again, for as many epochs as it was trained, and compare all that its training has told.

    Raises InvalidInput for a trial that was not trained to an end of its own, TunerError where the training cannot be done here.
    """
    _check(record)
    task = trial_task(spec, dataset, record.hyperparameters, record.seed, f"replay-{record.number}")
    was_stopped = record.state == "PRUNED" and record.reason != DIVERGED
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    executor.submit(task, heard.put)
    epochs: list[EpochEnded] = []
    while isinstance(event := heard.get(), EpochEnded):
        if was_stopped and len(epochs) == len(record.epochs):
            continue  # it was trained before the stop had reached the worker
        epochs.append(event)
        if was_stopped and len(epochs) == len(record.epochs):
            executor.stop(task.key)
    if isinstance(event, Lost | OutOfMemory):
        raise TunerError(f"trial {record.number} cannot be trained here: {event.detail}")
    if isinstance(event, Crashed):
        raise TunerError(f"trial {record.number} cannot be trained here:\n{event.traceback}")
    diverged = event if isinstance(event, Diverged) else None
    compared = _pairs(record, [epoch.record for epoch in epochs], diverged)
    build = diverged.build if diverged is not None else epochs[-1].build
    return Replay(len(compared), _differing(compared), _differing(_build_pairs(record.build, build)))


def _check(record: TrialRecord) -> None:
    rule = "only a trial that was COMPLETE, pruned or diverged can be replayed"
    if record.state not in ("COMPLETE", "PRUNED"):
        raise InvalidInput(f"{rule}, but trial {record.number} is {record.state}")
    if not record.epochs and record.reason != DIVERGED:
        raise InvalidInput(f"{rule}, but trial {record.number} has no record of an epoch")


def _pairs(record: TrialRecord, epochs: Sequence[EpochRecord], diverged: Diverged | None) -> list[Difference]:
    """Everything that is compared, equal or not."""
    pairs = [
        Difference(f"epoch {then.epoch}", name, getattr(then, name), getattr(now, name))
        for then, now in zip(record.epochs, epochs, strict=False)
        for name in EpochRecord.model_fields
        if name not in MEASURED and getattr(then, name) is not None
    ]
    pairs.append(Difference("trial", "epochs", len(record.epochs), len(epochs)))
    if record.state == "COMPLETE":
        pairs.append(Difference("trial", "value", record.value, epochs[-1].validation_accuracy if epochs else None))
    # A diverged trial has a record of every epoch before the one in which it diverged.
    recorded_end = (len(record.epochs) + 1, record.detail) if record.reason == DIVERGED else (None, None)
    replayed_end = (diverged.epoch, diverged.reason) if diverged is not None else (None, None)
    for name, then_ended, now_ended in zip(("diverged in", "because"), recorded_end, replayed_end, strict=True):
        pairs.append(Difference("trial", name, then_ended, now_ended))
    return pairs


def _build_pairs(recorded: Build | None, replayed: Build | None) -> list[Difference]:
    if recorded is None or replayed is None:
        return []
    return [Difference("build", name, getattr(recorded, name), getattr(replayed, name)) for name in Build.model_fields]


def _differing(pairs: Sequence[Difference]) -> tuple[Difference, ...]:
    return tuple(pair for pair in pairs if pair.recorded != pair.replayed)
