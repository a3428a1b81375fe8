"""Studies: posted, listed, watched, paused, resumed, cancelled."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from api import cursors, views
from api.answers import Page, StudyPosted, StudyState, StudyStatus, StudySummary
from api.dependencies import Cursor, Limit, Reading, StudyName, TheSettings, Writing, find_study
from api.headers import located
from api.problems import described
from tuner.errors import Conflict, InvalidInput
from tuner.specs.outside_study import AnyStudySpec
from tuner.specs.spec import Spec, left_out
from tuner.specs.study import BudgetSpec
from tuner.store import further_jobs, jobs, posting, purge, studies, study_pages
from tuner.store.jobs import UNFINISHED, JobState

router = APIRouter(prefix="/v1/studies", tags=["studies"])

EXAMPLES: dict[str, Any] = {
    "the quickstart": {"value": {"name": "mnist-quick"}},
    "search only": {"value": {"name": "shallow", "promotion": None, "budget": {"n_trials": 30}}},
    "an own space": {
        "value": {
            "name": "relu-only",
            "search_space": {
                "activation": "relu",
                "depth": {"low": 1, "high": 3},
                "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
                "batch_size": {"choices": [32, 64]},
            },
            "budget": {"n_trials": 40, "timeout_seconds": 300},
            "promotion": {"top_k": 2, "epochs": 15},
        }
    },
    "an outside objective": {
        "value": {
            "name": "forest",
            "objective": "external",
            "search_space": {
                "trees": {"type": "int", "low": 10, "high": 500, "log": True},
                "criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
            },
            "objectives": [{"metric": "accuracy", "direction": "maximize"}],
            "budget": {"n_trials": 30},
        }
    },
}


EDITS: dict[str, Any] = {
    "more trials": {"value": {"n_trials": 80}},
    "on one worker, without a time limit": {"value": {"parallel": 1, "timeout_seconds": None}},
}


class BudgetEdit(Spec):
    """What may change while a study is under way; a field left out stays as it is."""

    n_trials: int = Field(default_factory=left_out, ge=1, le=100_000, description="the new total", examples=[80])
    timeout_seconds: float | None = Field(None, gt=0, description="null: no limit")
    parallel: int | None = Field(None, ge=1, le=1024, description="null: every worker")


@router.post(
    "",
    status_code=202,
    response_model=StudyPosted,
    responses={**located(202, "its job's address"), **described(409, 413)},
    summary="Post a study",
)
def post_study(
    spec: Annotated[AnyStudySpec, Body(openapi_examples=EXAMPLES)],
    response: Response,
    connection: Writing,
    settings: TheSettings,
) -> StudyPosted:
    """Writes the study and queues its job, which searches, promotes and tests."""
    job_id = posting.post_study(connection, spec, settings)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    study = views.study_status(connection, find_study(connection, spec.name))
    assert study.job is not None
    return StudyPosted(study=study, job=study.job)


@router.get("", response_model=Page[StudySummary], summary="List studies, the newest first")
def get_studies(
    connection: Reading,
    state: Annotated[StudyState | None, Query(description="only studies in this state", examples=["running"])] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StudySummary]:
    """Also those that plain Optuna scripts have made in the same database; their state is `foreign`."""
    wanted = JobState(state) if state is not None and state != "foreign" else state
    found = study_pages.page(connection, wanted, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda study: study.id)
    return Page(items=[views.study_summary(study) for study in page], next_cursor=next_cursor)


@router.get("/{name}", response_model=StudyStatus, responses=described(404), summary="A study's status")
def get_study(name: StudyName, connection: Reading) -> StudyStatus:
    """State, trials, progress, the best so far, and what the promotion has found."""
    return views.study_status(connection, find_study(connection, name))


@router.patch(
    "/{name}", response_model=StudyStatus, responses=described(404, 409), summary="Edit a running study's budget"
)
def patch_study(
    name: StudyName, edit: Annotated[BudgetEdit, Body(openapi_examples=EDITS)], connection: Writing
) -> StudyStatus:
    """The running job follows within a second."""
    study = find_study(connection, name)
    try:
        budget = BudgetSpec(**{**studies.own_spec(study).budget.model_dump(), **edit.model_dump(exclude_unset=True)})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{first['loc'][0]}: {first['msg']}", tuple(first["loc"])) from error
    further_jobs.edit_budget(connection, study, budget)
    return views.study_status(connection, find_study(connection, name))


@router.delete("/{name}", status_code=204, responses=described(404, 409), summary="Delete an ended study")
def delete_study(name: StudyName, connection: Writing) -> None:
    """It is gone from every list and from the dashboard, and its name is free; it can be restored."""
    studies.delete_study(connection, find_study(connection, name))


@router.post(
    "/{name}/restore", response_model=StudyStatus, responses=described(404, 409), summary="Restore a deleted study"
)
def restore_study(name: StudyName, connection: Writing) -> StudyStatus:
    """The one that was last deleted under this name."""
    studies.restore_study(connection, name)
    return views.study_status(connection, find_study(connection, name))


@router.post("/{name}/purge", status_code=204, responses=described(404, 409), summary="Purge deleted studies")
def purge_studies(name: StudyName, connection: Writing) -> None:
    """Every study that was deleted under this name is gone for good: none of them can be restored, and within seconds a runner
    removes their rows and files. One that a schedule's champion comes from stays until the schedule has another."""
    for study_id in studies.find_deleted(connection, name):
        purge.begin_purge(connection, study_id)


@router.post(
    "/{name}/pause", status_code=202, response_model=StudyStatus, responses=described(404, 409), summary="Pause a study"
)
def pause(name: StudyName, connection: Writing) -> StudyStatus:
    """Acts within 2 s, in the middle of an epoch too; the trials that ran will run again under their numbers."""
    return _control(connection, name, jobs.pause)


@router.post(
    "/{name}/resume",
    status_code=202,
    response_model=StudyStatus,
    responses=described(404, 409),
    summary="Resume a study",
)
def resume(name: StudyName, connection: Writing) -> StudyStatus:
    """Its job waits for a runner again, and goes on where it was paused."""
    return _control(connection, name, jobs.resume)


@router.post(
    "/{name}/cancel",
    status_code=202,
    response_model=StudyStatus,
    responses=described(404, 409),
    summary="Cancel a study",
)
def cancel(name: StudyName, connection: Writing) -> StudyStatus:
    """Acts within 2 s; the trials that ran or waited end as FAIL with the reason `cancelled`. Further jobs that wait are
    cancelled too."""
    study = find_study(connection, name)
    if studies.own_job(study).state not in UNFINISHED:
        raise Conflict(f"only an unfinished study can be cancelled, but {name!r} is {studies.own_job(study).state}")
    jobs.cancel_all(connection, study.id)
    return views.study_status(connection, find_study(connection, name))


def _control(connection: Connection, name: str, act: Any) -> StudyStatus:
    act(connection, studies.own_job(find_study(connection, name)))
    return views.study_status(connection, find_study(connection, name))
