"""Every start of a trial, with its owner's fence, and how it ended. A RUNNING trial of ours has exactly one open attempt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from tuner.specs.build import Build
from tuner.store import trials
from tuner.store.clock import now
from tuner.store.tables import attempts, curves


class Ending(StrEnum):
    """How an attempt ended, and with its last attempt the trial, whose `reason` it is then.

    The trial runs again, under its number and with its hyperparameters and seed, after `killed` and `out_of_memory` by the kernel
    (up to a cap), `lease_ended` (likewise), `paused`, `runner_ended` and `runner_lost`; not where it would end so again.
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
    LEASE_ENDED = "lease_ended"
    """Of an outside worker that was silent."""
    INFEASIBLE = "infeasible"
    """An outside worker could not evaluate the configuration, or its net is larger than the study's constraint allows."""
    LATE = "late"
    """Told by an outside worker after its lease, or after another end of the trial."""


LOST_WORKER = (Ending.KILLED, Ending.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Attempt:
    """`ended_at` and `outcome` are None while it is under way, `build` where no epoch of it was told."""

    job_id: int
    started_at: str
    ended_at: str | None
    outcome: Ending | None
    detail: str | None
    build: Build | None


_INSERT = insert(attempts)
_OPEN = update(attempts).where(attempts.c.trial_id == bindparam("trial"), attempts.c.ended_at.is_(None))

_OF_TRIALS = attempts.c.trial_id.in_(bindparam("trials", expanding=True))
_COUNTS = select(attempts.c.trial_id, func.count()).where(_OF_TRIALS).group_by(attempts.c.trial_id)


def open_attempt(connection: Connection, trial_id: int, study_id: int, job_id: int, fence: int) -> None:
    values = {"trial_id": trial_id, "study_id": study_id, "job_id": job_id, "fence": fence, "started_at": now()}
    connection.execute(_INSERT, values)


def close_attempt(
    connection: Connection, trial_id: int, outcome: Ending, detail: str | None = None, build: Build | None = None
) -> None:
    stored = None if build is None else build.model_dump()
    values = {"outcome": outcome, "detail": detail, "build": stored, "ended_at": now()}
    connection.execute(_OPEN, {"trial": trial_id, **values})


def release(connection: Connection, trial_ids: Sequence[int], outcome: Ending, detail: str | None = None) -> None:
    """Set trials that were interrupted back to WAITING, their curves forgotten and their attempts closed."""
    if not trial_ids:
        return
    trials.release_trials(connection, trial_ids)
    connection.execute(delete(curves).where(curves.c.subject == "trial", curves.c.subject_id.in_(trial_ids)))
    for trial_id in trial_ids:
        close_attempt(connection, trial_id, outcome, detail)


def release_interrupted(connection: Connection, study_id: int, outcome: Ending) -> None:
    """`release` every trial of the study whose attempt is open. RUNNING trials of other programs are left alone, and those of
    outside workers, where it is only the runner that has ended."""
    inside = outcome in (Ending.RUNNER_ENDED, Ending.RUNNER_LOST)
    release(connection, _open_ids(connection, study_id, inside), outcome)


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
            build=None if row.build is None else Build.model_validate(row.build),
        )
        for row in rows
    ]


def count_attempts(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    return {row[0]: row[1] for row in connection.execute(_COUNTS, {"trials": list(trial_ids)}).all()}


def _open_ids(connection: Connection, study_id: int, inside: bool = False) -> list[int]:
    """The trials under way; `inside`: only those of our own workers."""
    query = select(attempts.c.trial_id).where(attempts.c.study_id == study_id, attempts.c.ended_at.is_(None))
    if inside:
        query = query.where(attempts.c.client_id.is_(None))
    return list(connection.execute(query).scalars())
