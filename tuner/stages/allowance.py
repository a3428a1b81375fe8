"""What a promotion may still spend, in seconds of training as trials and runs have recorded them: so a job that goes on after an
interruption decides as it would have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuner.specs.study import PromotionSpec
from tuner.stages.job import RunningJob
from tuner.store import runs, trials

Spent = Literal["cost", "time"]

ENSEMBLE_SHARE = 0.25
"""Of the job's time limit, which rung and race leave to an ensemble."""


@dataclass(frozen=True)
class Allowance:
    """None: not bounded."""

    training_seconds: float | None
    """By the study's `max_cost`, of all workers together."""
    seconds: float | None
    """By the job's time limit."""
    slots: int

    def lacks(self, *runs: Sequence[float]) -> Spent | None:
        """Why there is not enough for `runs`, each batch of so many seconds of training after the other; None: there is."""
        if self.training_seconds is not None and sum(map(sum, runs)) > self.training_seconds:
            return "cost"
        return None if self.in_time(*runs) else "time"

    def in_time(self, *runs: Sequence[float]) -> bool:
        return self.seconds is None or sum(self._elapsed(batch) for batch in runs) <= self.seconds

    def _elapsed(self, batch: Sequence[float]) -> float:
        """A batch takes at least as long as its longest run."""
        return max([sum(batch) / self.slots, *batch])


def allowance(job: RunningJob, promotion: PromotionSpec, after_race: bool = False) -> Allowance:
    """What is left for race and verdict, or for ensemble and verdict `after_race`. A deterministic study takes no measured time
    into account."""
    limit = job.spec.budget.timeout_seconds
    left = None
    if promotion.max_cost is not None and not job.spec.deterministic:
        searched = job.read(lambda connection: trials.load_trials(connection, job.study_id))
        search = sum(trial.user_attrs.get("seconds", 0.0) for trial in searched)
        # The verdict's own runs are left out, or a restart among them would find less than there was at its beginning; the
        # ensemble is asked for by name, and is no part of what max_cost bounds.
        left = promotion.max_cost * search - sum(
            cost.seconds for cost in costs(job) if cost.stage not in ("verdict", "ensemble")
        )
    kept = 0.0 if limit is None or after_race or job.ensemble is None else ENSEMBLE_SHARE * limit
    return Allowance(left, None if limit is None else limit - kept - job.elapsed_seconds, job.slots)


def costs(job: RunningJob) -> list[runs.Cost]:
    """Of what the job has trained outside the search, by stage."""
    found = job.read(lambda connection: runs.costs(connection, job.study_id, job.lease.job_id))
    return [cost for cost in found if cost.stage not in ("baseline", "challenge")]
