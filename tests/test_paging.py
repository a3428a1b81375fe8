"""Pages stay right while rows come and go: what is there for the whole walk is seen once, and in order."""

import time

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, delete, select

from api import cursors
from tuner.store import trial_pages, trials
from tuner.store.database import writing
from tuner.store.tables import curves
from tuner.store.trial_pages import Sort

VALUES = st.sampled_from([None, -1.0, 0.25, 0.5, 0.5000000000000001, float("inf")])
CHANGES = st.lists(st.tuples(st.sampled_from(["insert", "delete"]), VALUES, st.integers(0, 30)), max_size=4)
WALKS = st.tuples(st.lists(VALUES, min_size=1, max_size=9), st.integers(1, 4), st.lists(CHANGES, max_size=4))
"""Rows at the beginning, items of a page, and what happens between two pages."""


def add_trial(connection: Connection, study_id: int, number: int, value: float | None) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    trial = optuna.trial.create_trial(state=state, value=value)
    trial.number = number
    trials.finish_trial(connection, trials.start_trial(connection, study_id, trial), trial)


def remove_trial(connection: Connection, study_id: int, number: int) -> None:
    """With all that belongs to it, if it is there."""
    ours = select(trials.TRIALS.c.trial_id).where(
        trials.TRIALS.c.study_id == study_id, trials.TRIALS.c.number == number
    )
    trial_id = connection.execute(ours).scalar_one_or_none()
    rows = [*trials.TRIALS.metadata.sorted_tables, *curves.metadata.sorted_tables]
    for table in reversed(rows):
        if "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id == trial_id))


def in_order(values: dict[int, float | None], sort: Sort) -> list[int]:
    """Numbers as the contract sorts them: those without a value last in either order, equal ones by number."""
    if sort in ("number", "-number"):
        return sorted(values, reverse=sort == "-number")
    sign = -1 if sort == "-value" else 1
    return sorted(values, key=lambda n: ((v := values[n]) is None, sign * (v if v is not None else 0), n))


@pytest.mark.parametrize("sort", ["number", "-number", "value", "-value"])
def test_trials_that_stay_are_seen_once_and_in_order(engine: Engine, sort: Sort) -> None:
    """In each order, with ties, without values and with infinite ones, whatever is inserted and deleted between the pages."""

    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    @given(WALKS)
    def check(walk: tuple[list[float | None], int, list[list[tuple[str, float | None, int]]]]) -> None:
        first, limit, changes = walk
        with writing(engine) as connection:
            study_id = trials.create_study(
                connection, f"s{time.monotonic_ns()}", [optuna.study.StudyDirection.MAXIMIZE]
            )
            values = dict(enumerate(first))
            for number, value in values.items():
                add_trial(connection, study_id, number, value)
            stayed, largest = set(values), len(values)
            seen: list[int] = []
            after, pages = None, 0
            while True:
                found = trial_pages.page(connection, study_id, None, sort, cursors.decode(after), limit + 1)
                page, after = cursors.cut(found, limit, lambda trial: trial_pages.key(trial, sort))
                seen += [trial.number for trial in page]
                if after is None:
                    break
                for kind, value, which in changes[pages] if pages < len(changes) else []:
                    if kind == "insert":
                        add_trial(connection, study_id, largest, value)
                        values[largest] = value
                        largest += 1
                    else:
                        remove_trial(connection, study_id, which)
                        stayed.discard(which)
                pages += 1
        assert len(seen) == len(set(seen))
        assert [number for number in seen if number in stayed] == [n for n in in_order(values, sort) if n in stayed]
        assert seen == [n for n in in_order(values, sort) if n in seen]

    check()
