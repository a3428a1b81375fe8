"""The drills' own eyes: a record and an audit that could not see a fault would find none."""

from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, Engine, insert, select, text

from drills.audit import audit
from drills.finding import Finding, Kind
from drills.record import Record, open_read_only
from tuner.store import trials
from tuner.store.clock import now
from tuner.store.database import writing
from tuner.store.tables import attempts, events, jobs, schedule_runs, schedules, studies

TRIALS = 3


@pytest.fixture
def record(engine: Engine) -> Record:
    """Of a database with a study that has ended as it should, each of its trials seen finished."""
    with writing(engine) as connection:
        study_id = trials.create_study(connection, "s", [StudyDirection.MAXIMIZE])
        spec = {"budget": {"n_trials": TRIALS}}
        common = {"study_id": study_id, "created_at": now()}
        connection.execute(insert(studies).values(name="s", spec=spec, notes=[], **common))
        ended = {"kind": "search", "state": "succeeded", "stop_reason": "n_trials"}
        connection.execute(insert(jobs).values(id=1, **ended, **common))
        for number in range(TRIALS):
            _finished(connection, study_id, number)
    record = Record(open_read_only(engine.url.render_as_string(hide_password=False)))
    assert record.look()
    record.hear("s", [_told(number) for number in range(TRIALS)])
    return record


def _finished(connection: Connection, study_id: int, number: int) -> None:
    trial = create_trial(state=TrialState.COMPLETE, value=number / 4, user_attrs={"seed": number})
    trial.number = number
    trial_id = trials.start_trial(connection, study_id, trial)
    trials.add_reports(connection, [(trial_id, 1, number / 4)])
    assert trials.finish_trial(connection, trial_id, trial)
    _attempt(connection, trial_id, study_id)


def _attempt(connection: Connection, trial_id: int, study_id: int, outcome: str = "complete") -> None:
    times = {"started_at": now(), "ended_at": now()}
    row = {"trial_id": trial_id, "study_id": study_id, "job_id": 1, "fence": 1, "outcome": outcome, **times}
    connection.execute(insert(attempts).values(row))


def _told(number: int) -> dict[str, Any]:
    told = {"number": number, "state": "COMPLETE", "value": number / 4, "seed": number}
    return {**told, "params": {}, "datetime_complete": None}


def _findings(engine: Engine, record: Record) -> list[Finding]:
    with engine.connect() as connection:
        return [*record.findings(), *audit(connection, Path())]


def test_finds_nothing_where_all_is_well(engine: Engine, record: Record) -> None:
    """A trial that was interrupted, and was then finished by its second attempt, is no fault."""
    with writing(engine) as connection:
        [trial_id, study_id] = connection.execute(text("SELECT trial_id, study_id FROM trials WHERE number = 1")).one()
        _attempt(connection, trial_id, study_id, "runner_lost")
    assert len(record) == TRIALS
    assert _findings(engine, record) == []


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("lost", "UPDATE trials SET state = 'WAITING' WHERE number = 1"),
        ("lost", "UPDATE trial_values SET value = 0.26 WHERE value = 0.25"),
        ("lost", "UPDATE trial_intermediate_values SET intermediate_value = 0.26 WHERE intermediate_value = 0.25"),
        ("lost", "UPDATE trial_user_attributes SET value_json = '7' WHERE value_json = '1'"),
        ("twice", "UPDATE trials SET number = 0 WHERE number = 1"),
        ("running", "UPDATE trials SET state = 'RUNNING' WHERE number = 1"),
        ("running", "UPDATE tuner_attempts SET ended_at = NULL WHERE id = 1"),
        ("stuck", "UPDATE tuner_jobs SET state = 'running'"),
        ("stuck", "UPDATE tuner_jobs SET state = 'failed'"),
    ],
)
def test_finds_what_was_done_to_a_study(kind: Kind, fault: str, engine: Engine, record: Record) -> None:
    """A finished trial that is gone or changed, one that has another's number, one left RUNNING, a job short of its end."""
    with writing(engine) as connection:
        assert connection.execute(text(fault)).rowcount == 1
    assert kind in {finding.kind for finding in _findings(engine, record)}


def test_finds_a_trial_too_many(engine: Engine, record: Record) -> None:
    """The budget is a total."""
    with writing(engine) as connection:
        study_id = connection.execute(select(studies.c.study_id)).scalar_one()
        _finished(connection, study_id, TRIALS)
    assert [finding.kind for finding in _findings(engine, record)] == ["twice"]


def test_finds_a_trial_finished_by_two_attempts(engine: Engine, record: Record) -> None:
    with writing(engine) as connection:
        trial_id, study_id = connection.execute(text("SELECT trial_id, study_id FROM trials WHERE number = 1")).one()
        _attempt(connection, trial_id, study_id)
    assert [finding.kind for finding in _findings(engine, record)] == ["twice"]


def test_finds_an_epoch_written_twice(engine: Engine, record: Record) -> None:
    """One attempt logs an epoch once; so a second time is one too many."""
    with writing(engine) as connection:
        row = {"study_id": connection.execute(select(studies.c.study_id)).scalar_one(), "at": now(), "kind": "epoch"}
        connection.execute(insert(events), [{**row, "data": {"number": n, "epoch": 1}} for n in (0, 1, 1)])
    assert [finding.kind for finding in _findings(engine, record)] == ["twice"]


def test_finds_a_trial_that_the_api_told_of_and_that_is_not_there(engine: Engine, record: Record) -> None:
    record.hear("s", [_told(TRIALS)])
    assert [finding.kind for finding in _findings(engine, record)] == ["lost"]


def test_finds_what_a_schedule_fired_twice(engine: Engine, record: Record) -> None:
    """A due time that comes after a later one, and a job of two due times."""
    with writing(engine) as connection:
        row = {"id": 1, "name": "nightly", "spec": {}, "paused": False, "created_at": now()}
        connection.execute(insert(schedules).values(row))
        for fire_time in ("2026-01-01T02:00:00.000000Z", "2026-01-01T01:00:00.000000Z"):
            run = {"schedule_id": 1, "fire_time": fire_time, "outcome": "started", "job_id": 1}
            connection.execute(insert(schedule_runs).values(run))
    assert {finding.what for finding in _findings(engine, record)} == {
        "job 1 belongs to 2 runs of schedules",
        "nightly fired for 2026-01-01T01:00:00.000000Z after it had fired for 2026-01-01T02:00:00.000000Z",
    }
