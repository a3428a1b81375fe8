"""Promotion: the best few of the search and the default configuration, retrained on all training images.

What ranks first on a subset need not be best on everything, and a net trained at a constant rate falls short of the same net
with a rate that decays to zero; so the contenders are trained anew, and judged on images that the search has not seen.
"""

import time
from collections.abc import Callable

from tuner.executors.protocol import DataSlice
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import PromotionSpec
from tuner.stages import progress
from tuner.stages.job import RunningJob
from tuner.stages.leased_job import JobFailed
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.stages.rung import Candidate, climb, fit
from tuner.store import trials, voided
from tuner.store.runs import Run, RunState


def promote(job: RunningJob, promotion: PromotionSpec) -> list[Run]:
    """The runs on the full data that reached their end, the best on the validation images first; of equals the smaller net."""
    candidates, finished = _candidates(job)
    size = min(promotion.rung_size(), len(candidates))
    climbed = size * job.spec.subset.epochs
    total = climbed + (min(promotion.top_k, len(candidates)) + 1) * promotion.epochs + job.challenge_epochs
    job.enter("rung")
    ranked = climb(job, candidates, size, _shower(job, "rung", finished, total))
    job.enter("promotion")
    stage = _retrain(job, promotion, ranked, _shower(job, "promotion", finished + climbed, total - climbed))
    void = job.read(lambda connection: voided.numbers(connection, job.study_id))
    left_out = {f"trial-{number}" for number in void}
    runs = [run for run in stage if run.state == RunState.COMPLETE and run.contender not in left_out]
    # The default configuration is trained for comparison, even where it is too large to win.
    too_large = {run.id: job.spec.constraints.violation(run.parameters) > 0 for run in runs}
    if all(too_large.values()):
        raise JobFailed("promotion_failed", f"none of the {len(stage)} promoted configurations reached its end")
    order = sorted(runs, key=lambda run: (-(run.validation_accuracy or 0.0), run.parameters, run.contender))
    return sorted(order, key=lambda run: too_large[run.id])


def _candidates(job: RunningJob) -> tuple[list[Candidate], int]:
    """The distinct configurations of the search but the default, the best first; and how many trials have ended."""
    ranked = job.read(lambda connection: trials.best_trials(connection, job.study_id, minimize=False, limit=None))
    finished = job.read(lambda connection: trials.count_trials(connection, job.study_id))
    distinct: dict[Hyperparameters, Candidate] = {}
    for trial in ranked:
        point = job.spec.search_space.restore(trial.params)
        if point != job.spec.default():
            distinct.setdefault(point, Candidate(f"trial-{trial.number}", point, trial.user_attrs["seconds"]))
    return list(distinct.values()), finished


def _retrain(
    job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate], show: Callable[[int], None]
) -> list[Run]:
    validation_count = job.dataset.train_count - job.train_count
    data = DataSlice(job.dataset.folder, (0, job.train_count), (0, validation_count), "validation")
    plan = Plan("promotion", data, promotion.epochs, decay=True, keep_weights=True)
    share = min(1.0, job.spec.subset.train / job.train_count)
    wanted = promotion.top_k
    while True:
        # The slowest first, so that the last ones to run are short.
        chosen = sorted(ranked[:wanted], key=lambda candidate: -candidate.seconds)
        fitted = [Contender(c.name, fit(c.hyperparameters, job.spec.search_space, share)) for c in chosen]
        stage = retrain(job, plan, [*fitted, Contender("default", job.spec.default())], show)
        # What learned on the subset may explode on ten times the steps: the next best takes its place.
        fallen = sum(run.state == RunState.DIVERGED for run in stage if run.contender != "default")
        if wanted == promotion.top_k + fallen or wanted >= len(ranked) or job.out_of_time():
            return stage
        wanted = promotion.top_k + fallen


def _shower(job: RunningJob, stage: str, done: int, total: int) -> Callable[[int], None]:
    """Shows a stage's epochs on top of the work that was `done` before it; `total` is left to do from there."""
    began, before = time.monotonic(), -1

    def show(epochs: int) -> None:
        nonlocal before
        before = epochs if before < 0 else before
        job.progress = progress.retraining(stage, done, epochs, total, epochs - before, time.monotonic() - began)

    return show
