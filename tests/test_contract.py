"""Schemathesis over the whole OpenAPI document, as a reader: `make contract`.

It asks each operation what its document promises: by its examples, by the bounds of each field, by drawn requests, and by
chains of operations, each also broken in the ways that the document forbids.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import inspect, text

from api.app import create_app
from tests.conftest import wait_until
from tests.furnished import furnish
from tests.serving import free_port
from tests.test_access import make_token
from tuner.settings import Settings
from tuner.specs.token import Role
from tuner.store.database import open_database, reading

pytestmark = [pytest.mark.contract, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("EXAMPLES", "3")


@dataclass(frozen=True)
class Stage:
    """A service on a furnished data folder, with a reader's token."""

    url: str
    settings: Settings
    token: str
    names: dict[str, Any]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("contract")
    furnished = furnish(folder)
    settings = furnished.settings
    engine = open_database(settings.database_url)
    make_token(engine, "spare")
    token = make_token(engine, "reader", Role.READER)
    engine.dispose()
    with listening(settings) as url:
        yield Stage(url, settings, token, {path: dict(names) for path, names in furnished.names.items()})


@contextmanager
def listening(settings: Settings) -> Iterator[str]:
    """The API alone, over real HTTP: no runner, so that nothing changes but by requests."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the API listens")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def run_schemathesis(stage: Stage) -> None:
    """Fails with the report of Schemathesis, in which a curl shows each finding."""
    command = [
        str(Path(sys.executable).with_name("st")),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{stage.url}/openapi.json",
        "--checks=all",
        "--seed=1",
        f"--max-examples={EXAMPLES}",
        f"--header=Authorization:Bearer {stage.token}",
        "--continue-on-failure",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.known_names",
        "TUNER_KNOWN_NAMES": json.dumps(stage.names),
    }
    ran = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def contents(settings: Settings) -> dict[str, Any]:
    """Every row of every table, but for the time at which a token was last used, and the hash of every file."""
    engine = open_database(settings.database_url)
    with reading(engine) as connection:
        found: dict[str, Any] = {
            table: sorted(
                repr({key: value for key, value in row._mapping.items() if key != "last_used_at"})
                for row in connection.execute(text(f'SELECT * FROM "{table}"'))
            )
            for table in inspect(connection).get_table_names()
        }
    engine.dispose()
    files = (path for path in settings.data_dir.rglob("*") if path.is_file() and not path.name.startswith("tuner.db"))
    return found | {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_reader_gets_what_the_document_says_and_changes_nothing(stage: Stage) -> None:
    """No check of Schemathesis fails, and no table, no file and no line of the audit log is another one afterwards."""
    before = contents(stage.settings)
    run_schemathesis(stage)
    after = contents(stage.settings)
    assert {where for where in before | after if before.get(where) != after.get(where)} == set()
