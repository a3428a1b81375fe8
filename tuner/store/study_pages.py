"""Pages of studies, each with what a list shows of it: three SELECTs, however many studies and jobs there are."""

from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Select, exists

from tuner.store import trials
from tuner.store.jobs import UNFINISHED, JobState
from tuner.store.studies import current_job, select_studies
from tuner.store.tables import jobs, studies


@dataclass(frozen=True)
class ListedStudy:
    """`state` and `stage` are those of the job that the study is at, None of a foreign one; `best` is its trials' best value."""

    id: int
    name: str
    state: JobState | None
    stage: str | None
    created_at: str | None
    trials: dict[TrialState, int]
    best: float | None


def page(
    connection: Connection, state: JobState | Literal["foreign"] | None, before: int | None, limit: int
) -> list[ListedStudy]:
    """Studies from the newest down, foreign ones too, at most `limit`; `before` is an id."""
    query, study_id = _in_state(state)
    if before is not None:
        query = query.where(study_id < before)
    rows = connection.execute(query.order_by(study_id.desc()).limit(limit)).all()
    ids = [row.study_id for row in rows]
    counts, extremes = trials.count_states(connection, ids), trials.extreme_values(connection, ids)
    return [
        ListedStudy(
            id=row.study_id,
            name=row.study_name,
            state=None if row.state is None else JobState(row.state),
            stage=row.stage,
            created_at=row.created_at,
            trials=counts[row.study_id],
            best=extremes[row.study_id][0 if row.minimize else 1] if row.study_id in extremes else None,
        )
        for row in rows
    ]


def _in_state(state: JobState | Literal["foreign"] | None) -> tuple[Select[Any], ColumnElement[int]]:
    """The studies in that state with their jobs, and the column to sort them by."""
    query = select_studies(studies.c.created_at, jobs.c.state, jobs.c.stage)
    if state is None or state == "foreign":
        query = query.outerjoin(jobs, jobs.c.id == current_job(studies.c.study_id))
        return query if state is None else query.where(studies.c.study_id.is_(None)), trials.STUDIES.c.study_id
    # From the job to its study: few of many jobs are in most states, and an index holds each state's in the list's order.
    query = query.join(jobs, jobs.c.study_id == studies.c.study_id)
    return query.where(jobs.c.state == state, ~_behind_another(state)), jobs.c.study_id


def _behind_another(state: JobState) -> ColumnElement[bool]:
    """Whether the study is at another job than this one, which is in `state`."""
    other = jobs.alias()
    unfinished = other.c.state.in_(UNFINISHED)
    before = unfinished & (other.c.id < jobs.c.id) if state in UNFINISHED else unfinished | (other.c.id > jobs.c.id)
    return exists().where(other.c.study_id == jobs.c.study_id, before)
