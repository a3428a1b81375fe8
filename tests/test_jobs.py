from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, select

from tuner.errors import Conflict, LeaseLost
from tuner.specs.study import StudySpec
from tuner.stages.lease_watch import LeaseWatch
from tuner.store import events, jobs, studies
from tuner.store.database import reading, writing
from tuner.store.jobs import Job, JobState, Lease, Progress
from tuner.store.tables import studies as studies_table


def post(engine: Engine, name: str = "a") -> int:
    with writing(engine) as connection:
        return studies.create_study(connection, StudySpec(name=name), [], 60)


def job_of(engine: Engine, job_id: int) -> Job:
    with reading(engine) as connection:
        job = jobs.find_job(connection, job_id)
    assert job is not None
    return job


def claim(engine: Engine, expired: list[Job] | None = None) -> Lease:
    lease = jobs.claim(engine, "runner", expired or [])
    assert lease is not None
    return lease


@contextmanager
def owned(engine: Engine, lease: Lease, transaction: int = 1) -> Iterator[Connection]:
    """The owner's n-th write transaction."""
    with writing(engine) as connection:
        jobs.advance(connection, lease, lease.heartbeat + transaction)
        yield connection


def test_a_queued_job_is_claimed_once(engine: Engine) -> None:
    """The oldest queued job goes to the first runner that asks, and to no other."""
    first, second = post(engine, "a"), post(engine, "b")
    assert [claim(engine).job_id, claim(engine).job_id] == [first, second]
    assert jobs.claim(engine, "late", []) is None


def test_a_taken_name_leaves_nothing_behind(engine: Engine) -> None:
    """A second study of one name is refused, and neither a row of ours nor a job remains of it."""
    post(engine)
    with pytest.raises(Conflict, match="'a' is taken"):
        post(engine)
    with reading(engine) as connection:
        assert len(connection.execute(select(studies_table)).all()) == 1
        assert len(jobs.list_jobs(connection, None, None, 10)) == 1


def test_a_runner_that_lost_its_lease_writes_nothing(engine: Engine) -> None:
    """After another runner has taken a job over, the first one's transaction is refused before it writes."""
    job_id = post(engine)
    zombie = claim(engine)
    owner = claim(engine, [job_of(engine, job_id)])
    with pytest.raises(LeaseLost, match="belongs to another runner"), owned(engine, zombie) as connection:
        jobs.report_progress(connection, zombie, Progress("search", 7, 60, None), 1.0)
    assert job_of(engine, job_id).progress_done == 0
    with owned(engine, owner) as connection:
        jobs.report_progress(connection, owner, Progress("search", 8, 60, None), 1.0)
    assert (job_of(engine, job_id).progress_done, job_of(engine, job_id).attempt) == (8, 2)


def test_a_heartbeat_that_moves_keeps_its_lease(engine: Engine) -> None:
    """A takeover that was decided on an old heartbeat finds the job alive and leaves it."""
    job_id = post(engine)
    lease = claim(engine)
    stale = job_of(engine, job_id)
    with owned(engine, lease):
        pass
    assert jobs.claim(engine, "other", [stale]) is None


def test_a_lease_ends_by_the_watchers_own_clock() -> None:
    """Only one whose counter this watch itself has seen standing still for the lease's length; whoever is heard begins anew, and
    where the watch could not look for a while, 2 s of it count at most, since nobody could be heard then."""
    watch = LeaseWatch(10.0)
    assert [second for second in range(1000, 1010) if watch.ended({7: 1}, second)] == []
    assert watch.ended({7: 1, 8: 1}, 1010) == [7]
    assert [second for second in range(1011, 1021) if watch.ended({7: 2, 8: 1}, second)] == [1020]
    assert watch.ended({7: 2, 8: 1}, 1021) == [7, 8]
    assert [second for second in range(1022, 1030) if watch.ended({7: 3, 8: 2}, second)] == []
    assert watch.ended({7: 3, 8: 2}, 1090) == []
    assert watch.ended({7: 3, 8: 2}, 1091) == [7, 8]


@pytest.mark.parametrize(
    ("state", "act", "expected"),
    [
        (JobState.QUEUED, jobs.pause, (JobState.PAUSED, None)),
        (JobState.QUEUED, jobs.cancel, (JobState.CANCELLED, None)),
        (JobState.QUEUED, jobs.resume, None),
        (JobState.RUNNING, jobs.pause, (JobState.RUNNING, "pause")),
        (JobState.RUNNING, jobs.cancel, (JobState.RUNNING, "cancel")),
        (JobState.RUNNING, jobs.resume, None),
        (JobState.PAUSED, jobs.resume, (JobState.QUEUED, None)),
        (JobState.PAUSED, jobs.cancel, (JobState.CANCELLED, None)),
        (JobState.PAUSED, jobs.pause, None),
        (JobState.CANCELLED, jobs.resume, None),
        (JobState.SUCCEEDED, jobs.cancel, None),
        (JobState.FAILED, jobs.pause, None),
        (JobState.FAILED, jobs.retry, (JobState.QUEUED, None)),
        (JobState.CANCELLED, jobs.retry, (JobState.QUEUED, None)),
        (JobState.SUCCEEDED, jobs.retry, None),
        (JobState.RUNNING, jobs.retry, None),
    ],
)
def test_what_a_user_may_ask(engine: Engine, state: JobState, act, expected) -> None:  # type: ignore[no-untyped-def]
    """Each state allows what makes sense in it and refuses the rest, naming the state."""
    job_id = post(engine)
    if state is not JobState.QUEUED:
        lease = claim(engine)
        if state is not JobState.RUNNING:
            with owned(engine, lease) as connection:
                jobs.end_job(connection, lease, state)
    with writing(engine) as connection:
        job = jobs.find_job(connection, job_id)
        if expected is None:
            with pytest.raises(Conflict, match=f"job {job_id} is {state}"):
                act(connection, job)
            return
        act(connection, job)
    job = job_of(engine, job_id)
    assert (job.state, job.request) == expected


@pytest.mark.parametrize(
    ("asked", "given_back"),
    [
        ([], JobState.QUEUED),
        ([jobs.pause], JobState.PAUSED),
        ([jobs.pause, jobs.resume], JobState.QUEUED),
        ([jobs.pause, jobs.cancel], JobState.CANCELLED),
    ],
)
def test_an_interrupted_job_is_given_back_as_its_user_wants_it_by_now(engine: Engine, asked, given_back) -> None:  # type: ignore[no-untyped-def]
    """A runner that saw the pause, and stops its workers, learns at the end that the pause was taken back or became a
    cancellation; that is what counts, and nothing stays asked for."""
    job_id = post(engine)
    lease = claim(engine)
    for act in asked:
        with writing(engine) as connection:
            act(connection, jobs.find_job(connection, job_id))
    with owned(engine, lease) as connection:
        assert jobs.give_back(connection, lease) is given_back
    job = job_of(engine, job_id)
    assert (job.state, job.request) == (given_back, None)
    assert job.stop_reason == ("cancelled" if given_back is JobState.CANCELLED else None)


def test_a_pause_does_not_undo_a_cancellation(engine: Engine) -> None:
    """A job that is about to be cancelled refuses a pause, also one by who has read it before that."""
    job_id = post(engine)
    claim(engine)
    read_before = job_of(engine, job_id)
    with writing(engine) as connection:
        jobs.cancel(connection, job_of(engine, job_id))
    for job in (read_before, job_of(engine, job_id)):
        with pytest.raises(Conflict, match=f"job {job_id}"), writing(engine) as connection:
            jobs.pause(connection, job)
    assert job_of(engine, job_id).request == "cancel"


def test_a_transaction_whose_confirmation_was_lost_is_known(engine: Engine) -> None:
    """The same transaction again, by the same owner, is told that it was committed; the next one goes on."""
    post(engine)
    lease = claim(engine)
    with writing(engine) as connection:
        assert jobs.advance(connection, lease, lease.heartbeat + 1)
    with writing(engine) as connection:
        assert not jobs.advance(connection, lease, lease.heartbeat + 1)
        assert jobs.advance(connection, lease, lease.heartbeat + 2)


def test_a_job_that_kills_its_runners_is_given_up(engine: Engine) -> None:
    """MAX_STALLED runners lost in a row fail the job with a reason; progress in between starts the count anew; a retry, too."""
    job_id = post(engine)
    lease = claim(engine)
    for _ in range(jobs.MAX_STALLED - 1):
        lease = claim(engine, [job_of(engine, job_id)])
    with writing(engine) as connection:
        assert jobs.advance(connection, lease, lease.heartbeat + 1, **jobs.GOT_ON)
    for _ in range(jobs.MAX_STALLED - 1):
        claim(engine, [job_of(engine, job_id)])
    assert jobs.claim(engine, "next", [job_of(engine, job_id)]) is None
    job = job_of(engine, job_id)
    assert (job.state, job.stop_reason) == (JobState.FAILED, "no_progress")
    assert job.error.startswith(f"{jobs.MAX_STALLED} runners in a row were lost")
    with writing(engine) as connection:
        jobs.retry(connection, job)
        assert events.of_job(connection, job_id, 0, 100)[-1].data == {"state": "queued"}
    assert claim(engine).job_id == job_id


def test_priority_goes_before_age(engine: Engine) -> None:
    """Of waiting jobs the one with the highest priority is claimed, and of equals the oldest."""
    old, urgent, new = (post(engine, name) for name in "abc")
    with writing(engine) as connection:
        jobs.set_priority(connection, job_of(engine, urgent), 5)
    assert [claim(engine).job_id for _ in range(3)] == [urgent, old, new]


def test_a_job_waits_for_the_one_before_it(engine: Engine) -> None:
    """A job behind another is not claimed while that one is queued, running or paused."""
    first = post(engine)
    study_id = job_of(engine, first).study_id
    with writing(engine) as connection:
        second = jobs.create_job(
            connection, study_id, "search", 10, work={"kind": "search"}, after_job_id=first, priority=9
        )
    lease = claim(engine)
    assert (lease.job_id, jobs.claim(engine, "other", [])) == (first, None)
    with owned(engine, lease) as connection:
        jobs.end_job(connection, lease, JobState.FAILED)
    assert claim(engine).job_id == second
