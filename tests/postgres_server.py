"""A PostgreSQL server of our own, for tests and benchmarks: on a free port, in a folder that goes with it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.serving import free_port

MISSING = "PostgreSQL's programs are not installed"


def find_pg_ctl() -> Path | None:
    """Debian keeps a server's programs out of the PATH."""
    programs = [shutil.which("pg_ctl"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
    return next((Path(program).resolve() for program in programs if program), None)


@contextmanager
def postgres_server(pg_ctl: Path, *, durable: bool) -> Iterator[str]:
    """The server's URL, with the superuser `tuner`. Only a durable one waits at each commit until the disk has it, and has
    autovacuum: its transactions would fall between those that a test counts."""
    # Not below pytest's own folder, which only this user may enter.
    home, port = Path(tempfile.mkdtemp(prefix="tuner-postgres-")), free_port()
    # PostgreSQL refuses to run as root; its package has made a user for it.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd=home)

    run(str(pg_ctl.with_name("initdb")), "-D", f"{home}/data", "-U", "tuner", "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories="
    if not durable:
        options += " -c fsync=off -c autovacuum=off"
    try:
        run(str(pg_ctl), "-D", f"{home}/data", "-l", f"{home}/log", "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://tuner@127.0.0.1:{port}"
        finally:
            run(str(pg_ctl), "-D", f"{home}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)


@contextmanager
def postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """The URL of a database on the server, a copy of `template` (an empty one), dropped at the end."""
    name = f"test_{os.urandom(6).hex()}"
    admin = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield f"{server}/{name}"
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
