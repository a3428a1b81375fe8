"""Reads that are repeated: ETags, 304, HEAD; and what an address says to a method that it does not take."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import close, create_app
from tests.conftest import connect
from tests.test_access import make_token
from tuner.settings import Settings
from tuner.specs.token import Role
from tuner.store.database import migrate, open_database

STUDIES = "/v1/studies"
LISTS_AND_STATUS = (
    STUDIES,
    f"{STUDIES}/a",
    f"{STUDIES}/a/trials",
    f"{STUDIES}/a/best?stage=search",
    "/v1/jobs",
    "/v1/jobs/1",
    "/v1/models",
    "/v1/schedules",
)


@pytest.fixture(scope="module")
def filled(shared: httpx.Client) -> httpx.Client:
    """With a study."""
    shared.post(STUDIES, json={"name": "a"})
    return shared


@pytest.mark.parametrize("path", LISTS_AND_STATUS)
def test_who_has_the_answer_is_told_so(filled: httpx.Client, path: str) -> None:
    """304 without a body for the answer's own tag, also as one of several, or as a strong one; the whole answer for any other."""
    whole = filled.get(path)
    tag = whole.headers["ETag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = filled.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert [again.headers[name] for name in ("ETag", "Cache-Control", "Vary")] == [
            tag,
            "private, no-cache",
            "Accept, Authorization, Cookie",
        ]
        assert "Content-Type" not in again.headers
        assert again.headers["X-Content-Type-Options"] == "nosniff"
    other = filled.get(path, headers={"If-None-Match": 'W/"other"'})
    assert (other.status_code, other.json()) == (200, whole.json())


def test_a_tag_changes_with_what_is_shown(api: httpx.Client) -> None:
    """After each change the old tag gets the new answer; while nothing changes, the tag stays."""
    api.post(STUDIES, json={"name": "a"})
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"{STUDIES}/a/trials", {"hyperparameters": {"depth": 1}}),
        ("PATCH", f"{STUDIES}/a", {"n_trials": 7}),
        ("POST", f"{STUDIES}/a/pause", {}),
    ]
    for method, path, body in changes:
        before = api.get(f"{STUDIES}/a").headers["ETag"]
        assert api.get(f"{STUDIES}/a").headers["ETag"] == before
        assert api.request(method, path, json=body).is_success
        after = api.get(f"{STUDIES}/a", headers={"If-None-Match": before})
        assert after.status_code == 200
        assert after.headers["ETag"] != before


def test_a_tag_opens_nothing(tmp_path: Path) -> None:
    """With tokens a known tag is worth nothing without a good one; what operators alone may see has no tag, and is kept
    nowhere."""
    settings = Settings(data_dir=tmp_path / "data")
    engine = open_database(settings.database_url)
    migrate(engine)
    root = {"Authorization": f"Bearer {make_token(engine, 'root')}"}
    reader = {"Authorization": f"Bearer {make_token(engine, 'reader', Role.READER)}"}
    engine.dispose()
    with connect(settings) as api:
        known = {"If-None-Match": api.get(STUDIES, headers=reader).headers["ETag"]}
        assert api.get(STUDIES, headers=reader | known).status_code == 304
        assert api.get(STUDIES, headers=known).status_code == 401
        for path in ("/v1/tokens", "/v1/audit"):
            answer = api.get(path, headers=root)
            assert ("ETag" in answer.headers, answer.headers["Cache-Control"]) == (False, "no-store")
            assert api.get(path, headers=reader | {"If-None-Match": "*"}).status_code == 403


@pytest.mark.parametrize("path", [STUDIES, f"{STUDIES}/a", "/healthz", f"{STUDIES}/none", "/dashboard", "/nowhere"])
def test_head_is_get_without_its_body(filled: httpx.Client, path: str) -> None:
    """Status, type, length and tag are those of GET."""
    head, whole = filled.head(path), filled.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(name) == whole.headers.get(name)


def test_head_of_a_stream_ends(settings: Settings) -> None:
    """It begins the stream of events, and leaves it at once."""

    async def ask() -> tuple[int, str, bytes]:
        app = create_app(settings)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            await client.post(STUDIES, json={"name": "a"})
            answer = await asyncio.wait_for(client.head(f"{STUDIES}/a/events"), 10)
        close(app)
        return answer.status_code, answer.headers["Content-Type"], answer.content

    assert asyncio.run(ask()) == (200, "text/event-stream; charset=utf-8", b"")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        (STUDIES, "GET, HEAD, OPTIONS, POST"),
        (f"{STUDIES}/a", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        (f"{STUDIES}/a/trials/0/void", "DELETE, OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_an_address_names_all_its_methods(shared: httpx.Client, path: str, allow: str) -> None:
    """To OPTIONS, and beside a 405 that is a problem: those of every route that matches, and not of the first alone."""
    options = shared.options(path)
    assert (options.status_code, options.headers["Allow"], options.content) == (204, allow, b"")
    refused = shared.put(path)
    assert (refused.status_code, refused.headers["Allow"]) == (405, allow)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"] == f"{path} takes {allow}, but not PUT"


def test_a_fault_of_the_service_is_a_problem(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """500 as problem+json with the gate's headers; the reason is in the log under the request's id, and not in the answer."""
    with connect(settings) as api:
        engine = open_database(settings.database_url)
        api.post("/v1/schedules", json={"name": "s", "cron": "0 3 * * *", "study": {"name": "s-{date}"}})
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE tuner_schedules SET spec = '{}'")
        engine.dispose()
        answer = api.get("/v1/schedules/s", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert (answer.headers["X-Request-ID"], answer.headers["X-Frame-Options"]) == ("mine", "DENY")
    assert "mine" in answer.json()["detail"]
    assert "validation" not in answer.text
    assert "request mine failed" in caplog.text
