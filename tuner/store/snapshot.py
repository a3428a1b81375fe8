"""A database as it stands at one moment, in a file: taken while others write, and loaded into an empty database."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url

from tuner.errors import Conflict, Unavailable
from tuner.store.database import is_there, open_database, reporting_outages

POSTGRES_PROGRAMS = Path("/usr/lib/postgresql")
"""Where Debian keeps them, by version, out of the PATH."""

ALIKE = ("--no-owner", "--no-privileges")
"""Who may do what belongs to a server, not to what was saved."""


@contextmanager
def take(engine: Engine, file: Path) -> Iterator[Connection]:
    """Write `file`; answers a connection that sees what is in it. Nobody who writes to the database has to wait.

    Raises Unavailable where it cannot be written.
    """
    with reporting_outages():
        if engine.dialect.name == "sqlite":
            with _sqlite_copy(engine, file) as connection:
                yield connection
            return
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            seen = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
            dump = ["--format=custom", *ALIKE, f"--snapshot={seen}", f"--file={file}"]
            _run("pg_dump", engine.url, *dump)
            yield connection


@contextmanager
def _sqlite_copy(engine: Engine, file: Path) -> Iterator[Connection]:
    file.unlink(missing_ok=True)
    with closing(engine.raw_connection()) as source, closing(sqlite3.connect(file)) as copy:
        source.driver_connection.backup(copy)  # type: ignore[union-attr]
        copy.execute("PRAGMA journal_mode=DELETE")  # all in one file
    of_copy = create_engine(f"sqlite:///{file}")
    try:
        with of_copy.connect() as connection:
            yield connection
    finally:
        of_copy.dispose()


def load(url: str, file: Path) -> None:
    """The database, which `check_empty` has found empty, holds what `take` has put into `file`, all of it or nothing.

    Of SQLite, `file` becomes the database. Raises Unavailable where that cannot be done.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file.replace(str(parsed.database))
        return
    _run("pg_restore", parsed, "--exit-on-error", "--single-transaction", *ALIKE, str(file))


def check_empty(url: str) -> None:
    """Raises Conflict, saying what is there, where the database is not empty."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if is_there(url):
            raise Conflict(f"a backup is restored into an empty database only, but {parsed.database} is there")
        return
    engine = open_database(url)
    try:
        with reporting_outages():
            tables = sorted(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables:
        there = f"{len(tables)} tables, {tables[0]} the first of them"
        raise Conflict(f"a backup is restored into an empty database only, but {parsed.database} has {there}")


def _run(program: str, url: URL, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the database; its password goes by the environment, where no other user sees it."""
    address = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    secret = {} if url.password is None else {"PGPASSWORD": str(url.password)}
    command = [_find(program), f"--dbname={address}", *arguments]
    done = subprocess.run(command, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{program} has failed: {done.stderr.strip()}")


def _find(program: str) -> str:
    by_version = sorted(POSTGRES_PROGRAMS.glob(f"*/bin/{program}"), key=lambda path: int(path.parts[-3]), reverse=True)
    found = shutil.which(program) or next((str(path) for path in by_version), None)
    if found is None:
        rule = "PostgreSQL's client programs, of the server's version or a later one, must be installed"
        raise Unavailable(f"{rule} for a backup, but {program} is neither in PATH nor below {POSTGRES_PROGRAMS}")
    return found
