"""What happened to a study, in order: written in the transaction of the change itself, so an event is there if and only if its
change is. A job's events are its log.

    job             its state has changed: state, attempt, reason
    stage           a stage has begun: stage
    trial_started   number, attempt
    epoch           number or run, epoch, value
    trial_finished  number, state, value, reason
    trial_enqueued  number
    trial_voided    number, reason
    trial_restored  number: it counts again
    run_finished    contender, seed, stage, state, validation_accuracy
    champion        verdict, model, reason
    warning         message
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select

from tuner.store.clock import now
from tuner.store.tables import events

Kind = Literal[
    "job",
    "stage",
    "trial_started",
    "epoch",
    "trial_finished",
    "trial_enqueued",
    "trial_voided",
    "trial_restored",
    "run_finished",
    "champion",
    "warning",
]


@dataclass(frozen=True)
class Event:
    id: int
    job_id: int | None
    at: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """An event that is still to be written."""

    kind: Kind
    data: dict[str, Any]


_INSERT = insert(events)


def record(connection: Connection, study_id: int, job_id: int | None, kind: Kind, **data: Any) -> None:
    record_all(connection, study_id, job_id, [Entry(kind, data)])


def record_all(connection: Connection, study_id: int, job_id: int | None, entries: Sequence[Entry]) -> None:
    """In their order."""
    at = now()
    rows = [{"study_id": study_id, "job_id": job_id, "at": at, "kind": e.kind, "data": e.data} for e in entries]
    if rows:
        connection.execute(_INSERT, rows)


def newest(connection: Connection, study_id: int) -> int:
    """The id of the study's last event; 0 where it has none."""
    return int(connection.execute(select(func.max(events.c.id)).where(events.c.study_id == study_id)).scalar_one() or 0)


def of_study(connection: Connection, study_id: int, after: int, limit: int) -> list[Event]:
    """Events of the study after the one with the id `after`, the oldest first."""
    query = select(events).where(events.c.study_id == study_id, events.c.id > after)
    return [_event(row) for row in connection.execute(query.order_by(events.c.id).limit(limit))]


def of_job(
    connection: Connection, job_id: int, after: int, limit: int, kinds: Sequence[Kind] | None = None
) -> list[Event]:
    """As `of_study`; only events of the given kinds, where some are given."""
    query = select(events).where(events.c.job_id == job_id, events.c.id > after)
    if kinds is not None:
        query = query.where(events.c.kind.in_(kinds))
    return [_event(row) for row in connection.execute(query.order_by(events.c.id).limit(limit))]


def _event(row: Any) -> Event:
    return Event(id=row.id, job_id=row.job_id, at=row.at, kind=row.kind, data=row.data)
