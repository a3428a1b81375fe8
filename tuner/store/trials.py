"""Optuna's trial tables, written and read by plain SQL.

What stock Optuna reads back equals what stock Optuna would have written; only the number of transactions differs. The tables
are Optuna's own mapped ones, so their names, types and enums cannot drift from the installed version's.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models as optuna_models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Float,
    Insert,
    Row,
    Select,
    Table,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from tuner.store.clock import from_optuna, optuna_now

STUDIES: Table = optuna_models.StudyModel.__table__
DIRECTIONS: Table = optuna_models.StudyDirectionModel.__table__
STUDY_SYSTEM_ATTRIBUTES: Table = optuna_models.StudySystemAttributeModel.__table__
TRIALS: Table = optuna_models.TrialModel.__table__
PARAMS: Table = optuna_models.TrialParamModel.__table__
VALUES: Table = optuna_models.TrialValueModel.__table__
REPORTS: Table = optuna_models.TrialIntermediateValueModel.__table__
USER_ATTRIBUTES: Table = optuna_models.TrialUserAttributeModel.__table__
SYSTEM_ATTRIBUTES: Table = optuna_models.TrialSystemAttributeModel.__table__

_stored_value: Callable[[float], tuple[float | None, Any]] = optuna_models.TrialValueModel.value_to_stored_repr
_value: Callable[[float | None, Any], float] = optuna_models.TrialValueModel.stored_repr_to_value
_stored_report: Callable[[float], tuple[float | None, Any]] = (
    optuna_models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
)
_report: Callable[[float | None, Any], float] = (
    optuna_models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
)
LARGEST = sys.float_info.max

CONSTRAINT = "constraints:"
"""Begins the system attributes of Optuna 5 for a trial's constraints; a value above 0 violates one."""

CONSTRAINT_LIST = "constraints"
"""The system attribute of Optuna 4, which the dashboard reads: the values of all constraints."""

_distribution: Callable[[str], BaseDistribution] = lru_cache(maxsize=4096)(json_to_distribution)

# What every trial needs is put together once: to build a statement and its cache key takes SQLAlchemy ten times as long as to
# execute it with other parameters.
_IN_STATE = update(TRIALS).where(TRIALS.c.trial_id == bindparam("trial"), TRIALS.c.state == bindparam("state_before"))


def create_study(connection: Connection, name: str, directions: Sequence[StudyDirection], above: int = 0) -> int:
    """The new study's id, more than `above`. Raises IntegrityError where the name is taken."""
    values: dict[str, Any] = {"study_name": name}
    newest = connection.execute(select(func.max(STUDIES.c.study_id))).scalar_one() or 0
    if connection.dialect.name == "sqlite" and newest < above:  # it would give the id of a deleted study again
        values["study_id"] = above + 1
    study_id: int = connection.execute(insert(STUDIES).values(values)).inserted_primary_key[0]  # type: ignore[index]
    rows = [{"study_id": study_id, "direction": d, "objective": i} for i, d in enumerate(directions)]
    connection.execute(insert(DIRECTIONS), rows)
    return study_id


def start_trial(
    connection: Connection, study_id: int, trial: FrozenTrial, state: TrialState = TrialState.RUNNING
) -> int:
    """Write `trial` as RUNNING or WAITING, with its number, parameters and attributes; answers its id."""
    started = optuna_now() if state is TrialState.RUNNING else None
    values = {"study_id": study_id, "number": trial.number, "state": state, "datetime_start": started}
    trial_id: int = connection.execute(_into(TRIALS), values).inserted_primary_key[0]  # type: ignore[index]
    _insert(connection, PARAMS, _param_rows(trial_id, trial))
    _insert(connection, USER_ATTRIBUTES, _attribute_rows(trial_id, trial.user_attrs))
    _insert(connection, SYSTEM_ATTRIBUTES, _attribute_rows(trial_id, trial.system_attrs))
    return trial_id


def enqueue_trial(connection: Connection, study_id: int, number: int, params: Mapping[str, Any]) -> None:
    """Write a WAITING trial whose parameters are to be `params`, as Optuna's `Study.enqueue_trial` does."""
    values = {"study_id": study_id, "number": number, "state": TrialState.WAITING}
    trial_id: int = connection.execute(insert(TRIALS).values(values)).inserted_primary_key[0]  # type: ignore[index]
    _insert(connection, SYSTEM_ATTRIBUTES, _attribute_rows(trial_id, {"fixed_params": dict(params)}))


def resume_trial(connection: Connection, trial_id: int, trial: FrozenTrial) -> bool:
    """Set a WAITING trial RUNNING, with what it has gained since; False where it is not WAITING any more."""
    if not _leave(connection, trial_id, TrialState.WAITING, state=TrialState.RUNNING, datetime_start=optuna_now()):
        return False
    connection.execute(_all_of(PARAMS), {"trial": trial_id})
    _insert(connection, PARAMS, _param_rows(trial_id, trial))
    _replace_attributes(connection, trial_id, trial)
    return True


def add_reports(connection: Connection, reports: Iterable[tuple[int, int, float]]) -> None:
    """Write intermediate values: (trial id, step, value)."""
    rows = []
    for trial_id, step, value in reports:
        stored, kind = _stored_report(value)
        row = {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        rows.append(row)
    _insert(connection, REPORTS, rows)


def finish_trial(connection: Connection, trial_id: int, trial: FrozenTrial, written: FrozenTrial | None = None) -> bool:
    """Write a RUNNING trial's end: state, values, and what of its attributes has changed since it was `written` (None: all);
    False where it is not RUNNING any more."""
    if not _leave(connection, trial_id, TrialState.RUNNING, state=trial.state, datetime_complete=optuna_now()):
        return False
    rows = []
    for objective, value in enumerate(trial.values or ()):
        stored, kind = _stored_value(value)
        rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    _insert(connection, VALUES, rows)
    _replace_attributes(connection, trial_id, trial, written)
    return True


def release_trials(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Set interrupted RUNNING trials WAITING under their numbers, with their parameters and without their reports."""
    connection.execute(delete(REPORTS).where(REPORTS.c.trial_id.in_(trial_ids)))
    running = TRIALS.c.trial_id.in_(trial_ids) & (TRIALS.c.state == TrialState.RUNNING)
    connection.execute(update(TRIALS).where(running).values(state=TrialState.WAITING, datetime_start=None))


def fail_trials(connection: Connection, trial_ids: Sequence[int], reason: str) -> None:
    """End RUNNING and WAITING trials as FAIL with the user attribute `reason`."""
    unfinished = TRIALS.c.trial_id.in_(trial_ids) & TRIALS.c.state.in_([TrialState.RUNNING, TrialState.WAITING])
    values = {"state": TrialState.FAIL, "datetime_complete": optuna_now()}
    connection.execute(update(TRIALS).where(unfinished).values(values))
    rows = [row for trial_id in trial_ids for row in _attribute_rows(trial_id, {"reason": reason})]
    _insert(connection, USER_ATTRIBUTES, rows)


def fail_waiting(connection: Connection, trial_ids: Sequence[int], reason: str) -> None:
    """`fail_trials`, of those that still wait."""
    waiting = select(TRIALS.c.trial_id).where(TRIALS.c.trial_id.in_(trial_ids), TRIALS.c.state == TrialState.WAITING)
    fail_trials(connection, list(connection.execute(waiting).scalars()), reason)


def study_system_attributes(connection: Connection, study_id: int) -> dict[str, Any]:
    table = STUDY_SYSTEM_ATTRIBUTES
    rows = connection.execute(select(table.c.key, table.c.value_json).where(table.c.study_id == study_id))
    return {key: json.loads(value) for key, value in rows}


def name_objectives(connection: Connection, study_id: int, names: Sequence[str]) -> None:
    """As Optuna's `Study.set_metric_names`."""
    write_study_system_attributes(connection, study_id, {"study:metric_names": list(names)})


def write_study_system_attributes(connection: Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    """What some samplers keep on the study (quasi-random sequences their position)."""
    table = STUDY_SYSTEM_ATTRIBUTES
    connection.execute(delete(table).where(table.c.study_id == study_id, table.c.key.in_(list(attributes))))
    rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    _insert(connection, table, rows)


def count_states(connection: Connection, study_ids: Sequence[int]) -> dict[int, dict[TrialState, int]]:
    """Trials by study and state."""
    rows = connection.execute(_state_counts(), {"studies": list(study_ids)}).all()
    found = {row[0]: dict(zip(TrialState, row[1:], strict=True)) for row in rows}
    return {study_id: found.get(study_id, {}) for study_id in study_ids}


@lru_cache
def _state_counts() -> Select[Any]:
    """Of the studies `studies`. One row a study: grouped by state, too, SQLite would sort all trials first."""
    counts = [func.count().filter(TRIALS.c.state == state) for state in TrialState]
    wanted = TRIALS.c.study_id.in_(bindparam("studies", expanding=True))
    return select(TRIALS.c.study_id, *counts).where(wanted).group_by(TRIALS.c.study_id)


def load_trials(connection: Connection, study_id: int) -> list[FrozenTrial]:
    """All trials of a study in the order of their numbers, as `optuna.Study.get_trials` would answer them."""
    return frozen(connection, connection.execute(_trial_rows(study_id).order_by(TRIALS.c.number)).all())


def load_trial(connection: Connection, study_id: int, number: int) -> FrozenTrial | None:
    rows = connection.execute(_trial_rows(study_id).where(TRIALS.c.number == number)).all()
    return frozen(connection, rows)[0] if rows else None


def load_changed(connection: Connection, study_id: int, numbers: Sequence[int], since: int) -> list[FrozenTrial]:
    """The trials with these numbers, and all from the number `since` on, in the order of their numbers."""
    wanted = TRIALS.c.number.in_(numbers) | (TRIALS.c.number >= since)
    return frozen(connection, connection.execute(_trial_rows(study_id).where(wanted).order_by(TRIALS.c.number)).all())


def best_trials(
    connection: Connection, study_id: int, minimize: bool, limit: int | None, offset: int = 0
) -> list[FrozenTrial]:
    """COMPLETE trials from the best value down; of equal values the earlier trial first."""
    ordered = _best_rows(minimize).limit(limit).offset(offset)
    return frozen(connection, connection.execute(ordered, {"study": study_id}).all())


@lru_cache
def _best_rows(minimize: bool) -> Select[Any]:
    """Of the study `study`."""
    query = _complete(select(TRIALS)).where(TRIALS.c.study_id == bindparam("study"))
    return query.order_by(sortable_value().asc() if minimize else sortable_value().desc(), TRIALS.c.number)


def best_first(connection: Connection, study_id: int, minimize: bool, chunk: int = 50) -> Iterator[FrozenTrial]:
    """As `best_trials`, for who stops early: `chunk` trials are read first, and then four times as many each time."""
    offset = 0
    while True:
        found = best_trials(connection, study_id, minimize, chunk, offset)
        yield from found
        if len(found) < chunk:
            return
        offset, chunk = offset + chunk, 4 * chunk


def extreme_values(connection: Connection, study_ids: Sequence[int]) -> dict[int, tuple[float, float]]:
    """The least and the greatest value of each study's COMPLETE trials; a study without one is left out."""
    found = connection.execute(_extremes(), {"studies": list(study_ids)}).all()
    return {study_id: (least, greatest) for study_id, least, greatest in found}


@lru_cache
def _extremes() -> Select[Any]:
    """Of the studies `studies`. Each trial's value is looked up, once for both ends: joined, PostgreSQL reads the values of all
    studies that there are."""
    first = select(sortable_value()).where(VALUES.c.trial_id == TRIALS.c.trial_id, VALUES.c.objective == 0)
    complete = (
        select(TRIALS.c.study_id, first.correlate(TRIALS).scalar_subquery().label("value"))
        .where(TRIALS.c.study_id.in_(bindparam("studies", expanding=True)))
        .where(TRIALS.c.state == TrialState.COMPLETE, feasible())
        .cte("complete")
        .prefix_with("MATERIALIZED")
    )
    value = complete.c.value
    return select(complete.c.study_id, func.min(value), func.max(value)).group_by(complete.c.study_id)


def _complete(query: Select[Any]) -> Select[Any]:
    """Of COMPLETE trials that violate no constraint, with their first values."""
    on = (VALUES.c.trial_id == TRIALS.c.trial_id) & (VALUES.c.objective == 0)
    return query.join(VALUES, on).where(TRIALS.c.state == TrialState.COMPLETE, feasible())


def feasible() -> ColumnElement[bool]:
    """Whether a row of `trials` violates no constraint; a trial that was declared void violates one."""
    table = SYSTEM_ATTRIBUTES
    violated = table.c.key.startswith(CONSTRAINT, autoescape=True) & (cast(table.c.value_json, Float) > 0)
    return ~exists().where(table.c.trial_id == TRIALS.c.trial_id, violated)


def sortable_value() -> ColumnElement[Any]:
    """The value, with the infinities, which Optuna stores by name, as the largest finite numbers."""
    kinds = optuna_models.TrialValueModel.TrialValueType
    infinite = (VALUES.c.value_type == kinds.INF_POS, LARGEST), (VALUES.c.value_type == kinds.INF_NEG, -LARGEST)
    return case(*infinite, else_=VALUES.c.value)


def unfinished_ids(connection: Connection, study_id: int) -> list[int]:
    unfinished = TRIALS.c.state.in_([TrialState.RUNNING, TrialState.WAITING])
    return list(
        connection.execute(select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id, unfinished)).scalars()
    )


def count_trials(connection: Connection, study_id: int) -> int:
    return int(connection.execute(select(func.count()).where(TRIALS.c.study_id == study_id)).scalar_one())


def _trial_rows(study_id: int) -> Select[Any]:
    return select(TRIALS).where(TRIALS.c.study_id == study_id)


def frozen(connection: Connection, rows: Sequence[Row[Any]]) -> list[FrozenTrial]:
    """The trials of the given rows of `trials`, in their order: five SELECTs, however many trials."""
    ids = [row.trial_id for row in rows]

    def by_trial(table: Table) -> dict[int, list[Row[Any]]]:
        grouped = defaultdict(list)
        for chunk in range(0, len(ids), 10_000):
            # At once: row by row, the driver's answers would be asked for by Python's own calls.
            for row in connection.execute(_of_trials(table), {"trials": ids[chunk : chunk + 10_000]}).all():
                grouped[row.trial_id].append(row)
        return grouped

    params, values, reports = by_trial(PARAMS), by_trial(VALUES), by_trial(REPORTS)
    user, system = by_trial(USER_ATTRIBUTES), by_trial(SYSTEM_ATTRIBUTES)
    trials = []
    for row in rows:
        i = row.trial_id
        distributions = {p.param_name: _distribution(p.distribution_json) for p in params[i]}
        trial = FrozenTrial(
            number=row.number,
            trial_id=i,
            state=row.state,
            value=None,
            values=[_value(v.value, v.value_type) for v in sorted(values[i], key=lambda v: v.objective)] or None,
            datetime_start=from_optuna(row.datetime_start),
            datetime_complete=from_optuna(row.datetime_complete),
            params={p.param_name: distributions[p.param_name].to_external_repr(p.param_value) for p in params[i]},
            distributions=distributions,
            user_attrs={a.key: json.loads(a.value_json) for a in user[i]},
            system_attrs={a.key: json.loads(a.value_json) for a in system[i]},
            intermediate_values={r.step: _report(r.intermediate_value, r.intermediate_value_type) for r in reports[i]},
        )
        trials.append(trial)
    return trials


@lru_cache
def _of_trials(table: Table) -> Select[Any]:
    """The rows of the trials `trials`, in the order in which they were written."""
    wanted = table.c.trial_id.in_(bindparam("trials", expanding=True))
    return select(table).where(wanted).order_by(next(iter(table.primary_key)))


def _leave(connection: Connection, trial_id: int, before: TrialState, **values: Any) -> bool:
    """Give the trial these values; False where its state is not `before` any more."""
    return connection.execute(_IN_STATE, {"trial": trial_id, "state_before": before, **values}).rowcount == 1


@lru_cache
def _all_of(table: Table) -> Delete:
    """Deletes the rows of the trial `trial`."""
    return delete(table).where(table.c.trial_id == bindparam("trial"))


def _param_rows(trial_id: int, trial: FrozenTrial) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]


def _attribute_rows(trial_id: int, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _replace_attributes(
    connection: Connection, trial_id: int, trial: FrozenTrial, written: FrozenTrial | None = None
) -> None:
    before = (None, None) if written is None else (written.user_attrs, written.system_attrs)
    after = (trial.user_attrs, trial.system_attrs)
    for table, old, new in zip((USER_ATTRIBUTES, SYSTEM_ATTRIBUTES), before, after, strict=True):
        if old is not None and old.items() <= new.items():
            _insert(connection, table, _attribute_rows(trial_id, {key: new[key] for key in new if key not in old}))
        else:
            connection.execute(_all_of(table), {"trial": trial_id})
            _insert(connection, table, _attribute_rows(trial_id, new))


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(_into(table), rows)


_into: Callable[[Table], Insert] = lru_cache(insert)
