"""Trials in the hands of outside workers: suggested, measured and completed in the API's own transactions.

    WAITING ──suggest──▶ RUNNING ──complete──▶ COMPLETE | PRUNED | FAIL
       ▲                    │
       └──── the lease ─────┘   (the study's coordinator, by its own clock)

Each change raises the study's revision, by which its coordinator hears of it. What is told too late is never an error: while
nobody else has completed the trial, it counts; afterwards it stands in the trial's history and counts for nothing.
"""

import json
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from tuner.errors import Conflict
from tuner.store import events, revisions, trials
from tuner.store.attempts import Ending
from tuner.store.clock import now, optuna_now
from tuner.store.tables import attempts
from tuner.store.trials import REPORTS, TRIALS


@dataclass(frozen=True)
class Completion:
    """`values` of a COMPLETE trial, one an objective; `reason` of another."""

    state: TrialState
    outcome: Ending
    values: tuple[float, ...] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What the pruner says of a trial, and of which of its steps that is."""

    step: int | None
    should_stop: bool


def suggest(connection: Connection, study_id: int, job_id: int, client_id: str, count: int) -> list[FrozenTrial]:
    """Up to `count` trials that are the client's now: those it has already, their leases renewed, then such as wait."""
    mine = and_(_open(study_id), attempts.c.client_id == client_id)
    connection.execute(update(attempts).where(mine).values(renewals=attempts.c.renewals + 1))
    ids = list(connection.execute(select(attempts.c.trial_id).where(mine).order_by(attempts.c.id)).scalars())[:count]
    waiting = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id, TRIALS.c.state == TrialState.WAITING)
    for trial_id in connection.execute(waiting.order_by(TRIALS.c.number)).scalars().all():
        if len(ids) >= count:
            break
        if _take(connection, study_id, job_id, client_id, trial_id):
            ids.append(trial_id)
    rows = connection.execute(select(TRIALS).where(TRIALS.c.trial_id.in_(ids)).order_by(TRIALS.c.number)).all()
    return trials.frozen(connection, rows)


def available(connection: Connection, study_id: int, client_id: str) -> tuple[int, int]:
    """How many trials the client could have now, its own among them; and how many the study has in all."""
    mine = select(func.count()).where(_open(study_id), attempts.c.client_id == client_id)
    states = trials.count_states(connection, [study_id])[study_id]
    waiting = states.get(TrialState.WAITING, 0)
    return int(connection.execute(mine).scalar_one()) + waiting, sum(states.values())


def open_leases(connection: Connection, study_id: int) -> dict[int, tuple[int, int]]:
    """Of each trial that somebody works on, by its id: the attempt and how often it was renewed."""
    query = select(attempts.c.trial_id, attempts.c.id, attempts.c.renewals).where(_open(study_id))
    return {row.trial_id: (row.id, row.renewals) for row in connection.execute(query)}


def _take(connection: Connection, study_id: int, job_id: int, client_id: str, trial_id: int) -> bool:
    """False where another client was quicker."""
    if not _take_up(connection, trial_id):
        return False
    row = {"trial_id": trial_id, "study_id": study_id, "job_id": job_id, "fence": 0, "client_id": client_id}
    connection.execute(insert(attempts).values(started_at=now(), **row))
    number = connection.execute(select(TRIALS.c.number).where(TRIALS.c.trial_id == trial_id)).scalar_one()
    events.record(connection, study_id, job_id, "trial_started", number=number, client_id=client_id)
    revisions.raise_revision(connection, study_id)
    return True


def _take_up(connection: Connection, trial_id: int) -> bool:
    """Set a WAITING trial RUNNING; False where it does not wait."""
    waiting = (TRIALS.c.trial_id == trial_id) & (TRIALS.c.state == TrialState.WAITING)
    values = {"state": TrialState.RUNNING, "datetime_start": optuna_now()}
    return connection.execute(update(TRIALS).where(waiting).values(values)).rowcount == 1


def measure(connection: Connection, study_id: int, trial: FrozenTrial, step: int, value: float) -> None:
    """Write an intermediate value, the newest one of its step, and renew the lease. Raises Conflict where the trial has ended."""
    if trial.state.is_finished():
        raise Conflict(f"only an unfinished trial can be measured, but trial {trial.number} is {trial.state.name}")
    trial_id = trial._trial_id
    connection.execute(delete(REPORTS).where(REPORTS.c.trial_id == trial_id, REPORTS.c.step == step))
    trials.add_reports(connection, [(trial_id, step, value)])
    renew(connection, trial_id)
    events.record(connection, study_id, None, "epoch", number=trial.number, epoch=step, value=value)
    revisions.raise_revision(connection, study_id)


def renew(connection: Connection, trial_id: int) -> None:
    mine = (attempts.c.trial_id == trial_id) & attempts.c.ended_at.is_(None)
    connection.execute(update(attempts).where(mine).values(renewals=attempts.c.renewals + 1))


def judgement(connection: Connection, trial_id: int) -> Judgement | None:
    """Of the trial's attempt; None where nobody works on it."""
    query = select(attempts.c.judged_step, attempts.c.should_stop)
    row = connection.execute(query.where(attempts.c.trial_id == trial_id, attempts.c.ended_at.is_(None))).one_or_none()
    return None if row is None else Judgement(row.judged_step, row.should_stop)


def judge(connection: Connection, trial_id: int, verdict: Judgement) -> None:
    mine = (attempts.c.trial_id == trial_id) & attempts.c.ended_at.is_(None)
    connection.execute(update(attempts).where(mine).values(judged_step=verdict.step, should_stop=verdict.should_stop))


def complete(connection: Connection, study_id: int, job_id: int, trial: FrozenTrial, told: Completion) -> bool:
    """Write the trial's end; whether it was told too late: after its lease had ended, or after another end.

    Raises Conflict where the trial was never suggested to anybody.
    """
    tried = connection.execute(select(attempts).where(attempts.c.trial_id == trial._trial_id)).all()
    if not tried:
        raise Conflict(f"only a suggested trial can be completed, but nobody was given trial {trial.number}")
    late = all(attempt.ended_at is not None for attempt in tried)
    if trial.state.is_finished():
        _note_late(connection, study_id, job_id, trial, told)
        return True
    ended = _ended(trial, told)
    _take_up(connection, trial._trial_id)  # a trial given back after its lease waits, and its value is as good as any
    if not trials.finish_trial(connection, trial._trial_id, ended):
        _note_late(connection, study_id, job_id, trial, told)
        return True
    if late:
        _note_late(connection, study_id, job_id, trial, told)
    mine = (attempts.c.trial_id == trial._trial_id) & attempts.c.ended_at.is_(None)
    connection.execute(update(attempts).where(mine).values(outcome=told.outcome, detail=told.reason, ended_at=now()))
    data = {"number": trial.number, "state": told.state.name, "value": ended.values[0] if ended.values else None}
    events.record(connection, study_id, job_id, "trial_finished", **data)
    revisions.raise_revision(connection, study_id)
    return late


def _ended(trial: FrozenTrial, told: Completion) -> FrozenTrial:
    reason = {} if told.state is TrialState.COMPLETE else {"reason": str(told.outcome)}
    detail = {"detail": told.reason} if told.reason else {}
    last = trial.intermediate_values.get(max(trial.intermediate_values, default=0))
    values = told.values
    if told.state is TrialState.PRUNED and last is not None and told.outcome is Ending.PRUNER:
        values = (last,)  # as Optuna does
    return FrozenTrial(
        number=trial.number,
        trial_id=trial._trial_id,
        state=told.state,
        value=None,
        values=values,
        datetime_start=trial.datetime_start,
        datetime_complete=None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**trial.user_attrs, **reason, **detail},
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )


def _note_late(connection: Connection, study_id: int, job_id: int, trial: FrozenTrial, told: Completion) -> None:
    detail = json.dumps({"state": told.state.name, "values": told.values, "reason": told.reason})
    row = {"trial_id": trial._trial_id, "study_id": study_id, "job_id": job_id, "fence": 0, "started_at": now()}
    connection.execute(insert(attempts).values(ended_at=now(), outcome=Ending.LATE, detail=detail, **row))


def _open(study_id: int) -> ColumnElement[bool]:
    return and_(attempts.c.study_id == study_id, attempts.c.ended_at.is_(None))
