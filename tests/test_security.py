from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import close, create_app
from tests.conftest import connect
from tuner.errors import InvalidInput
from tuner.settings import Settings

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def guarded(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return settings.model_copy(update={"token_file": tmp_path / "token"})


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service without tokens, which has two names more."""
    data_dir = tmp_path_factory.mktemp("open") / "data"
    with connect(Settings(data_dir=data_dir, allowed_hosts="other.example, tuner.example")) as api:
        yield api


def test_nothing_opens_without_the_files_token(guarded: Settings) -> None:
    """Every path but /healthz asks for the token, the dashboard's too; a wrong one is refused like none."""
    with connect(guarded) as api:
        for path in ("/v1/studies", "/dashboard", "/api/studies", "/openapi.json", "/docs", "/", "/readyz"):
            assert api.get(path).status_code == 401
            assert api.get(path, headers={"Authorization": f"Bearer {TOKEN[:-1]}"}).status_code == 401
            assert api.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 307, 503)
        assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("user@127.0.0.1", 421),
        ("127.0.0.1/x", 421),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("tuner.example", 200),
        ("TUNER.example:443", 200),
    ],
)
def test_only_its_own_names_are_answered(host: str, status: int, open_api: httpx.Client) -> None:
    """A name that an attacker points at this machine (DNS rebinding) opens nothing; the loopback names and the configured do."""
    assert open_api.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:8001", "null", "http://[", "http://127.0.0.1.evil.example"]
)
def test_another_sites_page_changes_nothing(origin: str, open_api: httpx.Client) -> None:
    """A POST that a browser marks with another origin is refused, also one from another port; the service's own is not."""
    theirs, ours = ({"Origin": site} for site in (origin, "http://127.0.0.1"))
    assert open_api.post("/v1/studies", json={"name": "a"}, headers=theirs).status_code == 403
    assert open_api.get("/v1/studies").json()["items"] == []
    assert open_api.post("/v1/studies", json={"nam": "a"}, headers=ours).status_code == 422


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_reads_nothing(site: str, open_api: httpx.Client) -> None:
    """What a browser fetches, loads or frames for another site's page is refused; a link that a person follows is not."""
    for mode, dest in (("cors", "empty"), ("no-cors", "script"), ("no-cors", "image"), ("navigate", "iframe")):
        fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert open_api.get("/v1/studies", headers=fetch).status_code == 403
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert open_api.get("/v1/studies", headers=link).status_code == 200
    assert open_api.post("/v1/studies", json={"name": "a"}, headers=link).status_code == 403
    answer = open_api.get("/v1/studies", headers={"Origin": "http://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/studies", "/healthz", "/docs", "/dashboard", "/static/bundle.js", "/nowhere"])
def test_every_answer_forbids_what_it_does_not_need(path: str, open_api: httpx.Client) -> None:
    """No guessing of types, no framing, no loading by others, no script but those of the service's own pages; and what one
    user is shown is given to the next from no cache: of a tagged answer the service is asked each time."""
    headers = open_api.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert ("script-src" in policy) == (path in ("/docs", "/dashboard", "/static/bundle.js"))
    kept = {"/v1/studies": "private, no-cache", "/dashboard": "no-store"}
    assert headers.get("Cache-Control") == kept.get(path)


def test_an_open_address_needs_a_token(settings: Settings, guarded: Settings) -> None:
    """Without a token the app is not even made for another address than loopback."""
    with pytest.raises(InvalidInput, match=r"binds to loopback only, but TUNER_HOST is 0\.0\.0\.0"):
        create_app(settings.model_copy(update={"host": "0.0.0.0"}))
    close(create_app(guarded.model_copy(update={"host": "0.0.0.0"})))


@pytest.mark.parametrize("content", [None, b"short", b"\xff" * 40])
def test_a_useless_token_file_is_refused(settings: Settings, tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, too short or no text keeps the service from starting, which otherwise would be open or shut."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"(?i)token"):
        create_app(settings.model_copy(update={"token_file": file}))
