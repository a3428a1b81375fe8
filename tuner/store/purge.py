"""Purging: every row of a deleted study goes, from Optuna's tables and from ours, and its files with them.

A purge is many small transactions, so that nobody waits long for the write lock, and after an interruption it goes on where it
was. The first one takes the study's name: what has none cannot be restored, and is purged to its end by the next housekeeping.

Two things stay. The ledger of the sealed test sets counts an opening for ever; its row only forgets the study's id. And SQLite
gives the highest id of a table, once it is deleted, to the next row: a process with a warm cache, like the dashboard, would then
show the one study for the other. So on SQLite the rows that hold the highest ids of studies and of trials stay, emptied and
hidden, until newer ones are there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages._rdb import models as optuna_models
from optuna.trial import TrialState
from sqlalchemy import Column, Connection, Engine, String, Table, cast, delete, exists, func, literal, select, update

from tuner.errors import Conflict
from tuner.store import champions
from tuner.store.checkpoints import remove_checkpoint
from tuner.store.database import reading, writing
from tuner.store.model_files import remove_weights
from tuner.store.studies import DELETED_PREFIX
from tuner.store.tables import (
    attempts,
    curves,
    events,
    jobs,
    metadata,
    models,
    runs,
    schedule_runs,
    studies,
    test_ledger,
)
from tuner.store.trials import DIRECTIONS, STUDIES, TRIALS

TRIALS_AT_ONCE = 500
"""Of a transaction; with their parameters, reports and curves some ten thousand rows."""

ROWS_AT_ONCE = 5000

_THEIRS = optuna_models.BaseModel.metadata.sorted_tables
_OF_A_TRIAL = [table for table in _THEIRS if "trial_id" in table.c and table is not TRIALS]
_OF_A_STUDY = [table for table in _THEIRS if "study_id" in table.c and table not in (TRIALS, STUDIES, DIRECTIONS)]
_OURS = [table for table in reversed(metadata.sorted_tables) if "study_id" in table.c]
_OUTLIVING = (test_ledger, schedule_runs)
"""Their rows forget the study: the ledger counts for ever, and a schedule's history says what became of each due time."""

_IS_NAMELESS = studies.c.name == literal(DELETED_PREFIX) + cast(studies.c.study_id, String)


def purge_study(engine: Engine, study_id: int, models_dir: Path) -> Iterator[None]:
    """Each step is one transaction; after the last one nothing is left of the study but what this module's text names.

    Raises Conflict where the study is not deleted, or one of its models is a schedule's champion.
    """
    with writing(engine) as connection:
        theirs = begin_purge(connection, study_id)
    yield
    after: int | None = -1
    while theirs and after is not None:
        with writing(engine) as connection:
            after = _delete_trials(connection, study_id, after)
        yield
    while _delete_some(engine, events, events.c.id, study_id):
        yield
    _remove_files(engine, study_id, models_dir)
    with writing(engine) as connection:
        _delete_the_rest(connection, study_id, theirs)
    yield


def begin_purge(connection: Connection, study_id: int) -> bool:
    """Take the study's name. Answers whether Optuna's row of this id is this study's: another program may have deleted that, and
    the id gone to another study.

    Raises Conflict as `purge_study` does.
    """
    query = select(studies.c.name, studies.c.deleted_at).where(studies.c.study_id == study_id)
    ours = connection.execute(query.with_for_update()).one_or_none()  # nobody restores it meanwhile
    if ours is None or ours.deleted_at is None:
        raise Conflict(f"only a deleted study can be purged, but study {study_id} is not deleted")
    schedules = champions.schedules_of(connection, study_id)
    if schedules:
        raise Conflict(f"a schedule's champion cannot be purged, but one is that of {', '.join(schedules)}")
    same = (STUDIES.c.study_id == study_id) & (STUDIES.c.study_name == ours.name)
    theirs = connection.execute(update(STUDIES).where(same).values(study_name=_nameless(study_id))).rowcount == 1
    emptied = {"name": _nameless(study_id), "spec": {}, "notes": []}
    connection.execute(update(studies).where(studies.c.study_id == study_id).values(emptied))
    return theirs


def to_be_purged(connection: Connection, deleted_before: str) -> list[int]:
    """The ids of the studies that were deleted before, and of those whose purge has begun; stubs among them."""
    query = select(studies.c.study_id).where((studies.c.deleted_at < deleted_before) | _IS_NAMELESS)
    return list(connection.execute(query).scalars())


def begun(connection: Connection) -> list[int]:
    """The ids of the studies whose purge has begun and not come to its end; stubs have, until newer ids are there."""
    query = select(studies.c.study_id).where(_IS_NAMELESS, exists().where(jobs.c.study_id == studies.c.study_id))
    return list(connection.execute(query).scalars())


def _nameless(study_id: int) -> str:
    return f"{DELETED_PREFIX}{study_id}"


def _delete_trials(connection: Connection, study_id: int, after: int) -> int | None:
    """Delete trials with ids above `after`; answers the last one's id, None where there were none."""
    query = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id, TRIALS.c.trial_id > after)
    ids = list(connection.execute(query.order_by(TRIALS.c.trial_id).limit(TRIALS_AT_ONCE)).scalars())
    if not ids:
        return None
    for table in (*_OF_A_TRIAL, attempts):
        connection.execute(delete(table).where(table.c.trial_id.in_(ids)))
    connection.execute(delete(curves).where(curves.c.subject == "trial", curves.c.subject_id.in_(ids)))
    kept = _reusable(connection, TRIALS.c.trial_id)
    connection.execute(delete(TRIALS).where(TRIALS.c.trial_id.in_(ids), TRIALS.c.trial_id != kept))
    # The one that stays has no value any more, which only a FAIL may lack.
    connection.execute(update(TRIALS).where(TRIALS.c.trial_id.in_(ids)).values(state=TrialState.FAIL))
    return int(ids[-1])


def _reusable(connection: Connection, column: Column[Any]) -> int:
    """The id that the next row would get if this one were deleted now; -1 where ids are never used again."""
    if connection.dialect.name != "sqlite":
        return -1
    return int(connection.execute(select(func.max(column))).scalar_one() or -1)


def _delete_some(engine: Engine, table: Table, key: Column[Any], study_id: int) -> int:
    some = select(key).where(table.c.study_id == study_id).limit(ROWS_AT_ONCE)
    with writing(engine) as connection:
        return connection.execute(delete(table).where(key.in_(some.scalar_subquery()))).rowcount


def _remove_files(engine: Engine, study_id: int, models_dir: Path) -> None:
    """Before the rows that name them: a purge that is interrupted in between finds them again."""
    with reading(engine) as connection:
        model_ids = connection.execute(select(models.c.id).filter_by(study_id=study_id)).scalars().all()
        run_ids = connection.execute(select(runs.c.id).filter_by(study_id=study_id)).scalars().all()
        job_ids = connection.execute(select(jobs.c.id).filter_by(study_id=study_id)).scalars().all()
    for folder in (*model_ids, *(f"run-{run_id}" for run_id in run_ids), *(f"teacher-{job_id}" for job_id in job_ids)):
        remove_weights(models_dir / folder)
    for run_id in run_ids:
        remove_checkpoint(models_dir, run_id)


def _delete_the_rest(connection: Connection, study_id: int, theirs: bool) -> None:
    run_ids = select(runs.c.id).filter_by(study_id=study_id)
    connection.execute(delete(curves).where(curves.c.subject == "run", curves.c.subject_id.in_(run_ids)))
    for table in _OURS:
        of_study = table.c.study_id == study_id
        if table in _OUTLIVING:
            ids = {name: None for name in ("study_id", "job_id") if name in table.c}
            connection.execute(update(table).where(of_study).values(ids))
        elif table is not studies:
            connection.execute(delete(table).where(of_study))
    if not (theirs and _leave_stub(connection, study_id)):
        connection.execute(delete(studies).where(studies.c.study_id == study_id))


def _leave_stub(connection: Connection, study_id: int) -> bool:
    """Delete Optuna's rows of the study; whether its id, or that of a trial, had to stay."""
    for table in _OF_A_STUDY:
        connection.execute(delete(table).where(table.c.study_id == study_id))
    trials_left = connection.execute(select(func.count()).where(TRIALS.c.study_id == study_id)).scalar_one()
    if trials_left or _reusable(connection, STUDIES.c.study_id) == study_id:
        return True
    for table in (DIRECTIONS, STUDIES):
        connection.execute(delete(table).where(table.c.study_id == study_id))
    return False
