"""The finalists: the race's winner and the default configuration, trained with fresh seeds.

The race's own seeds have chosen the winner, so its nets flatter it; the fresh ones have chosen nothing. With the race over, they
are trained on most of the validation images, too. The verdict is about these nets, and an ensemble may take them into its bag.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from tuner.executors.protocol import DataSlice
from tuner.specs.study import EXPECTED_SEEDS, PromotionSpec
from tuner.stages.allowance import allowance, ensemble_runs, refit_seconds
from tuner.stages.job import RunningJob
from tuner.stages.progress import ahead
from tuner.stages.promotion import Promoted
from tuner.stages.race import Raced, full_plan
from tuner.stages.retraining import Contender, ended_alone, retrain, stage_seeds
from tuner.store.model_files import StoredNet
from tuner.store.runs import Run, RunState


@dataclass(frozen=True)
class Net:
    """One entry of the frozen list."""

    run: Run
    sha256: str
    stored: StoredNet


@dataclass(frozen=True)
class Finalist:
    """A configuration with its nets on the frozen list, in the order of their seeds."""

    kind: Literal["single", "default"]
    contender: str
    nets: tuple[Net, ...]

    @property
    def delivered(self) -> int:
        """The place of the median net by validation accuracy; of an even number the lower one."""
        by_accuracy = sorted(range(len(self.nets)), key=lambda k: (self.nets[k].run.validation_accuracy or 0.0, k))
        return by_accuracy[(len(by_accuracy) - 1) // 2]


@dataclass(frozen=True)
class Finals:
    """The winner first; the default configuration is the second where it is another one that reached its end."""

    finalists: tuple[Finalist, ...]
    fresh: bool
    """Whether the seeds are not the race's."""
    data: DataSlice
    """On which the nets were trained and judged."""
    epochs: int
    """That each net was trained for."""

    @property
    def winner(self) -> Finalist:
        return self.finalists[0]

    def fresh_runs(self) -> list[Run]:
        return [net.run for finalist in self.finalists for net in finalist.nets] if self.fresh else []


def train_finalists(job: RunningJob, promotion: PromotionSpec, promoted: Promoted) -> Finals:
    """Nets with fresh seeds, or the race's where time was too short for a single one of the winner's."""
    raced = promoted.raced
    names = list(dict.fromkeys([raced.winner.name, "default"]))
    contenders = [raced.contenders[name] for name in names if raced.runs.get(name)]
    trained = _train(job, promotion, promoted, contenders)
    fresh = any(run.contender == raced.winner.name for run in trained)
    found = trained if fresh else [run for name in names for run in raced.runs.get(name, [])]
    data = job.refit_slice if fresh else job.race_slice
    return Finals(_finalists(job, raced.winner.name, found), fresh, data, promotion.epochs)


def _finalists(job: RunningJob, winner: str, found: list[Run]) -> tuple[Finalist, ...]:
    """By the seeds that both have; where they have none in common, the default is left out."""
    by_name = {name: {run.seed: run for run in found if run.contender == name} for name in (winner, "default")}
    shared = [seed for seed in by_name[winner] if seed in by_name["default"]]
    kinds: dict[str, Literal["single", "default"]] = {"default": "default", winner: "single"}
    names = [winner, *(["default"] if winner != "default" and shared else [])]
    seeds = shared or list(by_name[winner])
    return tuple(Finalist(kinds[name], name, tuple(_net(job, by_name[name][seed]) for seed in seeds)) for name in names)


def _net(job: RunningJob, run: Run) -> Net:
    return Net(run, hashlib.sha256(job.weights(run)).hexdigest(), job.net(run))


def _train(job: RunningJob, promotion: PromotionSpec, promoted: Promoted, contenders: list[Contender]) -> list[Run]:
    """The runs with fresh seeds that reached their end, in the order of the seeds."""
    seeds = stage_seeds(job.spec.seed, "verdict", promotion.max_seeds)
    count = len(seeds) if job.has_opened_test() else _affordable(job, promotion, promoted.raced, contenders)
    contenders = [replace(contender, seeds=seeds[:count]) for contender in contenders]
    if job.has_opened_test():
        contenders = [ended_alone(job, "verdict", contender) for contender in contenders]
    plan = full_plan(job, promotion, "verdict", seeds)
    epochs = sum(len(contender.seeds or ()) for contender in contenders) * promotion.epochs
    later = ahead(job, job.ensemble_epochs + job.challenge_epochs)
    show = promoted.meter.measure("verdict", epochs, plan.data.train_count, later)
    trained = [run for run in retrain(job, plan, contenders, show) if run.seed in seeds]
    return sorted((run for run in trained if run.state == RunState.COMPLETE), key=lambda run: seeds.index(run.seed))


def _affordable(job: RunningJob, promotion: PromotionSpec, raced: Raced, contenders: list[Contender]) -> int:
    """How many fresh seeds may be trained: two whatever they cost, but no more than the job's time limit has time for.

    An ensemble takes the second one's time rather than have no student, and further ones' rather than have fewer members.
    """
    seconds = [refit_seconds(job, raced.runs[contender.name][0].seconds or 0.0) for contender in contenders]
    seeds = stage_seeds(job.spec.seed, "verdict", promotion.max_seeds)
    found = [run for run in job.runs("verdict") if run.seed in seeds]
    ended = {(run.contender, run.seed) for run in found if run.state != RunState.RUNNING}
    fewest, left = len({run.seed for run in found}), allowance(job, promotion)
    for count in range(promotion.max_seeds, fewest, -1):
        pairs = [(contender.name, seed) for seed in seeds[:count] for contender in contenders]
        ahead_of_it = [s for pair, s in zip(pairs, seconds * count, strict=True) if pair not in ended]
        ensemble = ensemble_runs(job, seconds[0], whole=count > EXPECTED_SEEDS) if count > 1 else []
        affordable = count <= EXPECTED_SEEDS or left.affords(seconds * count)
        if affordable and left.in_time(ahead_of_it, ensemble):
            return count
    return fewest
