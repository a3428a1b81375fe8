"""How far a job is, and a first estimate of the time it still needs.

`done` and `total` count the trials of the search and the epochs of what follows it. How many seeds promotion will take is not
known before, so `total` follows what is planned at the moment. The estimate takes the cost of an image from what the job itself
has measured, and counts the images that are likely to be trained on, assuming in advance that nets after the race have as many
as nets in it; it is rough while promotion has not begun, since the best nets are seldom the average.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.stages.job import RunningJob
from tuner.store.jobs import Progress


def searching(job: RunningJob, finished: int, epochs: int, seconds: float) -> Progress:
    """`finished` trials in all; `epochs` trained in `seconds` by this attempt."""
    n_trials = max(job.spec.budget.n_trials, finished)
    promoted = job.spec.promoted_epochs(job.promotion, job.ensemble) + job.challenge_epochs
    images = job.spec.promoted_images(job.promotion, job.ensemble, job.train_count)
    images += job.challenge_epochs * job.train_count
    eta = None
    if epochs and finished:
        per_image = seconds / (epochs * job.spec.subset.train)
        trials = (n_trials - finished) * epochs / finished * job.spec.subset.train
        eta = _in_time(job, per_image * (trials + images))
    return Progress("search", finished, n_trials + promoted, eta)


def _in_time(job: RunningJob, eta: float) -> float:
    """At most what the job's time limit leaves: whatever has no time is left out."""
    limit = job.spec.budget.timeout_seconds
    return eta if limit is None else min(eta, max(0.0, limit - job.elapsed_seconds))


@dataclass(frozen=True)
class Ahead:
    """What is planned after a stage: the epochs by which progress is told, and the images that make up the time."""

    epochs: int
    images: int

    def __add__(self, other: "Ahead") -> "Ahead":
        return Ahead(self.epochs + other.epochs, self.images + other.images)


def ahead(job: RunningJob, epochs: int, of_small: int = 0) -> Ahead:
    """So many `epochs` of all training images; those `of_small` nets, or of nets that are not likely, take no time."""
    return Ahead(epochs, (epochs - of_small) * job.train_count)


@dataclass
class Meter:
    """Shows the epochs of one retraining after another. `done`: trials and epochs of all that was before."""

    job: RunningJob
    done: int

    def measure(self, stage: str, epochs: int, images: int, later: Ahead) -> Callable[[int], None]:
        """For a retraining of so many `epochs` of `images`, after which `later` is planned.

        The answer is told the epochs that are trained, those of an earlier attempt with them.
        """
        done, began, first = self.done, time.monotonic(), -1
        self.done += epochs
        self.job.progress = Progress(stage, done, done + epochs + later.epochs, None)

        def show(trained: int) -> None:
            nonlocal first
            first = trained if first < 0 else first
            left = max(0, epochs - trained) * images + later.images
            here = trained - first
            eta = _in_time(self.job, (time.monotonic() - began) / (here * images) * left) if here > 0 else None
            self.job.progress = Progress(stage, done + trained, done + max(epochs, trained) + later.epochs, eta)

        return show
