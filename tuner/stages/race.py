"""The race of the promoted: the rung's best and the default configuration on all training images, one seed after another.

`tuner.statistics.race` decides; this trains, and asks it after each seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tuner.data.catalogue import images_of
from tuner.specs.fitting import fit
from tuner.specs.study import EXPECTED_SEEDS, PromotionSpec
from tuner.specs.verdict import Entrant
from tuner.specs.verdict import Race as RaceTold
from tuner.stages.allowance import Spent, allowance, ensemble_runs, refit_seconds
from tuner.stages.job import RunningJob
from tuner.stages.leased_job import JobFailed
from tuner.stages.line_up import LineUp
from tuner.stages.progress import Ahead, Meter, ahead
from tuner.stages.retraining import Contender, Plan, ended_alone, retrain, stage_seeds
from tuner.statistics.race import ERROR, MARGIN, Race, Right
from tuner.store import voided
from tuner.store.runs import Run, RunState

StoppedBy = Literal["one left", "non-inferior", "max_seeds"] | Spent


def full_plan(
    job: RunningJob,
    promotion: PromotionSpec,
    stage: Literal["promotion", "ensemble", "verdict"],
    seeds: tuple[int, ...],
) -> Plan:
    """The race's images, judged on those that no search has seen; for the stages after it most of these to train on, too."""
    data = job.race_slice if stage == "promotion" else job.refit_slice
    return Plan(stage, data, promotion.epochs, decay=True, keep_weights=True, seeds=seeds)


def verdict_ahead(job: RunningJob, promotion: PromotionSpec) -> Ahead:
    """What is planned for the verdict: as many nets of the winner as of the default configuration."""
    epochs = min(EXPECTED_SEEDS, promotion.max_seeds) * promotion.epochs
    return ahead(job, 2 * epochs, of_small=epochs)


def race_ahead(job: RunningJob, promotion: PromotionSpec, contenders: int, first: int = 1) -> Ahead:
    """What is planned for the race of so many `contenders` from its seed `first` on (1: all of it)."""
    seeds = range(first, min(EXPECTED_SEEDS, promotion.max_seeds) + 1)
    likely = sum(seed <= promotion.likely_seeds() for seed in seeds)
    epochs, costly = len(seeds) * contenders, likely * (contenders - 1)
    return ahead(job, epochs * promotion.epochs, of_small=(epochs - costly) * promotion.epochs)


@dataclass
class Raced:
    """A race that has ended. `runs`: those that reached their end, of each contender by the order of the seeds."""

    race: Race
    stopped_by: StoppedBy
    contenders: dict[str, Contender]
    runs: dict[str, list[Run]]
    failures: dict[str, str] = field(default_factory=dict)
    """Why a contender has no further run."""

    @property
    def winner(self) -> Contender:
        return self.contenders[self.race.winner()]


def race(job: RunningJob, promotion: PromotionSpec, lined: LineUp, meter: Meter) -> Raced:
    """Raises JobFailed where no contender reached the end of its first seed."""
    return _Racing(job, promotion, meter).run(lined)


class _Racing:
    def __init__(self, job: RunningJob, promotion: PromotionSpec, meter: Meter) -> None:
        self._job, self._promotion, self._meter = job, promotion, meter
        self._seeds = stage_seeds(job.spec.seed, "promotion", promotion.max_seeds)
        self._plan = full_plan(job, promotion, "promotion", self._seeds)
        self._images, self._labels = images_of(job.dataset, self._plan.data.validation)
        self._failures: dict[str, str] = {}

    def run(self, lined: LineUp) -> Raced:
        stage, contenders = self._first_round(lined)
        void = self._void()
        ended = [run for run in stage if run.state != RunState.RUNNING and run.contender not in void]
        # By name: which of them was started first depends on how long their trials took.
        ended.sort(key=lambda run: run.contender)
        # The default configuration is trained for comparison, even where it is too large to win.
        too_large = {r.contender for r in ended if self._job.spec.constraints.violation(r.parameters) > 0}
        if not any(run.state == RunState.COMPLETE and run.contender not in too_large for run in ended):
            raise JobFailed("promotion_failed", f"none of the {len(stage)} promoted configurations reached its end")
        sizes = {run.contender: run.parameters for run in ended}
        race = Race(sizes, self._promotion.max_seeds, frozenset(too_large))
        race.add({run.contender: self._right(run) for run in ended})
        runs = {run.contender: [run] for run in ended if run.state == RunState.COMPLETE}
        stopped_by: StoppedBy | None = race.ended
        for seed in self._seeds[1:]:
            if stopped_by is None:
                stopped_by = self._further_round(race, contenders, runs, seed)
        return Raced(race, stopped_by or "max_seeds", contenders, runs, self._failures)

    def _first_round(self, lined: LineUp) -> tuple[list[Run], dict[str, Contender]]:
        """The first seed's runs, of as many as are wanted and have not failed, and of the default configuration."""
        limit = self._job.spec.budget.timeout_seconds
        share, space = min(1.0, self._job.spec.subset.train / self._job.train_count), self._job.spec.search_space
        # Who has begun stays as it is, whatever a retry's longer search has made of the local search since.
        begun = {run.contender: run.hyperparameters for run in self._job.runs("promotion")}
        wanted = lined.count
        while True:
            # The slowest first, so that the last ones to run are short.
            chosen = sorted(lined.order[:wanted], key=lambda candidate: -candidate.seconds)
            fitted = [Contender(c.name, begun.get(c.name) or fit(c.hyperparameters, space, share)) for c in chosen]
            default = Contender("default", self._job.spec.default())
            # Where the time may not suffice for all, the one that all are compared with comes first.
            contenders = [*fitted, default] if limit is None else [default, *fitted]
            stage = self._train(contenders, self._seeds[0])
            # What learned on the subset may explode on ten times the steps: the next best takes its place.
            fallen = sum(run.state == RunState.DIVERGED for run in stage if run.contender != "default")
            if wanted == lined.count + fallen or wanted >= len(lined.order) or self._job.out_of_time():
                return stage, {contender.name: contender for contender in contenders}
            wanted = lined.count + fallen

    def _further_round(
        self, race: Race, contenders: dict[str, Contender], runs: dict[str, list[Run]], seed: int
    ) -> StoppedBy | None:
        """Train everyone that is running with `seed`, and look; answers what has ended the race, if anything."""
        begun = seed in {run.seed for run in self._job.runs("promotion")}
        if not begun and (spent := self._lacks(race, runs)) is not None:
            return spent
        by_cost = sorted(race.running, key=lambda name: -(runs[name][0].seconds or 0.0))
        stage = self._train([contenders[name] for name in by_cost], seed)
        ended = {run.contender: run for run in stage if run.state != RunState.RUNNING}
        if not ended.keys() >= set(race.running):
            return "time"
        for name in self._void() & set(race.running):
            self._failures[name] = "it was declared void"
        right = {name: None if name in self._failures else self._right(ended[name]) for name in race.running}
        for name, row in right.items():
            if row is not None:
                runs[name].append(ended[name])
        race.add(right)
        return race.ended

    def _lacks(self, race: Race, runs: dict[str, list[Run]]) -> Spent | None:
        """Whether one more seed, and then verdict and ensemble, is more than may be spent, or was when the race ended."""
        seconds = {name: runs[name][0].seconds or 0.0 for name in runs}
        winner = refit_seconds(self._job, seconds[race.winner()])
        default = refit_seconds(self._job, seconds.get("default", 0.0))
        verdict = [winner, default] * min(EXPECTED_SEEDS, self._promotion.max_seeds)
        left, further = allowance(self._job, self._promotion), [seconds[name] for name in race.running]
        ensemble = ensemble_runs(self._job, winner, whole=True)
        spent = left.lacks(further, verdict) or (None if left.in_time(further, verdict, ensemble) else "time")
        if spent is None and self._job.race_is_over():  # a retry has the whole time again
            return "cost" if left.seconds is None else "time"
        return spent

    def _train(self, contenders: Sequence[Contender], seed: int) -> list[Run]:
        """The runs of this seed."""
        later = verdict_ahead(self._job, self._promotion)
        later += ahead(self._job, self._job.ensemble_epochs + self._job.challenge_epochs)
        if seed == self._seeds[0]:
            later += race_ahead(self._job, self._promotion, len(contenders), first=2)
        epochs = len(contenders) * self._promotion.epochs
        show = self._meter.measure("promotion", epochs, self._job.train_count, later)
        plan = replace(self._plan, seeds=(seed,), seeds_before=self._seeds.index(seed))
        names = {contender.name for contender in contenders}
        if self._job.has_opened_test():
            contenders = [ended_alone(self._job, "promotion", replace(c, seeds=(seed,))) for c in contenders]
        stage = retrain(self._job, plan, contenders, show)
        return [run for run in stage if run.seed == seed and run.contender in names]

    def _right(self, run: Run) -> Right | None:
        if run.state != RunState.COMPLETE:
            self._failures[run.contender] = f"its run with seed {run.seed} has {run.state}: {run.reason}"
            return None
        return self._job.right(self._job.net(run), self._images, self._labels)

    def _void(self) -> set[str]:
        numbers = self._job.read(lambda connection: voided.numbers(connection, self._job.study_id))
        return {f"trial-{number}" for number in numbers}


def tell(raced: Raced, images: int) -> RaceTold:
    race, tied = raced.race, raced.race.tied()
    assert race.last is not None
    others = set(race.sizes) - set(tied)
    rest = sorted(others, key=lambda name: (not race.nets[name], name in race.aside, -_mean(race, name), name))
    winner, leader = race.winner(), race.last.leader
    chosen = (
        "of the highest accuracy" if winner == leader else "the smallest of those not worse by more than the margin"
    )
    return RaceTold(
        images=images,
        looks=race.looks,
        planned_looks=race.planned_looks,
        error=ERROR,
        margin=MARGIN,
        leader=leader,
        winner=winner,
        stopped_by=raced.stopped_by,
        entrants=tuple(_entrant(raced, name, name in tied) for name in [*tied, *rest]),
        words=f"{winner} wins, {chosen}; {_ENDINGS[raced.stopped_by]}"
        + ("" if race.looks else "; with a single seed the images alone decide, and what seeds do is not known"),
    )


_ENDINGS: dict[StoppedBy, str] = {
    "one left": "nobody else was left",
    "non-inferior": "nobody left is worse by more than the margin",
    "max_seeds": "all seeds were trained",
    "cost": "further seeds would have cost more than max_cost allows",
    "time": "the time limit left no time for further seeds",
}


def _mean(race: Race, name: str) -> float:
    return race.accuracy(name) if race.nets[name] else 0.0


def _entrant(raced: Raced, name: str, tied: bool) -> Entrant:
    race, contender = raced.race, raced.contenders[name]
    seen = race.seen.get(name)
    standing, words = _standing(raced, name, tied)
    return Entrant(
        contender=name,
        hyperparameters=contender.hyperparameters,
        parameters=race.sizes[name],
        seeds=len(race.nets[name]),
        accuracy=race.accuracy(name) if race.nets[name] else None,
        difference=None if seen is None else seen.difference,
        interval=None if seen is None else seen.interval(),
        basis=None if seen is None else "images" if seen.seeds == 1 else "images and seeds",
        standing=standing,
        dropped_at_look=race.dropped.get(name),
        words=words,
    )


def _standing(
    raced: Raced, name: str, tied: bool
) -> tuple[Literal["winner", "tied", "behind", "dropped", "failed", "too large"], str]:
    race = raced.race
    if name in race.failed:
        return "failed", raced.failures.get(name, "")
    if name == race.winner():
        return "winner", "the winner"
    seen = race.seen.get(name)
    way = "ahead of" if seen is not None and seen.difference > 0 else "behind"
    behind = "" if seen is None else f"{100 * abs(seen.difference):.2f} points {way} the leader"
    if name in race.aside:
        return "too large", f"too large to win; {behind}" if behind else "too large to win"
    if name in race.dropped:
        return "dropped", f"dropped at look {race.dropped[name]}, {behind}: clearly worse"
    if not tied:
        return "behind", f"clearly worse: {behind}"
    return "tied", f"not to be told apart from the leader: {behind or 'it leads'}"
