"""Schemathesis over the whole OpenAPI document, as a reader and as an operator: `make contract`.

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

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
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
UNREACHED = {("POST", "/v1/datasets"), ("GET", "/readyz")}
"""What no request of Schemathesis brings about: bytes that are a data set, and a runner."""

EXAMPLES = os.environ.get("EXAMPLES", "3")


@dataclass(frozen=True)
class Stage:
    """A service on a furnished data folder of its own. The operator's token is a file's, which no request revokes."""

    url: str
    settings: Settings
    reader: str
    operator: str
    names: dict[str, Any]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    furnished = furnish(tmp_path)
    engine = open_database(furnished.settings.database_url)
    make_token(engine, "spare")
    reader = make_token(engine, "reader", Role.READER)
    engine.dispose()
    operator, file = "an-operator-of-this-test", tmp_path / "token"
    file.write_text(operator)
    settings = furnished.settings.model_copy(update={"token_file": file, "suggest_seconds": 0.1})
    with listening(settings) as url:
        yield Stage(url, settings, reader, operator, {path: dict(names) for path, names in furnished.names.items()})


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


def run_schemathesis(stage: Stage, token: str) -> None:
    """Fails with the report of Schemathesis, in which a curl shows each finding."""
    command = [
        str(Path(sys.executable).with_name("st")),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{stage.url}/openapi.json",
        "--checks=all",
        "--seed=1",
        f"--max-examples={EXAMPLES}",
        f"--header=Authorization:Bearer {token}",
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


def operations(stage: Stage) -> set[tuple[str, str]]:
    paths = ask(stage, "/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def carried_out(stage: Stage) -> set[tuple[str, str]]:
    """Methods and paths that had an answer of 200 to 399, by the service's own metrics."""
    found = set()
    for family in text_string_to_metric_families(ask(stage, "/metrics").text):
        for sample in family.samples if family.name == "tuner_http_requests" else ():
            if sample.labels["status"] < "4":
                found.add((sample.labels["method"], sample.labels["route"]))
    return found


def ask(stage: Stage, path: str) -> httpx.Response:
    return httpx.get(f"{stage.url}{path}", headers={"Authorization": f"Bearer {stage.operator}"}).raise_for_status()


def test_a_reader_gets_what_the_document_says_and_changes_nothing(stage: Stage) -> None:
    """No check of Schemathesis fails, and no table, no file and no line of the audit log is another one afterwards."""
    before = contents(stage.settings)
    run_schemathesis(stage, stage.reader)
    after = contents(stage.settings)
    assert {where for where in before | after if before.get(where) != after.get(where)} == set()


def test_an_operator_gets_what_the_document_says(stage: Stage) -> None:
    """No check of Schemathesis fails, whatever was posted, changed and deleted before, and each operation was carried out."""
    run_schemathesis(stage, stage.operator)
    unreached = UNREACHED ^ (operations(stage) - carried_out(stage))
    assert unreached == set()
