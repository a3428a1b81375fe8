"""Schedules: studies that run again and again, by cron or in even intervals."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from pydantic import ValidationError
from sqlalchemy import Connection

from api import cursors
from api.answers import ChampionAnswer, DecisionAnswer, Page, ScheduleAnswer, ScheduleRunAnswer
from api.dependencies import Cursor, Limit, Reading, TheSettings, Writing
from api.headers import located
from api.problems import described
from tuner.errors import InvalidInput
from tuner.settings import Settings
from tuner.specs.schedule import ScheduleEdit, ScheduleSpec
from tuner.store import champions, firing, posting, schedule_runs, schedules
from tuner.store.champions import Champion, Decision
from tuner.store.clock import rfc3339
from tuner.store.schedule_runs import ScheduleRun
from tuner.store.schedules import Schedule

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

EXAMPLES: dict[str, Any] = {
    "every night": {
        "value": {
            "name": "nightly",
            "cron": "30 2 * * *",
            "time_zone": "Europe/Berlin",
            "study": {"name": "nightly-{date}", "budget": {"n_trials": 60}},
        }
    },
    "one study, six trials more every hour": {
        "value": {
            "name": "hourly",
            "interval_seconds": 3600,
            "policy": "continue",
            "overlap": "queue",
            "study": {"name": "growing", "budget": {"n_trials": 6}, "promotion": None},
        }
    },
}

EDITS: dict[str, Any] = {
    "pause": {"value": {"paused": True}},
    "on workdays only": {"value": {"cron": "30 2 * * MON-FRI"}},
}

ScheduleName = Annotated[str, Path(description="a schedule's name", examples=["nightly"])]


@router.post(
    "",
    status_code=201,
    response_model=ScheduleAnswer,
    responses={**located(201, "the schedule's address"), **described(409)},
    summary="Create a schedule",
)
def post_schedule(
    spec: Annotated[ScheduleSpec, Body(openapi_examples=EXAMPLES)],
    response: Response,
    connection: Writing,
    settings: TheSettings,
) -> ScheduleAnswer:
    """It is first due at cron's next time, or an interval from now."""
    now = datetime.now(UTC)
    _check_study(connection, spec, now, settings)
    schedules.create_schedule(connection, spec, now)
    response.headers["Location"] = f"/v1/schedules/{spec.name}"
    return _answer(connection, schedules.find_schedule(connection, spec.name))


@router.get("", response_model=Page[ScheduleAnswer], summary="List schedules, the newest first")
def get_schedules(connection: Reading, cursor: Cursor = None, limit: Limit = 50) -> Page[ScheduleAnswer]:
    """Each with its next due time, its last run and its champion."""
    found = schedules.list_schedules(connection, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda schedule: schedule.id)
    return Page(items=_answers(connection, page), next_cursor=next_cursor)


@router.get("/{name}", response_model=ScheduleAnswer, responses=described(404), summary="One schedule")
def get_schedule(name: ScheduleName, connection: Reading) -> ScheduleAnswer:
    """When it is due next, what came of its last run, and which model is its champion."""
    return _answer(connection, schedules.find_schedule(connection, name))


@router.patch("/{name}", response_model=ScheduleAnswer, responses=described(404), summary="Edit a schedule")
def patch_schedule(
    name: ScheduleName,
    edit: Annotated[ScheduleEdit, Body(openapi_examples=EDITS)],
    connection: Writing,
    settings: TheSettings,
) -> ScheduleAnswer:
    """Pause, resume, or change it. Where its times change, or it is resumed, the next one is computed from now."""
    now, schedule = datetime.now(UTC), schedules.find_schedule(connection, name, lock=True)
    try:
        spec = schedule.spec.edited(edit)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["msg"]).removeprefix("Value error, "), tuple(first["loc"])) from error
    if "study" in edit.model_fields_set:
        _check_study(connection, spec, now, settings)
    schedules.edit_schedule(connection, schedule, spec, now)
    return _answer(connection, schedules.find_schedule(connection, name))


@router.delete("/{name}", status_code=204, responses=described(404), summary="Delete a schedule")
def delete_schedule(name: ScheduleName, connection: Writing) -> None:
    """With the history of its runs. The studies and jobs that it has started stay, and its name is free."""
    schedules.delete_schedule(connection, schedules.find_schedule(connection, name, lock=True))


@router.post(
    "/{name}/run",
    status_code=202,
    response_model=ScheduleRunAnswer,
    responses={**located(202, "the job's address, if one was queued", always=False), **described(404)},
    summary="Run a schedule's study now",
)
def run_schedule(
    name: ScheduleName, response: Response, connection: Writing, settings: TheSettings
) -> ScheduleRunAnswer:
    """Beside its due times, also while it is paused; `overlap` holds."""
    schedule = schedules.find_schedule(connection, name, lock=True)
    run = firing.fire_now(connection, schedule, datetime.now(UTC), settings)
    if run.job_id is not None:
        response.headers["Location"] = f"/v1/jobs/{run.job_id}"
    return _run_answer(run)


@router.get(
    "/{name}/runs",
    response_model=Page[ScheduleRunAnswer],
    responses=described(404),
    summary="A schedule's runs, the newest first",
)
def get_runs(
    name: ScheduleName, connection: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[ScheduleRunAnswer]:
    """Every due time that was settled, also where nothing was started."""
    schedule = schedules.find_schedule(connection, name)
    found = schedule_runs.list_runs(connection, schedule.id, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda run: run.id)
    return Page(items=[_run_answer(run) for run in page], next_cursor=next_cursor)


@router.get(
    "/{name}/champions",
    response_model=Page[DecisionAnswer],
    responses=described(404),
    summary="A schedule's champions and their challengers, the newest first",
)
def get_champions(
    name: ScheduleName, connection: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[DecisionAnswer]:
    """One decision for every job of the schedule that has promoted a model: which one is the champion since, and why."""
    schedule = schedules.find_schedule(connection, name)
    found = champions.list_decisions(connection, schedule.id, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda decision: decision.id)
    return Page(items=[_decision_answer(decision) for decision in page], next_cursor=next_cursor)


def _check_study(connection: Connection, spec: ScheduleSpec, time: datetime, settings: Settings) -> None:
    try:
        posting.check(connection, spec.study.at(time), settings)
    except InvalidInput as error:
        raise InvalidInput(str(error), ("study", *error.loc)) from error


def _answer(connection: Connection, schedule: Schedule) -> ScheduleAnswer:
    [answer] = _answers(connection, [schedule])
    return answer


def _answers(connection: Connection, found: Sequence[Schedule]) -> list[ScheduleAnswer]:
    ids = [schedule.id for schedule in found]
    runs, standing = schedule_runs.last_runs(connection, ids), champions.standing(connection, ids)
    return [
        ScheduleAnswer(
            **dict(schedule.spec),
            next_fire_time=None if schedule.next_fire_time is None else rfc3339(schedule.next_fire_time),
            last_run=_run_answer(runs[schedule.id]) if schedule.id in runs else None,
            champion=_champion_answer(standing[schedule.id]) if schedule.id in standing else None,
            created_at=schedule.created_at,
        )
        for schedule in found
    ]


def _champion_answer(champion: Champion) -> ChampionAnswer:
    return ChampionAnswer(
        model=champion.model_id,
        study=champion.study,
        since=champion.since,
        comparison=_decision_answer(champion.last),
    )


def _decision_answer(decision: Decision) -> DecisionAnswer:
    return DecisionAnswer(
        **dict(decision.contest),
        verdict=decision.verdict,
        model=decision.model_id,
        job=decision.job_id,
        study=decision.study,
        decided_at=decision.decided_at,
    )


def _run_answer(run: ScheduleRun) -> ScheduleRunAnswer:
    return ScheduleRunAnswer(
        fire_time=rfc3339(run.fire_time),
        outcome=run.outcome,
        reason=run.reason,
        started_at=None if run.started_at is None else rfc3339(run.started_at),
        job=run.job_id,
        study=run.study,
    )
