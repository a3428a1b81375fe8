"""Promotion: the best few of the search and the default configuration, retrained on all training images.

What ranks first on a subset need not be best on everything, and a net trained at a constant rate falls short of the same net
with a rate that decays to zero; so the contenders are trained anew, and judged on images that the search has not seen.
"""

import time

from optuna.trial import FrozenTrial

from tuner.executors.protocol import DataSlice
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import PromotionSpec
from tuner.stages import progress
from tuner.stages.job import JobFailed, RunningJob
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.store import trials
from tuner.store.database import reading
from tuner.store.runs import Run, RunState


def promote(job: RunningJob, promotion: PromotionSpec) -> list[Run]:
    """The runs on the full data that reached their end, the best on the validation images first; of equals the smaller net."""
    with reading(job.engine) as connection:
        ranked = trials.best_trials(connection, job.study_id, minimize=False, limit=None)
        finished = sum(trials.count_states(connection, [job.study_id])[job.study_id].values())
    contenders = choose(job, ranked, promotion.top_k)
    total, began, before = len(contenders) * promotion.epochs, time.monotonic(), None

    def show(epochs: int) -> None:
        nonlocal before
        before = epochs if before is None else before
        seconds = time.monotonic() - began
        job.progress = progress.promoting(finished, epochs, total, epochs - before, seconds)

    validation_count = job.dataset.train_count - job.train_count
    data = DataSlice(job.dataset.folder, (0, job.train_count), (0, validation_count), "validation")
    plan = Plan("promotion", data, promotion.epochs, decay=True, keep_weights=True)
    runs = [run for run in retrain(job, plan, contenders, show) if run.state == RunState.COMPLETE]
    if not runs:
        raise JobFailed("promotion_failed", f"none of the {len(contenders)} promoted configurations reached its end")
    return sorted(runs, key=lambda run: (-(run.validation_accuracy or 0.0), run.parameters))


def choose(job: RunningJob, ranked: list[FrozenTrial], top_k: int) -> list[Contender]:
    """The default configuration and the `top_k` best distinct others, the slowest to train first, so that the last ones to
    run are short."""
    default = job.spec.default()
    seconds = {"default": 0.0}
    chosen: dict[Hyperparameters, str] = {}
    for trial in ranked:
        point = job.spec.search_space.restore(trial.params)
        if point == default:
            seconds["default"] = trial.user_attrs["seconds"]
        elif point not in chosen and len(chosen) < top_k:
            chosen[point] = f"trial-{trial.number}"
            seconds[chosen[point]] = trial.user_attrs["seconds"]
    contenders = [Contender("default", default), *(Contender(name, point) for point, name in chosen.items())]
    return sorted(contenders, key=lambda contender: -seconds[contender.name])
