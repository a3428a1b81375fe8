import math

import optuna
import pytest
from optuna.trial import TrialState

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.stages.view import View

SAMPLERS = ["tpe", "random", "grid", "qmc", "cmaes", "gp"]
PRUNERS = ["hyperband", "successive_halving", "median", "none"]
FINITE = {
    "depth": {"low": 1, "high": 2},
    "width": 32,
    "activation": {"choices": ["relu", "maxout"]},
    "maxout_pieces": {"choices": [2, 3]},
    "loss": "mse",
    "optimizer": "sgd",
    "learning_rate": {"choices": [0.1, 0.2]},
    "dropout": 0.0,
    "shift_pixels": 0,
    "rotate_degrees": 0,
    "zoom": 0,
    "batch_norm": False,
    "batch_size": 32,
    "weight_decay": 1e-6,
}
"""12 points: 2 depths × 2 learning rates × (relu, or maxout with 2 or 3 pieces)."""


def spec(**changes: object) -> StudySpec:
    return StudySpec.model_validate({"name": "a", "pruner": {"kind": "none"}, **changes})


def score(view: View[Hyperparameters], number: int) -> float:
    """A toy objective: wide nets with little dropout are good."""
    params = view.trial(number).params
    return float(params.get("width", 32)) / 512 - float(params.get("dropout", 0.0))


def run(view: View[Hyperparameters], n: int) -> View[Hyperparameters]:
    while len(view) < n or view.waiting():
        asked = view.ask()
        assert asked is not None
        view.report(asked.number, 1, score(view, asked.number))
        view.tell(asked.number, TrialState.COMPLETE, score(view, asked.number))
    return view


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind != "grid"])
def test_every_sampler_honours_its_seed_and_survives_a_reload(kind: str) -> None:
    """So many trials that its model has its say are the same twice, other with another seed, and the same when the view is loaded
    anew after trial 11."""
    count = 17 if kind == "gp" else 20  # models are asked from trial 15 on, and GP's takes a third of a second
    whole = [t.params for t in run(View(spec(sampler={"kind": kind}), [], {}), count).trials()]
    again = [t.params for t in run(View(spec(sampler={"kind": kind}), [], {}), count).trials()]
    other = [t.params for t in run(View(spec(sampler={"kind": kind}, seed=1), [], {}), count).trials()]
    half = run(View(spec(sampler={"kind": kind}), [], {}), 11)
    resumed = run(View(spec(sampler={"kind": kind}), half.trials(), half.study_attributes()), count)
    assert whole == again
    assert whole[1:] != other[1:]
    assert whole == [t.params for t in resumed.trials()]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_tries_each_point_of_a_finite_space_once(kind: str) -> None:
    """12 points are 12 trials, none twice; then there is nothing to ask for, and the view says so."""
    view = View(spec(sampler={"kind": kind}, search_space=FINITE), [], {})
    seen = []
    while (asked := view.ask()) is not None:
        seen.append(asked.hyperparameters)
        view.tell(asked.number, TrialState.COMPLETE, 0.5)
    assert len(seen) == len(set(seen)) == 12
    assert view.exhausted()
    assert [t.number for t in view.trials()] == list(range(12))


@pytest.mark.parametrize("kind", PRUNERS)
def test_every_pruner_prunes_the_hopeless_but_none(kind: str) -> None:
    """After good trials, a trial far below them is pruned by every pruner at some epoch, and by `none` at no epoch."""
    view = View(spec(pruner={"kind": kind}), [], {})
    pruned = 0
    for n in range(30):
        asked = view.ask()
        assert asked is not None
        value = 0.9 if n < 15 else 0.1
        if any(view.report(asked.number, epoch, value + epoch / 100) for epoch in range(1, 6)):
            pruned += n >= 15
            view.tell(asked.number, TrialState.PRUNED)
        else:
            view.tell(asked.number, TrialState.COMPLETE, value)
    assert (pruned == 0) if kind == "none" else (pruned >= 8)


def test_trial_0_is_the_default_configuration() -> None:
    """Where the space holds the default, it is tried first; where not, the view has no place for it."""
    inside = View(spec(), [], {})
    asked = inside.ask()
    assert asked is not None
    assert asked.hyperparameters == spec().default()
    outside = View(spec(search_space={"depth": 3}), [], {})
    assert outside.default_params is None
    asked = outside.ask()
    assert asked is not None
    assert asked.hyperparameters.depth == 3


USUAL = {"width": 256, "batch_norm": True, "shift_pixels": 1, "rotate_degrees": 10, "zoom": 0.1}


@pytest.mark.parametrize(
    ("changes", "number", "expected"),
    [
        ({}, 1, {"depth": 2, "activation": "relu", "learning_rate": 1e-2, "batch_size": 64, **USUAL}),
        ({"sampler": {"kind": "gp"}}, 1, USUAL),
        ({"search_space": {"depth": 3}}, 0, {"depth": 3, **USUAL}),
        ({"search_space": {"batch_norm": False, "zoom": 0}}, 1, {**USUAL, "batch_norm": False, "zoom": 0}),
        ({"search_space": {"width": 32}}, 0, {**USUAL, "width": 32}),
    ],
)
def test_the_default_with_what_mostly_helps_is_tried_early(
    changes: dict[str, object], number: int, expected: dict[str, object]
) -> None:
    """Right after the default, or first where the space has no default; what the user has fixed stays, and the next trials are
    others. It is the same after a restart."""
    view = View(spec(**changes), [], {})
    points = [asked.hyperparameters for _ in range(4) if (asked := view.ask()) is not None]
    assert {**points[number].model_dump(), **expected} == points[number].model_dump()
    assert points.count(points[number]) == 1
    again = View(spec(**changes), view.trials()[:number], view.study_attributes()).ask()
    assert again is not None
    assert again.hyperparameters == points[number]


def test_what_mostly_helps_is_not_tried_where_it_does_not_belong() -> None:
    """By samplers that learn nothing from it, where the space has no such point, where it is infeasible, and in the place of a
    trial that is there already."""

    def usual(view: View[Hyperparameters]) -> bool:
        asked = [view.ask() for _ in range(3)]
        return any(one is not None and one.hyperparameters.rotate_degrees == 10 for one in asked[:2])

    space = {"rotate_degrees": {"choices": [0.0, 10.0, *(0.1 * k for k in range(1, 100))]}}  # hardly ever 10 by chance
    assert usual(View(spec(search_space=space), [], {}))
    assert not usual(View(spec(search_space=space, sampler={"kind": "random"}), [], {}))
    assert not usual(View(spec(search_space={**space, "width": {"choices": [16, 64]}}), [], {}))
    assert not usual(View(spec(search_space=space), [], {}, lambda point: float(point.batch_norm)))
    two = run(View(spec(search_space=space, sampler={"kind": "random"}), [], {}), 2)
    assert not usual(View(spec(search_space=space), two.trials(), {}))


def test_a_released_trial_comes_back_as_it_was() -> None:
    """A trial that is released waits under its number without its reports, and is asked again with the same point."""
    view = run(View(spec(), [], {}), 3)
    first = view.ask()
    assert first is not None
    view.report(first.number, 1, 0.5)
    view.release(first.number)
    assert view.trial(first.number).state is TrialState.WAITING
    assert view.trial(first.number).intermediate_values == {}
    assert view.ask() == first


def test_a_diverged_trial_ranks_last_for_tpe() -> None:
    """A trial told as PRUNED after a NaN has no value, so no earlier epoch speaks for it."""
    view = View(spec(), [], {})
    asked = view.ask()
    assert asked is not None
    view.report(asked.number, 1, 0.99)
    view.report(asked.number, 2, math.nan)
    assert view.tell(asked.number, TrialState.PRUNED).value is None


def test_duplicates_do_not_make_holes() -> None:
    """A point that comes again is not a trial: numbers stay whole while only few points are left."""
    view = View(spec(sampler={"kind": "random"}, search_space=FINITE), [], {})
    run(view, 11)
    assert [t.number for t in view.trials()] == list(range(11))
    assert len({tuple(sorted(t.params.items())) for t in view.trials()}) == 11
    assert all(isinstance(t, optuna.trial.FrozenTrial) for t in view.trials())
