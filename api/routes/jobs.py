"""Jobs: the work on studies."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import Field
from sqlalchemy import Connection

from api import cursors, log_lines, views
from api.answers import JobAnswer, LogEntry, Page
from api.dependencies import Cursor, Limit, Reading, Writing, find_job
from api.problems import described
from tuner.specs.spec import Spec
from tuner.store import events, jobs
from tuner.store.events import Event, Kind
from tuner.store.jobs import JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="the job's id", examples=["1"])]

EDITS: dict[str, Any] = {"before the others": {"value": {"priority": 10}}}

NEXT_PAGE: dict[str, Any] = {
    "Link": {
        "schema": {"type": "string", "pattern": '^<.*>; rel="next"$'},
        "description": "of lines alone: the address of the next page, if there is one",
    }
}


class JobEdit(Spec):
    """What may change of a job that has not ended."""

    priority: int = Field(
        ge=-100, le=100, description="of the jobs that wait, a higher one is started first", examples=[10]
    )


@router.get("", response_model=Page[JobAnswer], summary="List jobs, the newest first")
def get_jobs(
    connection: Reading,
    state: Annotated[JobState | None, Query(description="only jobs in this state", examples=["running"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[JobAnswer]:
    """The work on all studies, whatever became of it; of deleted studies there are none."""
    found = jobs.list_jobs(connection, state, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda job: int(job.id))
    return Page(items=[views.job_answer(job, job.study) for job in page], next_cursor=next_cursor)


@router.get("/{job_id}", response_model=JobAnswer, responses=described(404), summary="One job")
def get_job(job_id: JobId, connection: Reading) -> JobAnswer:
    """Its state, how far it is, and why it has ended."""
    return _answer(connection, job_id)


@router.post(
    "/{job_id}/cancel", status_code=202, response_model=JobAnswer, responses=described(404, 409), summary="Cancel a job"
)
def cancel(job_id: JobId, connection: Writing) -> JobAnswer:
    """Acts within 2 s; what it has finished stays. Refused of a job that has ended."""
    jobs.cancel(connection, find_job(connection, job_id))
    return _answer(connection, job_id)


@router.post(
    "/{job_id}/retry", status_code=202, response_model=JobAnswer, responses=described(404, 409), summary="Retry a job"
)
def retry(job_id: JobId, connection: Writing) -> JobAnswer:
    """Queues a failed or cancelled job again: the study's newest. What it has finished stays finished; its time limit and its
    `max_failed` count from now."""
    jobs.retry(connection, find_job(connection, job_id))
    return _answer(connection, job_id)


@router.patch(
    "/{job_id}", response_model=JobAnswer, responses=described(404, 409), summary="Edit an unfinished job's priority"
)
def patch_job(job_id: JobId, edit: Annotated[JobEdit, Body(openapi_examples=EDITS)], connection: Writing) -> JobAnswer:
    """Of the jobs that wait, the one with the highest priority is started first; a job that runs goes on."""
    jobs.set_priority(connection, find_job(connection, job_id), edit.priority)
    return _answer(connection, job_id)


@router.get(
    "/{job_id}/log",
    response_model=Page[LogEntry],
    responses={200: {"content": {"text/plain": {}}, "headers": NEXT_PAGE}, **described(404)},
    summary="A page of a job's log, the oldest first",
)
def get_log(
    job_id: JobId,
    connection: Reading,
    request: Request,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    kind: Annotated[list[Kind] | None, Query(description="only these kinds", examples=[["job", "stage"]])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[LogEntry] | Response:
    """Every change of the job, of its trials and of its runs. With `Accept: text/plain` it comes as lines, and the address of
    the next page, if there is one, in the header `Link`."""
    job = find_job(connection, job_id)
    found = events.of_job(connection, job.id, cursors.decode_int(cursor) or 0, limit + 1, kind)
    page, next_cursor = cursors.cut(found, limit, lambda event: event.id)
    if "text/plain" in accept:
        lines = "".join(f"{log_lines.line(event)}\n" for event in page)
        later = request.url.include_query_params(cursor=next_cursor)
        link = {} if next_cursor is None else {"Link": f'<{later.path}?{later.query}>; rel="next"'}
        return PlainTextResponse(lines, headers=link)
    return Page(items=[_entry(event) for event in page], next_cursor=next_cursor)


def _entry(event: Event) -> LogEntry:
    return LogEntry(id=event.id, at=event.at, kind=event.kind, data=event.data, text=log_lines.in_words(event))


def _answer(connection: Connection, job_id: JobId) -> JobAnswer:
    job = find_job(connection, job_id)
    return views.job_answer(job, job.study)
