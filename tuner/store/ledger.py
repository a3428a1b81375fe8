"""The ledger of the sealed test sets: who opened which one, when, for which frozen list of models.

An opening is written and committed before the images are read, and its reading is added afterwards. The list is frozen: asked
again for the same models (a restart between opening and reading), the same opening answers; asked for others, it is refused,
unless it is forced. An opening counts for ever, by the images' checksum.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tuner.errors import TestSetSealed
from tuner.store.clock import now
from tuner.store.tables import audit, test_ledger


@dataclass(frozen=True)
class Opening:
    """`models` are the SHA-256 hashes of the weights, sorted; `reading` is None until the images were scored."""

    id: int
    study_name: str
    models: tuple[str, ...]
    opened_at: str
    forced: bool
    """Whether the study had opened the test set before, and an operator wanted it opened again."""
    opened_by: str | None
    """Who asked for the job; None where that is not known any more."""
    reading: dict[str, Any] | None


@dataclass(frozen=True)
class Opener:
    """A job that wants the test set of `dataset` opened; None: a benchmark does, of no study."""

    study_id: int | None
    study_name: str
    job_id: int | None
    dataset: str
    checksum: str
    force: bool = False


def record_opening(connection: Connection, opener: Opener, models: list[str]) -> Opening:
    """Raises TestSetSealed where the study has opened the test set for other models before, and `opener` does not force it."""
    frozen = sorted(models)
    # The study's id alone is not enough: the rows of purged studies have none, as those of benchmarks.
    of_study = select(test_ledger).filter_by(study_id=opener.study_id, study_name=opener.study_name)
    rows = connection.execute(of_study.order_by(test_ledger.c.id)).all()
    for row in rows:
        if row.models == frozen:
            return _opening(row)
    if rows and not opener.force:
        raise TestSetSealed(
            f"one opening per study: {opener.study_name!r} opened the test set of {opener.dataset!r} at "
            f"{rows[0].opened_at} for {len(rows[0].models)} other models"
        )
    values = {
        "dataset": opener.dataset,
        "dataset_checksum": opener.checksum,
        "study_id": opener.study_id,
        "study_name": opener.study_name,
        "models": frozen,
        "opened_at": now(),
        "forced": bool(rows),
        "job_id": opener.job_id,
        "opened_by": None if opener.job_id is None else _who_asked(connection, opener.job_id),
    }
    opening_id = connection.execute(insert(test_ledger).values(values)).inserted_primary_key[0]  # type: ignore[index]
    return _opening(connection.execute(select(test_ledger).where(test_ledger.c.id == opening_id)).one())


def record_reading(connection: Connection, opening_id: int, reading: dict[str, Any]) -> None:
    connection.execute(update(test_ledger).where(test_ledger.c.id == opening_id).values(reading=reading))


def load_openings(connection: Connection, checksum: str) -> list[Opening]:
    """Of the test set with this checksum, by all studies, the first one first."""
    query = select(test_ledger).where(test_ledger.c.dataset_checksum == checksum).order_by(test_ledger.c.id)
    return [_opening(row) for row in connection.execute(query)]


def has_opened(connection: Connection, job_id: int) -> bool:
    """Whether this job has opened a test set: its list is frozen then."""
    query = select(test_ledger.c.id).where(test_ledger.c.job_id == job_id).limit(1)
    return connection.execute(query).one_or_none() is not None


def _who_asked(connection: Connection, job_id: int) -> str | None:
    """By the audit log. Nobody has for the job of a schedule; and the log forgets in time."""
    query = select(audit.c.who).where(audit.c.location == f"/v1/jobs/{job_id}").order_by(audit.c.id).limit(1)
    who: str | None = connection.execute(query).scalar_one_or_none()
    return who


def _opening(row: Row[Any]) -> Opening:
    return Opening(
        id=row.id,
        study_name=row.study_name,
        models=tuple(row.models),
        opened_at=row.opened_at,
        forced=row.forced,
        opened_by=row.opened_by,
        reading=row.reading,
    )
