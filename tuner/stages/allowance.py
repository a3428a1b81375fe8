"""What a promotion may still spend, in seconds of training as trials and runs have recorded them: so a job that goes on after an
interruption decides as it would have."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuner.specs.study import PATIENCE, PromotionSpec, student_cost
from tuner.stages.job import RunningJob
from tuner.store import runs, trials
from tuner.store.runs import Stage

Spent = Literal["cost", "time"]

TIME_SHARE = 0.25
"""What the rung may take of the time that is left, and then the local search."""

JUDGING = 0.3
"""Of the time that an image takes to be trained on, what it takes to be judged by; seen were 0.19 to 0.40 (docs/decisions.md,
"After the race most validation images are trained on")."""


@dataclass(frozen=True)
class Allowance:
    """None: not bounded."""

    training_seconds: float | None
    """By the study's `max_cost`, of all workers together."""
    seconds: float | None
    """By the job's time limit."""
    slots: int

    def part(self, of_training: float, of_time: float) -> "Allowance":
        training = None if self.training_seconds is None else of_training * self.training_seconds
        return Allowance(training, None if self.seconds is None else of_time * self.seconds, self.slots)

    def lacks(self, *runs: Sequence[float]) -> Spent | None:
        """Why there is not enough for `runs`, each batch of so many seconds of training after the other; None: there is."""
        if not self.affords(*runs):
            return "cost"
        return None if self.in_time(*runs) else "time"

    def affords(self, *runs: Sequence[float]) -> bool:
        return self.training_seconds is None or sum(map(sum, runs)) <= self.training_seconds

    def in_time(self, *runs: Sequence[float]) -> bool:
        return self.seconds is None or sum(self._elapsed(batch) for batch in runs) <= self.seconds

    def _elapsed(self, batch: Sequence[float]) -> float:
        """The longest first, each on the slot that is free first."""
        free = [0.0] * self.slots
        for seconds in sorted(batch, reverse=True):
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)


def allowance(
    job: RunningJob, promotion: PromotionSpec, besides: Sequence[Stage] = ("verdict", "ensemble")
) -> Allowance:
    """What is left at this moment. A deterministic study takes no measured time into account.

    The training of the stages `besides` is not counted, or a restart among their runs would find less than there was at their
    beginning; the ensemble is asked for by name, and is no part of what max_cost bounds.
    """
    limit = job.spec.budget.timeout_seconds
    left = None
    if promotion.max_cost is not None and not job.spec.deterministic:
        searched = job.read(lambda connection: trials.load_trials(connection, job.study_id))
        search = sum(trial.user_attrs.get("seconds", 0.0) for trial in searched)
        left = promotion.max_cost * search - sum(cost.seconds for cost in costs(job) if cost.stage not in besides)
    return Allowance(left, None if limit is None else limit - job.elapsed_seconds, job.slots)


def refit_seconds(job: RunningJob, seconds: float) -> float:
    """What a net takes after the race that took so many `seconds` in it: more images to train on, and fewer to judge by."""
    race, after = (data.train_count + JUDGING * data.validation_count for data in (job.race_slice, job.refit_slice))
    return seconds * after / race


def ensemble_runs(job: RunningJob, seconds: float, whole: bool) -> list[float]:
    """The nets of an ensemble that take so many `seconds` after the race: all that is wanted, or the least that is worth having,
    which is the student of the nets that there are, or else two members."""
    ensemble = job.ensemble
    if ensemble is None:
        return []
    members = ensemble.members if whole else 0 if ensemble.student else 2
    patience = PATIENCE[0] if whole else PATIENCE[-1]
    return [seconds * student_cost(patience)] * ensemble.student + [seconds] * members


def costs(job: RunningJob) -> list[runs.Cost]:
    """Of what the job has trained outside the search, by stage."""
    found = job.read(lambda connection: runs.costs(connection, job.study_id, job.lease.job_id))
    return [cost for cost in found if cost.stage not in ("baseline", "challenge")]
