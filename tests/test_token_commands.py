"""Tokens where people make them: at the terminal, on an empty folder, beside a service that runs, and at a service's address."""

import re
from collections.abc import Iterator

import httpx
import pytest

from api.keyring import COOKIE
from tests.conftest import Terminal
from tests.serving import Service, serving, tuner, wait_for
from tuner.client import Client, Refused
from tuner.settings import Settings

TOKEN = r"tuner_[A-Za-z0-9_-]{43}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An open service that logs all it can."""
    with serving(tmp_path_factory.mktemp("service") / "data", TUNER_LOG_LEVEL="DEBUG") as service:
        yield service


def status(url: str, token: str | None = None, method: str = "GET", cookie: str | None = None) -> int:
    shown = {"Authorization": f"Bearer {token}", "Cookie": f"{COOKIE}={cookie}"}
    headers = {name: value for name, value in shown.items() if not value.endswith("None")}
    return httpx.request(method, url, headers=headers, verify=False).status_code


def test_tokens_come_and_go_while_a_service_runs(service: Service) -> None:
    """The first token closes an open service within two seconds, without a restart; on the folder one goes on without a token, at
    the service's address one needs an operator's. A revoked token and its session are out within two seconds, and the last one's
    end opens nothing. Of all that was shown to the service nothing is in its log, nor are queries."""
    studies = f"{service.url}/v1/studies"
    assert status(studies) == 200
    proxied = httpx.get(studies, headers={"X-Forwarded-Proto": "https"}, verify=False)
    assert "Strict-Transport-Security" not in proxied.headers  # nobody may say that he is a proxy
    made = tuner("token", "create", "--name", "ops", "--role", "operator", data_dir=service.data_dir)
    assert re.fullmatch(f"{TOKEN}\n", made.stdout), made.stderr
    operator = made.stdout.strip()
    wait_for(lambda: status(studies) == 401, "the door is closed", seconds=2)
    with Client.over_http(service.url, operator) as client:
        reader = client.create_token("eve", "reader", 7).token
    with Client.over_http(service.url, reader) as client, pytest.raises(Refused, match="needs an operator's token"):
        client.create_token("x", "operator")
    cookie = httpx.post(f"{service.url}/login", data={"token": reader}).cookies[COOKIE]
    assert (status(studies, reader), status(studies, cookie=cookie)) == (200, 200)
    assert status(f"{studies}?token={operator}") == 401
    assert status(f"{studies}/x?note=secret-query", operator, "POST") == 405
    with Client.in_process(Settings(data_dir=service.data_dir)) as client:
        assert [(token.name, token.role, token.state) for token in client.tokens()] == [
            ("eve", "reader", "live"),
            ("ops", "operator", "live"),
        ]
        client.revoke_token("eve")
        wait_for(lambda: status(studies, reader) == status(studies, cookie=cookie) == 401, "eve is out", seconds=2)
        client.revoke_token("ops")
        wait_for(lambda: status(studies, operator) == 401, "ops is out", seconds=2)
        assert status(studies) == 401
        wrote = [(entry.who.partition(":")[0], entry.method, entry.path, entry.status) for entry in client.audit()]
    assert wrote == [
        ("local", "DELETE", "/v1/tokens/ops", 204),
        ("local", "DELETE", "/v1/tokens/eve", 204),
        ("ops", "POST", "/v1/studies/x", 405),
        ("eve", "POST", "/login", 303),
        ("ops", "POST", "/v1/tokens", 201),
        ("local", "POST", "/v1/tokens", 201),
    ]
    assert re.search(r"DEBUG ops POST /v1/tokens: 201 in \d+ ms", service.log)
    for secret in (operator, reader, cookie, "secret-query", "token="):
        assert secret not in service.log


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("create --name a --role root", 1, "'reader' or 'operator'"),
        ("create --name a", 2, "--role"),
        ("revoke nobody", 1, "no token is named 'nobody'"),
    ],
)
def test_refusals_name_the_rule(
    arguments: str,
    code: int,
    said: str,
    settings: Settings,
    terminal: Terminal,
) -> None:
    """As those of the other commands do; standard output stays empty, for scripts that take the token from there."""
    settings.data_dir.mkdir()
    (settings.data_dir / "tuner.db").touch()
    told = terminal("token", *arguments.split(), TUNER_DATA_DIR=str(settings.data_dir))
    assert (told.returncode, told.stdout) == (code, "")
    assert said in told.stderr
