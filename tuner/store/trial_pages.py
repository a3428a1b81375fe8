"""Pages of a study's trials, filtered and sorted in SQL; a page begins after a key, so it stays right while trials arrive."""

from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from tuner.errors import InvalidInput
from tuner.store.trials import LARGEST, TRIALS, VALUES, frozen, sortable_value

Sort = Literal["number", "-number", "value", "-value"]


def page(
    connection: Connection, study_id: int, state: TrialState | None, sort: Sort, after: str | None, limit: int
) -> list[FrozenTrial]:
    """At most `limit` trials after the trial with the key `after`; those without a value come last in either order."""
    on = (VALUES.c.trial_id == TRIALS.c.trial_id) & (VALUES.c.objective == 0)
    query = select(TRIALS).outerjoin(VALUES, on).where(TRIALS.c.study_id == study_id).limit(limit)
    if state is not None:
        query = query.where(TRIALS.c.state == state)
    number = TRIALS.c.number
    if sort in ("number", "-number"):
        query = query.order_by(number.desc() if sort == "-number" else number)
        if after is not None:
            last = _whole(after)
            query = query.where(number < last if sort == "-number" else number > last)
    else:
        descending, value = sort == "-value", sortable_value()
        order = value.desc() if descending else value.asc()
        query = query.order_by(value.is_(None), order, number)
        if after is not None:
            query = query.where(_after_value(value, after, descending))
    return frozen(connection, connection.execute(query).all())


def key(trial: FrozenTrial, sort: Sort) -> str:
    """What `page` takes as `after` to go on behind this trial."""
    if sort in ("number", "-number"):
        return str(trial.number)
    value = trial.values[0] if trial.values else None
    return f"{'' if value is None else repr(_finite(value))} {trial.number}"


def _finite(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value))


def _after_value(value: ColumnElement[Any], after: str, descending: bool) -> ColumnElement[bool]:
    text, _, number_text = after.partition(" ")
    number = TRIALS.c.number > _whole(number_text)
    if not text:
        return and_(value.is_(None), number)
    try:
        last = float(text)
    except ValueError:
        raise InvalidInput(
            f"a cursor must be the next_cursor of an earlier page, but got {after!r}", ("cursor",), "query"
        ) from None
    beyond = value < last if descending else value > last
    return or_(beyond, and_(value == last, number), value.is_(None))


def _whole(text: str) -> int:
    if not (text.isdecimal() and len(text) < 10):
        raise InvalidInput(
            f"a cursor must be the next_cursor of an earlier page, but got {text!r}", ("cursor",), "query"
        )
    return int(text)
