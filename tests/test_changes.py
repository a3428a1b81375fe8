"""A request that changes something: one transaction with its audit row and the answer to its Idempotency-Key."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import anyio
import httpx
import pytest
from anyio import CapacityLimiter
from sqlalchemy import Engine, text, update

from api.bodies import MEBIBYTE, Spooled
from api.changes import Change
from api.repeats import Repeat
from tests.conftest import connect
from tests.test_access import make_token
from tuner.settings import Settings
from tuner.specs.token import Role
from tuner.store import audit, idempotency
from tuner.store.audit import Entry
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.idempotency import Answer, KeyTaken
from tuner.store.tables import idempotency_keys

STUDIES = "/v1/studies"
KEY = {"Idempotency-Key": "a-key-of-my-own"}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """An open service, on each kind of database."""
    with connect(Settings(data_dir=tmp_path / "data", database_url=database_url, parallel=2)) as api:
        yield api


def changes(api: httpx.Client, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/audit", params=query).json()["items"]
    return items


def test_the_same_key_and_body_change_once(service: httpx.Client) -> None:
    """The second request gets the first one's status, body and address, even after the study has moved on; another body with the
    key is a 409; other keys and other addresses are others; the log tells of one change."""
    first = service.post(STUDIES, json={"name": "a"}, headers=KEY)
    service.post(f"{STUDIES}/a/cancel")
    again = service.post(STUDIES, json={"name": "a"}, headers=KEY)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert (again.headers["Idempotent-Replayed"], "Idempotent-Replayed" in first.headers) == ("true", False)
    assert service.post(STUDIES, json={"name": "b"}, headers=KEY).status_code == 409
    assert service.post(STUDIES, json={"name": "a"}, headers={"Idempotency-Key": "other"}).status_code == 409
    assert service.post("/v1/jobs/1/cancel", headers=KEY).status_code == 409
    assert [study["name"] for study in service.get(STUDIES).json()["items"]] == ["a"]
    assert [entry["status"] for entry in changes(service, path=STUDIES)] == [409, 202, 202]


def test_a_refused_request_leaves_its_key_free(service: httpx.Client) -> None:
    """Nothing was changed, so there is nothing to repeat: the corrected request may use the key."""
    assert service.post(STUDIES, json={"nam": "a"}, headers=KEY).status_code == 422
    assert service.post(STUDIES, content=b"{", headers={**KEY, "Content-Type": "application/json"}).status_code == 400
    assert service.post(STUDIES, json={"name": "a"}, headers=KEY).status_code == 202


def test_a_key_has_a_form(api: httpx.Client) -> None:
    """1 to 255 visible ASCII characters; else 422 says so, and nothing is made."""
    for key in ("", "two words", "x" * 256, "a\tb"):
        answer = api.post(STUDIES, json={"name": "a"}, headers={"Idempotency-Key": key})
        assert answer.status_code == 422
        assert "Idempotency-Key" in answer.json()["detail"]
    assert api.get(STUDIES).json()["items"] == []


def test_many_at_once_with_one_key_change_once(service: httpx.Client) -> None:
    """Of requests that could each have made a job of its own, one does, and all get its answer."""
    service.post(STUDIES, json={"name": "a", "promotion": None})
    service.post(f"{STUDIES}/a/cancel")
    ready = threading.Barrier(12)

    def post(_number: int) -> tuple[int, bytes]:
        ready.wait()
        work = {"kind": "search", "n_trials": 100, "queue": True}
        answer = service.post(f"{STUDIES}/a/jobs", json=work, headers=KEY)
        return answer.status_code, answer.content

    with ThreadPoolExecutor(12) as pool:
        answers = set(pool.map(post, range(12)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 202
    assert len(service.get("/v1/jobs").json()["items"]) == 2


def test_more_at_once_than_there_are_threads(service: httpx.Client) -> None:
    """Who waits for the database takes no thread from the one that it waits for: 60 writers and 60 readers are all answered."""

    def ask(number: int) -> int:
        if number % 2:
            return service.post(STUDIES, json={"name": f"s{number}"}).status_code
        return service.get(STUDIES).status_code

    with ThreadPoolExecutor(120) as pool:
        assert set(pool.map(ask, range(120))) == {200, 202}


def test_keys_are_their_callers_own_and_secrets_are_not_kept(settings: Settings) -> None:
    """Two callers may use one key. A token that was made is not told again, and lies nowhere in clear; a key is forgotten after a
    day."""
    engine = open_database(settings.database_url)
    migrate(engine)
    secrets = make_token(engine, "one"), make_token(engine, "two")
    one, two = ({"Authorization": f"Bearer {secret}", **KEY} for secret in secrets)
    with connect(settings) as api:
        assert api.post(STUDIES, json={"name": "a"}, headers=one).status_code == 202
        assert api.post(STUDIES, json={"name": "b"}, headers=two).status_code == 202
        body = {"name": "ci", "role": "reader"}
        made = api.post("/v1/tokens", json=body, headers=one).json()["token"]
        again = api.post("/v1/tokens", json=body, headers=one)
        assert (again.status_code, "told only once" in again.json()["detail"]) == (409, True)
        assert [token["name"] for token in api.get("/v1/tokens", headers=one).json()["items"]] == ["ci", "two", "one"]
        with writing(engine) as connection:
            connection.execute(update(idempotency_keys).values(created_at="2026-01-01T00:00:00.000000Z"))
        assert (
            api.post(STUDIES, json={"name": "a"}, headers=one).status_code == 409
        )  # the name is taken: it was carried out
        stored = b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
        for secret in (*secrets, made):
            assert secret.encode() not in stored
    engine.dispose()


def test_an_outage_in_the_middle_of_a_change(api: httpx.Client, settings: Settings) -> None:
    """503, which tells when to come again; nothing half-made is left, and the key is free."""
    engine = open_database(settings.database_url)
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE tuner_events RENAME TO away"))
    refused = api.post(STUDIES, json={"name": "a"}, headers=KEY)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO tuner_events"))
    assert api.get(STUDIES).json()["items"] == []
    assert api.post(STUDIES, json={"name": "a"}, headers=KEY).status_code == 202
    engine.dispose()


def test_a_nul_is_no_failure_of_the_service(service: httpx.Client) -> None:
    """PostgreSQL can neither hold one nor look for it: not found in an address, refused in a query."""
    for path in (f"{STUDIES}/a%00b", "/v1/tokens/%00"):
        assert service.get(path).status_code == 404
    assert service.post(f"{STUDIES}/a%00b/pause").status_code == 404
    assert service.get("/v1/audit?who=%00").status_code in (200, 422)


@pytest.mark.parametrize("ending", ["success", "refusal", "failure", "crash"])
def test_change_audit_and_answer_stand_or_fall_together(ending: str, engine: Engine) -> None:
    """A success leaves all three; a refusal or an error only what was asked for, if that was reached; a request that breaks off
    nothing at all, and its key is free at once."""

    async def carry_out() -> None:
        change = Change(engine, CapacityLimiter(1), Repeat("key", "body", None))  # type: ignore[arg-type]
        try:
            audit.record_change(await change.begin(), Entry("ci", "POST", "/what/the/route/did", 0, None, "id"))
            if ending == "crash":
                raise ZeroDivisionError
            status = {"success": 202, "refusal": 409, "failure": 503}[ending]
            await change.end(Answer(status, {}, b"{}"), Entry("ci", "POST", "/v1/x", status, None, "id"))
        finally:
            await change.roll_back()

    if ending == "crash":
        with pytest.raises(ZeroDivisionError):
            anyio.run(carry_out)
    else:
        anyio.run(carry_out)
    with reading(engine) as connection:
        paths = [row.path for row in audit.list_changes(connection, None, None, None, 10)]
        kept = idempotency.find_answer(connection, "key")
    logged = ["/v1/x"] if ending != "crash" else []
    assert paths == logged + (["/what/the/route/did"] if ending == "success" else [])
    assert (kept is not None) == (ending == "success")
    with writing(engine) as connection:
        if ending == "success":
            with pytest.raises(KeyTaken):
                idempotency.claim_key(connection, "key", "body")
        else:
            idempotency.claim_key(connection, "key", "body")


def test_the_log_tells_who_what_when(settings: Settings) -> None:
    """Every change that passed the gate, with its status and the address made, by token and request id; neither
    what reads, nor what the gate refused, nor a login that failed. Only operators see it, and it can be cut short."""
    engine = open_database(settings.database_url)
    migrate(engine)
    ops = {"Authorization": f"Bearer {make_token(engine, 'ops')}"}
    reader = make_token(engine, "eve", Role.READER)
    with connect(settings) as api:
        posted = api.post(STUDIES, json={"name": "a"}, headers={**ops, "X-Request-ID": "my-request.7"})
        assert posted.headers["X-Request-ID"] == "my-request.7"
        api.post(f"{STUDIES}/a/resume", headers=ops)
        api.post(f"{STUDIES}/a%0Ab/resume", headers={**ops, "X-Request-ID": "not one\n"})
        api.post(STUDIES, json={"name": "b"}, headers={"Authorization": f"Bearer {reader}"})
        api.get(STUDIES, headers=ops)
        api.post("/login", data={"token": "guess"})
        api.post("/login", data={"token": reader})
        api.post("/logout")
        assert api.get("/v1/audit", headers={"Authorization": f"Bearer {reader}"}).status_code == 403
        logged = api.get("/v1/audit", headers=ops).json()["items"]
        seen = [(row["who"], row["method"], row["path"], row["status"], row["location"]) for row in reversed(logged)]
        assert seen == [
            ("ops", "POST", STUDIES, 202, "/v1/jobs/1"),
            ("ops", "POST", f"{STUDIES}/a/resume", 409, None),
            ("ops", "POST", f"{STUDIES}/a%0Ab/resume", 404, None),
            ("eve", "POST", "/login", 303, "/"),
            ("eve", "POST", "/logout", 303, "/login"),
        ]
        assert logged[-1]["request_id"] == "my-request.7"
        assert len(logged[2]["request_id"]) == 16
        api.headers = httpx.Headers(ops)
        assert [row["path"] for row in changes(api, who="eve")] == ["/logout", "/login"]
        assert len(changes(api, who="ops", path=f"{STUDIES}/a/")) == 1
        with writing(engine) as connection:
            assert audit.forget_changes(connection, logged[1]["at"]) == 3
        assert len(changes(api)) == 2
    engine.dispose()


@pytest.mark.parametrize("size", [0, 1000, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 5, 3 * MEBIBYTE + 7])
def test_a_body_is_read_twice_and_known_again(size: int) -> None:
    """What was read to be compared is read again as it was, also where it lies in a file; of a multipart body the boundary, which
    clients draw anew, makes no other request of it, wherever it falls between two blocks."""

    def body(boundary: bytes) -> bytes:
        return b"--" + boundary + b"\r\n\r\n" + bytes(range(256)) * (size // 256 + 1) + b"\r\n--" + boundary + b"--"

    async def read(sent: bytes, content_type: str, query: bytes = b"") -> tuple[bytes, str]:
        chunks = iter([sent[at : at + 65_536] for at in range(0, len(sent), 65_536)])

        async def receive() -> dict[str, Any]:
            chunk = next(chunks, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        with SpooledTemporaryFile[bytes](max_size=MEBIBYTE) as file:
            spooled = await Spooled.read(receive, file)
            same, again, more = spooled.sha256(content_type, query), b"", True
            while more:
                message = await spooled.receive()
                again, more = again + message["body"], message["more_body"]
            return again, same

    def known(sent: bytes, content_type: str, query: bytes = b"") -> str:
        again, same = anyio.run(read, sent, content_type, query)
        assert again == sent
        return same

    form = "multipart/form-data; boundary="
    first = known(body(b"7f3a9c"), f"{form}7f3a9c")
    assert known(body(b"0b1d2e44"), f'{form}"0b1d2e44"') == first
    assert known(body(b"7f3a9c")[:-1] + b"!", f"{form}7f3a9c") != first
    assert known(body(b"7f3a9c"), "application/json") != first
    assert known(body(b"7f3a9c"), f"{form}7f3a9c", b"overwrite=true") != first
