"""The rung: the best dozen of the search on twice the images, judged on images that no stage has used.

The subset's own ranking is worth having and is not the truth: among its best, a trial's luck counts as much as its merit.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import numpy as np

from tuner.executors.protocol import DataSlice
from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import usual
from tuner.specs.study import GROWTH
from tuner.specs.verdict import Tau
from tuner.stages.job import RunningJob
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.statistics.race import MARGIN
from tuner.statistics.rank_correlation import RankCorrelation, kendall
from tuner.store.runs import Run, RunState

GATE = 0.4
"""Where the τ of subset and rung is surely below, the subset was too small."""

DEAR = 2
"""A net with over so many times the parameters of one that is at most the race's MARGIN worse is ranked behind it: on more images
hardly one was better, for several times the seconds (docs/decisions.md). One that is no larger than the default configuration
with what mostly helps is cheap enough."""


@dataclass(frozen=True)
class Candidate:
    """A distinct configuration of the search, with the value and the seconds of its trial, or, where it has climbed, of its run
    in the rung; these are scaled to the search's number of images."""

    name: str
    hyperparameters: Hyperparameters
    value: float
    seconds: float
    climbed: bool = False


@dataclass(frozen=True)
class Extent:
    """How many climb."""

    size: int
    most: int
    """Where the search has ranked them wrongly: twice as many, or as many as there is time for."""


@dataclass(frozen=True)
class Climb:
    ranked: list[Candidate]
    tau: Tau


def rung_slice(job: RunningJob) -> DataSlice | None:
    """The rung's images, or None where the data has not so many. Half as many judge as train, or fewer where there are fewer, but
    never fewer than judge in the search."""
    subset, end = job.spec.subset, job.train_count - job.spec.subset.validation
    train = GROWTH * subset.train
    validation = (end - max(subset.validation, min(train // 2, end - train)), end)
    return DataSlice(job.dataset.folder, (0, train), validation) if train <= validation[0] else None


def climb(job: RunningJob, candidates: list[Candidate], extent: Extent, meter: Meter, later: Ahead) -> Climb:
    """The first candidates, ranked anew, the DEAR behind, then the others; those that explode on the way are left out.

    Where the search's values rank them so much worse than GATE that chance does not explain it, more of them climb.
    """
    data, climbing = rung_slice(job), candidates[: extent.size]
    if data is None or len(climbing) < 2:
        why = "fewer than two configurations could climb" if data is not None else "the data has too few images"
        return Climb(candidates, _tau(kendall(np.array([]), np.array([])), 0, False, why))
    ended = _train(job, data, climbing, meter, later)
    seen, widened = _agreement(climbing, ended), False
    if seen.high < GATE and len(candidates[: extent.most]) > len(climbing):
        climbing, widened = candidates[: extent.most], True
        ended = _train(job, data, climbing, meter, later)
    judged = [climbed for c in candidates if (climbed := ended.get(c.name)) is not None]
    # A candidate whose run the time limit cut off keeps its place behind those that were judged.
    unjudged = [candidate for candidate in candidates if candidate.name not in ended]
    ranked = dear_last(job, sorted(judged, key=lambda candidate: -candidate.value)) + unjudged
    return Climb(ranked, _tau(seen, _both(candidates[: extent.size], ended), widened))


def dear_last(job: RunningJob, ranked: list[Candidate]) -> list[Candidate]:
    """Those that are DEAR come after the others. By parameters, since seconds differ from machine to machine."""
    dear: set[str] = set()
    cheap = job.parameters(usual(job.spec.search_space) or job.spec.default())
    for climbed in (True, False):  # values of the same images
        alike = sorted((c for c in ranked if c.climbed == climbed), key=lambda candidate: -candidate.value)
        sizes = [job.parameters(candidate.hyperparameters) for candidate in alike]
        losses, least = [-candidate.value for candidate in alike], list(accumulate(sizes, min))
        for candidate, size in zip(alike, sizes, strict=True):
            no_worse = bisect_right(losses, MARGIN - candidate.value)
            if max(cheap, DEAR * least[no_worse - 1]) < size:
                dear.add(candidate.name)
    return sorted(ranked, key=lambda candidate: candidate.name in dear)


def _train(
    job: RunningJob, data: DataSlice, climbing: list[Candidate], meter: Meter, later: Ahead
) -> dict[str, Candidate | None]:
    """Those whose run has ended, as it came out; None where it has exploded or failed."""
    epochs = job.spec.subset.epochs
    by_cost = sorted(climbing, key=lambda candidate: -candidate.seconds)
    contenders = [Contender(c.name, fit(c.hyperparameters, job.spec.search_space, 1 / GROWTH)) for c in by_cost]
    plan = Plan("rung", data, epochs, decay=True, keep_weights=False)
    show = meter.measure("rung", len(climbing) * epochs, data.train[1], later)
    found = [run for run in retrain(job, plan, contenders, show) if run.state != RunState.RUNNING]
    by_name = {candidate.name: candidate for candidate in climbing}
    return {run.contender: _climbed(by_name[run.contender], run) for run in found if run.contender in by_name}


def _climbed(candidate: Candidate, run: Run) -> Candidate | None:
    if run.state != RunState.COMPLETE:
        return None
    return replace(candidate, value=run.validation_accuracy or 0.0, seconds=(run.seconds or 0.0) / GROWTH, climbed=True)


def _agreement(climbing: list[Candidate], ended: dict[str, Candidate | None]) -> RankCorrelation:
    pairs = [(c.value, found.value) for c in climbing if (found := ended.get(c.name)) is not None]
    return kendall(np.array([search for search, _ in pairs]), np.array([rung for _, rung in pairs]))


def _both(climbing: list[Candidate], ended: dict[str, Candidate | None]) -> int:
    """How many have a value of the search and one of the rung."""
    return sum(ended.get(candidate.name) is not None for candidate in climbing)


def _tau(seen: RankCorrelation, count: int, widened: bool, why: str | None = None) -> Tau:
    verdict: Literal["agrees", "unclear", "subset too small", "unknown"]
    if seen.tau is None:
        verdict, words = "unknown", f"τ is unknown: {why or 'the values are all alike'}"
    else:
        told = f"τ {seen.tau:.2f}, 95 % interval {seen.low:.2f} to {seen.high:.2f}, over {count} configurations"
        if seen.high < GATE:
            verdict, words = "subset too small", f"the subset was too small to rank them: {told}"
            words += "; more were taken along" if widened else "; there were no more to take along, or no time"
        elif seen.low >= GATE:
            verdict, words = "agrees", f"the subset ranks as twice the images do: {told}"
        else:
            verdict, words = "unclear", f"so few configurations do not tell whether the subset ranks well: {told}"
    return Tau(
        value=seen.tau,
        interval=None if seen.tau is None else (seen.low, seen.high),
        configurations=count,
        verdict=verdict,
        gate=GATE,
        widened=widened,
        words=words,
    )
