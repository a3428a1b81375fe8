"""Further work on a study that is there."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from api import views
from api.answers import JobAnswer
from api.dependencies import StudyName, Writing, find_job, find_study
from api.headers import located
from api.problems import described
from tuner.specs.job import Work
from tuner.store import further_jobs, studies

router = APIRouter(prefix="/v1/studies/{name}/jobs", tags=["jobs"])

EXAMPLES: dict[str, Any] = {
    "search on": {"value": {"kind": "search", "n_trials": 100}},
    "promote anew": {"value": {"kind": "promote", "top_k": 5, "epochs": 20}},
    "promote anew, with a bag and a student": {"value": {"kind": "ensemble", "ensemble": {"members": 3}}},
    "search on, when the job under way has ended": {"value": {"kind": "search", "n_trials": 200, "queue": True}},
}


@router.post(
    "",
    status_code=202,
    response_model=JobAnswer,
    responses={**located(202, "the new job's address"), **described(404, 409)},
    summary="Queue further work on a study",
)
def post_job(
    name: StudyName, work: Annotated[Work, Body(openapi_examples=EXAMPLES)], response: Response, connection: Writing
) -> JobAnswer:
    """`search` goes on, on the subset, to a new total of trials; `promote` promotes the best of all trials anew; `ensemble` also
    makes a bag and a student of the winner. The study's last job must have ended, or `queue` be set."""
    study = find_study(connection, name)
    studies.own_spec(study)
    job_id = further_jobs.queue_job(connection, study.id, work)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    return views.job_answer(find_job(connection, str(job_id)), study.name)
