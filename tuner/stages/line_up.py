"""Who races: the rung's best, and under a time limit those with whom the job can come to its end in time."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tuner.specs.fitting import fit
from tuner.specs.study import EXPECTED_SEEDS, GROWTH, PromotionSpec
from tuner.stages.allowance import allowance, ensemble_runs, refit_seconds
from tuner.stages.job import RunningJob
from tuner.stages.retraining import stage_seeds
from tuner.stages.rung import Candidate, rung_slice
from tuner.store.runs import RunState

AFTERWARDS = ((EXPECTED_SEEDS, True), (1, True), (1, False), (0, False))
"""What is to come after the race, the best first: so many fresh nets for the verdict, and whether the least of an ensemble."""


@dataclass(frozen=True)
class LineUp:
    order: list[Candidate]
    count: int
    """So many of them race; for each that explodes one more."""


def line_up(job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate], default_seconds: float) -> LineUp:
    """Of the `ranked`, those that are distinct on all images; `default_seconds` takes the default configuration for as many
    images as their seconds are of.

    Who takes too long for what is to come after the race gives way to the next, as long as the rung's images hardly tell that one
    from the best; else less comes afterwards. After a restart those are first whose nets have begun, and nobody joins a race that
    is over.
    """
    raced = job.runs("promotion")
    [first_seed] = stage_seeds(job.spec.seed, "promotion")
    begun = {run.contender: run.state for run in raced if run.seed == first_seed}
    ranked = _distinct(job, _begun_first(ranked, begun))
    if job.spec.budget.timeout_seconds is None:
        return LineUp(ranked, promotion.top_k)
    sound = [candidate for candidate in ranked if begun.get(candidate.name) != RunState.DIVERGED]
    fewest = sum(candidate.name in begun for candidate in sound)
    if len(raced) > len(begun) or job.race_is_over():
        return LineUp(ranked, fewest)
    timetable = _Timetable(job, promotion, begun, default_seconds)
    for fresh, ensemble in AFTERWARDS:
        chosen = sound[:fewest]
        if chosen and not timetable.fits(chosen, fresh, ensemble):
            continue
        for candidate in sound[fewest:]:
            if len(chosen) < promotion.top_k and timetable.fits([*chosen, candidate], fresh, ensemble):
                chosen.append(candidate)
        if chosen and (fewest or _as_good(job, chosen[0], ranked[0])):
            others = [candidate for candidate in ranked if candidate not in chosen]
            return LineUp(_begun_first([*chosen, *others], begun), len(chosen))
    return LineUp(ranked, max(1, fewest))


def _begun_first(candidates: list[Candidate], begun: Collection[str]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: candidate.name not in begun)


def _distinct(job: RunningJob, ranked: Sequence[Candidate]) -> list[Candidate]:
    """The first of those that come to the same when they are fitted to all images; none that comes to the default."""
    share, seen, found = min(1.0, job.spec.subset.train / job.train_count), {job.spec.default()}, []
    for candidate in ranked:
        point = fit(candidate.hyperparameters, job.spec.search_space, share)
        if point not in seen:
            seen.add(point)
            found.append(candidate)
    return found


def _as_good(job: RunningJob, candidate: Candidate, best: Candidate) -> bool:
    """Whether the images that have ranked them hardly tell them apart: by a standard error."""
    rung = rung_slice(job) if best.climbed else None
    images = job.spec.subset.validation if rung is None else rung.validation_count
    error = math.sqrt(2 * best.value * (1 - best.value) / images)
    return candidate.climbed == best.climbed and candidate.value >= best.value - error


DOUBLED = 0.85
"""Time of the same images in batches of twice the size; seen were 0.78 to 0.88 (docs/decisions.md, "What promotion may cost")."""


class _Timetable:
    def __init__(
        self, job: RunningJob, promotion: PromotionSpec, begun: dict[str, RunState], default_seconds: float
    ) -> None:
        self._job, self._promotion = job, promotion
        self._left, subset = allowance(job, promotion), job.spec.subset
        self._growth = job.train_count * promotion.epochs / (subset.train * subset.epochs)
        self._ended = {name for name, state in begun.items() if state != RunState.RUNNING}
        self._default = self._growth * default_seconds
        self._share = min(1.0, subset.train / job.train_count)

    def _seconds(self, candidate: Candidate) -> float:
        """On all images, in the batches that it is then fitted to."""
        space, point = self._job.spec.search_space, candidate.hyperparameters
        before = fit(point, space, 1 / GROWTH) if candidate.climbed else point
        doublings = math.log2(fit(point, space, self._share).batch_size / before.batch_size)
        return self._growth * candidate.seconds * math.pow(DOUBLED, doublings)

    def fits(self, racing: Sequence[Candidate], fresh: int, ensemble: bool) -> bool:
        """Whether there is time for the race of these and for all that follows it; the longest may win."""
        seconds = {candidate.name: self._seconds(candidate) for candidate in racing}
        winner, default = (refit_seconds(self._job, one) for one in (max(seconds.values()), self._default))
        race = [one for name, one in {**seconds, "default": self._default}.items() if name not in self._ended]
        verdict = [winner, default] * min(fresh, self._promotion.max_seeds)
        return self._left.in_time(race, verdict, ensemble_runs(self._job, winner, whole=False) if ensemble else [])
