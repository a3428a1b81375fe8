"""Ask and tell: trials for outside workers, in any language."""

import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, Path
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine

from api.answers import Completed, ShouldStop, Suggested, SuggestedTrial
from api.dependencies import AnEngine, Reading, StudyName, TheSettings, Writing, find_study
from api.problems import described
from tuner.errors import Conflict, InvalidInput, NotFound, Unavailable
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.telling import CompleteCall, Measurement, SuggestCall
from tuner.store import outside, studies, trials
from tuner.store.attempts import Ending
from tuner.store.clock import rfc3339
from tuner.store.database import reading, writing
from tuner.store.jobs import ENDED, JobState
from tuner.store.outside import Completion
from tuner.store.studies import Study

router = APIRouter(prefix="/v1/studies", tags=["ask and tell"])

T = TypeVar("T")

Number = Annotated[str, Path(description="the trial's number", examples=["0"])]

SUGGESTS: dict[str, Any] = {
    "one trial": {"value": {"client_id": "worker-1"}},
    "one for each of four processes": {"value": {"client_id": "machine-7", "count": 4}},
}
MEASURES: dict[str, Any] = {"after the third epoch": {"value": {"step": 3, "value": 0.87}}}
COMPLETES: dict[str, Any] = {
    "a value": {"value": {"value": 0.91}},
    "given up, as should_stop said": {"value": {"pruned": True}},
    "a configuration that cannot be": {"value": {"infeasible": True, "reason": "more trees than memory"}},
}

POLL_SECONDS = 0.05
MORE_SECONDS = 0.5
"""A client that asks for several trials waits so long for more than it could be given at once."""

JUDGED_SECONDS = 1.0
"""So long a measurement waits for the pruner's word on it."""


@router.post(
    "/{name}/suggest",
    response_model=Suggested,
    responses=described(404, 409, 503),
    summary="Ask for trials to evaluate",
)
async def suggest(
    name: StudyName,
    call: Annotated[SuggestCall, Body(openapi_examples=SUGGESTS)],
    engine: AnEngine,
    settings: TheSettings,
) -> Suggested:
    """The same `client_id` gets its own pending trials back first, their leases renewed: a worker that was restarted goes on.

    An empty list with `done: false` means that every trial left is with another worker; ask again later. 503 where no runner
    works on the study.
    """
    deadline, given = time.monotonic() + settings.suggest_seconds, 0
    while True:
        found, state = await _in_thread(engine, reading, functools.partial(_look, name, call.client_id))
        if found > given:
            answer = await _in_thread(engine, writing, functools.partial(_give, name, call))
            if given == 0:
                deadline = time.monotonic() + MORE_SECONDS
            given = len(answer.trials)
            if given >= call.count:
                return answer
        if state != "open" or time.monotonic() >= deadline:
            return answer if given else _nothing(name, state, settings.suggest_seconds)
        await anyio.sleep(POLL_SECONDS)


@router.post(
    "/{name}/trials/{number}/measure",
    response_model=ShouldStop,
    responses=described(404, 409, 503),
    summary="Report an intermediate value",
)
async def measure(
    name: StudyName,
    number: Number,
    call: Annotated[Measurement, Body(openapi_examples=MEASURES)],
    engine: AnEngine,
) -> ShouldStop:
    """Renews the trial's lease, and answers whether the pruner would end the trial here."""

    def write(connection: Connection) -> int:
        study, trial = _find(connection, name, number)
        outside.measure(connection, study.id, trial, call.step, call.value)
        return trial._trial_id

    trial_id = await _in_thread(engine, writing, write)
    deadline = time.monotonic() + JUDGED_SECONDS
    while True:
        judged = await _in_thread(engine, reading, lambda connection: outside.judgement(connection, trial_id))
        known = judged is None or (judged.step is not None and judged.step >= call.step)
        if known or time.monotonic() >= deadline:
            return ShouldStop(should_stop=judged is not None and judged.should_stop)
        await anyio.sleep(POLL_SECONDS)


@router.get(
    "/{name}/trials/{number}/should-stop",
    response_model=ShouldStop,
    responses=described(404, 409),
    summary="Whether to go on with a trial",
)
def should_stop(name: StudyName, number: Number, connection: Reading) -> ShouldStop:
    """True where the pruner would end the trial, and where nobody waits for it any more."""
    study, trial = _find(connection, name, number)
    judged = outside.judgement(connection, trial._trial_id)
    wanted = study.job is not None and study.job.state not in ENDED and not trial.state.is_finished()
    return ShouldStop(should_stop=not wanted or (judged is not None and judged.should_stop))


@router.post(
    "/{name}/trials/{number}/complete",
    response_model=Completed,
    responses=described(404, 409),
    summary="Tell how a trial ended",
)
def complete(
    name: StudyName,
    number: Number,
    call: Annotated[CompleteCall, Body(openapi_examples=COMPLETES)],
    connection: Writing,
) -> Completed:
    """`late` where the trial's lease had ended, or the trial itself. While nobody else has completed it, a late value counts."""
    study, trial = _find(connection, name, number)
    spec, job = study.spec, studies.own_job(study)
    assert isinstance(spec, OutsideStudySpec)
    told = _completion(call, len(spec.objectives))
    late = outside.complete(connection, study.id, job.id, trial, told)
    ended = trials.load_trial(connection, study.id, trial.number)
    assert ended is not None
    return Completed(number=trial.number, state=ended.state.name, late=late)


def _completion(call: CompleteCall, objectives: int) -> Completion:
    values = (call.value,) if call.value is not None else call.values
    if values is not None:
        if len(values) != objectives:
            raise InvalidInput(f"the study has {objectives} objectives, but got {len(values)} values", ("values",))
        return Completion(TrialState.COMPLETE, Ending.COMPLETE, values)
    if call.failed:
        return Completion(TrialState.FAIL, Ending.ERROR, reason=call.reason)
    outcome = Ending.PRUNER if call.pruned else Ending.INFEASIBLE
    # A sampler of several objectives does not take a trial without values; as FAIL it passes it over.
    state = TrialState.PRUNED if objectives == 1 else TrialState.FAIL
    return Completion(state, outcome, reason=call.reason)


def _find(connection: Connection, name: str, number: str) -> tuple[Study, FrozenTrial]:
    study = _outside_study(connection, name)
    known = number.isdecimal() and len(number) < 10
    trial = trials.load_trial(connection, study.id, int(number)) if known else None
    if trial is None:
        raise NotFound(f"study {name!r} has no trial {number!r}")
    return study, trial


def _outside_study(connection: Connection, name: str) -> Study:
    study = find_study(connection, name)
    if not isinstance(study.spec, OutsideStudySpec):
        raise Conflict(
            f"only a study with an external objective takes outside workers, but {name!r} trains its own nets"
        )
    return study


def _look(name: str, client_id: str, connection: Connection) -> tuple[int, str]:
    """How many trials the client could have now, and whether there may be more: open, taken, done, paused."""
    study = _outside_study(connection, name)
    job = studies.own_job(study)
    assert isinstance(study.spec, OutsideStudySpec)
    if job.state in ENDED:
        return 0, "done"
    if job.state == JobState.PAUSED or job.request is not None:
        return 0, "paused"
    available, total = outside.available(connection, study.id, client_id)
    return available, "taken" if total >= study.spec.budget.n_trials else "open"


def _give(name: str, call: SuggestCall, connection: Connection) -> Suggested:
    study = _outside_study(connection, name)
    assert isinstance(study.spec, OutsideStudySpec)
    found = outside.suggest(connection, study.id, studies.own_job(study).id, call.client_id, call.count)
    expires = rfc3339(datetime.now(UTC) + timedelta(seconds=study.spec.lease_seconds))
    given = [SuggestedTrial(number=trial.number, params=trial.params, lease_expires_at=expires) for trial in found]
    return Suggested(trials=given, done=False)


def _nothing(name: str, state: str, waited: float) -> Suggested:
    if state == "paused":
        raise Conflict(f"a paused study gives no trials; resume {name!r} first")
    if state == "open":
        raise Unavailable(f"no runner has made a trial of {name!r} ready within {waited:g} s; ask again")
    return Suggested(trials=[], done=state == "done")


async def _in_thread(engine: Engine, transaction: Callable[[Engine], object], action: Callable[[Connection], T]) -> T:
    def run() -> T:
        with transaction(engine) as connection:  # type: ignore[attr-defined]
            return action(connection)

    return await run_sync(run)
