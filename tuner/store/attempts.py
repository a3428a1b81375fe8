"""Every start of a trial, with its owner's fence, and how it ended. A RUNNING trial of ours has exactly one open attempt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, select, update

from tuner.store import trials
from tuner.store.clock import now
from tuner.store.tables import attempts, curves


class Ending(StrEnum):
    """How an attempt ended, and with its last attempt the trial, whose `reason` it is then.

    The trial runs again, under its number and with its hyperparameters and seed, after `killed` and `out_of_memory` by the kernel
    (up to a cap), `paused`, `runner_ended` and `runner_lost`; not where it would end the same way again.
    """

    COMPLETE = "complete"
    PRUNER = "pruner"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    KILLED = "killed"
    ERROR = "error"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """Its job failed."""
    PAUSED = "paused"
    RUNNER_ENDED = "runner_ended"
    """On purpose, and gave the trial back."""
    RUNNER_LOST = "runner_lost"


LOST_WORKER = (Ending.KILLED, Ending.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Attempt:
    """`ended_at` and `outcome` are None while it is under way."""

    job_id: int
    started_at: str
    ended_at: str | None
    outcome: Ending | None
    detail: str | None


def open_attempt(connection: Connection, trial_id: int, study_id: int, job_id: int, fence: int) -> None:
    values = {"trial_id": trial_id, "study_id": study_id, "job_id": job_id, "fence": fence, "started_at": now()}
    connection.execute(insert(attempts).values(values))


def close_attempt(connection: Connection, trial_id: int, outcome: Ending, detail: str | None = None) -> None:
    still_open = (attempts.c.trial_id == trial_id) & attempts.c.ended_at.is_(None)
    connection.execute(update(attempts).where(still_open).values(outcome=outcome, detail=detail, ended_at=now()))


def release(connection: Connection, trial_ids: Sequence[int], outcome: Ending, detail: str | None = None) -> None:
    """Set trials that were interrupted back to WAITING, their curves forgotten and their attempts closed."""
    if not trial_ids:
        return
    trials.release_trials(connection, trial_ids)
    connection.execute(delete(curves).where(curves.c.subject == "trial", curves.c.subject_id.in_(trial_ids)))
    for trial_id in trial_ids:
        close_attempt(connection, trial_id, outcome, detail)


def release_interrupted(connection: Connection, study_id: int, outcome: Ending) -> None:
    """`release` every trial of the study whose attempt is open. RUNNING trials of other programs are left alone."""
    release(connection, _open_ids(connection, study_id), outcome)


def close_open(connection: Connection, study_id: int, outcome: Ending) -> None:
    for trial_id in _open_ids(connection, study_id):
        close_attempt(connection, trial_id, outcome)


def count_outcomes(connection: Connection, trial_id: int, outcomes: Collection[Ending]) -> int:
    query = select(func.count()).where(attempts.c.trial_id == trial_id, attempts.c.outcome.in_(outcomes))
    return int(connection.execute(query).scalar_one())


def load_attempts(connection: Connection, trial_id: int) -> list[Attempt]:
    """The trial's history, the first attempt first."""
    rows = connection.execute(select(attempts).where(attempts.c.trial_id == trial_id).order_by(attempts.c.id))
    return [
        Attempt(
            job_id=row.job_id,
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome=None if row.outcome is None else Ending(row.outcome),
            detail=row.detail,
        )
        for row in rows
    ]


def count_attempts(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    query = select(attempts.c.trial_id, func.count()).where(attempts.c.trial_id.in_(trial_ids))
    return {row[0]: row[1] for row in connection.execute(query.group_by(attempts.c.trial_id))}


def _open_ids(connection: Connection, study_id: int) -> list[int]:
    query = select(attempts.c.trial_id).where(attempts.c.study_id == study_id, attempts.c.ended_at.is_(None))
    return list(connection.execute(query).scalars())
