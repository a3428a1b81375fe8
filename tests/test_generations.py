"""A deterministic search: the same trials whoever trains them, in whatever order they end, disturbed or not."""

import random
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.test_view import FINITE, PRUNERS, SAMPLERS
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.stages.view import View

EPOCHS = 5


def spec(**changes: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "a", "deterministic": True, "generation_size": 8, **changes})


def accuracy(point: Hyperparameters, epoch: int) -> float:
    """A toy net: wide and shallow is good, and a high dropout learns late."""
    return (point.width / 512 - 0.1 * point.depth) * (1 - point.dropout / epoch) + point.weight_decay


class Site:
    """Runs a view's trials on `workers` workers that end their epochs in a random order."""

    def __init__(self, spec: StudySpec, n_trials: int, workers: int, seed: int, disturbances: int = 0) -> None:
        self._spec, self._n_trials, self._workers = spec, n_trials, workers
        self._random = random.Random(seed)
        self._disturbances = disturbances
        self._view = View(spec, [], {})
        self._running: dict[int, Hyperparameters] = {}
        self._epochs: dict[int, int] = {}

    def run(self) -> list[FrozenTrial]:
        while self._start() or self._running:
            number = self._random.choice(sorted(self._running))
            self._train(number)
            if self._disturbances and self._random.random() < 0.15:
                self._disturb(self._random.choice([[number], list(self._running)]))
        return self._view.trials()

    def _start(self) -> bool:
        started = False
        while self._view.ready() and len(self._running) < self._workers:
            if not self._view.waiting() and len(self._view) >= self._n_trials:
                break
            asked = self._view.ask()
            if asked is None:
                break
            self._running[asked.number], self._epochs[asked.number] = asked.hyperparameters, 0
            started = True
        return started

    def _train(self, number: int) -> None:
        self._epochs[number] += 1
        epoch, value = self._epochs[number], accuracy(self._running[number], self._epochs[number])
        if self._view.report(number, epoch, value) and epoch < EPOCHS:
            self._view.tell(number, TrialState.PRUNED)
        elif epoch == EPOCHS:
            self._view.tell(number, TrialState.COMPLETE, value)
        else:
            return
        del self._running[number]

    def _disturb(self, numbers: list[int]) -> None:
        """Workers are lost, or the runner: then the view is read anew."""
        self._disturbances -= 1
        for number in numbers:
            if self._running.pop(number, None) is not None:
                self._view.release(number)
        if not self._running:
            self._view = View(self._spec, self._view.trials(), self._view.study_attributes())


def story(trials: list[FrozenTrial]) -> list[Any]:
    return [(t.number, t.params, t.state, t.values, t.intermediate_values, t.system_attrs) for t in trials]


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [(kind, "hyperband") for kind in SAMPLERS if kind != "gp"] + [("random", kind) for kind in PRUNERS[1:]],
)
def test_a_deterministic_search_is_the_same_for_any_number_of_workers(sampler: str, pruner: str) -> None:
    """30 trials, for 1, 2 and 5 workers, and with workers and runners lost: the same points, states, values, reports, rungs."""
    space = {**FINITE, "depth": {"low": 1, "high": 8}} if sampler == "grid" else {}
    asked = spec(sampler={"kind": sampler}, pruner={"kind": pruner}, search_space=space)
    alone = story(Site(asked, 30, workers=1, seed=0).run())
    assert {state for _, _, state, *_ in alone} == {TrialState.COMPLETE, TrialState.PRUNED} or pruner == "none"
    assert story(Site(asked, 30, workers=2, seed=1).run()) == alone
    assert story(Site(asked, 30, workers=5, seed=2, disturbances=8).run()) == alone


def test_gp_is_deterministic_too() -> None:
    """As above, with fewer trials: a Gaussian process is fitted for each."""
    asked = spec(sampler={"kind": "gp"}, generation_size=4)
    assert story(Site(asked, 18, 3, seed=1, disturbances=3).run()) == story(Site(asked, 18, 1, seed=0).run())


def test_a_search_that_goes_on_is_the_one_that_had_asked_for_more() -> None:
    """13 trials, and then on to 30: as 30 at once, though the second generation was cut in two."""
    site = Site(spec(), 13, 5, seed=0)
    site.run()
    site._n_trials = 30
    assert story(site.run()) == story(Site(spec(), 30, 2, seed=1).run())
