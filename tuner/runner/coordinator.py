"""One job, from its claim to its end: the stages in their order, and what an interruption or an error makes of it."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from tuner.errors import LeaseLost, Unavailable
from tuner.specs.job import PromoteWork
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import PromotionSpec
from tuner.specs.verdict import Verdict
from tuner.stages.challenge import challenge, expected_epochs
from tuner.stages.ensemble import assemble
from tuner.stages.finalists import train_finalists
from tuner.stages.job import RunningJob
from tuner.stages.leased_job import JobFailed, JobInterrupted, LeasedJob
from tuner.stages.outside import search_outside
from tuner.stages.promotion import promote
from tuner.stages.search import search
from tuner.stages.verdict import judge
from tuner.store import attempts, jobs, verdicts
from tuner.store.attempts import Ending
from tuner.store.jobs import JobState, Progress

logger = logging.getLogger(__name__)


def coordinate(job: RunningJob | LeasedJob[OutsideStudySpec]) -> None:
    """Carry the job to its end or give it back; nothing of it runs afterwards.

    Raises LeaseLost where another runner owns the job now, and Unavailable where the runner ends while the database cannot be
    used: the job then stays as the database has it, and can be claimed again.
    """
    try:
        try:
            stop_reason = _stages(job)
            _end(job, JobState.SUCCEEDED, stop_reason)
        finally:
            job.stop_all()
    except JobInterrupted:
        _close(job, job.progress, lambda connection: jobs.give_back(connection, job.lease))
    except (LeaseLost, Unavailable):
        raise
    except JobFailed as failure:
        _end(job, JobState.FAILED, failure.stop_reason, str(failure))
    except Exception:
        # The one place that does not know what went wrong: whoever posted the job reads it there.
        _end(job, JobState.FAILED, "error", traceback.format_exc())


def _stages(job: RunningJob | LeasedJob[OutsideStudySpec]) -> str:
    """Go through the stages of the job's kind; answers why it stopped."""
    if not isinstance(job, RunningJob):
        return search_outside(job)
    job.write(lambda connection: attempts.release_interrupted(connection, job.study_id, Ending.RUNNER_LOST))
    job.challenge_epochs = expected_epochs(job)
    if isinstance(job.work, PromoteWork):
        return _promote(job, "promoted")
    return _promote(job, search(job))


def _promote(job: RunningJob, stop_reason: str) -> str:
    if job.promotion is None:
        return stop_reason
    verdict = job.read(lambda connection: verdicts.of_job(connection, job.lease.job_id))
    if verdict is None:  # else the job was interrupted, or has failed, after it
        verdict = _judged(job, job.promotion)
    challenge(job)
    return stop_reason if verdict.opening is not None else "test_set_sealed"


def _judged(job: RunningJob, promotion: PromotionSpec) -> Verdict:
    promoted = promote(job, promotion)
    job.enter("verdict")
    finals = train_finalists(job, promotion, promoted)
    return judge(job, promoted, finals, assemble(job, promotion, promoted, finals))


def _end(job: LeasedJob[Any], state: JobState, stop_reason: str, error: str | None = None) -> None:
    def end(connection: Connection) -> JobState:
        jobs.end_job(connection, job.lease, state, stop_reason, error)
        return state

    _close(job, job.finished_progress() if state is JobState.SUCCEEDED else job.progress, end)
    if error is not None:
        logger.error("job %d (%s): %s", job.lease.job_id, job.name, error)


def _close(job: LeasedJob[Any], progress: Progress, end: Callable[[Connection], JobState]) -> None:
    """The job's last transaction as its runner's; `end` answers the state that it leaves the job in."""

    def close(connection: Connection) -> JobState:
        jobs.report_progress(connection, job.lease, progress, job.elapsed_seconds)
        return end(connection)

    logger.info("job %d (%s) is %s", job.lease.job_id, job.name, job.write(close))
