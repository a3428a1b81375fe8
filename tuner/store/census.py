"""What the database holds, counted for whoever watches the service; studies that were deleted count on until they are purged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection, Float, Table, case, cast, func, select

from tuner.store.jobs import JobState
from tuner.store.tables import attempts, jobs, runners
from tuner.store.trials import TRIALS, USER_ATTRIBUTES

SECONDS_BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Upper bounds of the buckets of trial seconds."""


@dataclass(frozen=True)
class Census:
    jobs: Mapping[str, int]
    """By state; every state is there."""
    trials: Mapping[str, int]
    attempts: Mapping[str, int]
    """Ended ones, by how they ended."""
    oldest_queued_seconds: float
    """The age of the job that has waited longest; 0 where none waits."""
    trial_seconds: tuple[int, ...]
    """How many trials took at most so long, by SECONDS_BOUNDS."""
    trial_seconds_sum: float
    trial_seconds_count: int
    last_beat: datetime | None
    """Of any runner."""


def take_census(connection: Connection, time: datetime) -> Census:
    queued = select(func.min(jobs.c.created_at)).where(jobs.c.state == JobState.QUEUED)
    oldest = connection.execute(queued).scalar_one()
    beat = connection.execute(select(func.max(runners.c.beat_at))).scalar_one()
    *within, total, count = _trial_seconds(connection)
    return Census(
        jobs={str(state): 0 for state in JobState} | _counted(connection, jobs, "state"),
        trials={state.name: 0 for state in TrialState} | _counted(connection, TRIALS, "state"),
        attempts=_counted(connection, attempts, "outcome"),
        oldest_queued_seconds=max(0.0, (time - _time(oldest)).total_seconds()) if oldest else 0.0,
        trial_seconds=tuple(int(number or 0) for number in within),
        trial_seconds_sum=float(total or 0.0),
        trial_seconds_count=int(count),
        last_beat=_time(beat) if beat else None,
    )


def _counted(connection: Connection, table: Table, column: str) -> dict[str, int]:
    key = table.c[column]
    rows = connection.execute(select(key, func.count()).where(key.is_not(None)).group_by(key))
    return {value.name if isinstance(value, TrialState) else str(value): count for value, count in rows}


def _trial_seconds(connection: Connection) -> Sequence[Any]:
    seconds = cast(USER_ATTRIBUTES.c.value_json, Float)
    within = [func.sum(case((seconds <= bound, 1), else_=0)) for bound in SECONDS_BOUNDS]
    # Also other programs may give their trials an attribute of this name: only what is a number can be cast.
    ours = select(attempts.c.trial_id).where(attempts.c.ended_at.is_not(None), attempts.c.client_id.is_(None))
    query = select(*within, func.sum(seconds), func.count()).where(
        USER_ATTRIBUTES.c.key == "seconds", USER_ATTRIBUTES.c.trial_id.in_(ours)
    )
    return connection.execute(query).one()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
