"""Lists stay as quick with many rows as with few: their statements are counted, and the plans' indexes are used."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import optuna
from optuna.trial import TrialState
from sqlalchemy import Engine, event

from tests.conftest import connect
from tuner.settings import Settings
from tuner.specs.study import StudySpec
from tuner.stages.view import View
from tuner.store import jobs, model_registry, studies, study_pages, trials
from tuner.store.clock import now
from tuner.store.database import reading, writing
from tuner.store.jobs import JobState
from tuner.store.model_registry import Model, ModelMetrics

PATHS = [
    "/v1/jobs",
    "/v1/jobs?state=succeeded",
    "/v1/studies",
    "/v1/studies?state=succeeded",
    "/v1/studies?state=foreign",
    "/v1/studies/first",
    "/v1/studies/first/trials",
    "/v1/studies/first/best?stage=search",
    "/v1/models",
    "/v1/schedules",
]


@contextmanager
def counting() -> Iterator[list[str]]:
    """The SELECTs of this process, but for those by which the gate looks at its tokens once in a while."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        of_the_gate = "tuner_tokens" in statement or "tuner_sessions" in statement
        if statement.startswith("SELECT") and not of_the_gate:
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def finish_study(engine: Engine, name: str, values: list[float], state: JobState = JobState.SUCCEEDED) -> int:
    """Post a study, search it to these values, keep a model, end its job; answers the study's id."""
    spec = StudySpec.model_validate({"name": name, "sampler": {"kind": "random"}})
    with writing(engine) as connection:
        job_id = studies.create_study(connection, spec, [], len(values))
    lease = jobs.claim(engine, "runner", [])
    assert lease is not None
    assert lease.job_id == job_id
    with writing(engine) as connection:
        jobs.advance(connection, lease, lease.heartbeat + 1)
        add_trials(connection, spec, lease.study_id, values)
        add_model(connection, lease.study_id, job_id, spec)
        jobs.end_job(connection, lease, state)
    return lease.study_id


def add_trials(connection: Any, spec: StudySpec, study_id: int, values: list[float]) -> None:
    view = View(spec, trials.load_trials(connection, study_id), {})
    for value in values:
        asked = view.ask()
        assert asked is not None
        trial_id = trials.start_trial(connection, study_id, view.trial(asked.number))
        assert trials.finish_trial(connection, trial_id, view.tell(asked.number, TrialState.COMPLETE, value))


def add_model(connection: Any, study_id: int, job_id: int, spec: StudySpec) -> None:
    model = Model(
        id=os.urandom(8).hex(),
        study_id=study_id,
        job_id=job_id,
        study=spec.name,
        kind="single",
        contender="default",
        hyperparameters=spec.default(),
        parameters=7,
        metrics=ModelMetrics(validation_accuracy=0.9),
        sha256="",
        promoted=True,
        created_at=now(),
    )
    model_registry.add_model(connection, model)


def add_schedule(api: httpx.Client, name: str) -> None:
    body = {"name": name, "cron": "0 3 * * *", "study": {"name": f"{name}-{{date}}"}}
    assert api.post("/v1/schedules", json=body).status_code == 201


def test_a_list_asks_no_more_for_more_rows(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """Every list and every status asks the same number of statements for one row and for six."""

    def ask(api: httpx.Client) -> dict[str, int]:
        counts = {}
        for path in PATHS:
            with counting() as statements:
                answer = api.get(path)
            assert answer.status_code == 200, answer.text
            counts[path] = len(statements)
        return counts

    def grow(api: httpx.Client, name: str) -> None:
        finish_study(engine, name, [0.5, 0.6])
        optuna.create_study(study_name=f"foreign-{name}", storage=storage)
        add_schedule(api, name)

    storage = optuna.storages.RDBStorage(database_url)
    with connect(Settings(data_dir=tmp_path / "data", database_url=database_url, parallel=1)) as api:
        grow(api, "first")
        few = ask(api)
        for number in range(5):
            grow(api, f"more-{number}")
        with writing(engine) as connection:
            study = studies.find_study(connection, "first")
            assert study is not None
            assert isinstance(study.spec, StudySpec)
            add_trials(connection, study.spec, study.id, [0.7] * 5)
        assert ask(api) == few
        assert [len(api.get(path).json()["items"]) for path in ("/v1/jobs", "/v1/studies", "/v1/models")] == [6, 12, 6]
    storage.engine.dispose()


def test_studies_are_listed_by_the_state_of_the_job_they_are_at(engine: Engine) -> None:
    """That is the first unfinished one, else the newest; a study is in one list alone, and the lists page."""
    ended = finish_study(engine, "ended", [0.5])
    failed = finish_study(engine, "failed", [], JobState.FAILED)
    again = finish_study(engine, "again", [0.5])
    with writing(engine) as connection:
        first = jobs.create_job(connection, again, jobs.JobKind.SEARCH, 2)
        jobs.create_job(connection, again, jobs.JobKind.SEARCH, 3, after_job_id=first)
        retried = jobs.create_job(connection, failed, jobs.JobKind.SEARCH, 2)
        job = jobs.find_job(connection, retried)
        assert job is not None
        jobs.cancel(connection, job)
        foreign = trials.create_study(connection, "foreign", [optuna.study.StudyDirection.MINIMIZE])
    expected = {
        "succeeded": [ended],
        "failed": [],
        "cancelled": [failed],
        "queued": [again],
        "running": [],
        "paused": [],
    }
    with reading(engine) as connection:
        found = {s: [study.id for study in study_pages.page(connection, JobState(s), None, 10)] for s in expected}
        assert found == expected
        assert [study.id for study in study_pages.page(connection, "foreign", None, 10)] == [foreign]
        everything = study_pages.page(connection, None, None, 10)
        assert [study.id for study in everything] == [foreign, again, failed, ended]
        assert [study.state for study in everything] == [None, "queued", "cancelled", "succeeded"]
        assert [study.id for study in study_pages.page(connection, None, again, 1)] == [failed]
        assert study_pages.page(connection, JobState.SUCCEEDED, ended, 10) == []


def test_a_list_shows_the_best_value_in_the_studys_direction(engine: Engine) -> None:
    """The greatest value where it is maximized and the least where it is minimized, of COMPLETE trials; none without one."""
    up = finish_study(engine, "up", [0.5, 0.7, 0.6])
    none = finish_study(engine, "none", [])
    with writing(engine) as connection:
        down = trials.create_study(connection, "down", [optuna.study.StudyDirection.MINIMIZE])
        add_trials(connection, StudySpec(name="down"), down, [0.5, 0.4, float("inf")])
        endless = trials.create_study(connection, "endless", [optuna.study.StudyDirection.MAXIMIZE])
        add_trials(connection, StudySpec(name="endless"), endless, [float("inf")])
        best = {study.id: study.best for study in study_pages.page(connection, None, None, 10)}
        counts = {study.id: study.trials for study in study_pages.page(connection, None, None, 10)}
    assert best == {up: 0.7, none: None, down: 0.4, endless: trials.LARGEST}
    assert counts[up][TrialState.COMPLETE] == 3
    assert sum(counts[none].values()) == 0


def test_the_best_are_read_a_few_at_a_time(engine: Engine) -> None:
    """`best_first` is `best_trials`, whatever the size of its bites, and reads no further than it is asked to."""
    study_id = finish_study(engine, "a", [0.1, 0.5, 0.3, 0.5, 0.2])
    with reading(engine) as connection:
        whole = [trial.number for trial in trials.best_trials(connection, study_id, False, None)]
        assert whole == [1, 3, 2, 4, 0]
        for chunk in (1, 2, 5, 10):
            assert [trial.number for trial in trials.best_first(connection, study_id, False, chunk)] == whole
        with counting() as statements:
            next(trials.best_first(connection, study_id, False, 2))
        assert len(statements) == 6
