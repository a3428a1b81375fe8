"""A machine's calibration: a few epochs of nets at the corners of the default space, as busy as a study keeps the workers."""

import queue
import statistics
import threading
from itertools import count

from tuner.data.catalogue import Dataset
from tuner.executors.protocol import DataSlice, EpochEnded, Event, Executor, Task
from tuner.specs.estimate import Timing
from tuner.specs.hyperparameters import Hyperparameters

TRAIN, VALIDATION, EPOCHS = 1500, 500, 3
"""Images and epochs of each net; the first epoch, in which the images are loaded, is not counted."""

CORNERS = tuple(
    Hyperparameters.model_validate(point)
    for point in (
        {},
        {"depth": 1, "width": 32, "batch_size": 256},
        {"depth": 1, "width": 32, "batch_size": 32, "optimizer": "sgd"},
        {"depth": 6, "width": 32, "batch_size": 32, "optimizer": "momentum"},
        {"depth": 1, "width": 512, "batch_size": 32, "optimizer": "rmsprop"},
        {"depth": 1, "width": 512, "batch_size": 256, "activation": "tanh", "dropout": 0.3},
        {"depth": 2, "width": 256, "batch_size": 128, "batch_norm": True},
        {"depth": 3, "width": 512, "batch_size": 256},
        {"depth": 3, "width": 256, "batch_size": 32, "dropout": 0.3},
        {"depth": 6, "width": 512, "batch_size": 128, "activation": "maxout", "optimizer": "sgd"},
        {"depth": 3, "width": 512, "batch_size": 64, "activation": "maxout", "dropout": 0.3},
        {"depth": 3, "width": 128, "batch_size": 64, "activation": "sigmoid", "optimizer": "momentum"},
        {"width": 64, "batch_size": 128, "shift_pixels": 2},
        {"width": 256, "batch_size": 32, "shift_pixels": 1, "optimizer": "rmsprop"},
        {"width": 64, "batch_size": 128, "rotate_degrees": 10, "zoom": 0.1},
        {"width": 64, "batch_size": 128, "input_dropout": 0.2},
    )
)


_KEYS = count()


def calibrate(executor: Executor, dataset: Dataset, ending: threading.Event) -> list[Timing]:
    """A timing of each corner whose net reached its end; an empty list once `ending` is set."""
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    data = DataSlice(dataset.folder, (0, TRAIN), (TRAIN, TRAIN + VALIDATION))
    running: dict[str, tuple[Hyperparameters, list[float]]] = {}
    for corner in CORNERS:
        key = f"calibration/{next(_KEYS)}"
        running[key] = (corner, [])
        executor.submit(Task(key=key, hyperparameters=corner, data=data, epochs=EPOCHS, seed=0), inbox.put)
    timings = []
    while running and not ending.is_set():
        try:
            event = inbox.get(timeout=0.2)
        except queue.Empty:
            continue
        if isinstance(event, EpochEnded):
            running[event.key][1].append(event.record.seconds)
            continue
        corner, seconds = running.pop(event.key)
        if len(seconds) == EPOCHS:
            timing = Timing(
                hyperparameters=corner,
                inputs=dataset.inputs,
                classes=dataset.classes,
                train=TRAIN,
                validation=VALIDATION,
                seconds=statistics.median(seconds[1:]),
            )
            timings.append(timing)
    return [] if running else timings
