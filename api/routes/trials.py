"""A study's trials, those of foreign studies too."""

from typing import Annotated

from fastapi import APIRouter, Query
from optuna.trial import TrialState

from api import cursors, views
from api.answers import Page, TrialAnswer, TrialStateName, TrialWithCurves
from api.dependencies import Cursor, Limit, Reading, StudyName, find_study
from api.problems import described
from tuner.errors import NotFound
from tuner.store import trial_pages, trials
from tuner.store.trial_pages import Sort

router = APIRouter(prefix="/v1/studies/{name}/trials", tags=["trials"])


@router.get("", response_model=Page[TrialAnswer], responses=described(404), summary="A page of trials")
def get_trials(
    name: StudyName,
    connection: Reading,
    state: Annotated[TrialStateName | None, Query()] = None,
    sort: Annotated[Sort, Query(description="- means descending; trials without a value come last")] = "number",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TrialAnswer]:
    study = find_study(connection, name)
    wanted = TrialState[state] if state is not None else None
    found = trial_pages.page(connection, study.id, wanted, sort, cursors.decode(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda trial: trial_pages.key(trial, sort))
    return Page(items=views.trial_answers(connection, study, page), next_cursor=next_cursor)


@router.get("/{number}", response_model=TrialWithCurves, responses=described(404), summary="One trial with its curves")
def get_trial(name: StudyName, number: str, connection: Reading) -> TrialWithCurves:
    study = find_study(connection, name)
    known = number.isdecimal() and len(number) < 10
    trial = trials.load_trial(connection, study.id, int(number)) if known else None
    if trial is None:
        raise NotFound(f"study {name!r} has no trial {number!r}")
    return views.trial_with_curves(connection, study, trial)
