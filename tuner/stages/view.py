"""The sampler's and the pruner's view of a study: an Optuna study in memory. The database is the truth.

Every ask has a seed of its own, made of the study's seed and the trial's number, so that a study which was interrupted and
loaded again goes on as it would have gone on.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.search_space import Suggests
from tuner.specs.study import Direction, PrunerSpec, SamplerSpec
from tuner.stages.view_storage import RUNG, ViewStorage, before_training
from tuner.store.trials import CONSTRAINT, CONSTRAINT_LIST
from tuner.store.voided import is_void

STARTUP_TRIALS = 15
FIRST_JUDGED_EPOCH = 2
REDUCTION_FACTOR = 2

NAME = "view"
"""Of the study in memory: Hyperband hashes it, and a study must not depend on what its user has called it."""

MAX_DRAWS = 10
"""So often the sampler is asked for a point that was not tried and violates no constraint; the last time it may violate one. Then
an untried one is drawn from the finite space."""


class Grid(BruteForceSampler):
    """Every point once, in random order. Whether the space is exhausted is for the view to say."""

    def after_trial(self, *_: Any, **__: Any) -> None:
        """Optuna's stops the study here, which only `Study.optimize` allows."""


class Evolution(CmaEsSampler):
    """CMA-ES, which does not learn from constraints."""

    def after_trial(self, *_: Any, **__: Any) -> None:
        """Optuna's warns of each trial that has constraints, and does nothing else."""


P = TypeVar("P")
"""A point of the space: `Hyperparameters`, or whatever else can be compared."""


P_co = TypeVar("P_co", covariant=True)


class Space(Protocol[P_co]):
    def suggest(self, trial: Suggests) -> P_co: ...
    def restore(self, params: Mapping[str, Any]) -> P_co: ...
    def find(self, params: Mapping[str, Any]) -> P_co | None: ...
    def size(self) -> int | None: ...


class Searchable(Protocol[P_co]):
    """As much of a study's spec as its search needs."""

    @property
    def search_space(self) -> Space[P_co]: ...
    @property
    def sampler(self) -> SamplerSpec: ...
    @property
    def pruner(self) -> PrunerSpec: ...
    @property
    def seed(self) -> int: ...

    def directions(self) -> list[Direction]:
        """Of each objective."""

    def default_params(self) -> dict[str, Any] | None:
        """Trial 0, or None where the space has no such point."""

    def usual_params(self) -> dict[str, Any] | None:
        """The trial after that, or None where there is no such point, or its sampler would learn nothing from it."""

    def last_step(self) -> int | None:
        """The step of a trial's last report, or None where nobody knows it."""

    def generation(self) -> int | None:
        """So many trials are asked for together, each without what the others tell; None: each by all that is known."""


@dataclass(frozen=True)
class Asked(Generic[P]):
    number: int
    hyperparameters: P


class View(Generic[P]):
    """`trials` are all the study's trials in the order of their numbers, as the database has them.

    `violation` says of a point how far it violates the study's constraint; 0 or less: it does not. The sampler sees the trials of
    `earlier` studies before all others; they count as none of this study's.
    """

    def __init__(
        self,
        spec: Searchable[P],
        trials: Sequence[FrozenTrial],
        study_attributes: Mapping[str, Any],
        violation: Callable[[P], float] = lambda _point: 0.0,
        earlier: Sequence[EarlierTrial] = (),
    ) -> None:
        self._spec = spec
        self._space = spec.search_space
        self._size = self._space.size()
        self._generation_size = spec.generation()
        self._pruner = make_pruner(spec)
        self._violation = violation
        self._earlier = [self._frozen(trial, k - len(earlier)) for k, trial in enumerate(earlier)]
        self.default_params = spec.default_params()
        if self.default_params is not None and violation(self._space.restore(self.default_params)) > 0:
            self.default_params = None
        self._usual_params = spec.usual_params()
        self._hold(trials, study_attributes)

    def __len__(self) -> int:
        return len(self.trials())

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def finished(self) -> list[FrozenTrial]:
        """The trials that have ended and are not void."""
        return [trial for trial in self.trials() if trial.state.is_finished() and not is_void(trial)]

    def waiting(self) -> bool:
        return any(trial.state == TrialState.WAITING for trial in self.trials())

    def ready(self) -> bool:
        """Whether the next trial may start: not while one of an earlier generation has not ended."""
        first = self._generation_start()
        return first is None or all(trial.state.is_finished() for trial in self.trials()[:first])

    def judged(self) -> list[FrozenTrial]:
        """Of `finished`, those by which it is decided whether a next trial starts."""
        first = self._generation_start()
        return [trial for trial in self.finished() if first is None or trial.number < first]

    def _generation_start(self) -> int | None:
        """The first number of the next trial's generation; None: there are no generations."""
        if self._generation_size is None:
            return None
        trials = self.trials()
        waiting = (trial.number for trial in trials if trial.state == TrialState.WAITING)
        following = min(waiting, default=len(trials))
        return following - following % self._generation_size

    def exhausted(self) -> bool:
        """Whether every point of a finite space has been tried or is being tried."""
        return self._size is not None and len(self._seen) >= self._size

    def ask(self) -> Asked[P] | None:
        """The next trial, RUNNING from now on: a WAITING one if there is any, else a new point; None if all are tried."""
        if not self.waiting() and len(self) == (self.default_params is not None):
            self._enqueue_usual()
        return self._pop() if self.waiting() else self.draw()

    def draw(self) -> Asked[P] | None:
        """A new trial, RUNNING from now on, at a point that was not tried; None if all are tried."""
        if self.exhausted():
            return None
        for attempt in range(MAX_DRAWS):
            asked = self._draw(make_sampler(self._spec, len(self), attempt), feasible=attempt < MAX_DRAWS - 1)
            if asked is not None:
                return asked
        grid = Grid(seed=derive_seed(self._spec.seed, len(self)))
        return self._draw(grid, feasible=False) if self._size is not None else None

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a value of a RUNNING trial; answers whether the pruner would end it here."""
        self._storage.set_trial_intermediate_value(self._id(number), epoch, value)
        return self.would_prune(number)

    def tell(
        self, number: int, state: TrialState, value: float | Sequence[float] | None = None, **attributes: Any
    ) -> FrozenTrial:
        """End a RUNNING trial, with `attributes` as its user attributes; answers it as it is to be stored."""
        self.annotate(number, attributes)
        self._study.tell(number, value, state=state)
        return self.trial(number)

    def constrain(self, number: int, constraint: str, violation: float) -> None:
        """Note by how much a trial violates a constraint, 0 or less: not, for Optuna 5 and for the dashboard."""
        self._storage.set_trial_system_attr(self._id(number), f"{CONSTRAINT}{constraint}", violation)
        self._storage.set_trial_system_attr(self._id(number), CONSTRAINT_LIST, [violation])

    def annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        for key, attribute in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), key, attribute)

    def absorb(self, trial: FrozenTrial) -> None:
        """Hold `trial` as the database has it: one that another program made or changed."""
        trials = self.trials()
        if trial.number == len(trials):
            self._storage.create_new_trial(self._study_id, template_trial=trial)
        else:
            trials[trial.number] = trial
            self._fill(trials, self.study_attributes())
        if (point := self._space.find(trial.params)) is not None:
            self._seen.add(point)

    def sync(self, stored: Sequence[FrozenTrial], study_attributes: Mapping[str, Any]) -> None:
        """Hold the study as the database has it, but for what RUNNING trials have reported here and not yet there."""
        own = {trial.number: trial for trial in self.trials() if trial.state == TrialState.RUNNING}
        self._hold([own.get(t.number, t) if t.state == TrialState.RUNNING else t for t in stored], study_attributes)

    def drop_last(self) -> None:
        """Forget the newest trial, which never came to the database; its point may be drawn again."""
        *others, last = self.trials()
        if (point := self._space.find(last.params)) is not None:
            self._seen.discard(point)
        self._fill(others, self.study_attributes())

    def would_prune(self, number: int) -> bool:
        """Of a RUNNING trial, after its newest report, by the first objective."""
        with self._storage.shown_to("pruner", number):
            return self._pruner.prune(self._judged, self.trial(number))

    def release(self, number: int) -> None:
        """Set an interrupted RUNNING trial WAITING, as if it had not been started; its point stays its own."""
        trials = self.trials()
        released = self.trial(number)
        released.state, released.datetime_start, released.intermediate_values = TrialState.WAITING, None, {}
        released._system_attrs = before_training(released)
        trials[number] = released
        self._fill(trials, self.study_attributes())

    def study_attributes(self) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(self._study_id)

    def _hold(self, trials: Sequence[FrozenTrial], study_attributes: Mapping[str, Any]) -> None:
        self._fill(trials, study_attributes)
        self._seen = {
            p for t in trials if t.state != TrialState.WAITING and (p := self._space.find(t.params)) is not None
        }
        if not trials and self.default_params is not None:
            self._study.enqueue_trial(self.default_params)

    def _fill(self, trials: Sequence[FrozenTrial], study_attributes: Mapping[str, Any]) -> None:
        self._storage = ViewStorage(self._generation_size, self._earlier)
        directions = [StudyDirection[direction.upper()] for direction in self._spec.directions()]
        self._study_id = self._storage.create_new_study(directions, NAME)
        for key, value in study_attributes.items():
            self._storage.set_study_system_attr(self._study_id, key, value)
        for trial in trials:
            self._storage.create_new_trial(self._study_id, template_trial=_shown(trial))
        # Without the pruner: Hyperband's would hide some trials from some samplers, and not before its first judgement.
        self._study = optuna.load_study(study_name=NAME, storage=self._storage, pruner=NopPruner())
        with self._storage.shown_to("pruner", 0):
            self._judged = optuna.load_study(study_name=NAME, storage=self._storage, pruner=NopPruner())

    def _enqueue_usual(self) -> None:
        usual = self._usual_params
        point = None if usual is None else self._space.restore(usual)
        if point is not None and point not in self._seen and self._violation(point) <= 0:
            self._study.enqueue_trial(usual or {})

    def _frozen(self, trial: EarlierTrial, number: int) -> FrozenTrial:
        """With the distributions of this study's space, and a number below 0."""
        fixed = optuna.trial.FixedTrial({**trial.params})
        self._space.suggest(fixed)
        frozen = optuna.trial.create_trial(
            state=TrialState[trial.state],
            values=None if trial.values is None else list(trial.values),
            params=fixed.params,
            distributions=fixed.distributions,
            intermediate_values={**trial.reports},
        )
        frozen.number = frozen._trial_id = number
        return frozen

    def _pop(self) -> Asked[P]:
        self._study.sampler = make_sampler(self._spec, len(self), 0)
        trial = self._study.ask()
        point = self._space.suggest(trial)
        self._seen.add(point)
        return Asked(trial.number, point)

    def _draw(self, sampler: BaseSampler, feasible: bool) -> Asked[P] | None:
        """Draw a trial. Where its point was tried before, or must be `feasible` and is not, this is undone: None."""
        before = self.trials()
        self._study.sampler = sampler
        with self._storage.shown_to("sampler", len(before)):
            trial = self._study.ask()
            point = self._space.suggest(trial)
        if point in self._seen or (feasible and self._violation(point) > 0):
            self._fill(before, self.study_attributes())
            return None
        self._seen.add(point)
        return Asked(trial.number, point)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _shown(trial: FrozenTrial) -> FrozenTrial:
    """A void trial as sampler and pruner see it: as one that failed and reported nothing. Its point stays tried."""
    if not is_void(trial):
        return trial
    shown = copy.copy(trial)
    shown.state, shown.values, shown.intermediate_values = TrialState.FAIL, None, {}
    rungs = [key for key in trial.system_attrs if key.startswith(RUNG)]
    shown._system_attrs = {key: value for key, value in trial.system_attrs.items() if key not in rungs}
    return shown


def derive_seed(*parts: int) -> int:
    """A seed of 31 bits made of the parts; other parts give another, unrelated one."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)


def make_sampler(spec: Searchable[Any], number: int, attempt: int) -> BaseSampler:
    """The sampler for trial `number`; `attempt` counts the points for it that turned out to be known."""
    seed = derive_seed(spec.seed, number, attempt)
    independent = RandomSampler(
        seed=seed
    )  # for the conditional dimensions, which these samplers cannot relate to others
    match spec.sampler.kind:
        case "tpe":
            # Each dimension for itself: with few trials the joint estimate clings to one combination of choices.
            return TPESampler(multivariate=False, constant_liar=True, n_startup_trials=STARTUP_TRIALS, seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case "grid":
            return Grid(seed=seed)
        case "qmc":  # the sequence keeps one seed; its position stands in the study's attributes
            return QMCSampler(
                scramble=True, seed=spec.seed, independent_sampler=independent, warn_independent_sampling=False
            )
        case "cmaes":
            return Evolution(
                n_startup_trials=STARTUP_TRIALS,
                seed=seed,
                independent_sampler=independent,
                warn_independent_sampling=False,
            )
        case "gp":
            return GPSampler(
                n_startup_trials=STARTUP_TRIALS,
                seed=seed,
                independent_sampler=independent,
                warn_independent_sampling=False,
            )


def make_pruner(spec: Searchable[Any]) -> BasePruner:
    """The pruner; its resource is the step: of our nets the epoch, counted from 1.

    None of them judges the first epoch, which says more about how fast a net starts than about how far it gets.
    """
    last = spec.last_step()
    first = FIRST_JUDGED_EPOCH if last is None else min(FIRST_JUDGED_EPOCH, last)
    match spec.pruner.kind:
        case "hyperband":
            return HyperbandPruner(min_resource=first, max_resource=last or "auto", reduction_factor=REDUCTION_FACTOR)
        case "successive_halving":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION_FACTOR)
        case "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=first)
        case "none":
            return NopPruner()
