"""Schedules, as rows. One that is paused waits for no time: its `next_fire_time` is null.

Whoever settles the time that a schedule waits for moves `next_fire_time` on, and only from the very time that was read
(`advance`): of several runners one succeeds. The unique key (schedule, fire time) of its runs stands behind it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.errors import Conflict, NotFound
from tuner.specs.schedule import ScheduleSpec
from tuner.store.clock import from_rfc3339, rfc3339
from tuner.store.tables import champions, schedule_runs, schedules


@dataclass(frozen=True)
class Schedule:
    id: int
    spec: ScheduleSpec
    next_fire_time: datetime | None
    created_at: str

    @property
    def name(self) -> str:
        return self.spec.name


def create_schedule(connection: Connection, spec: ScheduleSpec, time: datetime) -> None:
    """Due from `time` on. Raises Conflict where the name is taken."""
    values = {"name": spec.name, "created_at": rfc3339(time), **_values(spec, _first_after(spec, time))}
    try:
        connection.execute(insert(schedules).values(values))
    except IntegrityError as error:
        raise Conflict(f"a schedule's name must be free, but {spec.name!r} is taken") from error


def find_schedule(connection: Connection, name: str, lock: bool = False) -> Schedule:
    """With `lock`, nobody else changes or fires it before this transaction ends. Raises NotFound."""
    query = select(schedules).where(schedules.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"no schedule is named {name!r}")
    return _schedule(row)


def find_schedule_by_id(connection: Connection, schedule_id: int) -> Schedule | None:
    row = connection.execute(select(schedules).where(schedules.c.id == schedule_id)).one_or_none()
    return None if row is None else _schedule(row)


def list_schedules(connection: Connection, before: int | None, limit: int) -> list[Schedule]:
    """From the newest down, at most `limit`; `before` is an id."""
    query = select(schedules).order_by(schedules.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(schedules.c.id < before)
    return [_schedule(row) for row in connection.execute(query)]


def due_ids(connection: Connection, time: datetime) -> list[int]:
    """The schedules whose next fire time has come, the longest waiting first."""
    query = select(schedules.c.id).where(schedules.c.next_fire_time <= rfc3339(time))
    return list(connection.execute(query.order_by(schedules.c.next_fire_time, schedules.c.id)).scalars())


def ids_waiting_for(connection: Connection, beyond: datetime) -> list[int]:
    """The schedules that wait for a time after `beyond`."""
    query = select(schedules.c.id).where(schedules.c.next_fire_time > rfc3339(beyond))
    return list(connection.execute(query.order_by(schedules.c.id)).scalars())


def edit_schedule(connection: Connection, schedule: Schedule, spec: ScheduleSpec, time: datetime) -> None:
    """The schedule, which this transaction has locked, is `spec` from `time` on. If its times are the same, it waits on."""
    waits_on = schedule.spec.is_same(spec) and not spec.paused and schedule.next_fire_time is not None
    next_fire_time = schedule.next_fire_time if waits_on else _first_after(spec, time)
    values = _values(spec, next_fire_time)
    connection.execute(update(schedules).where(schedules.c.id == schedule.id).values(values))


def advance(connection: Connection, schedule: Schedule, to: datetime) -> bool:
    """Wait for `to` from now on; False where it does not wait for the same time any more as when it was read: another runner has
    settled that time, or a user has paused or edited the schedule."""
    assert schedule.next_fire_time is not None
    unchanged = (schedules.c.id == schedule.id, schedules.c.next_fire_time == rfc3339(schedule.next_fire_time))
    moved = update(schedules).where(*unchanged).values(next_fire_time=rfc3339(to))
    return connection.execute(moved).rowcount == 1


def delete_schedule(connection: Connection, schedule: Schedule) -> None:
    """With its history; the studies and jobs that it has started stay."""
    for table in (champions, schedule_runs):
        connection.execute(delete(table).where(table.c.schedule_id == schedule.id))
    connection.execute(delete(schedules).where(schedules.c.id == schedule.id))


def _first_after(spec: ScheduleSpec, time: datetime) -> datetime | None:
    return None if spec.paused else spec.first_after(time)


def _values(spec: ScheduleSpec, next_fire_time: datetime | None) -> dict[str, Any]:
    return {
        "spec": spec.said(),
        "paused": spec.paused,
        "next_fire_time": None if next_fire_time is None else rfc3339(next_fire_time),
    }


def _schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        id=row.id,
        spec=ScheduleSpec.model_validate(row.spec),
        next_fire_time=None if row.next_fire_time is None else from_rfc3339(row.next_fire_time),
        created_at=row.created_at,
    )
