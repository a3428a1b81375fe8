"""A task, run: the data read, the net trained, the outcome told. It is the same in a local worker and on a cluster."""

from collections.abc import Callable
from functools import lru_cache

from tuner.data import catalogue
from tuner.data.splits import partition
from tuner.executors.protocol import DataSlice, Diverged, EpochEnded, Stopped, Task, Trained
from tuner.nets.training import TrainingDiverged, TrainingStopped, train
from tuner.nets.training_data import TrainingData, prepare
from tuner.nets.weights import to_bytes


def run(
    task: Task, emit: Callable[[EpochEnded], None], should_stop: Callable[[], bool]
) -> Trained | Diverged | Stopped:
    """How the training of `task` ended. `emit` has had one event for each epoch; `should_stop` is asked at each batch."""
    data, classes = _prepared(task.data)
    try:
        result = train(
            task.hyperparameters,
            data,
            classes=classes,
            epochs=task.epochs,
            seed=task.seed,
            decay=task.decay,
            patience=task.patience,
            on_epoch=lambda record, _checkpoint: emit(EpochEnded(task.key, record)),
            should_stop=should_stop,
        )
    except TrainingDiverged as diverged:
        return Diverged(task.key, diverged.epoch, diverged.reason)
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


@lru_cache(maxsize=4)  # a worker's next trial mostly wants the images of the last; whole MNIST is 47 MB
def _prepared(data: DataSlice) -> tuple[TrainingData, int]:
    """The images of a slice, and the number of classes in the whole data set."""
    dataset = catalogue.describe(data.folder.name, data.folder.parent)
    images, labels = catalogue.training_images(dataset), catalogue.training_labels(dataset)
    parts = partition(labels)
    train_at = parts.train[slice(*data.train)]
    validation_at = getattr(parts, data.validation_part)[slice(*data.validation)]
    prepared = prepare(images[train_at], labels[train_at], images[validation_at], labels[validation_at])
    return prepared, dataset.classes
