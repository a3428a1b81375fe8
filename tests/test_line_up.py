"""Who may race under a time limit: the arithmetic of a job's end, on real jobs."""

from collections.abc import Iterator

import pytest

from tests.house import House, open_house
from tuner.specs.hyperparameters import Hyperparameters
from tuner.stages.job import RunningJob
from tuner.stages.line_up import line_up
from tuner.stages.rung import Candidate

STUDENT = {"members": 3, "student": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("line_up")) as house:
        yield house


@pytest.fixture(scope="module")
def job(house: House) -> RunningJob:
    """Of a study with a student, on one worker: 400 × 2 images in the search, 3,000 × 2 in the race: 7.5 times as many."""
    return house.post("timed", ensemble=STUDENT)


def lined_up(
    job: RunningJob, limit: float | None, dear: float, cheap: float, begun: set[str] | None = None
) -> list[str]:
    """Who gets a turn of two: `dear` takes 30 s in the race, `cheap` 11.25; both are given by what they had in the rung."""
    budget = job.spec.budget.model_copy(update={"timeout_seconds": limit})
    job.spec = job.spec.model_copy(update={"budget": budget})
    ranked = [
        Candidate("dear", Hyperparameters(), dear, 4.0),
        Candidate("cheap", Hyperparameters(width=64), cheap, 1.5),
    ]
    promotion = job.promotion
    assert promotion is not None
    line, count = line_up(job, promotion, ranked, begun or set())
    assert {candidate.name for candidate in line} == {"dear", "cheap"}
    return [candidate.name for candidate in line[:count]]


def test_without_a_limit_all_wanted_race(job: RunningJob) -> None:
    """The rung's order, as many as `top_k`."""
    assert lined_up(job, None, 0.95, 0.90) == ["dear", "cheap"]


def test_who_takes_too_long_gives_way_to_who_is_as_good(job: RunningJob) -> None:
    """In 100 s there is time for the race, two fresh nets and a student (1.6 nets) of the cheap one, 52 s, and not of the dear
    one, 138 s; of 200 images right 0.945 and 0.95 are hardly to be told apart."""
    assert lined_up(job, 100, 0.95, 0.945) == ["cheap"]
    assert lined_up(job, 140, 0.95, 0.945) == ["dear"]
    assert lined_up(job, 150, 0.95, 0.945) == ["dear", "cheap"]


def test_who_is_clearly_better_races_whatever_else_there_is_no_time_for(job: RunningJob) -> None:
    """0.05 are more than two standard errors: then the student is what is left out; who takes all of the time races alone."""
    assert lined_up(job, 100, 0.95, 0.90) == ["dear"]
    assert lined_up(job, 20, 0.95, 0.90) == ["dear"]


def test_whose_net_has_begun_has_a_turn(job: RunningJob) -> None:
    """After a restart there is less time left than there was; what was decided stands."""
    assert lined_up(job, 100, 0.95, 0.945, begun={"dear"}) == ["dear"]
    assert lined_up(job, 100, 0.95, 0.945, begun={"dear", "cheap"}) == ["cheap", "dear"]
