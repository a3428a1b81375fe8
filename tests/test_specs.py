import json
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.outside_study import read_spec
from tuner.specs.search_space import SearchSpace
from tuner.specs.study import BudgetSpec, EnsembleSpec, StudySpec, student_cost

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


LOOKALIKES: dict[str, dict[str, Any]] = {
    "a truth value for a whole number": {"priority": False},
    "a text for a whole number": {"seed": "5"},
    "within a part": {"budget": {"n_trials": True}},
    "where null may stand": {"budget": {"parallel": True}},
    "a truth value for a number": {"budget": {"target": True}},
    "a text for a number": {"promotion": {"max_cost": "2.5"}},
    "a number for a truth value": {"deterministic": 0},
    "of a dimension": {"search_space": {"depth": True}},
    "of a range": {"search_space": {"depth": {"low": True, "high": 2}}},
    "of a choice": {"search_space": {"dropout": {"choices": [False, 0.5]}}},
    "of an outside dimension": {
        "objective": "external",
        "search_space": {"k": {"type": "int", "low": False, "high": 2}},
    },
}


@pytest.mark.parametrize("what", LOOKALIKES)
def test_what_only_looks_like_a_number_is_none(what: str) -> None:
    """JSON's true is no 1, "5" no 5, and 0 no false, wherever it stands; the document says the same."""
    with pytest.raises(ValidationError, match=r"should be a valid (integer|number|boolean)"):
        read_spec.validate_python({"name": "a", **LOOKALIKES[what]})


def test_a_number_may_be_written_either_way() -> None:
    """5.0 is a whole number, as JSON Schema has it, and 1 is a number; keys are read as whole numbers where they are."""
    spec = StudySpec.model_validate({"name": "a", "seed": 5.0, "budget": {"target": 1}})
    assert (spec.seed, spec.budget.target) == (5, 1.0)
    earlier = EarlierTrial(study="a", number=0, state="COMPLETE", params={}, values=(0.5,), reports={3: 0.5})
    assert EarlierTrial.model_validate(json.loads(earlier.model_dump_json())) == earlier


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
          "activation": "relu", "optimizer": "sgd", "loss": "mse", "batch_size": 32,
          "shift_pixels": 0, "rotate_degrees": 0, "zoom": 0, "batch_norm": False}, 3),
        ({"learning_rate": 0.1, "dropout": {"low": 0, "high": 0.5, "step": 0.1}, "weight_decay": 0.0, "width": 32, "depth": 1,
          "activation": {"choices": ["relu", "maxout"]}, "maxout_pieces": {"low": 2, "high": 4}, "optimizer": "sgd",
          "loss": "mse", "batch_size": 32, "shift_pixels": 0, "rotate_degrees": 0, "zoom": 0, "batch_norm": False}, 6 + 3 * 6),
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
        ({"ensemble": {"members": 1}}, ("ensemble", "members"), "greater than or equal to 2"),
        ({"ensemble": {"members": 5}, "promotion": None}, (), "whose winner it is made of, but got promotion=null"),
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


def test_a_specs_numbers_are_made_literal_once() -> None:
    """However often a spec is a part of something else, its schema stays as it is; each API app uses it anew."""
    before = repr(BudgetSpec.__pydantic_core_schema__)
    for _ in range(3):
        TypeAdapter(tuple[BudgetSpec, ...])
    assert repr(BudgetSpec.__pydantic_core_schema__) == before


def test_the_time_left_counts_what_is_likely() -> None:
    """Rung and local search on twice the images, one seed of the race where its cost is bounded, two of the verdict; not
    the small default."""
    spec = StudySpec(name="a")
    assert spec.promotion is not None
    before = (2 * (12 + 24) + 3) * 5 * 5_000
    assert spec.promoted_images(spec.promotion, None, 50_000) == before + (3 + 2) * 10 * 50_000
    unbounded = spec.promotion.model_copy(update={"max_cost": None})
    assert spec.promoted_images(unbounded, None, 50_000) == before + (2 * 3 + 2) * 10 * 50_000
    bagged = EnsembleSpec(members=4, student=True)
    assert (
        spec.promoted_images(spec.promotion, bagged, 50_000)
        == before + (50 + round(10 * (4 + student_cost()))) * 50_000
    )
    assert spec.promoted_images(None, None, 50_000) == 0
