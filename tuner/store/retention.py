"""What is kept, and for how long: one round of housekeeping over the whole database and the models' folder.

Several runners may do it at once: what is deleted twice is deleted.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, func, select

from tuner.errors import Conflict
from tuner.settings import Settings
from tuner.store import audit, champions, model_space, purge, studies
from tuner.store.clock import rfc3339
from tuner.store.database import give_back_space, reading, writing
from tuner.store.jobs import UNFINISHED
from tuner.store.tables import deliveries, events, jobs, schedule_runs
from tuner.store.tables import studies as studies_table

logger = logging.getLogger(__name__)

EPOCHS_KEPT = timedelta(days=1)
"""An epoch's event repeats what stands in the curves; it is for whoever watches, and most of all events are epochs."""

ROWS_AT_ONCE = 5000


def keep_house(engine: Engine, settings: Settings, now: datetime) -> Iterator[None]:
    """Each step is one small transaction, or the removal of one folder: whoever takes the steps may pause between them and stop
    after any. Raises Unavailable where the database cannot be used."""
    events_before = now - timedelta(days=settings.keep_events_days)
    yield from _purge_studies(engine, settings, rfc3339(now - timedelta(days=settings.keep_deleted_days)))
    if settings.keep_studies_days is not None:
        yield from _delete_studies(engine, rfc3339(now - timedelta(days=settings.keep_studies_days)))
    yield from _forget_events(engine, now, events_before)
    yield from _forget_changes(engine, rfc3339(now - timedelta(days=settings.keep_audit_days)))
    yield from model_space.tidy(engine, settings.models_dir, now, events_before, settings.keep_models_gb)
    yield from give_back_space(engine)


def finish_purges(engine: Engine, settings: Settings) -> Iterator[None]:
    """Purge to their end the studies whose purge a user has begun; steps as those of `keep_house`."""
    with reading(engine) as connection:
        begun = purge.begun(connection)
    for study_id in begun:
        yield from purge.purge_study(engine, study_id, settings.models_dir)


def _delete_studies(engine: Engine, before: str) -> Iterator[None]:
    """Softly, as a user would, those whose last job has ended before; a schedule's champion keeps its study."""
    last = func.max(jobs.c.finished_at)
    unfinished = select(jobs.c.study_id).where(jobs.c.state.in_(UNFINISHED))
    of_study = select(jobs.c.study_id).where(jobs.c.study_id.not_in(unfinished)).group_by(jobs.c.study_id)
    there = select(studies_table.c.study_id).where(studies_table.c.deleted_at.is_(None))
    query = there.where(studies_table.c.study_id.in_(of_study.having(last < before)))
    with reading(engine) as connection:
        ids = connection.execute(query).scalars().all()
    for study_id in ids:
        with writing(engine) as connection:
            study = studies.find_study_by_id(connection, study_id)
            if study is not None and not champions.schedules_of(connection, study_id):
                studies.delete_study(connection, study)
                logger.info("study %r was deleted (TUNER_KEEP_STUDIES_DAYS); it can be restored", study.name)
        yield


def _purge_studies(engine: Engine, settings: Settings, before: str) -> Iterator[None]:
    with reading(engine) as connection:
        due = purge.to_be_purged(connection, before)
    for study_id in due:
        try:
            yield from purge.purge_study(engine, study_id, settings.models_dir)
        except Conflict as conflict:  # restored meanwhile, or a champion's
            logger.info("study %d is not purged: %s", study_id, conflict)


def _forget_events(engine: Engine, now: datetime, before: datetime) -> Iterator[None]:
    old, old_epoch = rfc3339(before), rfc3339(max(before, now - EPOCHS_KEPT))
    forgotten = and_(events.c.at < old_epoch, (events.c.at < old) | (events.c.kind == "epoch"))
    settled = and_(deliveries.c.next_attempt_at.is_(None), deliveries.c.created_at < old)
    yield from _delete_batches(engine, events, events.c.id, forgotten)
    yield from _delete_batches(engine, deliveries, deliveries.c.id, settled)
    yield from _delete_batches(engine, schedule_runs, schedule_runs.c.id, _past_runs(old))


def _past_runs(before: str) -> ColumnElement[bool]:
    """Runs of schedules that are over, but for each schedule's newest."""
    newest = select(func.max(schedule_runs.c.id)).group_by(schedule_runs.c.schedule_id)
    unfinished = select(jobs.c.id).where(jobs.c.state.in_(UNFINISHED))
    over = schedule_runs.c.job_id.is_(None) | schedule_runs.c.job_id.not_in(unfinished)
    return and_(schedule_runs.c.fire_time < before, over, schedule_runs.c.id.not_in(newest))


def _forget_changes(engine: Engine, before: str) -> Iterator[None]:
    with writing(engine) as connection:
        audit.forget_changes(connection, before)
    yield


def _delete_batches(
    engine: Engine, table: Table, key: ColumnElement[Any], which: ColumnElement[bool]
) -> Iterator[None]:
    some = select(key).where(which).limit(ROWS_AT_ONCE)
    deleted = ROWS_AT_ONCE
    while deleted == ROWS_AT_ONCE:
        with writing(engine) as connection:
            deleted = connection.execute(delete(table).where(key.in_(some.scalar_subquery()))).rowcount
        yield
