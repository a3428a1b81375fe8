"""Training one net: a function of its arguments, the same bit for bit whenever it is called with them.

The caller decides on threads: `torch.set_num_threads(1)`, since sums over several threads may differ from sums over one.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tuner.errors import TunerError
from tuner.nets.denormals import denormals_are_zero
from tuner.nets.distillation import Lessons, distilled
from tuner.nets.evaluation import validate
from tuner.nets.learning_rate import rate_factor
from tuner.nets.losses import LOSSES
from tuner.nets.mlp import MLP
from tuner.nets.optimizers import Optimizer
from tuner.nets.pixel_scale import pixel_scale
from tuner.nets.progress import Progress, Run
from tuner.nets.shifts import ShiftedImages
from tuner.nets.training_data import TrainingData
from tuner.nets.turning import Turning
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters

OnEpoch = Callable[[EpochRecord, Callable[[], bytes]], None]
"""Gets the record of the epoch that has ended, and a function that makes a checkpoint of the run as it stands."""


class TrainingDiverged(TunerError):
    """A loss or a gradient became NaN or infinite."""

    def __init__(self, epoch: int, reason: str) -> None:
        super().__init__(f"training diverged in epoch {epoch}: {reason}")
        self.epoch, self.reason = epoch, reason


class TrainingStopped(TunerError):
    """`should_stop` said so."""


@dataclass(frozen=True)
class TrainedNet:
    net: MLP
    """In evaluation mode, with the weights of the best epoch, or of the last where that was asked for."""
    records: tuple[EpochRecord, ...]
    best_epoch: int
    """Whose weights these are: of the best validation accuracy, the last of several; or the last of all."""
    seconds: float
    """Wall-clock, of training and validation, without the time spent in `on_epoch`."""
    cpu_seconds: float
    """Of the process, over the same time."""


@denormals_are_zero()
def train(
    hyperparameters: Hyperparameters,
    data: TrainingData,
    *,
    classes: int,
    epochs: int,
    seed: int,
    decay: bool = False,
    patience: int | None = None,
    on_epoch: OnEpoch = lambda record, checkpoint: None,  # noqa: ARG005
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: bytes | None = None,
    last: bool = False,
    lessons: Lessons | None = None,
) -> TrainedNet:
    """A net trained for `epochs` epochs, or until `patience` epochs brought no better validation accuracy.

    With `decay` the learning rate warms up and then falls to 0 over the `epochs`. A run given the `checkpoint` of an earlier call
    with the same arguments goes on after that epoch as if nothing had happened; `on_epoch` hears of the epochs up to there first.
    With `last` the net is the one of the last epoch, whatever came before. With `lessons` it is a student: its training loss is
    the distilled one, and its validation is as ever.

    Raises TrainingDiverged at the batch where a loss or a gradient is no longer finite, TrainingStopped before the batch at which
    `should_stop` answers True, InvalidInput for shifts and turns of images that are not (height, width).
    """
    clock = _Clock()
    generator = torch.Generator().manual_seed(seed)
    net = MLP(
        data.inputs, classes, hyperparameters, generator, pixel_scale(hyperparameters.normalisation, data.moments)
    )
    run = Run(hyperparameters=hyperparameters, seed=seed, decay_epochs=epochs if decay else None)
    progress = Progress(run, net, Optimizer(net), generator)
    if checkpoint is not None:
        progress.restore(checkpoint)
        for record in progress.records:
            on_epoch(record, progress.to_bytes)
    batches = _Batches(data, hyperparameters, generator)
    steps = epochs * batches.per_epoch if decay else None
    while progress.epoch < epochs and (patience is None or progress.epochs_without_gain < patience):
        epoch = progress.epoch + 1
        fit = _train_epoch(progress, batches, steps, should_stop, lessons)
        validation = validate(net, data.validation_images, data.validation_labels, LOSSES[hyperparameters.loss])
        _check_finite(epoch, {"validation loss": validation.loss, "validation cross-entropy": validation.cross_entropy})
        seconds, cpu_seconds = clock.lap()
        record = EpochRecord(
            epoch=epoch,
            train_loss=fit.loss,
            train_accuracy=fit.accuracy,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            validation_cross_entropy=validation.cross_entropy,
            gradient_norm_first=fit.gradient_norm_first,
            gradient_norm_last=fit.gradient_norm_last,
            dead_units=validation.dead_units,
            learning_rate=fit.learning_rate,
            seconds=seconds,
        )
        progress.add(record, cpu_seconds)
        on_epoch(record, progress.to_bytes)
        clock.lap()
    if not last:
        progress.restore_best()
    net.eval()
    return TrainedNet(
        net=net,
        records=tuple(progress.records),
        best_epoch=progress.epoch if last else progress.best_epoch,
        seconds=sum(record.seconds for record in progress.records),
        cpu_seconds=progress.cpu_seconds,
    )


@dataclass(frozen=True)
class _Fit:
    """One epoch of training: means over its images, or over its batches for the gradient norms."""

    loss: float
    accuracy: float
    gradient_norm_first: float
    gradient_norm_last: float
    learning_rate: float


def _train_epoch(
    progress: Progress,
    batches: "_Batches",
    steps: int | None,
    should_stop: Callable[[], bool],
    lessons: Lessons | None,
) -> _Fit:
    net, h = progress.net, progress.net.hyperparameters
    loss_of, learning_rate = LOSSES[h.loss], h.learning_rate
    weights, biases = list(net.weights), list(net.biases)
    epoch, step = progress.epoch + 1, progress.epoch * batches.per_epoch
    total = norm_first = norm_last = 0.0
    answers, truths = [], []
    net.train()
    for images, labels in batches:
        if should_stop():
            raise TrainingStopped(f"stopped in epoch {epoch}")
        logits = net(images)
        loss = loss_of(logits, labels)
        if lessons is not None:
            loss = distilled(loss, logits, lessons.probabilities(images), lessons)
        gradients = torch.autograd.grad(loss, weights + biases)
        batch_loss = loss.item()
        first = torch.linalg.vector_norm(gradients[0]).item()
        last = torch.linalg.vector_norm(gradients[len(weights) - 1]).item()
        _check_finite(
            epoch,
            {"training loss": batch_loss, "first layer's gradient norm": first, "last layer's gradient norm": last},
        )
        if steps is not None:
            learning_rate = h.learning_rate * rate_factor(step, steps)
        progress.optimizer.step(gradients, learning_rate)
        step += 1
        total += batch_loss * len(labels)
        norm_first += first
        norm_last += last
        answers.append(logits.detach())
        truths.append(labels)
    return _Fit(
        loss=total / batches.count,
        accuracy=(torch.cat(answers).argmax(1) == torch.cat(truths)).sum().item() / batches.count,
        gradient_norm_first=norm_first / batches.per_epoch,
        gradient_norm_last=norm_last / batches.per_epoch,
        learning_rate=learning_rate,
    )


def _check_finite(epoch: int, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise TrainingDiverged(epoch, f"the {name} became {value}")


class _Batches:
    """The training images and labels in batches; each iteration is one epoch in a new order, the last batch may be smaller."""

    def __init__(self, data: TrainingData, hyperparameters: Hyperparameters, generator: torch.Generator) -> None:
        self.count = len(data.train_images)
        self.per_epoch = math.ceil(self.count / hyperparameters.batch_size)
        self._size, self._generator = hyperparameters.batch_size, generator
        self._labels = data.train_labels
        self._images: Callable[[Tensor], Tensor]
        if hyperparameters.shift_pixels:
            self._images = ShiftedImages(data.train_images, hyperparameters.shift_pixels, generator).batch
        else:
            self._images = partial(data.train_images.flatten(1).index_select, 0)
        self._turning = None
        if hyperparameters.rotate_degrees or hyperparameters.zoom:
            self._turning = Turning(data.train_images.shape[1:], hyperparameters, generator)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of a batch, and their labels."""
        for index in torch.split(torch.randperm(self.count, generator=self._generator), self._size):
            images = self._images(index)
            yield images if self._turning is None else self._turning(images), self._labels.index_select(0, index)


class _Clock:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> tuple[float, float]:
        """Wall-clock and CPU seconds of this process since the last lap."""
        wall, cpu = time.perf_counter(), time.process_time()
        since = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        return since
