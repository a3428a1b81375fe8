"""What is trained beside the rung's best, and what becomes of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.house import House, open_house
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import CHANGES, changed, changes, usual
from tuner.specs.search_space import SearchSpace
from tuner.stages.job import RunningJob
from tuner.stages.local_search import search_locally
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import stage_seeds
from tuner.stages.rung import Candidate
from tuner.store.database import writing
from tuner.store.runs import RunState, start_run

FOUND = Hyperparameters(
    depth=3, width=48, activation="tanh", loss="mse", dropout=0.2, learning_rate=4e-3, weight_decay=1e-4
)


def differences(space: SearchSpace, point: Hyperparameters) -> dict[int, dict[str, object]]:
    """What the neighbours of `point` have otherwise, by change."""
    return {change: apart(other, point) for change, other in changes(point, space).items()}


def apart(other: Hyperparameters | None, point: Hyperparameters) -> dict[str, object]:
    assert other is not None
    before = point.model_dump()
    return {name: value for name, value in other.model_dump().items() if value != before[name]}


MOVES = {"shift_pixels": 1, "rotate_degrees": 10, "zoom": 0.1}
NORMALISED = {"batch_norm": True, "loss": "cross_entropy"}
RELU = {"activation": "relu", **NORMALISED}


def test_a_neighbour_differs_by_one_change() -> None:
    """Or by some that go together: a high rate, batch normalisation and cross-entropy; relu and the latter two; these two; moved
    images. A wide net stays as wide as it is."""
    assert differences(SearchSpace(), FOUND) == {
        10: {"learning_rate": 0.01, **NORMALISED},
        7: RELU,
        6: NORMALISED,
        5: MOVES,
        8: {"width": 256},
        3: {"dropout": 0.1},
        1: {"shift_pixels": 1},
    }
    assert list(differences(SearchSpace(), FOUND)) == list(CHANGES)


def test_changes_are_made_together() -> None:
    """Each of them, on the point as it was: no two want the same hyperparameter otherwise."""
    together = apart(changed(FOUND, SearchSpace(), CHANGES), FOUND)
    for alone in differences(SearchSpace(), FOUND).values():
        assert alone.items() <= together.items()


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, {"optimizer": "adam", "learning_rate": 0.01, "momentum": None, **NORMALISED}),
        ({"optimizer": "momentum"}, {"learning_rate": 0.1, **NORMALISED}),
        ({"optimizer": {"choices": ["sgd", "momentum"]}}, {"learning_rate": 0.1, **NORMALISED}),
        (
            {"learning_rate": {"low": 1e-4, "high": 5e-3}},
            {"optimizer": "adam", "learning_rate": 5e-3, "momentum": None, **NORMALISED},
        ),
        ({"learning_rate": 2e-3}, {"optimizer": "adam", "momentum": None, **NORMALISED}),
        ({"batch_norm": False}, None),
    ],
)
def test_a_high_rate_is_its_optimizer_s(space: dict[str, object], expected: dict[str, object] | None) -> None:
    """Of the first one that the space has, as near as its range comes; and only where nets are normalised, which bear it."""
    found = FOUND.model_copy(update={"optimizer": "momentum", "momentum": 0.9, "learning_rate": 2e-3})
    assert differences(SearchSpace.model_validate(space), found).get(10) == expected


def test_the_default_with_what_mostly_helps_is_as_near_as_the_space_has_it() -> None:
    """With small batches, and the rate of its own where nets are not normalised."""
    point = usual(SearchSpace.model_validate({"width": {"low": 16, "high": 64}, "zoom": 0, "optimizer": "sgd"}))
    assert apart(point, Hyperparameters(weight_decay=1e-6)) == {
        "width": 64, "shift_pixels": 1, "rotate_degrees": 10, "optimizer": "sgd", "learning_rate": 0.5, "batch_size": 64,
        "batch_norm": True,
    }  # fmt: skip
    point = usual(SearchSpace.model_validate({"batch_norm": False, "batch_size": 128}))
    assert apart(point, Hyperparameters(weight_decay=1e-6)) == {"width": 256, **MOVES}
    assert usual(SearchSpace.model_validate({"width": {"choices": [16, 64]}})) is None


def test_the_runs_of_an_earlier_version_are_still_what_they_were() -> None:
    """A study of before there were turns, zooms and normalisation has none, and change 3 is what it was."""
    before = SearchSpace.model_validate({"rotate_degrees": 0, "zoom": 0, "batch_norm": False})
    found = differences(before, FOUND)
    assert found[3] == {"dropout": 0.1}
    assert found[5] == {"shift_pixels": 1}
    assert found[7] == {"activation": "relu", "loss": "cross_entropy"}
    assert 10 not in found


def test_a_neighbour_is_a_point_of_the_space() -> None:
    """What the user has fixed stays, and no range is left; a net that has it all has no neighbour."""
    best = FOUND.model_copy(update={**MOVES, **RELU, "width": 300, "learning_rate": 0.01, "dropout": 0.0})
    assert differences(SearchSpace(), best) == {}
    fixed = {
        "batch_norm": False,
        "activation": "tanh",
        "loss": "mse",
        "shift_pixels": 0,
        "dropout": 0.2,
        "depth": 3,
        "width": 48,
    }
    assert differences(SearchSpace.model_validate(fixed), FOUND) == {5: {"rotate_degrees": 10, "zoom": 0.1}}
    fixed |= {"rotate_degrees": 0, "zoom": 0}
    assert differences(SearchSpace.model_validate(fixed), FOUND) == {}
    maxout = FOUND.model_copy(update={"activation": "maxout", "maxout_pieces": 2})
    assert differences(SearchSpace(), maxout)[7] == {"batch_norm": True, "loss": "cross_entropy"}
    stepped = SearchSpace.model_validate({"dropout": {"low": 0.0, "high": 0.6, "step": 0.2}})
    assert 3 not in differences(stepped, FOUND)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("local_search")) as house:
        yield house


def ranked(*values: float, climbed: bool = True) -> list[Candidate]:
    """Of one layer, with dropout, as the house's space has them; their runs took 2 s in the rung."""
    points = [Hyperparameters(depth=1, width=16 + k, dropout=0.2, batch_size=32) for k in range(len(values))]
    return [
        Candidate(f"trial-{k}", p, value, 1.0, climbed) for k, (p, value) in enumerate(zip(points, values, strict=True))
    ]


def searched(job: RunningJob, candidates: list[Candidate]) -> list[Candidate]:
    assert job.promotion is not None
    return search_locally(job, job.promotion, candidates, Meter(job, 0), Ahead(0, 0))


def test_who_is_better_with_a_change_goes_on_with_it(house: House) -> None:
    """Of two that are to race one is beaten by the nets beside it, is then tried with all changes, and goes on as the best of
    these five, under its name; the other one is better than any, and stays. Nobody is trained beside the third, nor is what both
    would become trained twice."""
    job = house.post("both")
    third = ranked(0.0, 1.0, 0.0)[2]
    found = {candidate.name: candidate for candidate in searched(job, ranked(0.0, 1.0, 0.0))}
    first, second, last = (found[f"trial-{k}"] for k in (1, 0, 2))
    trained = {run.contender: run for run in house.trained(job, "local_search")}
    assert set(trained) == {*(f"trial-{k}.{n}" for k in (0, 1) for n in (10, 7, 3)), "trial-0.8", "trial-0.3+7+8+10"}
    assert (first.value, first.hyperparameters.dropout) == (1.0, 0.2)
    beside = [run for name, run in trained.items() if name.startswith("trial-0")]
    best = max(beside, key=lambda run: run.validation_accuracy or 0.0)
    assert second.value == best.validation_accuracy
    assert second.hyperparameters.dropout == best.hyperparameters.dropout
    assert second.hyperparameters.batch_norm == best.hyperparameters.batch_norm
    assert second.hyperparameters.width == best.hyperparameters.width
    together = trained["trial-0.3+7+8+10"].hyperparameters
    assert (together.dropout, together.batch_norm, together.width, together.learning_rate) == (0.1, True, 48, 0.01)
    assert last == third


def test_a_dear_net_gives_way_to_what_has_become_better(house: House) -> None:
    """By the values that the local search leaves, and to whoever stands behind those that were to race."""
    job = house.post("giving-way")
    small, wide, other = ranked(0.9, 0.9005, 0.8, climbed=False)
    wide = replace(wide, hyperparameters=wide.hyperparameters.model_copy(update={"width": 64}))
    assert searched(job, [wide, small, other]) == [small, other, wide]


def test_a_restart_trains_no_net_again(house: House) -> None:
    """The same comes of it, from the rows of what has ended."""
    job = house.post("again")
    found = searched(job, ranked(0.0, 0.0))
    before = house.trained(job, "local_search")
    assert all(run.state == RunState.COMPLETE for run in before)
    assert searched(job, ranked(0.0, 0.0)) == found
    assert house.trained(job, "local_search") == before


def test_a_restart_within_the_race_changes_nobody(house: House) -> None:
    """Who races goes on as what the local search has made of it, though by then nothing is left for a local search."""
    job = house.post("racing")
    found = searched(job, ranked(0.0, 0.0))
    assert found[0].hyperparameters != ranked(0.0, 0.0)[0].hyperparameters
    [seed] = stage_seeds(job.spec.seed, "promotion")
    with writing(house.engine) as connection:
        start_run(connection, job.lease, "promotion", found[0].name, seed, found[0].hyperparameters, 1)
    job.spec = job.spec.model_copy(update={"budget": job.spec.budget.model_copy(update={"timeout_seconds": 1e-3})})
    assert searched(job, ranked(0.0, 0.0)) == found


def test_who_races_stays_as_it_is(house: House) -> None:
    """Where the race of an earlier version has begun, its contenders are those of the rung."""
    job = house.post("upgraded")
    [seed] = stage_seeds(job.spec.seed, "promotion")
    with writing(house.engine) as connection:
        start_run(connection, job.lease, "promotion", "trial-0", seed, Hyperparameters(), 1)
    assert searched(job, ranked(0.0, 0.0)) == ranked(0.0, 0.0)
    assert house.trained(job, "local_search") == []


def test_a_time_limit_and_a_cost_take_as_many_as_fit(house: House) -> None:
    """A quarter of 40 s is time for two nets of 2 s, the same change for both, and for one beside each in which several things
    are changed; each has an equal part, so that a dear one leaves the other its own; after `max_cost` is spent there is none, nor
    is there beside one that has not climbed."""
    job = house.post("limited")
    budget = job.spec.budget.model_copy(update={"timeout_seconds": 40})
    job.spec = limited = job.spec.model_copy(update={"budget": budget})
    searched(job, ranked(0.0, 0.0))
    assert [run.contender for run in house.trained(job, "local_search")] == ["trial-0.10", "trial-1.10"]
    dear = house.post("dear")
    dear.spec = limited
    slow, quick = ranked(0.0, 0.0)
    searched(dear, [replace(slow, seconds=100.0), quick])
    assert [run.contender for run in house.trained(dear, "local_search")] == ["trial-1.10"]
    costly = house.post("costly", max_cost=0.001)
    assert searched(costly, ranked(0.5, 0.4)) == ranked(0.5, 0.4)
    below = house.post("below")
    assert searched(below, ranked(0.5, 0.4, climbed=False)) == ranked(0.5, 0.4, climbed=False)
    assert house.trained(costly, "local_search") == house.trained(below, "local_search") == []
