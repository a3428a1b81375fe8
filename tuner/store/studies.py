"""Studies: Optuna's row, and ours with what was asked for. A study without our row is foreign: made by another program."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optuna.study import StudyDirection
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from tuner.errors import Conflict, NotFound
from tuner.specs.estimate import Estimate
from tuner.specs.outside_study import OutsideStudySpec, read_spec
from tuner.specs.study import StudySpec
from tuner.store import jobs as job_rows
from tuner.store import trials
from tuner.store.clock import now
from tuner.store.jobs import Job, JobKind
from tuner.store.tables import jobs, studies

DELETED_PREFIX = "deleted/"
"""Optuna's name of a deleted study begins so, which no name given here can."""


@dataclass(frozen=True)
class Study:
    """`spec` and `job` are None for a foreign study; `job` is the one it is at: the first unfinished one, else the newest."""

    id: int
    name: str
    minimize: bool
    spec: StudySpec | OutsideStudySpec | None
    notes: tuple[str, ...]
    dataset_checksum: str | None
    """Of the data that it was posted on; None for an outside objective."""
    created_at: str | None
    revision: int
    job: Job | None
    estimate: Estimate | None = None
    """As it was when the study was posted; None where nothing had been timed by then."""


def create_study(
    connection: Connection,
    spec: StudySpec | OutsideStudySpec,
    notes: list[str],
    total: int,
    after_job_id: int | None = None,
    dataset_checksum: str | None = None,
) -> int:
    """Write the study and its first job, queued; answers the job's id. Raises Conflict where the name is taken."""
    try:
        directions = [StudyDirection[direction.upper()] for direction in spec.directions()]
        # Our rows of a study that stock Optuna has deleted are still there, and its id is theirs.
        above = connection.execute(select(func.max(studies.c.study_id))).scalar_one() or 0
        study_id = trials.create_study(connection, spec.name, directions, above)
        if len(directions) > 1:
            trials.name_objectives(connection, study_id, [objective.metric for objective in spec.objectives])
    except IntegrityError as error:
        raise Conflict(f"a study's name must be free, but {spec.name!r} is taken") from error
    values = {
        "study_id": study_id,
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "notes": notes,
        "dataset": spec.dataset,
        "dataset_checksum": dataset_checksum,
        "created_at": now(),
    }
    connection.execute(insert(studies).values(values))
    kind = JobKind.EXTERNAL if isinstance(spec, OutsideStudySpec) else JobKind.SEARCH
    return job_rows.create_job(connection, study_id, kind, total, priority=spec.priority, after_job_id=after_job_id)


def find_study(connection: Connection, name: str) -> Study | None:
    """By name, or a foreign study by `@<its Optuna study id>`."""
    if name.startswith("@") and name[1:].isdecimal() and len(name) < 12:
        return find_study_by_id(connection, int(name[1:]))
    return _one(connection, "study_name", name)


def find_study_by_id(connection: Connection, study_id: int) -> Study | None:
    return _one(connection, "study_id", study_id)


def own_spec(study: Study) -> StudySpec | OutsideStudySpec:
    """What was asked for. Raises Conflict for a foreign study."""
    if study.spec is None:
        raise _read_only(study)
    return study.spec


def own_job(study: Study) -> Job:
    """The one that the study is told by. Raises Conflict for a foreign study, which has none."""
    if study.job is None:
        raise _read_only(study)
    return study.job


def _read_only(study: Study) -> Conflict:
    return Conflict(f"a foreign study is read only, and {study.name!r} was made by another program")


def delete_study(connection: Connection, study: Study) -> None:
    """Hide an ended study everywhere and free its name; its rows stay, so that it can be restored.

    Nothing is deleted from Optuna's tables: SQLite would give the id to another study, and a process with a warm cache would
    show the one for the other.
    """
    job = own_job(study)
    if job.state not in job_rows.ENDED:
        raise Conflict(f"only an ended study can be deleted, but {study.name!r} is {job.state}; cancel it first")
    _rename(connection, study.id, f"{DELETED_PREFIX}{study.id}/{study.name}", now())


def restore_study(connection: Connection, name: str) -> None:
    """The study that was last deleted under this name is there again. Raises NotFound where there is none, Conflict where the
    name is taken by now."""
    study_id = find_deleted(connection, name)[0]
    if find_study(connection, name) is not None:
        raise Conflict(f"a study's name must be free, but {name!r} is taken")
    _rename(connection, study_id, name, None)


def find_deleted(connection: Connection, name: str) -> list[int]:
    """The ids of the studies that were deleted under this name, the last one first; while a write transaction lasts, nobody else
    restores or purges them. Raises NotFound where there is none."""
    query = select(studies.c.study_id).where(studies.c.name.like(f"{DELETED_PREFIX}%/{_escaped(name)}", escape="!"))
    found = connection.execute(query.order_by(studies.c.deleted_at.desc()).with_for_update()).scalars().all()
    if not found:
        raise NotFound(f"no deleted study is named {name!r}")
    return list(found)


def _rename(connection: Connection, study_id: int, name: str, deleted_at: str | None) -> None:
    theirs = trials.STUDIES
    connection.execute(update(theirs).where(theirs.c.study_id == study_id).values(study_name=name))
    ours = update(studies).where(studies.c.study_id == study_id)
    connection.execute(ours.values(name=name, deleted_at=deleted_at))


def _escaped(text: str) -> str:
    """Without a meaning of its own in LIKE."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def write_estimate(connection: Connection, study_id: int, estimate: Estimate) -> None:
    values = {"estimate": estimate.model_dump()}
    connection.execute(update(studies).where(studies.c.study_id == study_id).values(values))


def write_spec(connection: Connection, study_id: int, spec: StudySpec | OutsideStudySpec) -> None:
    connection.execute(update(studies).where(studies.c.study_id == study_id).values(spec=spec.model_dump(mode="json")))


def select_studies(*columns: ColumnElement[Any]) -> Select[Any]:
    """Id, name, direction and `columns` of every study that was not deleted; of a foreign one, ours are null."""
    theirs, ours = trials.STUDIES, studies
    minimized = exists().where(
        trials.DIRECTIONS.c.study_id == theirs.c.study_id,
        trials.DIRECTIONS.c.objective == 0,
        trials.DIRECTIONS.c.direction == StudyDirection.MINIMIZE,
    )
    # Not plainly that the names are equal: PostgreSQL would take that for a rare chance, and expect one study where all are.
    same_name = case((ours.c.name == theirs.c.study_name, true()), else_=false())
    same = and_(ours.c.study_id == theirs.c.study_id, same_name)
    query = select(theirs.c.study_id, theirs.c.study_name, minimized.label("minimize"), *columns)
    return query.select_from(theirs.outerjoin(ours, same)).where(ours.c.deleted_at.is_(None))


def current_job(study_id: ColumnElement[int]) -> ScalarSelect[int]:
    """The id of the job that the study is at."""
    one = jobs.alias()
    unfinished = case((one.c.state.in_(job_rows.UNFINISHED), one.c.id))
    return (
        select(func.coalesce(func.min(unfinished), func.max(one.c.id)))
        .where(one.c.study_id == study_id)
        .scalar_subquery()
    )


@lru_cache
def _whole_study(column: str) -> Select[Any]:
    """The study whose `column` of Optuna's table is `wanted`."""
    ours = studies.c
    query = select_studies(ours.spec, ours.notes, ours.dataset_checksum, ours.revision, ours.created_at, ours.estimate)
    return query.where(trials.STUDIES.c[column] == bindparam("wanted"))


@lru_cache
def _job_of_study() -> Select[Any]:
    """That the study `study` is at."""
    return select(jobs).where(jobs.c.id == current_job(bindparam("study", type_=Integer)))


def _one(connection: Connection, column: str, wanted: str | int) -> Study | None:
    row = connection.execute(_whole_study(column), {"wanted": wanted}).one_or_none()
    if row is None:
        return None
    job = None
    if row.spec is not None:
        job = connection.execute(_job_of_study(), {"study": row.study_id}).one_or_none()
    return Study(
        id=row.study_id,
        name=row.study_name,
        minimize=bool(row.minimize),
        spec=None if row.spec is None else read_spec.validate_python(row.spec),
        notes=tuple(row.notes or ()),
        dataset_checksum=row.dataset_checksum,
        revision=row.revision or 0,
        created_at=row.created_at,
        job=job,
        estimate=None if row.estimate is None else Estimate.model_validate(row.estimate),
    )
