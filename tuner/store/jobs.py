"""Jobs and their leases.

A runner that claims a job raises its fence, and every write for the job checks the fence in its own transaction: a runner
that lost its lease writes nothing. A lease is alive while its heartbeat counter moves; whoever reads it judges that by its
own monotonic clock, so no two clocks need to agree.

    queued ──claim──▶ running ──▶ succeeded | failed | cancelled ──retry──▶ queued
      ▲                 │  ▲
      │    (pause)      ▼  └─ claimed again when its runner died
      └──resume── paused

Of one study's jobs at most one runs: a job waits for the earlier ones.

The heartbeat also numbers the owner's transactions: one whose confirmation got lost on the way is known by it, and is not done
twice.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    select,
    update,
)

from tuner.errors import Conflict, LeaseLost
from tuner.store import attempts, deliveries, events, revisions, trials
from tuner.store.attempts import Ending
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


class JobKind(StrEnum):
    SEARCH = "search"
    """A study's first job does all that its spec asks for; a further one only searches on."""
    PROMOTE = "promote"
    ENSEMBLE = "ensemble"
    EXTERNAL = "external"
    """Its trials are run by outside workers."""


class JobRequest(StrEnum):
    """What a user asks of a running job; its runner acts on it."""

    PAUSE = "pause"
    CANCEL = "cancel"


GIVEN_BACK = {None: JobState.QUEUED, JobRequest.PAUSE: JobState.PAUSED, JobRequest.CANCEL: JobState.CANCELLED}

GOT_ON = {"stalled": 0}
"""For the row of a job of which something is done for good: whatever becomes of its runner, that is not done again."""

MAX_STALLED = 5
"""A job that has lost so many runners in a row without getting on has failed: most likely it kills them."""

SEARCH_CLOSED = "searched"
"""The stage of a job between its search and what follows."""

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True)
class Lease:
    job_id: int
    study_id: int
    kind: JobKind
    fence: int
    heartbeat: int
    """As it stood when the lease was taken."""


@dataclass(frozen=True)
class Progress:
    """`done` and `total` count trials of the search and epochs of the rung and of the promoted nets."""

    stage: str
    done: int
    total: int
    eta_seconds: float | None


def create_job(
    connection: Connection,
    study_id: int,
    kind: str,
    total: int,
    *,
    work: dict[str, Any] | None = None,
    priority: int = 0,
    after_job_id: int | None = None,
) -> int:
    """A queued job's id. It is claimed in the order of priority, then of creation, and not before `after_job_id` has ended, nor
    any earlier job of the same study."""
    values = {
        "study_id": study_id,
        "kind": kind,
        "work": work,
        "priority": priority,
        "after_job_id": after_job_id,
        "state": JobState.QUEUED,
        "progress_total": total,
        "created_at": now(),
    }
    job_id = int(connection.execute(insert(jobs).values(values)).inserted_primary_key[0])  # type: ignore[index]
    events.record(connection, study_id, job_id, "job", state=JobState.QUEUED)
    return job_id


def find_job(connection: Connection, job_id: int) -> Job | None:
    """With its study's name as `study`; None also for a job whose study was deleted."""
    return connection.execute(_of_studies_that_are_there().where(jobs.c.id == job_id)).one_or_none()


def list_jobs(connection: Connection, state: JobState | None, before: int | None, limit: int) -> list[Job]:
    """Jobs from the newest down, each with its study's name as `study`, at most `limit`; `before` is an id."""
    query = _of_studies_that_are_there().order_by(jobs.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if before is not None:
        query = query.where(jobs.c.id < before)
    return list(connection.execute(query).all())


def elapsed_seconds(connection: Connection, study_id: int) -> float:
    """Of all the study's jobs, while they were running."""
    total = select(func.sum(jobs.c.elapsed_seconds)).where(jobs.c.study_id == study_id)
    return float(connection.execute(total).scalar_one() or 0.0)


def _of_studies_that_are_there() -> Select[Any]:
    named = select(jobs, studies.c.name.label("study")).join(studies, studies.c.study_id == jobs.c.study_id)
    return named.where(studies.c.deleted_at.is_(None))


def running_jobs(engine: Engine) -> list[Job]:
    with reading(engine) as connection:
        return list(connection.execute(select(jobs).where(jobs.c.state == JobState.RUNNING)).all())


def claim(engine: Engine, owner: str, expired: list[Job], only: JobKind | None = None) -> Lease | None:
    """A lease on one job, of one kind or any: first of those whose runner died, then of the queue, by priority and age.

    A job that has lost MAX_STALLED runners without getting on between them is failed instead.
    """
    with reading(engine) as connection:
        queued = connection.execute(_queue(only)).all()
    for job in [*(job for job in expired if only in (None, job.kind)), *queued]:
        with writing(engine) as connection:
            if job.state == JobState.RUNNING and job.stalled + 1 >= MAX_STALLED:
                _give_up(connection, job)
            elif _take(connection, job, owner):
                return Lease(job.id, job.study_id, JobKind(job.kind), job.fence + 1, job.heartbeat + 1)
    return None


def _queue(only: JobKind | None) -> Select[Any]:
    before = jobs.alias()
    earlier = (before.c.study_id == jobs.c.study_id) & (before.c.id < jobs.c.id)
    blocked = exists().where((before.c.id == jobs.c.after_job_id) | earlier, before.c.state.in_(UNFINISHED))
    there = exists().where(studies.c.study_id == jobs.c.study_id, studies.c.deleted_at.is_(None))
    waiting = select(jobs).where(jobs.c.state == JobState.QUEUED, ~blocked, there)
    if only is not None:
        waiting = waiting.where(jobs.c.kind == only)
    return waiting.order_by(jobs.c.priority.desc(), jobs.c.id).limit(1)


def _unchanged(job: Job) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.fence == job.fence, jobs.c.heartbeat == job.heartbeat
    )


def _take(connection: Connection, job: Job, owner: str) -> bool:
    lost = job.state == JobState.RUNNING
    values = {
        "state": JobState.RUNNING,
        "owner": owner,
        "fence": job.fence + 1,
        "attempt": job.attempt + 1,
        "stalled": job.stalled + 1 if lost else job.stalled,
        "heartbeat": job.heartbeat + 1,
    }
    if job.started_at is None:
        failed = trials.count_states(connection, [job.study_id])[job.study_id].get(TrialState.FAIL, 0)
        values |= {"started_at": now(), "failed_before": failed}
    if connection.execute(update(jobs).where(_unchanged(job)).values(values)).rowcount != 1:
        return False
    reason = {"reason": "its runner was lost"} if lost else {}
    events.record(
        connection, job.study_id, job.id, "job", state=JobState.RUNNING, attempt=job.attempt + 1, owner=owner, **reason
    )
    return True


def _give_up(connection: Connection, job: Job) -> None:
    error = f"{MAX_STALLED} runners in a row were lost before the job got on; see its log, then retry it"
    values = {
        "state": JobState.FAILED,
        "request": None,
        "owner": None,
        "fence": job.fence + 1,
        "stop_reason": "no_progress",
        "error": error,
        "eta_seconds": None,
        "finished_at": now(),
    }
    if connection.execute(update(jobs).where(_unchanged(job)).values(values)).rowcount == 1:
        _fail_unfinished(connection, job.study_id, Ending.FAILED)
        _tell(connection, job.study_id, job.id, JobState.FAILED, reason="no_progress")


# Put together once, since every transaction of a running job needs them.
_JOB = update(jobs).where(jobs.c.id == bindparam("job"))
_LEASED = _JOB.where(
    jobs.c.fence == bindparam("fence_now"),
    jobs.c.state == JobState.RUNNING,
    jobs.c.heartbeat == bindparam("heartbeat_before"),
)


def advance(connection: Connection, lease: Lease, heartbeat: int, **values: Any) -> bool:
    """Move the owner's heartbeat on to `heartbeat`, `values` going into the same row; every transaction of the job's begins so.

    False where it stands there already: this very transaction was committed before, and only its confirmation was lost. Raises
    LeaseLost where another runner owns the job.
    """
    which = {"job": lease.job_id, "fence_now": lease.fence, "heartbeat_before": heartbeat - 1}
    if connection.execute(_LEASED, {**which, "heartbeat": heartbeat, **values}).rowcount == 1:
        return True
    mine = (jobs.c.id == lease.job_id) & (jobs.c.fence == lease.fence) & (jobs.c.heartbeat == heartbeat)
    if connection.execute(select(jobs.c.id).where(mine)).one_or_none() is not None:
        return False
    raise LeaseLost(f"job {lease.job_id} belongs to another runner now (fence {lease.fence} has passed)")


def report_progress(connection: Connection, lease: Lease, progress: Progress, elapsed_seconds: float) -> None:
    connection.execute(_JOB, {"job": lease.job_id, **progress_values(progress, elapsed_seconds)})


def progress_values(progress: Progress, elapsed_seconds: float) -> dict[str, Any]:
    """For the job's row."""
    return {
        "stage": progress.stage,
        "progress_done": progress.done,
        "progress_total": progress.total,
        "eta_seconds": progress.eta_seconds,
        "elapsed_seconds": elapsed_seconds,
    }


def close_search(connection: Connection, lease: Lease) -> None:
    """No trial that is enqueued from now on would be tried by this job."""
    connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(stage=SEARCH_CLOSED))


def end_job(
    connection: Connection, lease: Lease, state: JobState, stop_reason: str | None = None, error: str | None = None
) -> None:
    """Give the job back in `state`: no trial of its stays RUNNING; a job that failed or was cancelled has none WAITING."""
    if state in (JobState.FAILED, JobState.CANCELLED):
        _fail_unfinished(connection, lease.study_id, Ending(state))
    else:
        interrupted = Ending.PAUSED if state == JobState.PAUSED else Ending.RUNNER_ENDED
        attempts.release_interrupted(connection, lease.study_id, interrupted)
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
    reason = {"reason": stop_reason} if stop_reason else {}
    _tell(connection, lease.study_id, lease.job_id, state, **reason)


def give_back(connection: Connection, lease: Lease) -> JobState:
    """End a job that was interrupted, as its user wants it by now: a pause may have been taken back, or become a cancellation,
    while what ran was being stopped. Answers the state; queued, if nothing is asked for."""
    request = connection.execute(select(jobs.c.request).where(jobs.c.id == lease.job_id)).scalar_one()
    state = GIVEN_BACK[request]
    end_job(connection, lease, state, "cancelled" if state is JobState.CANCELLED else None)
    return state


def set_priority(connection: Connection, job: Job, priority: int) -> None:
    """The order among waiting jobs; what runs goes on."""
    if job.state in ENDED:
        raise Conflict(f"only an unfinished job has a priority, but job {job.id} is {job.state}")
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(priority=priority))


def unfinished_jobs(connection: Connection, study_id: int) -> list[Job]:
    """The study's jobs that have not ended, the first one, which may run, before those that wait for it."""
    unfinished = select(jobs).where(jobs.c.study_id == study_id, jobs.c.state.in_(UNFINISHED))
    return list(connection.execute(unfinished.order_by(jobs.c.id)).all())


def pause(connection: Connection, job: Job) -> None:
    """A queued job is paused at once; a running one is asked, and its runner pauses it."""
    if job.state == JobState.QUEUED:
        _move(connection, job, JobState.PAUSED)
    elif job.state == JobState.RUNNING and job.request != JobRequest.CANCEL:
        _ask(connection, job, JobRequest.PAUSE)
    else:
        state = "about to be cancelled" if job.state == JobState.RUNNING else job.state
        raise Conflict(f"only a queued or running job can be paused, but job {job.id} is {state}")


def resume(connection: Connection, job: Job) -> None:
    """A paused job is queued again; one that is about to pause goes on."""
    if job.state == JobState.PAUSED:
        _move(connection, job, JobState.QUEUED)
    elif job.state == JobState.RUNNING and job.request == JobRequest.PAUSE:
        _ask(connection, job, None)
    else:
        raise Conflict(f"only a paused job can be resumed, but job {job.id} is {job.state}")


def cancel(connection: Connection, job: Job) -> None:
    """A queued or paused job is cancelled at once, its waiting trials with it; a running one is asked."""
    if job.state == JobState.RUNNING:
        _ask(connection, job, JobRequest.CANCEL)
    elif job.state in (JobState.QUEUED, JobState.PAUSED):
        _move(connection, job, JobState.CANCELLED, stop_reason="cancelled", finished_at=now())
        earlier = [other for other in unfinished_jobs(connection, job.study_id) if other.id < job.id]
        if not earlier:  # whose trials they would be
            _fail_unfinished(connection, job.study_id, Ending.CANCELLED)
    else:
        raise Conflict(f"only an unfinished job can be cancelled, but job {job.id} is {job.state}")


def cancel_all(connection: Connection, study_id: int) -> None:
    """Cancel every job of the study that has not ended, those that wait first, so that none of them starts meanwhile."""
    for job in reversed(unfinished_jobs(connection, study_id)):
        cancel(connection, job)


def retry(connection: Connection, job: Job) -> None:
    """A failed or cancelled job is queued again, with its whole time and all of `max_failed` before it; what it has finished
    stays finished."""
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise Conflict(f"only a failed or cancelled job can be retried, but job {job.id} is {job.state}")
    values = {"stage": None, "stop_reason": None, "error": None, "stalled": 0, "elapsed_seconds": 0.0}
    _move(connection, job, JobState.QUEUED, started_at=None, finished_at=None, **values)
    revisions.lock(connection, job.study_id)
    newest = connection.execute(select(func.max(jobs.c.id)).where(jobs.c.study_id == job.study_id)).scalar_one()
    if newest != job.id:
        raise Conflict(f"only a study's newest job can be retried, but job {job.id} was followed by job {newest}")


def _move(connection: Connection, job: Job, state: JobState, **values: Any) -> None:
    _change(connection, job, {"state": state, **values})
    _tell(connection, job.study_id, job.id, state)


def _tell(connection: Connection, study_id: int, job_id: int, state: JobState, **data: Any) -> None:
    """Write the job's new state into its log, and into the outbox of webhooks."""
    events.record(connection, study_id, job_id, "job", state=state, **data)
    deliveries.enqueue(connection, study_id, job_id, f"job.{state}")


def _ask(connection: Connection, job: Job, request: JobRequest | None) -> None:
    _change(connection, job, {"request": request})


def _change(connection: Connection, job: Job, values: dict[str, Any]) -> None:
    unchanged = (jobs.c.id == job.id) & (jobs.c.state == job.state) & jobs.c.request.is_not_distinct_from(job.request)
    if connection.execute(update(jobs).where(unchanged).values(values)).rowcount != 1:
        raise Conflict(f"job {job.id} has changed since it was read as {job.state}; read it again")


def _fail_unfinished(connection: Connection, study_id: int, reason: Ending) -> None:
    attempts.close_open(connection, study_id, reason)
    unfinished = trials.unfinished_ids(connection, study_id)
    trials.fail_trials(connection, unfinished, reason)
