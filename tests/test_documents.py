"""Bodies that are no honest JSON, on each kind of database."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import NoDocument, faults, read
from tests.conftest import connect
from tests.postgres_server import postgres_database
from tuner.settings import Settings

STUDIES = "/v1/studies"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of all tests, none of which leaves anything behind."""
    data_dir = tmp_path_factory.mktemp("documents") / "data"
    if request.param == "sqlite":
        with connect(Settings(data_dir=data_dir, parallel=2)) as api:
            yield api
        return
    server, template = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_template")
    with (
        postgres_database(server, template) as url,
        connect(Settings(data_dir=data_dir, database_url=url, parallel=2)) as api,
    ):
        yield api


BODIES: dict[str, tuple[bytes, int, str]] = {
    "no end": (b'{"name": "a"', 400, "must be JSON"),
    "two equal keys": (b'{"name": "a", "name": "b"}', 400, "'name' twice"),
    "two equal keys within": (b'{"name": "a", "budget": {"n_trials": 1, "n_trials": 2}}', 400, "'n_trials' twice"),
    "latin-1": ('{"name": "é"}'.encode("latin-1"), 400, "must be UTF-8, but has 0xe9"),
    "utf-16": ('{"name": "a"}'.encode("utf-16"), 400, "must be UTF-8"),
    "utf-16 without a mark": ('{"name": "a"}'.encode("utf-16-le"), 400, "must be JSON"),
    "a hundred thousand brackets": (b"[" * 100_000, 400, "must not be nested deeper than 64"),
    "closed brackets": (b"[" * 70 + b"]" * 70, 400, "must not be nested deeper than 64"),
    "an endless integer": (b'{"name": "a", "seed": ' + b"9" * 5000 + b"}", 400, "must be readable"),
    "half a character": (rb'{"name": "a\ud800"}', 422, "has '\\ud800'"),
    "half a character as a key": (rb'{"name": "a", "\udfff": 1}', 422, "has '\\udfff'"),
    "a NUL": (rb'{"name": "a\u0000b"}', 422, "has '\\x00'"),
    "no number": (b'{"name": "a", "seed": NaN}', 422, "must be finite, but got nan"),
    "an infinite number": (b'{"name": "a", "seed": 1e999}', 422, "must be finite, but got inf"),
    "an integer beyond the database's": (b'{"name": "a", "seed": 99999999999999999999}', 422, "seed"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_what_is_no_honest_document_is_refused_with_its_reason(service: httpx.Client, kind: str) -> None:
    """A problem that names the rule; no study is made."""
    body, status, reason = BODIES[kind]
    answer = service.post(STUDIES, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert reason in answer.json()["detail"]
    assert service.get(STUDIES).json()["items"] == []


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing else comes of bytes than a document or a `NoDocument`."""
    with contextlib.suppress(NoDocument):
        list(faults(read(body)))


@given(DOCUMENTS)
def test_an_honest_document_is_read_as_it_is(document: Any) -> None:
    """Of a document in which nothing is at fault, nothing is lost."""
    if not list(faults(document)):
        assert read(json.dumps(document).encode()) == document


def test_a_mebibyte_of_keys_is_judged_in_no_time() -> None:
    """The cost grows with the body and not with its square, wherever the second of two equal keys stands."""
    keys = ",".join(f'"{n}":0' for n in range(90_000))
    began = time.process_time()
    with pytest.raises(NoDocument, match="twice"):
        read(f'{{{keys},"89999":1}}'.encode())
    assert time.process_time() - began < 5
