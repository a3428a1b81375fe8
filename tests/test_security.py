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


@pytest.mark.parametrize(
    "path", ["/v1/studies", "/dashboard", "/api/studies", "/v1/models", "/openapi.json", "/docs", "/", "/readyz"]
)
def test_nothing_opens_without_the_token(guarded: Settings, path: str) -> None:
    """Every path but /healthz asks for the token, the dashboard's too; a wrong one is refused like none."""
    with connect(guarded) as api:
        assert api.get(path).status_code == 401
        assert api.get(path, headers={"Authorization": f"Bearer {TOKEN[:-1]}"}).status_code == 401
        assert api.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 307, 503)
        assert api.get("/healthz").status_code == 200


def test_a_browser_logs_in_once(guarded: Settings) -> None:
    """A page sends the browser to the login; the token buys a cookie that no script reads and no other site sends."""
    with connect(guarded) as api:
        page = api.get("/dashboard", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["Location"]) == (303, "/login")
        assert "Token" in api.get("/login").text
        assert api.post("/login", data={"token": "wrong"}).status_code == 401
        cookie = api.post("/login", data={"token": TOKEN}).headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert api.get("/v1/studies").status_code == 200


def test_a_strange_host_is_refused(api: httpx.Client) -> None:
    """A name that an attacker points at this machine (DNS rebinding) opens nothing; the loopback names do."""
    assert api.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
    assert api.get("/healthz", headers={"Host": "localhost:8000"}).status_code == 200
    assert api.get("/healthz", headers={"Host": "[::1]:8000"}).status_code == 200


def test_another_sites_page_changes_nothing(api: httpx.Client) -> None:
    """A POST that a browser marks with a foreign origin is refused."""
    foreign = {"Origin": "http://evil.example"}
    assert api.post("/v1/studies", json={"name": "a"}, headers=foreign).status_code == 403
    assert api.post("/v1/studies", json={"name": "a"}, headers={"Origin": "http://127.0.0.1"}).status_code == 202


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
