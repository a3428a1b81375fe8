"""What the promotions have found: one verdict for each job that came to its end."""

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from tuner.specs.verdict import Verdict
from tuner.store.clock import now
from tuner.store.tables import verdicts


def record(connection: Connection, study_id: int, job_id: int, verdict: Verdict) -> None:
    """Writes nothing where the job has its verdict already."""
    if of_job(connection, job_id) is None:
        body = verdict.model_dump(mode="json")
        values = {"job_id": job_id, "study_id": study_id, "verdict": body, "recorded_at": now()}
        connection.execute(insert(verdicts).values(values))


def of_job(connection: Connection, job_id: int) -> Verdict | None:
    return _verdict(connection.execute(select(verdicts).where(verdicts.c.job_id == job_id)).one_or_none())


def of_study(connection: Connection, study_id: int) -> Verdict | None:
    """Of its newest promotion."""
    query = select(verdicts).where(verdicts.c.study_id == study_id).order_by(verdicts.c.job_id.desc()).limit(1)
    return _verdict(connection.execute(query).one_or_none())


def newest_job(connection: Connection, study_id: int) -> int | None:
    """The last one of the study that has come to a verdict."""
    query = select(func.max(verdicts.c.job_id)).where(verdicts.c.study_id == study_id)
    job_id: int | None = connection.execute(query).scalar_one()
    return job_id


def _verdict(row: Row[Any] | None) -> Verdict | None:
    return None if row is None else Verdict.model_validate(row.verdict)
