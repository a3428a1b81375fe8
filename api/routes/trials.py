"""A study's trials, those of foreign studies too."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from api import cursors, views
from api.answers import Page, TrialAnswer, TrialStateName, TrialWithCurves, VoidCall
from api.dependencies import Cursor, Limit, Reading, StudyName, TheFindings, Writing, find_study
from api.findings import Findings
from api.headers import located
from api.problems import described
from tuner.errors import NotFound
from tuner.specs.enqueued_trial import EnqueuedTrial
from tuner.store import enqueued, studies, trial_pages, trials, voided
from tuner.store.studies import Study
from tuner.store.trial_pages import Sort

router = APIRouter(prefix="/v1/studies/{name}/trials", tags=["trials"])

Number = Annotated[str, Path(description="the trial's number", examples=["0"])]

EXAMPLES: dict[str, Any] = {
    "a wide net": {"value": {"hyperparameters": {"depth": 1, "width": 512, "dropout": 0.3}}},
    "another optimizer": {
        "value": {"hyperparameters": {"optimizer": "momentum", "learning_rate": 0.02, "shift_pixels": 1}}
    },
}

VOIDS: dict[str, Any] = {"with its reason": {"value": {"reason": "the machine was out of order"}}}


@router.get("", response_model=Page[TrialAnswer], responses=described(404), summary="A page of trials")
def get_trials(
    name: StudyName,
    connection: Reading,
    findings: TheFindings,
    state: Annotated[
        TrialStateName | None, Query(description="only trials in this state", examples=["COMPLETE"])
    ] = None,
    sort: Annotated[
        Sort, Query(description="- means descending; trials without a value come last", examples=["-value"])
    ] = "number",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TrialAnswer]:
    """Of any study, foreign ones too; pages stay right while trials arrive."""
    study = find_study(connection, name)
    wanted = TrialState[state] if state is not None else None
    found = trial_pages.page(connection, study.id, wanted, sort, cursors.decode(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda trial: trial_pages.key(trial, sort))
    return Page(items=views.trial_answers(connection, study, page, findings), next_cursor=next_cursor)


@router.post(
    "",
    status_code=201,
    response_model=TrialAnswer,
    responses={**located(201, "the trial's address"), **described(404, 409)},
    summary="Enqueue a trial",
)
def post_trial(
    name: StudyName,
    wanted: Annotated[EnqueuedTrial, Body(openapi_examples=EXAMPLES)],
    response: Response,
    connection: Writing,
    findings: TheFindings,
) -> TrialAnswer:
    """It is tried next, whatever the sampler would have asked for, and counts like any other trial. What is not given is as the
    study's space fixes it, or else as in the default configuration. Only while the study searches, and up to its total of trials.
    """
    study = find_study(connection, name)
    studies.own_spec(study)
    number = enqueued.enqueue_trial(connection, study.id, wanted.hyperparameters)
    response.headers["Location"] = f"/v1/studies/{name}/trials/{number}"
    return _answer(connection, study, str(number), findings)


@router.get("/{number}", response_model=TrialWithCurves, responses=described(404), summary="One trial with its curves")
def get_trial(name: StudyName, number: Number, connection: Reading, findings: TheFindings) -> TrialWithCurves:
    """Its history is every start of it. It runs again, under its number, with the same hyperparameters and seed, after `killed`
    and after `out_of_memory` by the kernel (until three workers are lost), after `paused`, `runner_ended` and `runner_lost`. It
    does not where it would end the same way again: `diverged`, `out_of_memory` in its own worker, `time_limit`, `error`.
    """
    study = find_study(connection, name)
    return views.trial_with_curves(connection, study, _find(connection, study, number), findings)


@router.post(
    "/{number}/void", response_model=TrialAnswer, responses=described(404, 409), summary="Declare an ended trial void"
)
def void(
    name: StudyName,
    number: Number,
    connection: Writing,
    findings: TheFindings,
    call: Annotated[VoidCall | None, Body(openapi_examples=VOIDS)] = None,
) -> TrialAnswer:
    """It stays in the history, and is out of the best, of the sampler's view and of promotion's candidates; a promotion under way
    does not let it win. Optuna's own tools take it for infeasible. Its point is not drawn again: enqueue it for that. Twice is as
    once.
    """
    study = find_study(connection, name)
    studies.own_spec(study)
    voided.void_trial(connection, study.id, _find(connection, study, number), call.reason if call is not None else None)
    return _answer(connection, study, number, findings)


@router.delete(
    "/{number}/void", response_model=TrialAnswer, responses=described(404, 409), summary="Let a void trial count again"
)
def restore(name: StudyName, number: Number, connection: Writing, findings: TheFindings) -> TrialAnswer:
    """It is in the best, in the sampler's view and among promotion's candidates again. Twice is as once."""
    study = find_study(connection, name)
    studies.own_spec(study)
    voided.restore_trial(connection, study.id, _find(connection, study, number))
    return _answer(connection, study, number, findings)


def _find(connection: Connection, study: Study, number: str) -> FrozenTrial:
    known = number.isdecimal() and len(number) < 10
    trial = trials.load_trial(connection, study.id, int(number)) if known else None
    if trial is None:
        raise NotFound(f"study {study.name!r} has no trial {number!r}")
    return trial


def _answer(connection: Connection, study: Study, number: str, findings: Findings) -> TrialAnswer:
    found = [_find(connection, study, number)]
    [answer] = views.trial_answers(connection, study, found, findings)
    return answer
