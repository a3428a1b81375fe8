"""Promotion: the best few of the search and the default configuration, retrained on all training images.

What ranks first on a subset need not be best on everything, and a net trained at a constant rate falls short of the same net
with a rate that decays to zero; so the contenders are trained anew, and judged on images that the search has not seen.
"""

from dataclasses import dataclass

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import GROWTH, OPTIMISM_SEEDS, PromotionSpec
from tuner.specs.verdict import Optimism, Tau
from tuner.stages.allowance import TIME_SHARE, allowance
from tuner.stages.job import RunningJob
from tuner.stages.line_up import line_up
from tuner.stages.local_search import search_locally
from tuner.stages.optimism import measure_optimism
from tuner.stages.progress import Ahead, Meter, ahead
from tuner.stages.race import Raced, race, race_ahead, verdict_ahead
from tuner.stages.rung import Candidate, Extent, climb, dear_last
from tuner.store import trials


@dataclass(frozen=True)
class Promoted:
    """What promotion has found, before the sealed test set is opened."""

    tau: Tau
    optimism: Optimism | None
    raced: Raced
    meter: Meter


def promote(job: RunningJob, promotion: PromotionSpec) -> Promoted:
    """Raises JobFailed where none of the promoted reaches its end."""
    ranked = _ranked(job)
    candidates = dear_last(job, _candidates(job, ranked))
    meter = Meter(job, job.read(lambda connection: trials.count_trials(connection, job.study_id)))
    later = race_ahead(job, promotion, min(promotion.top_k, len(candidates)) + 1) + verdict_ahead(job, promotion)
    later += ahead(job, job.ensemble_epochs + job.challenge_epochs)
    job.enter("rung")
    beside, again = _small(job, promotion.local_runs(), GROWTH), _small(job, OPTIMISM_SEEDS, 1)
    climbed = climb(job, candidates, _extent(job, promotion, candidates), meter, later + beside + again)
    optimism = measure_optimism(job, ranked[0], meter, later + beside) if ranked else None
    found = search_locally(job, promotion, climbed.ranked, meter, later)
    job.enter("promotion")
    lined = line_up(job, promotion, found, _default_seconds(job, ranked))
    return Promoted(climbed.tau, optimism, race(job, promotion, lined, meter), meter)


def _ranked(job: RunningJob) -> list[Candidate]:
    """The trials that have reached their end, the best first; without what another program has written into the study, which no
    worker of ours has trained."""
    best = job.read(lambda connection: trials.best_trials(connection, job.study_id, minimize=False, limit=None))
    ours = [trial for trial in best if "seconds" in trial.user_attrs]
    points = [(trial, job.spec.search_space.find(trial.params)) for trial in ours]
    return [
        Candidate(f"trial-{trial.number}", point, trial.values[0], trial.user_attrs["seconds"])
        for trial, point in points
        if point is not None
    ]


def _small(job: RunningJob, runs: int, growth: int) -> Ahead:
    """So many runs on `growth` times the search's images."""
    epochs = runs * job.spec.subset.epochs
    return Ahead(epochs, epochs * growth * job.spec.subset.train)


def _extent(job: RunningJob, promotion: PromotionSpec, candidates: list[Candidate]) -> Extent:
    """Under a time limit as many climb as take a share of what is left, by the seconds of their trials, and
    those that have begun."""
    size, left = promotion.rung_size(), allowance(job, promotion).part(1.0, TIME_SHARE)
    seconds = [GROWTH * candidate.seconds for candidate in candidates[: 2 * size]]
    begun = min(len(job.runs("rung")), len(seconds))
    most = next((count for count in range(len(seconds), begun, -1) if left.in_time(seconds[:count])), begun)
    return Extent(min(size, most), min(2 * size, most))


def _default_seconds(job: RunningJob, ranked: list[Candidate]) -> float:
    """Of the default configuration on the subset; 0 where this job has not trained it there and no trial has."""
    own = [one.seconds for one in ranked if one.hyperparameters == job.spec.default()]
    apart = [run.seconds for run in job.runs("baseline") if run.seconds is not None]
    return next(iter(own + apart), 0.0)


def _candidates(job: RunningJob, ranked: list[Candidate]) -> list[Candidate]:
    """The distinct configurations of the search but the default, the best first."""
    distinct: dict[Hyperparameters, Candidate] = {}
    for one in ranked:
        if one.hyperparameters != job.spec.default():
            distinct.setdefault(one.hyperparameters, one)
    return list(distinct.values())
