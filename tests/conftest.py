"""Real parts for the tests: databases, a browser, a service. What cannot be had here skips, unless TUNER_REQUIRE names it."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from a2wsgi import ASGIMiddleware
from sqlalchemy import Engine, create_engine, text

from api.app import close, create_app
from tuner.runner.runner import run
from tuner.settings import Settings
from tuner.store.database import migrate, open_database

REQUIRED = os.environ.get("TUNER_REQUIRE", "").split(",")


def missing(component: str, reason: str) -> None:
    """Skip the test, or fail it where the environment promises the component."""
    if component in REQUIRED:
        pytest.fail(f"TUNER_REQUIRE names {component}, but {reason}")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, with the superuser `tuner`."""
    programs = [shutil.which("pg_ctl"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
    pg_ctl = next((Path(program).resolve() for program in programs if program), None)
    if pg_ctl is None:
        missing("postgres", "PostgreSQL's programs are not installed")
        raise AssertionError
    # Not below pytest's own folder, which only this user may enter.
    home, port = Path(tempfile.mkdtemp(prefix="tuner-postgres-")), free_port()
    # PostgreSQL refuses to run as root; its package has made a user for it.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd=home)

    run(str(pg_ctl.with_name("initdb")), "-D", f"{home}/data", "-U", "tuner", "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
    run(str(pg_ctl), "-D", f"{home}/data", "-l", f"{home}/log", "-o", options, "-w", "start")
    yield f"postgresql+psycopg://tuner@127.0.0.1:{port}"
    run(str(pg_ctl), "-D", f"{home}/data", "-m", "immediate", "stop")
    shutil.rmtree(home)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tuner.db'}"
        return
    server: str = request.getfixturevalue("postgres")
    name = f"test_{os.urandom(6).hex()}"
    admin = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield f"{server}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with all tables."""
    engine = open_database(database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service with an empty data folder."""
    return Settings(data_dir=tmp_path / "data", parallel=2)


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the real app in this process; jobs wait, since no runner works."""
    with connect(settings) as client:
        yield client


@contextmanager
def connect(settings: Settings) -> Iterator[httpx.Client]:
    app = create_app(settings)
    transport = httpx.WSGITransport(app=ASGIMiddleware(app))  # type: ignore[arg-type]  # a2wsgi types the same dicts more narrowly
    with httpx.Client(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    close(app)


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """A real runner with real workers, in a thread of this process."""
    ending = threading.Event()
    thread = threading.Thread(target=run, args=(settings, ending))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(20)
        assert not thread.is_alive(), "the runner must end when it is asked to"


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Returns as soon as `holds` does; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
