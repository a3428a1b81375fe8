from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace
from tuner.specs.study import StudySpec

SPACES: list[dict[str, Any]] = [
    {},
    {"depth": 3, "activation": "maxout", "maxout_pieces": {"low": 2, "high": 4}},
    {
        "optimizer": "momentum",
        "momentum": {"low": 0.5, "high": 0.95},
        "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    },
    {
        "optimizer": {"choices": ["rmsprop", "sgd"]},
        "rmsprop_alpha": {"choices": [0.9, 0.99]},
        "dropout": {"low": 0, "high": 0.5, "step": 0.1},
    },
]


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_a_point_and_its_parameters_are_one(space: dict[str, Any], seed: int) -> None:
    """A live, a fixed and a stored trial stand for the same point, and the point gives the trial's parameters back."""
    search_space = SearchSpace.model_validate(space)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    point = search_space.suggest(trial)
    assert search_space.suggest(optuna.trial.FixedTrial(trial.params)) == point
    assert search_space.restore(trial.params) == point
    assert search_space.params(point) == trial.params
    assert Hyperparameters.model_validate_json(point.model_dump_json()) == point


@pytest.mark.parametrize("space", SPACES)
def test_a_spec_survives_json(space: dict[str, Any]) -> None:
    """A spec written as JSON and read again is the same spec."""
    spec = StudySpec.model_validate({"name": "a", "search_space": space})
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec


def test_conditional_hyperparameters_are_there_only_where_they_apply() -> None:
    """Maxout has pieces, momentum its momentum, RMSProp its alpha; given elsewhere, they are refused by name."""
    assert Hyperparameters(activation="maxout").maxout_pieces == 2
    assert Hyperparameters().maxout_pieces is None
    assert Hyperparameters(optimizer="momentum").momentum == 0.9
    with pytest.raises(ValidationError, match="momentum applies only where optimizer is 'momentum'"):
        Hyperparameters(optimizer="adam", momentum=0.5)


def test_an_automatic_learning_rate_belongs_to_its_optimizer() -> None:
    """Optuna's parameter bears the optimizer's name; the point says plain learning_rate."""
    space = SearchSpace.model_validate({"optimizer": "sgd"})
    trial = optuna.create_study().ask()
    point = space.suggest(trial)
    assert trial.params["learning_rate_sgd"] == point.learning_rate


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({}, None),
        ({"learning_rate": 0.1, "dropout": 0.0, "weight_decay": 0.0, "width": 32, "depth": {"low": 1, "high": 6, "step": 2},
          "activation": "relu", "optimizer": "sgd", "loss": "mse", "batch_size": 32, "shift_pixels": 0}, 3),
        ({"learning_rate": 0.1, "dropout": {"low": 0, "high": 0.5, "step": 0.1}, "weight_decay": 0.0, "width": 32, "depth": 1,
          "activation": {"choices": ["relu", "maxout"]}, "maxout_pieces": {"low": 2, "high": 4}, "optimizer": "sgd",
          "loss": "mse", "batch_size": 32, "shift_pixels": 0}, 6 + 3 * 6),
    ],
)  # fmt: skip
def test_the_size_of_a_space(space: dict[str, Any], size: int | None) -> None:
    """A finite space knows the number of its points, conditional ones counted where they apply."""
    assert SearchSpace.model_validate(space).size() == size


@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        ({"dpeth": 3}, ("dpeth",), "Extra inputs"),
        (
            {"search_space": {"depth": {"low": 5, "high": 2}}},
            ("search_space", "depth"),
            "low <= high must hold, but got low=5, high=2",
        ),
        ({"search_space": {"activation": {"choices": ["gelu9"]}}}, ("search_space", "activation"), "'sigmoid', 'tanh'"),
        (
            {"search_space": {"dropout": {"low": 0, "high": 1.5}}},
            ("search_space",),
            "dropout: Input should be less than 1, but got 1.5",
        ),
        (
            {"search_space": {"learning_rate": {"low": 0, "high": 1, "log": True}}},
            ("search_space", "learning_rate"),
            "low > 0",
        ),
        ({"search_space": {"batch_size": {"choices": []}}}, ("search_space", "batch_size"), "at least 1"),
        ({"search_space": {"batch_size": {"choices": [32, 32]}}}, ("search_space", "batch_size"), "distinct"),
        ({"budget": {"n_trials": 0}}, ("budget", "n_trials"), "greater than or equal to 1"),
        ({"sampler": {"kind": "magic"}}, ("sampler", "kind"), "'tpe'"),
        ({"sampler": {"kind": "grid"}}, (), "continuous"),
        ({"ensemble": {"members": 5}}, ("ensemble",), "None"),
        (
            {"deterministic": True, "budget": {"timeout_seconds": 60}},
            (),
            "no time limit, but got budget.timeout_seconds=60",
        ),
        ({"deterministic": True, "budget": {"trial_timeout_seconds": 9}}, (), "but got budget.trial_timeout_seconds=9"),
        ({"generation_size": 4}, (), "generation_size goes with deterministic: true, but got 4"),
        ({"name": "../../etc"}, ("name",), "pattern"),
        ({"name": "x" * 101}, ("name",), "pattern"),
        ({"name": "a\n"}, ("name",), "pattern"),
        ({"seed": float("nan")}, ("seed",), "finite"),
    ],
)
def test_a_wrong_spec_is_refused_where_it_is_wrong(body: dict[str, Any], where: tuple[str, ...], says: str) -> None:
    """The error stands at the field and names the rule and the value."""
    with pytest.raises(ValidationError) as refused:
        StudySpec.model_validate({"name": "a", **body})
    error = refused.value.errors()[0]
    assert error["loc"][: len(where)] == where
    assert says in error["msg"]
