"""Real parts for the tests: databases, a browser, a service. What cannot be had here skips, unless TUNER_REQUIRE names it."""

import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from a2wsgi import ASGIMiddleware
from sqlalchemy import Engine

from api.app import close, create_app
from tests.mnist import give_mnist
from tests.postgres_server import MISSING, find_pg_ctl, postgres_database, postgres_server
from tuner.cli import main
from tuner.runner.runner import run
from tuner.settings import Settings
from tuner.store.database import migrate, open_database

# The background job of a script ignores Ctrl-C, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

BEGUN_EARLY = (
    "test_disturbed_search",
    "test_promoted_job",
    "test_serve",
    "test_further_jobs",
    "test_cli",
    "test_examples",
    "test_promotion",
    "test_browser",
    "test_search",
    "test_notes",
    "test_handbook",
    "test_client",
)
"""The files that take longest, so that none of them is the last, with all processes but one idle."""

REQUIRED = os.environ.get("TUNER_REQUIRE", "").split(",")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(BEGUN_EARLY)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def missing(component: str, reason: str) -> None:
    """Skip the test, or fail it where the environment promises the component."""
    if component in REQUIRED:
        pytest.fail(f"TUNER_REQUIRE names {component}, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, with the superuser `tuner`."""
    pg_ctl = find_pg_ctl()
    if pg_ctl is None:
        missing("postgres", MISSING)
        raise AssertionError
    with postgres_server(pg_ctl, durable=False) as server:
        yield server


@functools.cache
def _empty_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tuner.db"
        _make_tables(f"sqlite:///{file}")
        return file.read_bytes()


def make_sqlite(file: Path) -> None:
    """With all tables: to copy them takes a thousandth of the time of the migrations."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_empty_sqlite())


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> Iterator[str]:
    """The name of a database with all tables."""
    with postgres_database(postgres) as url:
        _make_tables(url)
        yield url.rpartition("/")[2]


def _make_tables(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    engine.dispose()


@pytest.fixture
def no_tables() -> None:
    """For a test whose database is to be empty."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database, of each kind, with all tables."""
    with_tables = "no_tables" not in request.fixturenames
    if request.param == "sqlite":
        file = tmp_path / "tuner.db"
        if with_tables:
            make_sqlite(file)
        yield f"sqlite:///{file}"
        return
    template = request.getfixturevalue("postgres_template") if with_tables else "template1"
    with postgres_database(request.getfixturevalue("postgres"), template) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with all tables."""
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a file of SQLite with all tables, where the service of `settings` looks for it."""
    file = tmp_path / "data" / "tuner.db"
    make_sqlite(file)
    engine = open_database(f"sqlite:///{file}")
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One such client for all tests of a file that leave nothing behind."""
    with connect(Settings(data_dir=tmp_path_factory.mktemp("shared") / "data", parallel=2)) as client:
        yield client


@contextmanager
def connect(settings: Settings) -> Iterator[httpx.Client]:
    file = settings.data_dir / "tuner.db"
    if settings.database_url == f"sqlite:///{file}" and not file.exists():
        make_sqlite(file)
    app = create_app(settings)
    transport = httpx.WSGITransport(app=ASGIMiddleware(app))  # type: ignore[arg-type]  # a2wsgi types the same dicts more narrowly
    with httpx.Client(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    close(app)


Terminal = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    """`terminal(*arguments, stdin="", **environment)` is `tuner *arguments` in this process, in an empty folder, with nothing of
    what a developer has set."""

    def run_here(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("TUNER_")]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["tuner", *arguments])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), said.out, said.err)

    return run_here


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """A real runner with real workers, in a thread of this process."""
    give_mnist(settings.datasets_dir)
    ending = threading.Event()
    thread = threading.Thread(target=run, args=(settings, ending))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(20)
        assert not thread.is_alive(), "the runner must end when it is asked to"


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 150) -> None:
    """Returns soon after `holds` does; fails after `seconds`. It asks ever more seldom, since that takes cores, too."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)
        pause = min(0.1, 1.3 * pause)
