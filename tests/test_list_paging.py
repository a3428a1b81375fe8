"""Pages of every list but the trials' (test_paging.py): what is there for the whole walk is seen once, and in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from optuna.study import StudyDirection
from sqlalchemy import Connection, Engine, Table, delete, insert

from tests.conftest import connect
from tests.digits import install_digits
from tests.furnished import NETS, SCHEDULE
from tests.test_access import make_token
from tuner.settings import Settings
from tuner.store import tables, trials
from tuner.store.database import open_database, writing

Row = dict[str, Any]

SECONDS = st.integers(0, 2)
"""Of the time of a row: few, so that rows share it."""
CHANGES = st.lists(st.tuples(st.sampled_from(["insert", "delete"]), SECONDS, st.integers(0, 9)), max_size=4)
WALKS = st.tuples(st.lists(SECONDS, min_size=1, max_size=8), st.integers(1, 3), st.lists(CHANGES, max_size=4))
"""Rows at the beginning, items of a page, and what happens between two pages."""

FIRST = 1000
"""Ids and names of the rows that come and go; what is there beside them has smaller ones."""


@dataclass(frozen=True)
class Listed:
    """A list, the rows that make up one of its items, and how the items are sorted."""

    path: str
    shown: str
    """The field of an answer that tells an item from others."""
    make: Callable[[int, str], dict[Table, Row]]
    """Of a number and a time; all have the same `id` or `study_id`."""
    label: Callable[[int], str | int] = lambda number: number
    order: Callable[[int, int], Any] = lambda number, _second: -number
    """Of a number and its second."""


def named(number: int) -> str:
    return f"n{number:04}"


def job(number: int, at: str) -> dict[Table, Row]:
    return {tables.jobs: {"id": number, "study_id": 1, "kind": "search", "state": "succeeded", "created_at": at}}


def event(number: int, at: str) -> dict[Table, Row]:
    return {
        tables.events: {"id": number, "study_id": 1, "job_id": 1, "at": at, "kind": "log", "data": {"message": "m"}}
    }


def study(number: int, _at: str) -> dict[Table, Row]:
    """A foreign one."""
    direction = {"study_id": number, "direction": StudyDirection.MAXIMIZE, "objective": 0}
    return {
        trials.STUDIES: {"study_id": number, "study_name": named(number)},
        trials.STUDIES.metadata.tables["study_directions"]: direction,
    }


def model(number: int, at: str) -> dict[Table, Row]:
    values = {"study_id": 1, "job_id": 1, "kind": "single", "contender": named(number), "hyperparameters": {}}
    more = {"parameters": 1, "metrics": {"validation_accuracy": 0.5}, "sha256": "0" * 64, "promoted": False}
    return {tables.models: {"id": named(number), **values, **more, "created_at": at}}


def delivery(number: int, at: str) -> dict[Table, Row]:
    values = {"study_id": 1, "job_id": 1, "url": "http://127.0.0.1/", "event": "job.succeeded", "body": "{}"}
    return {tables.deliveries: {"id": named(number), **values, "created_at": at}}


def token(number: int, at: str) -> dict[Table, Row]:
    values = {"name": named(number), "role": "reader", "sha256": f"{number:064}", "created_by": "anonymous"}
    return {tables.tokens: {"id": number, **values, "created_at": at, "revoked_at": at}}


def change(number: int, at: str) -> dict[Table, Row]:
    values = {"who": "anonymous", "method": "POST", "path": "/v1/studies", "status": 201, "request_id": "r"}
    return {tables.audit: {"id": number, "at": at, **values}}


def schedule(number: int, at: str) -> dict[Table, Row]:
    spec = {**SCHEDULE, "name": named(number)}
    return {tables.schedules: {"id": number, "name": named(number), "spec": spec, "paused": True, "created_at": at}}


def run(number: int, _at: str) -> dict[Table, Row]:
    values = {"schedule_id": 1, "fire_time": label_of_run(number), "outcome": "skipped"}
    return {tables.schedule_runs: {"id": number, **values}}


def label_of_run(number: int) -> str:
    return f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000000Z"


def decision(number: int, at: str) -> dict[Table, Row]:
    values = {"schedule_id": 1, "model_id": "m", "study_id": 1, "job_id": number, "verdict": "kept"}
    contest = {"reason": "worse", "challenger": "c"}
    return {tables.champions: {"id": number, **values, "comparison": contest, "decided_at": at}}


def by_time(number: int, second: int) -> tuple[int, int]:
    return -second, -number


LISTS = {
    "studies": Listed("/v1/studies", "name", study, named),
    "jobs": Listed("/v1/jobs", "id", job),
    "events": Listed("/v1/jobs/1/log", "id", event, order=lambda number, _second: number),
    "models": Listed("/v1/models", "id", model, named, by_time),
    "deliveries": Listed("/v1/studies/s/deliveries", "id", delivery, named, by_time),
    "tokens": Listed("/v1/tokens", "name", token, named),
    "audit": Listed("/v1/audit", "id", change),
    "schedules": Listed("/v1/schedules", "name", schedule, named),
    "runs": Listed("/v1/schedules/t/runs", "fire_time", run, label_of_run),
    "champions": Listed("/v1/schedules/t/champions", "job", decision),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Engine]]:
    """A client and the database of a service with the study `s`, its job 1 and the schedule `t`, whose id is 1."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("lists") / "data", parallel=2)
    install_digits(settings.datasets_dir)
    with connect(settings) as api:
        api.post("/v1/studies", json={**NETS, "name": "s"}).raise_for_status()
        api.post("/v1/schedules", json={**SCHEDULE, "name": "t"}).raise_for_status()
        engine = open_database(settings.database_url)
        # Once there was a token, the list of tokens is not shown without one.
        api.headers["authorization"] = f"Bearer {make_token(engine, 'operator')}"
        yield api, engine
        engine.dispose()


@pytest.mark.parametrize("name", LISTS)
def test_rows_that_stay_are_seen_once_and_in_order(service: tuple[httpx.Client, Engine], name: str) -> None:
    """Over REST, with rows of the same time, whatever is inserted and deleted between the pages."""
    listed, (api, rows) = LISTS[name], service

    def add(connection: Connection, number: int, second: int) -> None:
        for table, row in listed.make(number, f"2026-01-01T00:00:0{second}.000000Z").items():
            connection.execute(insert(table).values(row))

    def remove(connection: Connection, number: int) -> None:
        for table, row in reversed(listed.make(number, "").items()):
            key = "id" if "id" in row else "study_id"
            connection.execute(delete(table).where(table.c[key] == row[key]))

    def walk(limit: int) -> Iterator[list[Any]]:
        cursor: dict[str, str] = {}
        for _ in range(100):
            page = api.get(listed.path, params={"limit": limit, **cursor}).raise_for_status().json()
            yield [item[listed.shown] for item in page["items"]]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}
        raise AssertionError("the walk does not end")

    @drawing(max_examples=8, deadline=None, derandomize=True, database=None)
    @given(WALKS)
    def check(drawn: tuple[list[int], int, list[list[tuple[str, int, int]]]]) -> None:
        first, limit, changes = drawn
        seconds = {FIRST + number: second for number, second in enumerate(first)}
        with writing(rows) as connection:
            for number, second in seconds.items():
                add(connection, number, second)
        stayed, seen = set(seconds), []
        try:
            for turn, page in enumerate(walk(limit)):
                seen += page
                with writing(rows) as connection:
                    for kind, second, which in changes[turn] if turn < len(changes) else []:
                        if kind == "insert":
                            add(connection, number := FIRST + len(seconds), second)
                            seconds[number] = second
                        else:
                            remove(connection, FIRST + which)
                            stayed.discard(FIRST + which)
        finally:
            with writing(rows) as connection:
                for number in seconds:
                    remove(connection, number)
        in_order = sorted(seconds, key=lambda number: listed.order(number, seconds[number]))
        assert len(seen) == len(set(seen))
        assert [n for n in in_order if n in stayed] == [n for n in in_order if listed.label(n) in seen and n in stayed]
        known = {listed.label(n) for n in seconds}
        assert [label for label in seen if label in known] == [
            listed.label(n) for n in in_order if listed.label(n) in seen
        ]

    check()
