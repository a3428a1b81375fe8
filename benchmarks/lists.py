"""Milliseconds of list and status calls over HTTP, beside 10,000 finished jobs: on SQLite and on PostgreSQL.

    pip install -e '.[dev]' -c constraints.txt
    python -m benchmarks.lists

There are 9,900 finished studies of 6 trials, 99 of 60, and one of 10,000; the newest page holds that one and 49 of the 60. Each
call is answered by uvicorn in a process of its own, as `tuner serve` starts it, over one kept connection. Each is asked
right after a change of the database, and again, when the service may give the answer that it has.
Below the table stand what the runner asks of the database several times a second, timed in this process.
"""

import argparse
import contextlib
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Column, Connection, Engine, String, cast, func, insert, literal, select, text

from benchmarks.bookkeeping import Bookkeeping
from tests.postgres_server import MISSING, find_pg_ctl, postgres_server
from tuner.cli.children import serve_api
from tuner.cli.listening import listen
from tuner.settings import Settings
from tuner.specs.study import StudySpec
from tuner.store import jobs, model_registry, runners, schedules
from tuner.store import tables as ours
from tuner.store import trials as theirs
from tuner.store.clock import now
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.model_registry import Model, ModelMetrics

WARM = 10
"""Calls that go before, uncounted."""

SMALL, MIDDLE, GIANT = 6, 60, 10_000
"""Trials of a study."""

PAGE = 50
"""Studies; the two newest pages hold the large ones, those behind them only small ones."""

DIFFERENT = 100
"""Of the giant's trials; the others are their copies."""

CALLS = (
    "/v1/jobs",
    "/v1/jobs?state=succeeded",
    "/v1/jobs?state=running",
    "/v1/jobs/{job}",
    "/v1/studies",
    "/v1/studies?cursor={older}",
    "/v1/studies?state=succeeded",
    "/v1/studies?state=running",
    "/v1/studies?state=foreign",
    "/v1/studies/{small}",
    "/v1/studies/{giant}",
    "/v1/studies/{giant}/trials",
    "/v1/studies/{giant}/trials?sort=-value",
    "/v1/studies/{giant}/trials?state=COMPLETE",
    "/v1/studies/{giant}/trials/7",
    "/v1/studies/{giant}/best",
    "/v1/models",
    "/metrics",
)

TRIAL_TABLES = (theirs.PARAMS, theirs.VALUES, theirs.REPORTS, theirs.USER_ATTRIBUTES, theirs.SYSTEM_ATTRIBUTES)


def fill(engine: Engine, finished: int) -> dict[str, str]:
    """Write `finished` jobs, one a study; answers names for the calls."""
    many = finished // 100
    small = _template(engine, "small", SMALL)
    _multiply(engine, small, SMALL, finished - many - 2)
    middle = _template(engine, "middle", MIDDLE)
    _multiply(engine, middle, MIDDLE, many - 1)
    giant = _template(engine, "giant", DIFFERENT)
    with writing(engine) as connection:
        shifts = {"trial_id": DIFFERENT, "number": DIFFERENT}
        _copy_trials(connection, giant.study_id, shifts, GIANT // DIFFERENT - 1)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # as it does by itself within a minute; SQLite does not
    return {"job": str(giant.job_id), "small": "small-7", "giant": "giant"}


def _template(engine: Engine, name: str, n_trials: int) -> Bookkeeping:
    """A finished study with its winner."""
    study = Bookkeeping(engine, name, n_trials)
    for _ in range(n_trials):
        study.trial(reports_apart=False)
    study.end()
    model = Model(
        id=name,
        study_id=study.study_id,
        job_id=study.job_id,
        study=name,
        kind="single",
        contender="trial-0",
        hyperparameters=StudySpec(name=name).default(),
        parameters=101_770,
        metrics=ModelMetrics(validation_accuracy=0.98),
        sha256=64 * "0",
        promoted=True,
        created_at=now(),
    )
    with writing(engine) as connection:
        model_registry.add_model(connection, model)
    return study


def _multiply(engine: Engine, template: Bookkeeping, n_trials: int, count: int) -> None:
    """`count` further studies like the template, each with its trials, its job and its winner, under names of their own."""
    one, name = {"study_id": 1}, template.job.name
    named = {"study_name": name, "name": name}
    with writing(engine) as connection:
        for table in (theirs.STUDIES, theirs.DIRECTIONS, ours.studies):
            _copy(connection, table.c.study_id, template.study_id, one, count, named)
        _copy(connection, ours.jobs.c.study_id, template.study_id, {**one, "id": 1}, count)
        _copy(connection, ours.events.c.study_id, template.study_id, {**one, "job_id": 1}, count)
        _copy(connection, ours.models.c.study_id, template.study_id, {**one, "job_id": 1}, count, {"id": name})
        _copy_trials(connection, template.study_id, {**one, "trial_id": n_trials, "job_id": 1}, count)


def _copy_trials(connection: Connection, study_id: int, shifts: Mapping[str, int], count: int) -> None:
    """Every trial of the study `count` times more, with all that hangs on it."""
    trials = select(theirs.TRIALS.c.trial_id).filter_by(study_id=study_id)
    trial_ids = connection.execute(trials).scalars().all()
    _copy(connection, theirs.TRIALS.c.study_id, study_id, shifts, count)
    _copy(connection, ours.attempts.c.study_id, study_id, shifts, count)
    for trial_id in trial_ids:
        for table in TRIAL_TABLES:
            _copy(connection, table.c.trial_id, trial_id, shifts, count)
        _copy(connection, ours.curves.c.subject_id, trial_id, {"subject_id": shifts["trial_id"]}, count)


def _copy(
    connection: Connection,
    of: Column[Any],
    key: int,
    shifts: Mapping[str, int],
    count: int,
    named: Mapping[str, str] | None = None,
) -> None:
    """The rows where `of` is `key`, `count` times more: the k-th time with k × its shift added to each column that has one, and k
    appended to each name. Keys that nobody refers to are the database's to give."""
    table = of.table
    start = select(literal(1).label("k")).cte("series", recursive=True)
    series = start.union_all(select(start.c.k + 1).where(start.c.k < count))
    chosen: dict[str, Any] = {}
    for column in table.c:
        if column.name in shifts:
            chosen[column.name] = column + series.c.k * shifts[column.name]
        elif column.name in (named or {}):
            chosen[column.name] = literal(f"{(named or {})[column.name]}-") + cast(series.c.k, String)
        elif not column.primary_key or table is ours.curves:
            chosen[column.name] = column
    query = select(*chosen.values()).select_from(table.join(series, literal(1) == 1)).where(of == key)
    connection.execute(insert(table).from_select(list(chosen), query))
    [key_column, *_] = table.primary_key
    if connection.dialect.name == "postgresql" and key_column.name in shifts and table is not ours.studies:
        serial = func.pg_get_serial_sequence(table.name, key_column.name)
        connection.execute(select(func.setval(serial, select(func.max(key_column)).scalar_subquery())))


@contextlib.contextmanager
def service(settings: Settings) -> Iterator[httpx.Client]:
    """The API alone, in a process of its own."""
    with listen(settings) as listening:
        process = multiprocessing.get_context("spawn").Process(target=serve_api, args=(settings, listening))
        process.start()
        port = listening.getsockname()[1]
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                while client.get("/healthz").status_code != 200:
                    time.sleep(0.1)
                yield client
        finally:
            process.terminate()
            process.join()


@dataclass(frozen=True)
class Row:
    """What a call took in milliseconds, median and 95th percentile: right after a change, and asked again where it was."""

    call: str
    changed: tuple[float, float]
    again: tuple[float, float] | None = None

    def cells(self) -> list[str]:
        return ["" if told is None else f"{told[0]:.1f} ({told[1]:.1f})" for told in (self.changed, self.again)]


def measure(act: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds, of `act`, each time with `before` before it."""
    for _ in range(WARM):
        act()
    times = []
    for _ in range(rounds):
        before()
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


def beat(engine: Engine) -> None:
    """The smallest change of the database that a service makes."""
    with writing(engine) as connection:
        runners.beat(connection, "benchmark", 2)


def in_process(engine: Engine) -> dict[str, Callable[[], object]]:
    """What a runner with room asks several times a second."""

    def find_due() -> None:
        with reading(engine) as connection:
            schedules.due_ids(connection, datetime.now(UTC))

    return {
        "runner: jobs.running_jobs": lambda: jobs.running_jobs(engine),
        "runner: jobs.claim, nothing waits": lambda: jobs.claim(engine, "benchmark", []),
        "runner: runners.beat": lambda: beat(engine),
        "ticker: schedules.due_ids": find_due,
    }


def beyond(client: httpx.Client, studies: int) -> str:
    """The cursor of the first page behind so many studies."""
    cursor = ""
    for _ in range(math.ceil(studies / PAGE)):
        page = client.get("/v1/studies", params={"limit": PAGE, **({"cursor": cursor} if cursor else {})}).json()
        cursor = page["next_cursor"]
    return cursor


def report(kind: str, settings: Settings, finished: int, rounds: int) -> list[Row]:
    engine = open_database(settings.database_url)
    migrate(engine)
    began = time.perf_counter()
    names = fill(engine, finished)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))  # as PostgreSQL does by itself a minute after such a change
    print(f"{kind}: {finished} jobs written in {time.perf_counter() - began:.0f} s", flush=True)
    rows: list[Row] = []
    with service(settings) as client:
        names["older"] = beyond(client, finished // 100)
        for call in CALLS:
            path = call.format(**names)

            def ask(path: str = path) -> None:
                answer = client.get(path)
                assert answer.status_code == 200, answer.text

            rows.append(Row(call, measure(ask, rounds, lambda: beat(engine)), measure(ask, rounds)))
    rows += [Row(name, measure(act, rounds)) for name, act in in_process(engine).items()]
    engine.dispose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="milliseconds of list and status calls beside many finished jobs")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    columns: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), port=0)
        columns["SQLite"] = report("SQLite", settings, arguments.jobs, arguments.rounds)
        pg_ctl = find_pg_ctl()
        if pg_ctl is None:
            print(f"PostgreSQL: left out, {MISSING}")
        else:
            with postgres_server(pg_ctl, durable=True) as server:
                on_postgres = Settings(data_dir=Path(folder) / "postgres", port=0, database_url=f"{server}/postgres")
                columns["PostgreSQL"] = report("PostgreSQL", on_postgres, arguments.jobs, arguments.rounds)
    print(
        f"\nmilliseconds, median (95th percentile) of {arguments.rounds} calls beside {arguments.jobs} finished jobs\n"
    )
    print(
        f"| | {' | '.join(f'{kind}, after a change | again' for kind in columns)} |\n|---|{'---|---|' * len(columns)}"
    )
    for rows in zip(*columns.values(), strict=True):
        print(f"| {rows[0].call} | " + " | ".join(cell for row in rows for cell in row.cells()) + " |")


if __name__ == "__main__":
    main()
