"""The seconds of a whole study by simulation: its nets drawn from the space, pruned by chance, dealt out to its workers."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.specs.estimate import Estimate
from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import Value
from tuner.specs.study import LOCAL_SHARE, OPTIMISM_SEEDS, PromotionSpec, StudySpec, student_cost
from tuner.statistics.training_cost import Epoch, Floats, TrainingCost

DRAWS = 200
POOL = 300
"""Random configurations of the space, from which every simulated study takes its nets."""

MOST_SIMULATED = 256
"""Trials; of a longer search so many are simulated."""

ASKING = {"tpe": 0.015, "gp": 0.25, "random": 0.01, "grid": 0.02, "qmc": 0.01, "cmaes": 0.01}
"""Seconds of asking for a trial and storing it, by sampler: facts of its library more than of the machine."""

RUN_OVERHEAD = 0.1
"""Seconds of a promoted run beside its epochs: sending, storing, loading images, predicting."""

LIKELY_BESIDE = 5
"""Nets that the local search trains beside each of the best, where it can afford them: most changes are there already."""

RACE_GOES_ON = 0.5
"""The chance that a race is undecided after a further seed."""

PRIOR_SPREAD, PRIOR_WEIGHT = 0.2, 6
"""How far a study's time lies from what is simulated, beside what chance does there (standard deviation of the logarithm);
worth so many studies seen."""

LEAST_SPREAD = 0.05
"""However well the studies seen were told."""

TAIL = 0.1

PRUNED_BY_MEDIAN = 0.35


@dataclass(frozen=True)
class Circumstances:
    """The study's data, and who works: on `train_count` images, judged by `validation_count`; after the race on `refit_count`,
    judged by `judging_count`."""

    inputs: int
    classes: int
    train_count: int
    validation_count: int
    refit_count: int
    judging_count: int
    slots: int
    trial_overhead: float = 0.05
    """Seconds of a trial beside its epochs."""


@dataclass(frozen=True)
class EndedStudy:
    """A study that has ended, and what its estimate was made of."""

    simulated: float
    """Seconds."""
    chance: float
    """Standard deviation of the logarithm of the simulated studies' seconds; 0 where it was not kept."""
    took: float
    """Seconds."""


def estimate(
    spec: StudySpec, around: Circumstances, cost: TrainingCost, timings: int, past: Sequence[EndedStudy]
) -> Estimate:
    """Corrected by the studies of the `past`. Their scatter widens the interval by as much as was not simulated: what chance does
    is in the simulated studies already, and would be counted twice."""
    generator = np.random.default_rng(0)
    simulation = _Simulation(spec, around, cost, generator)
    searches, promotions = simulation.draw()
    ratios = np.log([told.took / told.simulated for told in past])
    weight = len(ratios) / (len(ratios) + PRIOR_WEIGHT)
    bias = weight * float(np.mean(ratios)) if len(ratios) else 0.0
    beyond = float(((ratios - bias) ** 2).sum()) - sum(told.chance**2 for told in past)
    variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + beyond) / (len(ratios) + PRIOR_WEIGHT)
    spread = math.sqrt(max(LEAST_SPREAD**2, variance))
    factors = np.exp(bias + spread * generator.standard_normal(DRAWS))
    totals = (searches + promotions) * factors
    limit = spec.budget.timeout_seconds
    if limit is not None:
        totals = np.minimum(totals, limit)
    low, middle, high = np.quantile(totals, [TAIL, 0.5, 1 - TAIL])
    share = float(np.median(searches / (searches + promotions)))
    return Estimate(
        seconds=round(middle, 1),
        low=round(low, 1),
        high=round(high, 1),
        search_seconds=round(middle * share, 1),
        promotion_seconds=round(middle * (1 - share), 1),
        slots=around.slots,
        timings=timings,
        studies=len(ratios),
        simulated_seconds=round(float(np.median(searches + promotions)), 3),
        simulated_spread=round(float(np.std(np.log(searches + promotions))), 4),
    )


class _Simulation:
    def __init__(
        self, spec: StudySpec, around: Circumstances, cost: TrainingCost, generator: np.random.Generator
    ) -> None:
        self._spec, self._around, self._generator = spec, around, generator
        pool = [spec.search_space.suggest(RandomPoint(generator)) for _ in range(POOL)]
        pool = self._small_enough(pool) or [spec.default()]
        points = [*pool, spec.default()]
        subset = spec.subset
        self._subset = self._costs(cost, points, subset.train, subset.validation)
        self._rung = self._costs(cost, points, 2 * subset.train, max(subset.train, subset.validation))
        share = min(1.0, subset.train / around.train_count)
        fitted = [fit(point, spec.search_space, share) for point in points]
        self._full = self._costs(cost, fitted, around.train_count, around.validation_count)
        self._refit = self._costs(cost, fitted, around.refit_count, around.judging_count)
        default = spec.default()
        parameters = default.parameter_count(around.inputs, around.classes)
        outside = spec.default_params() is None or spec.constraints.violation(parameters) > 0
        self._baseline = self._subset[-1] * subset.epochs + RUN_OVERHEAD if outside else 0.0
        size = spec.search_space.size()
        self._n_trials = spec.budget.n_trials if size is None else min(spec.budget.n_trials, size)

    def draw(self) -> tuple[Floats, Floats]:
        """Seconds of the search and of what follows it, of each simulated study."""
        spec, count = self._spec, min(self._n_trials, MOST_SIMULATED)
        chosen = self._generator.integers(len(self._subset) - 1, size=(DRAWS, count))
        trials = self._subset[chosen] * _epochs_trained(spec, self._generator, chosen.shape)
        trials += self._around.trial_overhead + ASKING[spec.sampler.kind]
        size = spec.generation() or count
        searches = np.zeros(DRAWS)
        for first in range(0, count, size):
            searches += [self._dealt(row) for row in trials[:, first : first + size]]
        searches *= self._n_trials / count
        searches += self._baseline
        if spec.promotion is None:
            return searches, np.zeros(DRAWS)
        sums = trials.sum(1) * self._n_trials / count
        return searches, np.array([self._promotion(spec.promotion, chosen[k], float(sums[k])) for k in range(DRAWS)])

    def _promotion(self, promotion: PromotionSpec, chosen: NDArray[np.int64], searched: float) -> float:
        epochs, default = self._spec.subset.epochs, len(self._full) - 1
        # What a search likes is mostly not its cheapest: larger nets, smaller batches.
        likely = np.sqrt(self._full[chosen])
        size = min(promotion.rung_size(), len(chosen))
        climbing = self._generator.choice(chosen, size, replace=False, p=likely / likely.sum())
        rung = [self._rung[k] * epochs + RUN_OVERHEAD for k in climbing]
        again = [self._subset[climbing[0]] * epochs + RUN_OVERHEAD] * OPTIMISM_SEEDS
        spent = sum(rung) + sum(again)
        beside = self._affordable(rung, promotion, spent, searched)
        racing = [*climbing[: promotion.top_k], default]
        verdict = [racing[0], default] * min(2, promotion.max_seeds)
        seconds = self._dealt(rung) + self._dealt(again) + self._dealt(beside)
        spent += sum(beside)
        for seed in range(promotion.max_seeds):
            round_ = [self._full[k] * promotion.epochs + RUN_OVERHEAD for k in racing]
            if seed and (
                self._generator.random() > RACE_GOES_ON or self._too_dear(promotion, spent + sum(round_), searched)
            ):
                break
            seconds += self._dealt(round_)
            spent += sum(round_)
        ensemble = self._spec.ensemble
        if ensemble is not None:
            member = self._refit[racing[0]] * promotion.epochs + RUN_OVERHEAD
            seconds += self._dealt([member * student_cost()] * ensemble.student + [member] * ensemble.members)
        return seconds + self._dealt([self._refit[k] * promotion.epochs + RUN_OVERHEAD for k in verdict])

    def _affordable(self, rung: list[float], promotion: PromotionSpec, spent: float, searched: float) -> list[float]:
        """The nets of the local search, beside the first of the `rung`: by what share of `max_cost` it may take."""
        best = rung[: promotion.top_k]
        if promotion.max_cost is None or self._spec.deterministic:
            return best * LIKELY_BESIDE
        left = max(0.0, LOCAL_SHARE * (promotion.max_cost * searched - spent)) / len(best)
        return [seconds for seconds in best for _ in range(min(LIKELY_BESIDE, int(left / seconds)))]

    def _too_dear(self, promotion: PromotionSpec, spent: float, searched: float) -> bool:
        bounded = promotion.max_cost is not None and not self._spec.deterministic
        return bounded and spent > (promotion.max_cost or 0.0) * searched

    def _small_enough(self, pool: list[Hyperparameters]) -> list[Hyperparameters]:
        around, constraints = self._around, self._spec.constraints
        return [p for p in pool if constraints.violation(p.parameter_count(around.inputs, around.classes)) <= 0]

    def _costs(self, cost: TrainingCost, points: Sequence[Hyperparameters], train: int, validation: int) -> Floats:
        """Seconds of an epoch of each point."""
        around = self._around
        return cost.seconds([Epoch(p, around.inputs, around.classes, train, validation) for p in points])

    def _dealt(self, seconds: Iterable[float]) -> float:
        """When the last of them has ended, each begun as soon as a worker is free."""
        free = [0.0] * self._around.slots
        for one in seconds:
            heapq.heappush(free, heapq.heappop(free) + one)
        return max(free)


def _epochs_trained(spec: StudySpec, generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Of trials that are pruned by chance: at each rung of the halving pruners half of those that reach it."""
    last = spec.subset.epochs
    first = min(2, last)
    epochs = np.full(shape, float(last))
    match spec.pruner.kind:
        case "none":
            return epochs
        case "median":
            return np.where(generator.random(shape) < PRUNED_BY_MEDIAN, first, epochs)
        case "successive_halving" | "hyperband":
            brackets = 1 + int(math.log2(last / first)) if spec.pruner.kind == "hyperband" else 1
            sizes = np.array([math.ceil(brackets * 2**s / (s + 1)) for s in reversed(range(brackets))])
            bracket = generator.choice(brackets, size=shape, p=sizes / sizes.sum())
            for rung in reversed(range(10)):
                reached = first * 2**rung < last
                pruned = (bracket <= rung) & (generator.random(shape) < 0.5)
                epochs = np.where(reached & pruned, first * 2.0**rung, epochs)
            return epochs


class RandomPoint:
    """Answers `suggest_*` by chance, evenly over each dimension."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def suggest_int(self, _name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(high, max(low, round(math.exp(self._generator.uniform(math.log(low), math.log(high))))))
        return int(low + step * self._generator.integers((high - low) // step + 1))

    def suggest_float(
        self, _name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return min(high, max(low, math.exp(self._generator.uniform(math.log(low), math.log(high)))))
        if step is not None:
            return float(low + step * self._generator.integers(math.floor((high - low) / step + 1e-9) + 1))
        return float(self._generator.uniform(low, high))

    def suggest_categorical(self, _name: str, choices: Sequence[Value]) -> Value:
        return choices[int(self._generator.integers(len(choices)))]
