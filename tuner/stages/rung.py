"""The rung: the best dozen of the search on twice the images, judged on images that no stage has used.

The subset's own ranking is worth having and is not the truth: among its best, a trial's luck counts as much as its merit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tuner.executors.protocol import DataSlice
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace
from tuner.stages.job import RunningJob
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.store.runs import RunState

GROWTH = 2
"""So many times the subset's training images are the rung's."""

LARGEST_BATCH = 256


@dataclass(frozen=True)
class Candidate:
    """A distinct configuration of the search, with the seconds that its trial took."""

    name: str
    hyperparameters: Hyperparameters
    seconds: float


def rung_slice(job: RunningJob) -> DataSlice | None:
    """The rung's images, or None where the data has not so many."""
    subset, end = job.spec.subset, job.train_count - job.spec.subset.validation
    validation = (end - subset.validation, end)
    train = GROWTH * subset.train
    return DataSlice(job.dataset.folder, (0, train), validation) if train <= validation[0] else None


def climb(
    job: RunningJob, candidates: list[Candidate], size: int, show: Callable[[int], None] = lambda _epochs: None
) -> list[Candidate]:
    """The first `size` candidates, ranked anew, then the others; those that explode on the way are left out."""
    data, climbing = rung_slice(job), candidates[:size]
    if data is None or len(climbing) < 2:
        return candidates
    subset = job.spec.subset
    by_cost = sorted(climbing, key=lambda candidate: -candidate.seconds)
    contenders = [Contender(c.name, fit(c.hyperparameters, job.spec.search_space, 1 / GROWTH)) for c in by_cost]
    plan = Plan("rung", data, subset.epochs, decay=True, keep_weights=False)
    ended = {run.contender: run for run in retrain(job, plan, contenders, show) if run.state != RunState.RUNNING}
    scores = {
        name: run.validation_accuracy
        for name, run in ended.items()
        if run.state == RunState.COMPLETE and run.validation_accuracy is not None
    }
    # A candidate whose run the time limit cut off keeps its place behind those that were judged.
    unjudged = [c for c in candidates if c.name not in ended]
    return sorted((c for c in climbing if c.name in scores), key=lambda c: -scores[c.name]) + unjudged


def fit(point: Hyperparameters, space: SearchSpace, share: float) -> Hyperparameters:
    """`point`, found on a `share` of the data, as it is to be trained on all of it; what the user has fixed stays.

    * weight_decay is the logarithm of a prior on the weights, and the loss a mean over the images: for the prior to stay the
      same while the images grow more, the penalty shrinks as they grow.
    * batch_size: the noise of a step is proportional to learning_rate × images / batch_size (Smith & Le 2018). Keeping
      it would take ten times the batch for ten times the images, and leave too few steps; so the batch grows as the square root,
      in whole powers of two and up to LARGEST_BATCH.
    """
    changes: dict[str, float] = {}
    if space.varies("weight_decay"):
        changes["weight_decay"] = point.weight_decay * share
    if space.varies("batch_size"):
        grown = point.batch_size * 2 ** math.floor(math.log2(1 / share) / 2)
        changes["batch_size"] = max(point.batch_size, min(LARGEST_BATCH, grown))
    return point.model_copy(update=changes)
