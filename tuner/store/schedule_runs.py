"""What came of a schedule's due times: a run each, also where nothing was started."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, select

from tuner.store.clock import from_rfc3339, rfc3339
from tuner.store.jobs import UNFINISHED, Job
from tuner.store.tables import jobs, schedule_runs, schedules


class Outcome(StrEnum):
    STARTED = "started"
    SKIPPED = "skipped"
    MISSED = "missed"
    FAILED = "failed"


@dataclass(frozen=True)
class ScheduleRun:
    """What came of a due time. `started_at`, `job_id` and `study` are those of what was started, else None."""

    fire_time: datetime
    outcome: Outcome
    reason: str | None = None
    started_at: datetime | None = None
    job_id: int | None = None
    study_id: int | None = None
    study: str | None = None
    id: int = 0
    """0 until it is read from its row."""


def add_run(connection: Connection, schedule_id: int, run: ScheduleRun) -> None:
    values = {
        "schedule_id": schedule_id,
        "fire_time": rfc3339(run.fire_time),
        "outcome": run.outcome,
        "reason": run.reason,
        "started_at": None if run.started_at is None else rfc3339(run.started_at),
        "job_id": run.job_id,
        "study_id": run.study_id,
        "study": run.study,
    }
    connection.execute(insert(schedule_runs).values(values))


def list_runs(connection: Connection, schedule_id: int, before: int | None, limit: int) -> list[ScheduleRun]:
    """From the newest down, at most `limit`; `before` is an id."""
    query = select(schedule_runs).where(schedule_runs.c.schedule_id == schedule_id)
    if before is not None:
        query = query.where(schedule_runs.c.id < before)
    return [_run(row) for row in connection.execute(query.order_by(schedule_runs.c.id.desc()).limit(limit))]


def last_runs(connection: Connection, schedule_ids: Sequence[int]) -> dict[int, ScheduleRun]:
    """By schedule, for those that have run."""
    newest = select(func.max(schedule_runs.c.id)).where(schedule_runs.c.schedule_id == schedules.c.id).scalar_subquery()
    ids = select(newest).where(schedules.c.id.in_(schedule_ids))
    query = select(schedule_runs).where(schedule_runs.c.id.in_(ids))
    return {row.schedule_id: _run(row) for row in connection.execute(query)}


def schedule_of(connection: Connection, job_id: int) -> int | None:
    """The schedule that has started this job."""
    query = select(schedule_runs.c.schedule_id).where(schedule_runs.c.job_id == job_id)
    schedule_id: int | None = connection.execute(query).scalar_one_or_none()
    return schedule_id


def has_run(connection: Connection, schedule_id: int, fire_time: datetime) -> bool:
    query = select(schedule_runs.c.id).filter_by(schedule_id=schedule_id, fire_time=rfc3339(fire_time))
    return connection.execute(query).one_or_none() is not None


def free_second(connection: Connection, schedule_id: int, time: datetime) -> datetime:
    """The first full second, from that of `time` on, for which the schedule has no run."""
    second = time.replace(microsecond=0)
    later = schedule_runs.c.fire_time >= rfc3339(second)
    query = select(schedule_runs.c.fire_time).where(schedule_runs.c.schedule_id == schedule_id, later)
    taken = set(connection.execute(query).scalars())
    while rfc3339(second) in taken:
        second += timedelta(seconds=1)
    return second


def unfinished_jobs(connection: Connection, schedule_id: int) -> list[Job]:
    """The jobs that this schedule has started and that have not ended, the newest last."""
    # Asked from the few unfinished jobs, not from the many runs.
    started = exists().where(schedule_runs.c.job_id == jobs.c.id, schedule_runs.c.schedule_id == schedule_id)
    return list(connection.execute(select(jobs).where(jobs.c.state.in_(UNFINISHED), started).order_by(jobs.c.id)).all())


def _run(row: Row[Any]) -> ScheduleRun:
    return ScheduleRun(
        id=row.id,
        fire_time=from_rfc3339(row.fire_time),
        outcome=Outcome(row.outcome),
        reason=row.reason,
        started_at=None if row.started_at is None else from_rfc3339(row.started_at),
        job_id=row.job_id,
        study_id=row.study_id,
        study=row.study,
    )
