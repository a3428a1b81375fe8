"""Trials that a user has declared void: kept in the study's history, and out of everything that is concluded from it.

To Optuna 5 a void trial is one that violates a constraint, `void`: its own `best_trial` passes it over. The dashboard knows the
list of Optuna 4 only, so that is kept beside it.
"""

import json
from typing import Any

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Table, delete, insert, select

from tuner.errors import Conflict
from tuner.store import events, revisions
from tuner.store.tables import attempts
from tuner.store.trials import CONSTRAINT, CONSTRAINT_LIST, SYSTEM_ATTRIBUTES, TRIALS, USER_ATTRIBUTES

_VOID = f"{CONSTRAINT}void"
_REASON = "void_reason"


def is_void(trial: FrozenTrial) -> bool:
    return bool(trial.system_attrs.get(_VOID, 0.0) > 0)


def void_reason(trial: FrozenTrial) -> str | None:
    return trial.user_attrs.get(_REASON) if is_void(trial) else None


def numbers(connection: Connection, study_id: int) -> set[int]:
    """Of the study's void trials."""
    query = select(TRIALS.c.number).join(SYSTEM_ATTRIBUTES, SYSTEM_ATTRIBUTES.c.trial_id == TRIALS.c.trial_id)
    return set(
        connection.execute(query.where(TRIALS.c.study_id == study_id, SYSTEM_ATTRIBUTES.c.key == _VOID)).scalars()
    )


def void_trial(connection: Connection, study_id: int, trial: FrozenTrial, reason: str | None) -> None:
    """The trial is void from now on, for the study's running job too; one that is void already stays as it is.

    Raises Conflict for a trial that has not ended.
    """
    revisions.lock(connection, study_id)
    if not trial.state.is_finished():
        raise Conflict(f"only a trial that has ended can be void, but trial {trial.number} is {trial.state.name}")
    if _VOID in _constraints(connection, trial._trial_id):
        return
    _set(connection, SYSTEM_ATTRIBUTES, trial._trial_id, _VOID, 1.0)
    if reason is not None:
        _set(connection, USER_ATTRIBUTES, trial._trial_id, _REASON, reason)
    _changed(connection, study_id, trial, "trial_voided", reason)


def restore_trial(connection: Connection, study_id: int, trial: FrozenTrial) -> None:
    """The trial counts again; one that is not void stays as it is."""
    revisions.lock(connection, study_id)
    if _VOID not in _constraints(connection, trial._trial_id):
        return
    _unset(connection, SYSTEM_ATTRIBUTES, trial._trial_id, _VOID)
    _unset(connection, USER_ATTRIBUTES, trial._trial_id, _REASON)
    _changed(connection, study_id, trial, "trial_restored", None)


def _changed(connection: Connection, study_id: int, trial: FrozenTrial, kind: events.Kind, reason: str | None) -> None:
    """What follows from it: Optuna 4's list, the study's revision, and a line in the log of the trial's job."""
    values = list(_constraints(connection, trial._trial_id).values())
    if values:
        _set(connection, SYSTEM_ATTRIBUTES, trial._trial_id, CONSTRAINT_LIST, values)
    else:
        _unset(connection, SYSTEM_ATTRIBUTES, trial._trial_id, CONSTRAINT_LIST)
    revisions.raise_revision(connection, study_id)
    newest = select(attempts.c.job_id).where(attempts.c.trial_id == trial._trial_id).order_by(attempts.c.id.desc())
    job_id = connection.execute(newest.limit(1)).scalar_one_or_none()
    told = {} if reason is None else {"reason": reason}
    events.record(connection, study_id, job_id, kind, number=trial.number, **told)


def _constraints(connection: Connection, trial_id: int) -> dict[str, float]:
    table = SYSTEM_ATTRIBUTES
    mine = (table.c.trial_id == trial_id) & table.c.key.startswith(CONSTRAINT, autoescape=True)
    rows = connection.execute(select(table.c.key, table.c.value_json).where(mine).order_by(table.c.key))
    return {key: json.loads(value) for key, value in rows}


def _set(connection: Connection, table: Table, trial_id: int, key: str, value: Any) -> None:
    _unset(connection, table, trial_id, key)
    connection.execute(insert(table).values(trial_id=trial_id, key=key, value_json=json.dumps(value)))


def _unset(connection: Connection, table: Table, trial_id: int, key: str) -> None:
    connection.execute(delete(table).where(table.c.trial_id == trial_id, table.c.key == key))
