"""Jobs: the work on studies."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection

from api import cursors, views
from api.answers import JobAnswer, Page
from api.dependencies import Cursor, Limit, Reading, Writing, find_job
from api.problems import described
from tuner.store import jobs, studies
from tuner.store.jobs import Job, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(examples=["1"])]


@router.get("", response_model=Page[JobAnswer], summary="List jobs, the newest first")
def get_jobs(
    connection: Reading, state: Annotated[JobState | None, Query()] = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[JobAnswer]:
    found = jobs.list_jobs(connection, state, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda job: int(job.id))
    return Page(items=[_answer(connection, job) for job in page], next_cursor=next_cursor)


@router.get("/{job_id}", response_model=JobAnswer, responses=described(404), summary="One job")
def get_job(job_id: JobId, connection: Reading) -> JobAnswer:
    return _answer(connection, find_job(connection, job_id))


@router.post(
    "/{job_id}/cancel", status_code=202, response_model=JobAnswer, responses=described(404, 409), summary="Cancel a job"
)
def cancel(job_id: JobId, connection: Writing) -> JobAnswer:
    jobs.cancel(connection, find_job(connection, job_id))
    return _answer(connection, find_job(connection, job_id))


def _answer(connection: Connection, job: Job) -> JobAnswer:
    return views.job_answer(job, studies.name_of(connection, job.study_id))
