"""Browsers: a token buys a session, which is worth what the token is worth."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, update

from api.keyring import COOKIE
from tests.conftest import connect, wait_until
from tests.test_access import make_token
from tuner.settings import Settings
from tuner.specs.token import Role
from tuner.store import tables, tokens
from tuner.store.database import migrate, open_database, writing

TOKEN = "a-token-that-nobody-guesses"
PAGE = {"Accept": "text/html"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Of a service that has a token file."""
    file = settings.data_dir.parent / "token"
    file.write_text(f"{TOKEN}\n")
    return settings.model_copy(update={"token_file": file, "logins_per_minute": 3})


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database_url)
    migrate(engine)
    yield engine
    engine.dispose()


def log_in(api: httpx.Client, token: str) -> httpx.Response:
    return api.post("/login", data={"token": token})


@pytest.mark.parametrize("role", [Role.READER, Role.OPERATOR])
def test_a_browser_logs_in_and_out(role: Role, api: httpx.Client, database: Engine) -> None:
    """A page sends the browser to the login; the token of either role buys a cookie that no script reads, no other site sends and
    that does not tell the token; the cookie has the token's role, is no token itself, and is worth nothing after the logout."""
    token = make_token(database, "ana", role)
    page = api.get("/dashboard", headers=PAGE)
    assert (page.status_code, page.headers["Location"]) == (303, "/login")
    assert "Token" in api.get("/login").text
    answer = log_in(api, token)
    cookie = answer.cookies[COOKIE]
    assert answer.status_code == 303
    for words in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
        assert words in answer.headers["Set-Cookie"]
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert token not in cookie
    assert api.get("/v1/whoami").json()["role"] == role
    assert api.post("/v1/studies", json={"name": "a"}).status_code == (202 if role is Role.OPERATOR else 403)
    assert f"ana, {role}" in api.get("/login").text
    assert api.post("/logout").status_code == 303
    assert COOKIE not in api.cookies
    for stolen in ({"Cookie": f"{COOKIE}={cookie}"}, {"Authorization": f"Bearer {cookie}"}):
        assert api.get("/v1/studies", headers=stolen).status_code == 401


def test_a_session_ends(settings: Settings, database: Engine) -> None:
    """With its token, by revocation or expiry, or after its week; within a second, since another process may have ended it."""
    with connect(settings) as api:
        cookies = {}
        for name in ("revoked", "expired", "over"):
            cookies[name] = {"Cookie": f"{COOKIE}={log_in(api, make_token(database, name)).cookies[COOKIE]}"}
            api.cookies.clear()
            assert api.get("/v1/whoami", headers=cookies[name]).json()["name"] == name
        past = "2026-01-01T00:00:00.000000Z"
        with writing(database) as connection:
            tokens.revoke_token(connection, "revoked")
            connection.execute(update(tables.tokens).where(tables.tokens.c.name == "expired").values(expires_at=past))
            over = tables.sessions.c.sha256 == tokens.digest(cookies["over"]["Cookie"].partition("=")[2])
            connection.execute(update(tables.sessions).where(over).values(expires_at=past))
        for cookie in cookies.values():
            wait_until(lambda c=cookie: api.get("/v1/studies", headers=c).status_code == 401, "the session's end", 30)  # type: ignore[misc]


def test_the_token_files_session_lasts_no_longer_than_its_token(api: httpx.Client, settings: Settings) -> None:
    """The token file's holder logs in like others; with another token in the file the session is over."""
    assert log_in(api, TOKEN).status_code == 303
    assert api.get("/v1/whoami").json()["name"] == "token-file"
    assert settings.token_file is not None
    settings.token_file.write_text("another-token-that-nobody-guesses")
    with connect(settings) as restarted:
        assert restarted.get("/v1/whoami", headers={"Cookie": f"{COOKIE}={api.cookies[COOKIE]}"}).status_code == 401


def test_logins_are_few(api: httpx.Client) -> None:
    """A wrong token is refused without being shown again; after so many logins a minute the address must wait."""
    wrong = log_in(api, "<b>guess</b>")
    assert (wrong.status_code, "guess" in wrong.text) == (401, False)
    assert COOKIE not in wrong.cookies
    assert [log_in(api, "guess").status_code for _ in range(3)] == [401, 401, 429]
    refused = log_in(api, TOKEN)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert api.get("/v1/whoami", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_on_https_the_cookie_stays_there(api: httpx.Client) -> None:
    """The cookie is Secure, and the browser is told to come by https only."""
    answer = api.post("https://127.0.0.1/login", data={"token": TOKEN})
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in api.get("/login").headers


def test_an_open_service_needs_no_login(tmp_path: Path) -> None:
    """Where there are no tokens, the login leads on."""
    with connect(Settings(data_dir=tmp_path / "open")) as api:
        assert api.get("/login").headers["Location"] == "/"
        assert log_in(api, "anything").status_code == 401
