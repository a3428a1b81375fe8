"""What is trained beside the rung's best, and what becomes of it."""

from collections.abc import Iterator

import pytest

from tests.house import House, open_house
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import CHANGED, neighbours
from tuner.specs.search_space import SearchSpace
from tuner.stages.job import RunningJob
from tuner.stages.local_search import search_locally
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import stage_seeds
from tuner.stages.rung import Candidate
from tuner.store.database import writing
from tuner.store.runs import RunState, start_run

FOUND = Hyperparameters(depth=3, width=48, dropout=0.2, learning_rate=4e-3, shift_pixels=0, weight_decay=1e-4)


def differences(space: SearchSpace, point: Hyperparameters) -> list[dict[str, float]]:
    """What each neighbour of `point` has otherwise."""
    before = point.model_dump()
    found = [other.model_dump() for other in neighbours(point, space).values()]
    return [{name: value for name, value in other.items() if value != before[name]} for other in found]


def test_a_neighbour_differs_in_one_respect() -> None:
    """Shifts of one pixel, the same with turns and zooms, a layer less, half the dropout, half the rate."""
    moves = {"shift_pixels": 1, "rotate_degrees": 10, "zoom": 0.1}
    expected = [{"shift_pixels": 1}, moves, {"depth": 2}, {"dropout": 0.1}, {"learning_rate": 2e-3}]
    assert differences(SearchSpace(), FOUND) == expected
    assert list(neighbours(FOUND, SearchSpace())) == list(CHANGED)


def test_the_runs_of_an_earlier_version_are_still_what_they_were() -> None:
    """A study of before there were turns and zooms has neither, and the runs 1 to 4 of its local search differ as they did."""
    before = SearchSpace.model_validate({"rotate_degrees": 0, "zoom": 0})
    found = neighbours(FOUND, before)
    changed = ["shift_pixels", "depth", "dropout", "learning_rate"]
    assert [found[k].model_dump()[name] for k, name in enumerate(changed, 1)] == [1, 2, 0.1, 2e-3]
    assert len(found) == 4


def test_a_neighbour_is_a_point_of_the_space() -> None:
    """What the user has fixed stays, and no range is left; a net of one layer has no shallower one."""
    moved = FOUND.model_copy(update={"shift_pixels": 1, "rotate_degrees": 10.0, "zoom": 0.1})
    at_the_edge = moved.model_copy(update={"depth": 1, "dropout": 0.0, "learning_rate": 1.5e-4})
    assert differences(SearchSpace(), at_the_edge) == []
    fixed = {"shift_pixels": 0, "dropout": 0.2, "learning_rate": 4e-3, "depth": 3}
    assert differences(SearchSpace.model_validate(fixed), FOUND) == [{"rotate_degrees": 10, "zoom": 0.1}]
    fixed |= {"rotate_degrees": 0, "zoom": 0}
    assert differences(SearchSpace.model_validate(fixed), FOUND) == []
    unshifted = FOUND.model_copy(update={"shift_pixels": 1})
    assert differences(SearchSpace(), unshifted)[0] == {"rotate_degrees": 10, "zoom": 0.1}
    stepped = SearchSpace.model_validate({"dropout": {"low": 0.0, "high": 0.6, "step": 0.2}})
    assert {"dropout": 0.1} not in differences(stepped, FOUND)


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


def test_who_is_better_with_less_goes_on_with_it(house: House) -> None:
    """Of two that are to race one is beaten by a net beside it and goes on as that net, under its name; the other one is
    better than any, and stays. Nobody is trained beside the third."""
    job = house.post("both")
    third = ranked(0.0, 1.0, 0.0)[2]
    first, second, last = searched(job, ranked(0.0, 1.0, 0.0))
    trained = {run.contender: run for run in house.trained(job, "local_search")}
    assert set(trained) == {"trial-0.3", "trial-0.4", "trial-1.3", "trial-1.4"}
    assert (first.name, first.value, first.hyperparameters.dropout) == ("trial-1", 1.0, 0.2)
    best = max((trained["trial-0.3"], trained["trial-0.4"]), key=lambda run: run.validation_accuracy or 0.0)
    assert (second.name, second.value) == ("trial-0", best.validation_accuracy)
    assert second.hyperparameters.model_dump(include={"dropout", "learning_rate"}) == best.hyperparameters.model_dump(
        include={"dropout", "learning_rate"}
    )
    assert last == third


def test_a_restart_trains_no_net_again(house: House) -> None:
    """The same comes of it, from the rows of what has ended."""
    job = house.post("again")
    found = searched(job, ranked(0.0, 0.0))
    before = house.trained(job, "local_search")
    assert all(run.state == RunState.COMPLETE for run in before)
    assert searched(job, ranked(0.0, 0.0)) == found
    assert house.trained(job, "local_search") == before


def test_who_races_stays_as_it_is(house: House) -> None:
    """Where the race of an earlier version has begun, its contenders are those of the rung."""
    job = house.post("upgraded")
    [seed] = stage_seeds(job.spec.seed, "promotion")
    with writing(house.engine) as connection:
        start_run(connection, job.lease, "promotion", "trial-0", seed, Hyperparameters(), 1)
    assert searched(job, ranked(0.0, 0.0)) == ranked(0.0, 0.0)
    assert house.trained(job, "local_search") == []


def test_a_time_limit_and_a_cost_take_as_many_as_fit(house: House) -> None:
    """A quarter of 20 s is time for two nets of 2 s, the same change for both; after `max_cost` is spent there is none, nor is
    there beside one that has not climbed."""
    job = house.post("limited")
    spec = job.spec
    job.spec = spec.model_copy(update={"budget": spec.budget.model_copy(update={"timeout_seconds": 20})})
    searched(job, ranked(0.0, 0.0))
    assert [run.contender for run in house.trained(job, "local_search")] == ["trial-0.3", "trial-1.3"]
    costly = house.post("costly", max_cost=0.001)
    assert searched(costly, ranked(0.5, 0.4)) == ranked(0.5, 0.4)
    below = house.post("below")
    assert searched(below, ranked(0.5, 0.4, climbed=False)) == ranked(0.5, 0.4, climbed=False)
    assert house.trained(costly, "local_search") == house.trained(below, "local_search") == []
