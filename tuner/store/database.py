"""One engine for SQLite or PostgreSQL. Reads see a snapshot; `writing` is the only road to a change."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tuner.errors import Conflict, InvalidInput, Unavailable

BUSY_SECONDS = 30
PAGES_AT_ONCE = 256
VERSION_TABLE = "tuner_alembic_version"


def open_database(url: str, *, ping: bool = True) -> Engine:
    """An engine on `url`. On SQLite: WAL, synchronous NORMAL, and a writer that waits up to 30 s for its turn.

    Without `ping` a connection that PostgreSQL has closed meanwhile is noticed only by whoever uses it next, who is told
    `Unavailable` and tries again; it saves a round trip each time.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed, pool_pre_ping=ping, pool_size=5, max_overflow=10)
        engine.dialect.use_insertmanyvalues_wo_returning = True  # many rows are one statement, not one each
        return engine
    if parsed.database:
        _make_folder(Path(parsed.database).parent)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _parse(url: str) -> URL:
    """Raises InvalidInput, without the URL or a part of it: what cannot be parsed may be its password."""
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except (ArgumentError, ImportError, ValueError):
        rule = "TUNER_DATABASE_URL must be a SQLAlchemy URL whose driver is installed, with what is special in a password escaped"
        raise InvalidInput(
            f"{rule}, as in `sqlite:///FILE` and `postgresql+psycopg://USER:PASSWORD@HOST/NAME`"
        ) from None
    return parsed


def is_there(url: str) -> bool:
    """Whether there is something to open: of SQLite the file, which opening would make."""
    parsed = _parse(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction: committed at the end, rolled back on an error. On SQLite it holds the write lock from its start."""
    with reporting_outages(), engine.connect() as connection:
        connection = connection.execution_options(writes=True)
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read transaction, which neither waits for writers nor makes them wait."""
    with reporting_outages(), engine.connect() as connection:
        yield connection


def migrate(engine: Engine, revision: str = "head") -> None:
    """Create or upgrade both schemas: Optuna's by Optuna itself, ours by alembic under a version table of our own.

    Raises Conflict where a newer service has upgraded the database already.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with reading(engine):
        pass  # a new file gets our settings, before Optuna makes its tables there
    with reporting_outages():
        storage = optuna.storages.RDBStorage(engine.url.render_as_string(hide_password=False))
        storage.remove_session()
        storage.engine.dispose()
    config = alembic_config()
    try:
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        raise Conflict(f"the database must be of this version of tuner or an earlier one: {error}") from error


def give_back_space(engine: Engine) -> Iterator[None]:
    """SQLite's file gives the pages that deletes have left free back to the disk, a mebibyte a step.

    One that was made by an earlier version keeps them for later rows. PostgreSQL's own vacuum sees to its tables.
    """
    if engine.dialect.name != "sqlite":
        return
    free, before = _free_pages(engine), None
    while free and free != before:
        yield
        # Not by way of SQLAlchemy, whose cursor would take one step of many.
        with reporting_outages(), closing(engine.raw_connection()) as connection:
            connection.driver_connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")  # type: ignore[union-attr]
        free, before = _free_pages(engine), free


def _free_pages(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def schema_revisions() -> list[str]:
    """Of our tables, this version's first and the earliest last."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", "tuner:store/migrations")
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def reporting_outages() -> Iterator[None]:
    """Turns a database that cannot be used now (locked, full, read only, gone) into `Unavailable` with its reason, and a value
    that it cannot hold, as PostgreSQL cannot hold a NUL, into `InvalidInput`."""
    try:
        yield
    except DataError as error:
        raise InvalidInput(f"the database must be able to hold every value, but {error.orig}") from error
    except (OperationalError, sqlite3.OperationalError, PoolTimeout, optuna.exceptions.StorageInternalError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error.__cause__ or error
        raise Unavailable(f"the database cannot be used now: {cause}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the data folder {folder} cannot be made: {error.strerror}") from error


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins; the driver would begin too late, at the first write
    # Later it would be too late, and wait for the write lock.
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes would fail at once where another writer came between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
