"""The local search: what shifts with the amount of data is set anew for the rung's best, by nets trained beside theirs.

It is told on the rung's images, where such a net takes a tenth of what it takes on all. First one thing at a time is changed,
then all that has helped.
"""

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import CHANGES, changed, changes
from tuner.specs.study import GROWTH, LOCAL_SHARE, PromotionSpec
from tuner.stages.allowance import TIME_SHARE, Allowance, allowance
from tuner.stages.job import RunningJob
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import Contender, Plan, retrain, stage_seeds
from tuner.stages.rung import Candidate, dear_last, rung_slice
from tuner.store.runs import RunState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbour:
    """What one of the best becomes by some changes."""

    beside: Candidate
    changes: tuple[int, ...]
    hyperparameters: Hyperparameters

    @property
    def name(self) -> str:
        """Of its run: `trial-34.5`, or `trial-34.3+5`."""
        return f"{self.beside.name}.{'+'.join(map(str, self.changes))}"


def search_locally(
    job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate], meter: Meter, later: Ahead
) -> list[Candidate]:
    """The `ranked`, with each of the best `top_k` replaced by its best neighbour where one was better, then ranked anew; again
    the dear ones give way. As many neighbours are trained as the job can afford; once the race has begun, no further one is."""
    best, others = ranked[: promotion.top_k], ranked[promotion.top_k :]
    raced, begun = bool(job.runs("promotion")), {run.contender for run in job.runs("local_search")}
    left = allowance(job, promotion, besides=("local_search",)).part(LOCAL_SHARE, TIME_SHARE)
    singles = _one_by_one(job, best, begun, left)
    found = _train(job, [near for near in singles if near.name in begun or not raced], meter, later)
    together = _all_that_helped(job, found)
    found |= _train(job, [near for near in together if near.name in begun or not raced], meter, later)
    going_on = {candidate.name: candidate for candidate in best}
    for near, trained in found.items():
        if trained.value > going_on[trained.name].value:
            going_on[trained.name] = trained
            logger.info("%s of %s goes on as %s", trained.name, job.name, near.name)
    return dear_last(job, sorted(going_on.values(), key=lambda candidate: -candidate.value) + others)


def _one_by_one(job: RunningJob, best: list[Candidate], begun: Container[str], left: Allowance) -> list[Neighbour]:
    """The neighbours by a single change that are to be trained. Of each candidate that has climbed: all that have `begun`, and as
    many more as fit into an equal share of what is `left`, with room for one of all that helped. By change, then by candidate.
    Left out are points that are there already, and nets that are too large."""
    climbed = [candidate for candidate in best if candidate.climbed and rung_slice(job) is not None]
    known, found = {candidate.hyperparameters for candidate in best}, []
    for candidate in climbed:
        points = changes(candidate.hyperparameters, job.spec.search_space)
        possible = {number: p for number, p in points.items() if p not in known and job.violation(p) <= 0}
        neighbours = [Neighbour(candidate, (number,), point) for number, point in possible.items()]
        fitting = _as_many_as_fit(job, neighbours, begun, left.part(1 / len(climbed), 1 / len(climbed)))
        known |= {near.hyperparameters for near in fitting}
        found += fitting
    return sorted(found, key=lambda near: CHANGES.index(near.changes[0]))


def _as_many_as_fit(
    job: RunningJob, neighbours: list[Neighbour], begun: Container[str], left: Allowance
) -> list[Neighbour]:
    """Of one candidate's, the first first, with time for one more, of all that helped; who has begun is among them."""
    chosen: list[Neighbour] = []
    for near in neighbours:
        seconds = [_seconds(job, one) for one in (*chosen, near)]
        if near.name in begun or not left.lacks([*seconds, max(seconds)]):
            chosen.append(near)
    return chosen


def _seconds(job: RunningJob, near: Neighbour) -> float:
    """In the rung, of a net that takes as much longer as it has more parameters."""
    growth = job.parameters(near.hyperparameters) / job.parameters(near.beside.hyperparameters)
    return GROWTH * near.beside.seconds * max(1.0, growth)


def _all_that_helped(job: RunningJob, found: dict[Neighbour, Candidate]) -> list[Neighbour]:
    """Each of the best with all changes at once by which alone it was better, where there are several."""
    helped: dict[Candidate, list[int]] = {}
    for near, trained in found.items():
        if trained.value > near.beside.value:
            helped.setdefault(near.beside, []).extend(near.changes)
    several = {candidate: tuple(sorted(numbers)) for candidate, numbers in helped.items() if len(numbers) > 1}
    points = {
        c: (numbers, changed(c.hyperparameters, job.spec.search_space, numbers)) for c, numbers in several.items()
    }
    known = {near.hyperparameters for near in found} | {near.beside.hyperparameters for near in found}
    return [
        Neighbour(candidate, numbers, point)
        for candidate, (numbers, point) in points.items()
        if point is not None and point not in known and job.violation(point) <= 0
    ]


def _train(job: RunningJob, wanted: Sequence[Neighbour], meter: Meter, later: Ahead) -> dict[Neighbour, Candidate]:
    """Those whose net has reached its end, each as what goes on under the name of the one that it stands beside."""
    data = rung_slice(job)
    if data is None or not wanted:
        return {}
    space, epochs = job.spec.search_space, job.spec.subset.epochs
    contenders = [Contender(near.name, fit(near.hyperparameters, space, 1 / GROWTH)) for near in wanted]
    # The seed of the rung's own nets, so that they differ by what was changed alone.
    seeds = stage_seeds(job.spec.seed, "rung")
    plan = Plan("local_search", data, epochs, decay=True, keep_weights=False, seeds=seeds)
    show = meter.measure("rung", len(contenders) * epochs, data.train[1], later)
    runs = {run.contender: run for run in retrain(job, plan, contenders, show) if run.state == RunState.COMPLETE}
    return {
        near: replace(
            near.beside,
            hyperparameters=near.hyperparameters,
            value=run.validation_accuracy or 0.0,
            seconds=(run.seconds or 0.0) / GROWTH,
        )
        for near in wanted
        if (run := runs.get(near.name)) is not None
    }
