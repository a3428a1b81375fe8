"""Who may do what: every route with every kind of token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import Engine

from api.app import close, create_app
from api.dependencies import begin_change
from api.roles import is_repeatable
from tests.conftest import connect
from tuner.settings import Settings
from tuner.specs.token import Role, TokenSpec
from tuner.store import tokens
from tuner.store.database import migrate, open_database, writing

UNDOCUMENTED = ("/", "/docs", "/openapi.json", "/dashboard", "/api/studies", "/static/bundle.js", "/nowhere")

ROLES = {
    ("/healthz", "anyone"): "GET",
    ("/metrics", "reader"): "GET",
    ("/readyz", "reader"): "GET",
    ("/v1/datasets", "reader"): "GET",
    ("/v1/datasets/{name}", "reader"): "GET",
    ("/v1/estimates", "reader"): "POST",
    ("/v1/jobs", "reader"): "GET",
    ("/v1/jobs/{job_id}", "reader"): "GET",
    ("/v1/jobs/{job_id}/log", "reader"): "GET",
    ("/v1/models", "reader"): "GET",
    ("/v1/models/{model_id}", "reader"): "GET",
    ("/v1/models/{model_id}/download", "reader"): "GET",
    ("/v1/models/{model_id}/predict", "reader"): "POST",
    ("/v1/schedules", "reader"): "GET",
    ("/v1/schedules/{name}", "reader"): "GET",
    ("/v1/schedules/{name}/champions", "reader"): "GET",
    ("/v1/schedules/{name}/runs", "reader"): "GET",
    ("/v1/studies", "reader"): "GET",
    ("/v1/studies/{name}", "reader"): "GET",
    ("/v1/studies/{name}/best", "reader"): "GET",
    ("/v1/studies/{name}/deliveries", "reader"): "GET",
    ("/v1/studies/{name}/events", "reader"): "GET",
    ("/v1/studies/{name}/importances", "reader"): "GET",
    ("/v1/studies/{name}/pareto", "reader"): "GET",
    ("/v1/studies/{name}/plots/{kind}", "reader"): "GET",
    ("/v1/studies/{name}/report", "reader"): "GET",
    ("/v1/studies/{name}/trials", "reader"): "GET",
    ("/v1/studies/{name}/trials/{number}", "reader"): "GET",
    ("/v1/studies/{name}/trials/{number}/should-stop", "reader"): "GET",
    ("/v1/whoami", "reader"): "GET",
    ("/v1/audit", "operator"): "GET",
    ("/v1/datasets", "operator"): "POST",
    ("/v1/datasets/{name}", "operator"): "DELETE",
    ("/v1/jobs/{job_id}", "operator"): "PATCH",
    ("/v1/jobs/{job_id}/cancel", "operator"): "POST",
    ("/v1/jobs/{job_id}/retry", "operator"): "POST",
    ("/v1/schedules", "operator"): "POST",
    ("/v1/schedules/{name}", "operator"): "DELETE PATCH",
    ("/v1/schedules/{name}/run", "operator"): "POST",
    ("/v1/studies", "operator"): "POST",
    ("/v1/studies/{name}", "operator"): "DELETE PATCH",
    ("/v1/studies/{name}/cancel", "operator"): "POST",
    ("/v1/studies/{name}/deliveries/{delivery_id}/send-again", "operator"): "POST",
    ("/v1/studies/{name}/jobs", "operator"): "POST",
    ("/v1/studies/{name}/pause", "operator"): "POST",
    ("/v1/studies/{name}/purge", "operator"): "POST",
    ("/v1/studies/{name}/restore", "operator"): "POST",
    ("/v1/studies/{name}/resume", "operator"): "POST",
    ("/v1/studies/{name}/suggest", "operator"): "POST",
    ("/v1/studies/{name}/trials", "operator"): "POST",
    ("/v1/studies/{name}/trials/{number}/complete", "operator"): "POST",
    ("/v1/studies/{name}/trials/{number}/measure", "operator"): "POST",
    ("/v1/studies/{name}/trials/{number}/void", "operator"): "DELETE POST",
    ("/v1/tokens", "operator"): "GET POST",
    ("/v1/tokens/{name}", "operator"): "DELETE GET",
}
"""Who may call what, as docs/security.md has it, an operation at a time: a new one is entered here."""


@dataclass(frozen=True)
class Guarded:
    """A service with tokens. `secrets` holds one of each kind: reader, operator, expired, revoked, wrong."""

    api: httpx.Client
    secrets: Mapping[str, str]

    def headers(self, kind: str) -> dict[str, str]:
        return {} if kind == "none" else {"Authorization": f"Bearer {self.secrets[kind]}"}


def make_token(engine: Engine, name: str, role: Role = Role.OPERATOR, days: float | None = None) -> str:
    with writing(engine) as connection:
        return tokens.create_token(connection, TokenSpec(name=name, role=role, expires_days=days), "a test")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("guarded") / "data", parallel=2)
    engine = open_database(settings.database_url)
    migrate(engine)
    secrets = {
        "reader": make_token(engine, "reader", Role.READER),
        "operator": make_token(engine, "operator"),
        "expired": make_token(engine, "expired", days=1e-9),
        "revoked": make_token(engine, "revoked"),
        "wrong": f"{tokens.PREFIX}{'x' * 43}",
    }
    with writing(engine) as connection:
        tokens.revoke_token(connection, "revoked")
    engine.dispose()
    with connect(settings) as api:
        yield Guarded(api, secrets)


@pytest.fixture(scope="module")
def document(guarded: Guarded) -> dict[str, Any]:
    document: dict[str, Any] = guarded.api.get("/openapi.json", headers=guarded.headers("reader")).json()
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_tells_who_may_call_what(document: dict[str, Any]) -> None:
    """Each operation names its role, which is the contract's, the two ways to show a token, and the gate's refusals."""
    declared = {(method, path): role for (path, role), methods in ROLES.items() for method in methods.split()}
    assert {(method, path): operation["x-role"] for method, path, operation in operations(document)} == declared
    for method, path, operation in operations(document):
        ways: list[dict[str, list[str]]] = [] if path == "/healthz" else [{"token": []}, {"session": []}]
        assert operation["security"] == ways, (method, path)
        assert {"401", "403", "429"} <= operation["responses"].keys() or path == "/healthz", (method, path)
    assert document["components"]["securitySchemes"].keys() == {"token", "session"}


def test_the_document_leaves_nothing_untold(document: dict[str, Any]) -> None:
    """Each operation has a summary, a description and an identifier; each parameter a description and an example;
    each error is a problem; and what has a body says that it can be no document (400), too large or not valid."""
    missing = set()
    for method, path, operation in operations(document):
        missing |= {
            (method, path, part) for part in ("summary", "description", "operationId") if not operation.get(part)
        }
        for parameter in operation.get("parameters", []):
            told = parameter.get("description"), parameter.get("examples") or parameter["schema"].get("examples")
            if not all(told):
                missing.add((method, path, parameter["name"]))
        wanted = {"400", "413", "422"} if "requestBody" in operation else set()
        missing |= {(method, path, status) for status in wanted - operation["responses"].keys()}
        for status, response in operation["responses"].items():
            if status >= "400" and "application/problem+json" not in response.get("content", {}):
                missing.add((method, path, status))
    assert missing == set()


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "revoked", "reader", "operator"])
def test_every_route_asks_for_its_role(kind: str, guarded: Guarded, document: dict[str, Any]) -> None:
    """Without a good token 401 everywhere; with a reader's 403 on what is an operator's; else the route itself answers, which on
    these requests for things that are not there is neither."""
    wrong = {}
    for method, path, operation in operations(document):
        answer = guarded.api.request(method, path.replace("{", "").replace("}", ""), headers=guarded.headers(kind))
        role = operation["x-role"]
        known = kind in ("reader", "operator")
        expected = 401 if not known and role != "anyone" else 403 if kind == "reader" and role == "operator" else None
        refused = answer.status_code in (401, 403, 429)
        if answer.status_code != expected if expected else refused or answer.status_code >= 500:
            wrong[method, path] = answer.status_code
        if expected:
            assert answer.headers["Content-Type"] == "application/problem+json"
    assert wrong in ({}, {("GET", "/readyz"): 503})  # no runner works here


@pytest.mark.parametrize("path", UNDOCUMENTED)
def test_what_the_document_leaves_out_is_guarded_too(path: str, guarded: Guarded) -> None:
    """The pages, the dashboard, and addresses where nothing is: 401 without a token; a reader may look, nobody may write."""
    for kind in ("none", "wrong", "expired", "revoked"):
        assert guarded.api.get(path, headers=guarded.headers(kind)).status_code == 401
    for kind in ("reader", "operator"):
        assert guarded.api.get(path, headers=guarded.headers(kind)).status_code in (200, 307, 404)
        assert guarded.api.post(path, headers=guarded.headers(kind)).status_code in (307, 403, 404, 405)
    assert guarded.api.post(path, headers=guarded.headers("reader")).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/login%3F/v1/studies",
        "/healthz%23",
        "/healthz%0A",
        "/login/../v1/studies",
        "//healthz",
        "/HEALTHZ",
        "/login;/docs",
    ],
)
def test_no_address_looks_like_an_open_one(path: str, guarded: Guarded) -> None:
    """What is open is so by its whole path, as the router sees it."""
    assert guarded.api.get(path).status_code == 401


def test_an_open_service_makes_no_tokens(api: httpx.Client) -> None:
    """Whoever reaches a service without tokens, on its own machine, may do everything but keep a key for the day it is closed."""
    assert api.get("/v1/whoami").json() == {
        "name": "anonymous",
        "role": "operator",
        "access_control": False,
        "expires_at": None,
    }
    assert api.post("/v1/tokens", json={"name": "mine", "role": "operator"}).status_code == 403
    assert api.get("/v1/tokens").json()["items"] == []


def test_tokens_by_rest(settings: Settings) -> None:
    """An operator makes tokens, which hold at once, sees them without their secrets, and revokes them; the last one's end opens
    nothing. A name is free again after that, and the audit log's own names never are."""
    engine = open_database(settings.database_url)
    migrate(engine)
    root = {"Authorization": f"Bearer {make_token(engine, 'root')}"}
    with connect(settings) as api:
        made = api.post("/v1/tokens", json={"name": "ci", "role": "reader", "expires_days": 1}, headers=root)
        assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
        ci = {"Authorization": f"Bearer {made.json()['token']}"}
        assert api.get("/v1/whoami", headers=ci).json()["name"] == "ci"
        assert api.post("/v1/tokens", json={"name": "ci", "role": "reader"}, headers=root).status_code == 409
        assert api.post("/v1/tokens", json={"name": "anonymous", "role": "reader"}, headers=root).status_code == 422
        [listed, _] = api.get("/v1/tokens", headers=root).json()["items"]
        assert (listed["name"], listed["state"], listed["created_by"], "token" in listed) == (
            "ci",
            "live",
            "root",
            False,
        )
        assert api.delete("/v1/tokens/ci", headers=root).status_code == 204
        assert api.delete("/v1/tokens/ci", headers=root).status_code == 404
        assert api.post("/v1/tokens", json={"name": "ci", "role": "reader"}, headers=root).status_code == 201
        states = [token["state"] for token in api.get("/v1/tokens", headers=root).json()["items"]]
        assert states == ["live", "revoked", "live"]
        for name in ("ci", "root"):
            assert api.delete(f"/v1/tokens/{name}", headers=root).status_code == 204
    with connect(settings) as api:
        assert api.get("/v1/studies", headers=root).status_code == 401
        assert api.get("/v1/studies").status_code == 401
    engine.dispose()


def test_only_hashes_are_stored_and_uses_noted(engine: Engine) -> None:
    """The row holds the secret's SHA-256 and a last use that moves at most once a minute."""
    secret = make_token(engine, "ci")
    with writing(engine) as connection:
        [token] = tokens.live_tokens(connection)
        assert secret not in str(token)
        assert (token.sha256, token.last_used_at) == (tokens.digest(secret), None)
        tokens.note_use(connection, token.id)
        [used] = tokens.live_tokens(connection)
        tokens.note_use(connection, token.id)
        [again] = tokens.live_tokens(connection)
        assert used.last_used_at == again.last_used_at is not None


def test_every_route_that_changes_something_shares_the_requests_transaction(settings: Settings) -> None:
    """So its change, its audit row and the answer to its Idempotency-Key are there together or not at all."""
    app = create_app(settings)
    apart = set()
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            if isinstance(route.original_route, APIRoute) and is_repeatable(method, str(route.path)):
                asked = {dependency.call for dependency in route.dependant.dependencies}
                if begin_change not in asked:
                    apart.add((method, route.path))
    close(app)
    assert apart == set()
