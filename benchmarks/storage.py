"""Milliseconds and transactions that the bookkeeping of one trial costs: Optuna's RDBStorage, and ours, on SQLite and PostgreSQL.

    pip install -e '.[dev]' -c constraints.txt
    python -m benchmarks.storage

A trial has 9 parameters, 5 reports and 3 attributes, and is trained in no time; random search asks for it, nothing prunes. Every
round runs one trial of each contender, so that all of them see the same changes of the machine. PostgreSQL is a server of its
own on this machine, with its defaults: a commit waits for the disk.

Ours are the coordinator's own transactions: fence, heartbeat and log among them. A short trial's reports are written with its
end; where all epochs take more than a second and no other trial runs, each has a transaction of its own, with the job's progress.
"""

import argparse
import functools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy import Engine, event

from benchmarks.bookkeeping import REPORTS, Bookkeeping, study_spec
from tests.postgres_server import MISSING, find_pg_ctl, postgres_database, postgres_server
from tuner.store.database import migrate, open_database

WARM = 20
"""Trials of each contender that go before, uncounted."""


@dataclass
class Cost:
    """Of one trial: seconds in all, seconds of them that the writes took (where these can be told apart), what was executed."""

    seconds: float = 0.0
    writing_seconds: float | None = None
    statements: int = 0
    transactions: int = 0
    """Those that wrote."""


@dataclass
class Contender:
    name: str
    trial: Callable[[], float | None]
    """Carries one trial from asking to its end; answers the seconds of its writes, where it knows them."""
    engine: Engine | None
    costs: list[Cost] = field(default_factory=list)

    def run(self) -> None:
        cost = Cost()
        with counting(self.engine, cost):
            began = time.perf_counter()
            cost.writing_seconds = self.trial()
            cost.seconds = time.perf_counter() - began
        self.costs.append(cost)


@contextmanager
def counting(engine: Engine | None, cost: Cost) -> Iterator[None]:
    if engine is None:
        yield
        return
    wrote = False

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal wrote
        cost.statements += not statement.startswith("BEGIN")
        wrote = wrote or statement.startswith(("INSERT", "UPDATE", "DELETE"))

    def commit(_connection: Any) -> None:
        nonlocal wrote
        cost.transactions += wrote
        wrote = False

    listeners: dict[str, Any] = {"before_cursor_execute": execute, "commit": commit}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


def stock(name: str, storage: optuna.storages.BaseStorage, engine: Engine | None) -> Contender:
    """A study as Optuna's users write it."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        storage=storage, direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner()
    )
    space = study_spec("stock", 1).search_space

    def trial() -> None:
        asked = study.ask()
        space.suggest(asked)
        asked.set_user_attr("seed", 7)
        asked.set_user_attr("parameters", 101_770)
        for epoch in range(1, REPORTS + 1):
            asked.report(0.123456789012345, epoch)
        asked.set_user_attr("seconds", 1.0)
        study.tell(asked, 0.9)

    return Contender(name, trial, engine)


def rdb(name: str, url: str, **engine_kwargs: Any) -> Contender:
    storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_kwargs)
    return stock(name, storage, storage.engine)


def connect_in_wal(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def ours(name: str, url: str, n_trials: int, *, reports_apart: bool) -> Contender:
    engine = open_database(url, ping=False)  # as the runner
    migrate(engine)
    study = Bookkeeping(engine, "ours", n_trials)
    return Contender(name, lambda: study.trial(reports_apart=reports_apart), engine)


def on_sqlite(folder: Path, n_trials: int) -> list[Contender]:
    wal = functools.partial(connect_in_wal, str(folder / "wal.db"))
    return [
        stock("Optuna in memory", optuna.storages.InMemoryStorage(), None),
        rdb("RDBStorage on SQLite, default", f"sqlite:///{folder / 'default.db'}"),
        rdb("RDBStorage on SQLite, WAL and synchronous NORMAL", "sqlite:///wal.db", creator=wal),
        ours("ours on SQLite", f"sqlite:///{folder / 'ours.db'}", n_trials, reports_apart=False),
        ours("ours on SQLite, each report apart", f"sqlite:///{folder / 'apart.db'}", n_trials, reports_apart=True),
    ]


def on_postgres(server: str, closing: ExitStack, n_trials: int) -> list[Contender]:
    urls = [closing.enter_context(postgres_database(server)) for _ in range(3)]
    return [
        rdb("RDBStorage on PostgreSQL", urls[0]),
        ours("ours on PostgreSQL", urls[1], n_trials, reports_apart=False),
        ours("ours on PostgreSQL, each report apart", urls[2], n_trials, reports_apart=True),
    ]


def milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ({statistics.quantiles(seconds, n=10)[-1] * 1000:.1f})"


def row(contender: Contender) -> str:
    costs = contender.costs[WARM:]
    writes = [cost.writing_seconds for cost in costs if cost.writing_seconds is not None]
    counts = [
        statistics.median(counted) for counted in zip(*((c.transactions, c.statements) for c in costs), strict=True)
    ]
    times = (milliseconds(writes) if writes else "–"), milliseconds([cost.seconds for cost in costs])
    return f"| {contender.name} | {counts[0]:.0f} | {counts[1]:.0f} | {times[0]} | {times[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="what the bookkeeping of one trial costs")
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    n_trials = arguments.trials + WARM
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        contenders = on_sqlite(folder, n_trials)
        pg_ctl = find_pg_ctl()
        if pg_ctl is None:
            print(f"PostgreSQL is left out: {MISSING}\n")
        else:
            server = closing.enter_context(postgres_server(pg_ctl, durable=True))
            contenders += on_postgres(server, closing, n_trials)
        for _ in range(n_trials):
            for contender in contenders:
                contender.run()
        for contender in contenders:
            if contender.engine is not None:
                contender.engine.dispose()
    print(
        f"One trial: 9 parameters, {REPORTS} reports, 3 attributes; median (90th percentile) of {arguments.trials} rounds"
    )
    print(f"Optuna {optuna.__version__}, SQLAlchemy {sqlalchemy.__version__}, SQLite {sqlite3.sqlite_version}\n")
    print("| | transactions | statements | its writes, ms | the whole trial, ms |\n|---|---|---|---|---|")
    for contender in contenders:
        print(row(contender))


if __name__ == "__main__":
    main()
