"""What a study's findings say together: whom to blame, which ends are too near, where to search next."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tuner.specs.diagnosis import Blame
from tuner.specs.epoch import EpochRecord
from tuner.specs.finding import Evidence, Finding, FindingName
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import Choice, SearchSpace
from tuner.specs.study import StudySpec
from tuner.statistics.diagnosis import TrainingRun
from tuner.statistics.study_diagnosis import JudgedTrial, Share, diagnose_study, newcombe

EVIDENCE = Evidence(measure="m", value=1.0, threshold=0.0, sentence="So it is.")
SPACE = SearchSpace()
NO_SIGMOID = {"activation": {"choices": ["relu", "tanh"]}}

FindingOf = Callable[[Hyperparameters, np.random.Generator], FindingName]
ValueOf = Callable[[Hyperparameters], float]


class Drawn:
    """Answers what a space asks at random."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return float(np.exp(self._generator.uniform(np.log(low), np.log(high))))
        return float(self._generator.uniform(low, high))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[int(self._generator.integers(len(choices)))]


def trials_of(
    space: SearchSpace, count: int, seed: int, finding_of: FindingOf, value_of: ValueOf = lambda _: 0.5
) -> list[JudgedTrial]:
    """`count` points drawn at random from `space`, judged by what they are."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        point = space.suggest(Drawn(generator))
        name = finding_of(point, generator)
        record = EpochRecord(
            epoch=1,
            train_loss=0.1,
            train_accuracy=0.95 if name in ("healthy", "overfit") else 0.3,
            validation_loss=0.1,
            validation_accuracy=0.8,
            gradient_norm_first=1,
            gradient_norm_last=1,
            dead_units=0,
            learning_rate=1,
            seconds=1,
        )
        run = TrainingRun((record,), point, 10, "complete")
        made.append(JudgedTrial(run, Finding(name=name, evidence=EVIDENCE), value_of(point)))
    return made


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_intervals_are_newcombes(one: tuple[int, int], other: tuple[int, int], expected: tuple[float, float]) -> None:
    """As in his table II, method 10."""
    assert newcombe(Share(*one), Share(*other), 0.05) == pytest.approx(expected, abs=5e-5)


def test_what_goes_with_a_finding_is_blamed_and_nothing_else() -> None:
    """Sigmoid nets lose their gradient: the blame names the value, both shares, and an interval without 0; the question of who is
    good comes before the question of who overfits."""
    found = diagnose_study(
        trials_of(SPACE, 60, 1, lambda h, _: "vanishing_gradient" if h.activation == "sigmoid" else "healthy"), SPACE
    )
    [blame] = found.blame
    assert (blame.finding, blame.hyperparameter, blame.value) == ("vanishing_gradient", "activation", "sigmoid")
    assert (blame.share_with, blame.share_without) == (1, 0)
    assert 0 < blame.interval[0] < blame.difference <= blame.interval[1]
    assert sum(found.findings.values()) == 60
    assert found.training.of == 60
    assert found.validation.of == found.training.good == found.findings["healthy"]


def test_a_choice_of_yes_and_no_is_blamed() -> None:
    """Nets without batch normalisation are underfit: the value blamed is a boolean, in JSON, too, and the next space has none."""
    trials = trials_of(
        SearchSpace(),
        60,
        1,
        lambda h, _: "healthy" if h.batch_norm else "underfit",
        lambda h: 0.9 if h.batch_norm else 0.1,
    )
    found = diagnose_study(trials, SearchSpace())
    [blame] = [blame for blame in found.blame if blame.hyperparameter == "batch_norm"]
    assert (blame.finding, blame.value, blame.share_with) == ("underfit", False, 1)
    assert blame.value is False
    assert Blame.model_validate_json(blame.model_dump_json()).value is False
    assert found.next_search_space.batch_norm == Choice[bool](choices=(True,))


def test_halves_of_ranges_are_blamed() -> None:
    """Also of learning rates that belong to their optimizers."""

    def finding(h: Hyperparameters, _: np.random.Generator) -> FindingName:
        middle = {"sgd": 0.1, "momentum": 0.0173, "rmsprop": 1e-3, "adam": 1e-3}[h.optimizer]
        return "learning_rate_too_low" if h.learning_rate <= middle else "overfit" if h.depth > 3 else "healthy"

    found = diagnose_study(trials_of(SPACE, 100, 2, finding), SPACE)
    blamed = {(blame.finding, blame.hyperparameter): blame for blame in found.blame}
    assert set(blamed) >= {("learning_rate_too_low", "learning_rate"), ("overfit", "depth")}
    assert "lower half" in blamed["learning_rate_too_low", "learning_rate"].words
    assert (blamed["overfit", "depth"].low, blamed["overfit", "depth"].high) == (3.5, 6)


def test_chance_is_not_blamed() -> None:
    """Of 60 studies in which findings fall like rain, at most 3 blame anything, whatever the number of comparisons."""

    def finding(_: Hyperparameters, generator: np.random.Generator) -> FindingName:
        names: tuple[FindingName, ...] = ("healthy", "underfit", "overfit", "stopped_too_early")
        return names[int(generator.integers(4))]

    studies = [diagnose_study(trials_of(SPACE, 40, seed, finding), SPACE) for seed in range(60)]
    assert all(study.comparisons > 30 for study in studies)
    assert sum(bool(study.blame) for study in studies) <= 3


def test_the_next_space_goes_where_the_best_are() -> None:
    """Wider at the ends where the best lie, within what a net can have; without what is blamed. It can be posted as it is."""
    space = SearchSpace.model_validate(
        {
            "width": {"low": 32, "high": 128, "log": True},
            "depth": {"low": 1, "high": 30},
            "optimizer": {"choices": ["sgd", "adam"]},
            "dropout": {"low": 0.0, "high": 0.9},
        }
    )

    best = space.model_validate({"depth": {"low": 29, "high": 30}, "dropout": {"low": 0.85, "high": 0.9}, **NO_SIGMOID})

    def finding(h: Hyperparameters, _: np.random.Generator) -> FindingName:
        return "underfit" if h.activation == "sigmoid" else "healthy"

    trials = trials_of(space, 90, 3, finding) + trials_of(best, 10, 3, finding, lambda _: 0.9)
    found = diagnose_study(trials, space)
    following = found.next_search_space
    assert {edge.hyperparameter for edge in found.edges} >= {"depth", "dropout"}
    assert "sigmoid" not in following.activation.choices  # type: ignore[union-attr]
    assert following.depth.high == 32  # type: ignore[union-attr]
    assert 0.9 < following.dropout.high < 1  # type: ignore[union-attr]
    assert len(found.changes) >= 3
    StudySpec.model_validate({"name": "next", "search_space": following.model_dump(mode="json")})


def test_lists_of_numbers_go_on_as_they_were() -> None:
    """Powers of two by another one, whole numbers by the next; a hyperparameter's own limit is no edge."""

    high = trials_of(SearchSpace(batch_size=256, shift_pixels=2), 5, 4, lambda *_: "healthy", lambda _: 0.9)
    found = diagnose_study(trials_of(SPACE, 45, 4, lambda *_: "healthy") + high, SPACE)
    edges = {edge.hyperparameter: edge.next for edge in found.edges}
    assert edges.items() >= {"batch_size": 512, "shift_pixels": 3}.items()
    low = diagnose_study(trials_of(SPACE, 80, 4, lambda *_: "healthy", lambda h: -h.shift_pixels - h.dropout), SPACE)
    assert low.edges == ()
    assert low.next_search_space == SPACE


def test_an_automatic_learning_rate_is_widened_for_one_optimizer_only() -> None:
    """Where all of the best have that one; with several, the edge is told and left as it is."""

    adams = SearchSpace.model_validate({"optimizer": "adam", "learning_rate": {"low": 0.009, "high": 0.01}})
    trials = trials_of(SPACE, 40, 5, lambda *_: "healthy") + trials_of(adams, 5, 5, lambda *_: "healthy", lambda _: 0.9)
    found = diagnose_study(trials, SPACE)
    assert found.next_search_space.optimizer == "adam"
    assert found.next_search_space.learning_rate.high == pytest.approx(0.04)  # type: ignore[union-attr]
    sgd = trials_of(SearchSpace(optimizer="sgd"), 1, 5, lambda *_: "healthy", lambda _: 0.8)
    found = diagnose_study([*trials, *sgd, *trials_of(SPACE, 10, 6, lambda *_: "healthy")], SPACE)
    edge = next(edge for edge in found.edges if edge.hyperparameter == "learning_rate_adam")
    assert edge.next is None
    assert found.next_search_space.learning_rate == "auto"


def test_few_trials_say_nothing() -> None:
    """Nothing is blamed and no end is too near where there is hardly anything to tell it from."""
    found = diagnose_study(trials_of(SPACE, 6, 6, lambda *_: "underfit", lambda h: h.width), SPACE)
    assert (found.blame, found.edges, found.changes) == ((), (), ())
    assert diagnose_study([], SPACE).trials == 0
