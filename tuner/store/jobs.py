"""Jobs and their leases.

A runner that claims a job raises its fence, and every write for the job checks the fence in its own transaction: a runner
that lost its lease writes nothing. A lease is alive while its heartbeat counter moves; whoever reads it judges that by its
own monotonic clock, so no two clocks need to agree.

    queued ──claim──▶ running ──▶ succeeded | failed | cancelled
      ▲                 │  ▲
      │    (pause)      ▼  └─ claimed again when its runner died
      └──resume── paused
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, insert, select, update

from tuner.errors import Conflict, LeaseLost
from tuner.store import attempts, trials
from tuner.store.clock import now
from tuner.store.database import reading, writing
from tuner.store.tables import jobs, studies

Job = Row[Any]


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobRequest(StrEnum):
    """What a user asks of a running job; its runner acts on it."""

    PAUSE = "pause"
    CANCEL = "cancel"


ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True)
class Lease:
    job_id: int
    study_id: int
    fence: int


@dataclass(frozen=True)
class Progress:
    """`done` and `total` count trials of the search and epochs of the rung and of the promoted nets."""

    stage: str
    done: int
    total: int
    eta_seconds: float | None


def create_job(connection: Connection, study_id: int, kind: str, total: int) -> int:
    values = {
        "study_id": study_id,
        "kind": kind,
        "state": JobState.QUEUED,
        "progress_total": total,
        "created_at": now(),
    }
    return int(connection.execute(insert(jobs).values(values)).inserted_primary_key[0])  # type: ignore[index]


def find_job(connection: Connection, job_id: int) -> Job | None:
    """None also for a job whose study was deleted."""
    return connection.execute(_of_studies_that_are_there().where(jobs.c.id == job_id)).one_or_none()


def list_jobs(connection: Connection, state: JobState | None, before: int | None, limit: int) -> list[Job]:
    """Jobs from the newest down, at most `limit`; `before` is an id."""
    query = _of_studies_that_are_there().order_by(jobs.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if before is not None:
        query = query.where(jobs.c.id < before)
    return list(connection.execute(query).all())


def _of_studies_that_are_there() -> Select[Any]:
    return select(jobs).join(studies, studies.c.study_id == jobs.c.study_id).where(studies.c.deleted_at.is_(None))


def running_jobs(engine: Engine) -> list[Job]:
    with reading(engine) as connection:
        return list(connection.execute(select(jobs).where(jobs.c.state == JobState.RUNNING)).all())


def claim(engine: Engine, owner: str, expired: list[Job]) -> Lease | None:
    """A lease on one job: first of those whose runner died, then of the queue, the oldest first."""
    with reading(engine) as connection:
        queued = connection.execute(select(jobs).where(jobs.c.state == JobState.QUEUED).order_by(jobs.c.id)).all()
    for job in [*expired, *queued]:
        unchanged = (jobs.c.id == job.id) & (jobs.c.state == job.state) & (jobs.c.fence == job.fence)
        values = {
            "state": JobState.RUNNING,
            "owner": owner,
            "fence": job.fence + 1,
            "attempt": job.attempt + 1,
            "heartbeat": job.heartbeat + 1,
            "started_at": job.started_at or now(),
        }
        with writing(engine) as connection:
            same = unchanged & (jobs.c.heartbeat == job.heartbeat)
            if connection.execute(update(jobs).where(same).values(values)).rowcount == 1:
                return Lease(job.id, job.study_id, job.fence + 1)
    return None


@contextmanager
def fenced(engine: Engine, lease: Lease) -> Iterator[Connection]:
    """A write transaction of the job's owner. Raises LeaseLost, and writes nothing, where another one owns the job."""
    with writing(engine) as connection:
        ours = (jobs.c.id == lease.job_id) & (jobs.c.fence == lease.fence) & (jobs.c.state == JobState.RUNNING)
        if connection.execute(update(jobs).where(ours).values(heartbeat=jobs.c.heartbeat + 1)).rowcount != 1:
            raise LeaseLost(f"job {lease.job_id} belongs to another runner now (fence {lease.fence} has passed)")
        yield connection


def report_progress(connection: Connection, lease: Lease, progress: Progress, elapsed_seconds: float) -> None:
    values = {
        "stage": progress.stage,
        "progress_done": progress.done,
        "progress_total": progress.total,
        "eta_seconds": progress.eta_seconds,
        "elapsed_seconds": elapsed_seconds,
    }
    connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(values))


def end_job(
    connection: Connection, lease: Lease, state: JobState, stop_reason: str | None = None, error: str | None = None
) -> None:
    """Give the job back in `state`: no trial of its stays RUNNING; a job that failed or was cancelled has none WAITING."""
    if state in (JobState.FAILED, JobState.CANCELLED):
        _fail_unfinished(connection, lease.study_id, str(state))
    else:
        attempts.release_interrupted(connection, lease.study_id, str(state))
    values = {
        "state": state,
        "request": None,
        "owner": None,
        "stop_reason": stop_reason,
        "error": error,
        "eta_seconds": None,
        "finished_at": now() if state in ENDED else None,
    }
    connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(values))


def set_total(connection: Connection, job: Job, total: int) -> None:
    """The job's new amount of work, after its budget was edited."""
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(progress_total=total))


def pause(connection: Connection, job: Job) -> None:
    """A queued job is paused at once; a running one is asked, and its runner pauses it."""
    if job.state == JobState.QUEUED:
        _move(connection, job, {"state": JobState.PAUSED})
    elif job.state == JobState.RUNNING:
        _move(connection, job, {"request": JobRequest.PAUSE})
    else:
        raise Conflict(f"only a queued or running job can be paused, but job {job.id} is {job.state}")


def resume(connection: Connection, job: Job) -> None:
    """A paused job is queued again; one that is about to pause goes on."""
    if job.state == JobState.PAUSED:
        _move(connection, job, {"state": JobState.QUEUED})
    elif job.state == JobState.RUNNING and job.request == JobRequest.PAUSE:
        _move(connection, job, {"request": None})
    else:
        raise Conflict(f"only a paused job can be resumed, but job {job.id} is {job.state}")


def cancel(connection: Connection, job: Job) -> None:
    """A queued or paused job is cancelled at once, its waiting trials with it; a running one is asked."""
    if job.state == JobState.RUNNING:
        _move(connection, job, {"request": JobRequest.CANCEL})
    elif job.state in (JobState.QUEUED, JobState.PAUSED):
        _fail_unfinished(connection, job.study_id, "cancelled")
        _move(connection, job, {"state": JobState.CANCELLED, "stop_reason": "cancelled", "finished_at": now()})
    else:
        raise Conflict(f"only an unfinished job can be cancelled, but job {job.id} is {job.state}")


def _move(connection: Connection, job: Job, values: dict[str, Any]) -> None:
    unchanged = (jobs.c.id == job.id) & (jobs.c.state == job.state)
    if connection.execute(update(jobs).where(unchanged).values(values)).rowcount != 1:
        raise Conflict(f"job {job.id} is not {job.state} any more; read it again")


def _fail_unfinished(connection: Connection, study_id: int, reason: str) -> None:
    attempts.close_open(connection, study_id, reason)
    unfinished = trials.unfinished_ids(connection, study_id)
    trials.fail_trials(connection, unfinished, reason)
