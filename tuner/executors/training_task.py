"""A task, run: the data read, the net trained, the outcome told. It is the same in a local worker and on a cluster."""

import time
from collections.abc import Callable
from functools import lru_cache

from safetensors.numpy import save

from tuner.data import catalogue
from tuner.data.splits import partition
from tuner.executors.protocol import DataSlice, Diverged, EpochEnded, OutOfMemory, Stopped, Task, Teacher, Trained
from tuner.nets.bagging import bootstrap, unpack
from tuner.nets.build import this_build
from tuner.nets.distillation import Lessons
from tuner.nets.training import TrainingDiverged, TrainingStopped, train
from tuner.nets.training_data import TrainingData, prepare
from tuner.nets.weights import from_bytes, to_bytes
from tuner.specs.epoch import EpochRecord

_REFUSED_ALLOCATION = ("can't allocate memory", "bad_alloc")
"""Words of torch's, which has no class of its own for the error of a CPU's allocator."""


def run(
    task: Task, emit: Callable[[EpochEnded], None], should_stop: Callable[[], bool]
) -> Trained | Diverged | Stopped | OutOfMemory:
    """How the training of `task` ended. `emit` has had one event for each epoch; `should_stop` is asked at each batch."""
    try:
        return _train(task, emit, should_stop)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _REFUSED_ALLOCATION):
            return OutOfMemory(task.key, str(error) or repr(error))
        raise


def _train(
    task: Task, emit: Callable[[EpochEnded], None], should_stop: Callable[[], bool]
) -> Trained | Diverged | Stopped:
    dataset = catalogue.describe(task.data.folder.name, task.data.folder.parent)
    data = _prepared(task.data, dataset)
    try:
        result = train(
            task.hyperparameters,
            data,
            classes=dataset.classes,
            epochs=task.epochs,
            seed=task.seed,
            decay=task.decay,
            patience=task.patience,
            last=task.last,
            on_epoch=_Teller(task, emit),
            checkpoint=task.checkpoint,
            should_stop=should_stop,
            lessons=None if task.teacher is None else _lessons(task.teacher, data.inputs, dataset.classes),
        )
    except TrainingDiverged as diverged:
        return Diverged(task.key, diverged.epoch, diverged.reason, this_build())
    except TrainingStopped:
        return Stopped(task.key)
    return Trained(
        key=task.key,
        best_epoch=result.best_epoch,
        validation_accuracy=result.records[result.best_epoch - 1].validation_accuracy,
        seconds=result.seconds,
        cpu_seconds=result.cpu_seconds,
        weights=to_bytes(result.net) if task.keep_weights else None,
    )


class _Teller:
    """Tells the epochs of a task, with a checkpoint where one is due."""

    def __init__(self, task: Task, emit: Callable[[EpochEnded], None]) -> None:
        self._task, self._emit, self._build = task, emit, this_build()
        self._last = time.monotonic()

    def __call__(self, record: EpochRecord, checkpoint: Callable[[], bytes]) -> None:
        seconds = self._task.checkpoint_seconds
        due = seconds is not None and time.monotonic() - self._last >= seconds
        self._emit(EpochEnded(self._task.key, record, checkpoint() if due else None, self._build))
        if due:
            self._last = time.monotonic()


@lru_cache(maxsize=4)  # a worker's next trial mostly wants the images of the last; whole MNIST is 47 MB
def _prepared(data: DataSlice, dataset: catalogue.Dataset) -> TrainingData:
    """The images of a slice. `dataset` has the checksum: other data may have its name since the last task."""
    images, labels = catalogue.training_images(dataset), catalogue.training_labels(dataset)
    order = partition(labels).order
    train_at, validation_at = order[slice(*data.train)], order[slice(*data.validation)]
    if data.bootstrap is not None:
        train_at = train_at[bootstrap(len(train_at), data.bootstrap)]
    return prepare(images[train_at], labels[train_at], images[validation_at], labels[validation_at])


def _lessons(teacher: Teacher, inputs: int, classes: int) -> Lessons:
    packed = unpack(teacher.weights.read_bytes(), len(teacher.members))
    nets = [
        from_bytes(save(tensors), point, inputs, classes)
        for tensors, point in zip(packed, teacher.members, strict=True)
    ]
    return Lessons(nets, teacher.votes, teacher.temperature, teacher.weight)
