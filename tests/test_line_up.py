"""Who may race under a time limit: the arithmetic of a job's end, on real jobs."""

from collections.abc import Iterator

import pytest

from tests.house import House, open_house
from tuner.specs.hyperparameters import Hyperparameters
from tuner.stages.job import RunningJob
from tuner.stages.line_up import line_up
from tuner.stages.retraining import stage_seeds
from tuner.stages.rung import Candidate
from tuner.store import runs
from tuner.store.database import writing
from tuner.store.runs import RunState, Stage

STUDENT = {"members": 3, "student": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("line_up")) as house:
        yield house


@pytest.fixture(scope="module")
def job(house: House) -> RunningJob:
    """Of a study with a student, on one worker: 400 × 2 images in the search, 3,000 × 2 in the race, 7.5 times as many."""
    return house.post("timed", ensemble=STUDENT)


def lined_up(
    job: RunningJob, limit: float | None, dear: float, cheap: float, exploded: int = 0, batch_size: int = 256
) -> list[str]:
    """Who gets a turn of two: `dear` takes 30 s in the race, `cheap` 11.25, the default 3; given are their values in the rung."""
    budget = job.spec.budget.model_copy(update={"timeout_seconds": limit})
    job.spec = job.spec.model_copy(update={"budget": budget})
    ranked = [
        Candidate("dear", Hyperparameters(batch_size=batch_size), dear, 4.0, climbed=True),
        Candidate("cheap", Hyperparameters(width=64, batch_size=batch_size), cheap, 1.5, climbed=True),
    ]
    promotion = job.promotion
    assert promotion is not None
    found = line_up(job, promotion, ranked, default_seconds=0.4)
    assert {candidate.name for candidate in found.order} == {"dear", "cheap"}
    return [candidate.name for candidate in found.order[: found.count + exploded]]


def begin(house: House, job: RunningJob, stage: Stage, name: str, state: RunState = RunState.RUNNING) -> None:
    """A run of the stage's first seed, as its row has it."""
    [seed] = stage_seeds(job.spec.seed, stage)
    with writing(house.engine) as connection:
        run_id = runs.start_run(connection, job.lease, stage, name, seed, Hyperparameters(), 1)
        if state != RunState.RUNNING:
            runs.end_run(connection, run_id, state)


@pytest.mark.parametrize("limit", [None, 3600])
def test_who_has_time_for_all_takes_all(job: RunningJob, limit: float | None) -> None:
    """Without a limit, and with a generous one, as many as `top_k` race, whatever their values."""
    assert lined_up(job, limit, 0.95, 0.90) == ["dear", "cheap"]


def test_who_takes_too_long_gives_way_to_who_is_as_good(job: RunningJob) -> None:
    """In 100 s there is time for race, two fresh nets of it and the default, and a student (1.9 nets) of the cheap one, 69 s,
    not of the dear one: 168 s. Of 200 images right 0.945 and 0.95 are hardly to be told apart."""
    assert lined_up(job, 100, 0.95, 0.945) == ["cheap"]
    assert lined_up(job, 172, 0.95, 0.945) == ["dear"]
    assert lined_up(job, 182, 0.95, 0.945) == ["dear", "cheap"]


def test_who_takes_too_long_keeps_nobody_else_out(job: RunningJob) -> None:
    """A cheap one, a dear one with which all would take too long, and another cheap one: the two cheap ones race."""
    promotion = job.promotion
    assert promotion is not None
    job.spec = job.spec.model_copy(update={"budget": job.spec.budget.model_copy(update={"timeout_seconds": 100})})
    seconds = {"first": 1.5, "dear": 4.0, "last": 1.4}
    points = [Hyperparameters(width=64 + k, batch_size=256) for k in range(3)]
    ranked = [Candidate(n, p, 0.95, s, climbed=True) for (n, s), p in zip(seconds.items(), points, strict=True)]
    found = line_up(job, promotion, ranked, default_seconds=0.4)
    assert [candidate.name for candidate in found.order[: found.count]] == ["first", "last"]


def test_what_comes_to_the_same_on_all_images_races_once(job: RunningJob) -> None:
    """Batches of 128 and of 256 are both 256 there, those of 64 are not."""
    promotion = job.promotion
    assert promotion is not None
    job.spec = job.spec.model_copy(update={"budget": job.spec.budget.model_copy(update={"timeout_seconds": None})})
    points = [Hyperparameters(width=64, batch_size=size) for size in (128, 256, 64)]
    ranked = [Candidate(f"of-{p.batch_size}", p, 0.95, 1.0, climbed=True) for p in points]
    found = line_up(job, promotion, ranked, default_seconds=0.4)
    assert [candidate.name for candidate in found.order] == ["of-128", "of-64"]


def test_batches_that_grow_take_less_time(job: RunningJob) -> None:
    """A batch of 128 is fitted to 256 on all images, whose nets take less: 144 s instead of 168 for the dear one."""
    assert lined_up(job, 150, 0.95, 0.945) == ["cheap"]
    assert lined_up(job, 150, 0.95, 0.945, batch_size=128) == ["dear"]


def test_who_is_clearly_better_races_whatever_else_there_is_no_time_for(job: RunningJob) -> None:
    """0.05 are more than two standard errors: then the student is left out, and after it the fresh net."""
    assert lined_up(job, 100, 0.95, 0.90) == ["dear", "cheap"]
    assert lined_up(job, 70, 0.95, 0.90) == ["dear"]
    assert lined_up(job, 40, 0.95, 0.90) == ["dear"]


def test_where_time_is_for_a_race_alone_it_is_one_that_ends(job: RunningJob) -> None:
    """In 20 s only the cheap one reaches its end; where nobody who is as good does, the best one tries."""
    assert lined_up(job, 20, 0.95, 0.945) == ["cheap"]
    assert lined_up(job, 20, 0.95, 0.90) == ["dear"]


def test_who_has_begun_stays_and_nobody_joins_a_race_that_is_over(house: House) -> None:
    """After a restart there is less time than there was: the dear one's net goes on, and once fresh nets are trained no other
    contender gets a turn, however much time is left. One that has exploded is replaced, and stays among them. Without a limit
    those come first, too, whom an earlier version had ranked otherwise."""
    job = house.post("restarted", ensemble=STUDENT)
    begin(house, job, "promotion", "cheap")
    assert lined_up(job, None, 0.95, 0.945) == ["cheap", "dear"]
    assert lined_up(job, 60, 0.95, 0.945) == ["cheap"]
    assert lined_up(job, 3600, 0.95, 0.945) == ["cheap", "dear"]
    begin(house, job, "verdict", "cheap")
    assert lined_up(job, 3600, 0.95, 0.945) == ["cheap"]
    exploded = house.post("exploded", ensemble=STUDENT)
    begin(house, exploded, "promotion", "dear", RunState.DIVERGED)
    assert lined_up(exploded, 100, 0.95, 0.945, exploded=1) == ["dear", "cheap"]
