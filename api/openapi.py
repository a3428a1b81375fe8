"""The service's OpenAPI document: FastAPI's, with what the gate and the changes add to every operation."""

from typing import Any

from fastapi import FastAPI

from api import roles
from api.conditional import is_tagged
from api.keyring import COOKIE
from api.problems import described
from api.repeats import HEADER, PATTERN, REPLAYED

SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "`tuner token create`, or the file TUNER_TOKEN_FILE"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "what /login gives to a browser"},
}

REPEATING: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": PATTERN, "examples": ["mnist-quick-1"]},
    "description": "of your own choosing, new for each request: sent again within a day, with the same body, the request changes "
    "nothing and gets the first answer; with another body, 409. A request that was refused leaves its key free.",
}

TAG = {"ETag": {"schema": {"type": "string"}, "description": "for If-None-Match; a stream has none"}}
AGAIN = {
    REPLAYED: {"schema": {"const": "true"}, "description": f"this is the first answer to the {HEADER}, given again"}
}
WAITING = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def install(app: FastAPI) -> None:
    """`app.openapi` also tells who may call what, and what the gate may answer."""
    inner = app.openapi
    app.openapi = lambda: _with_access(inner())  # type: ignore[method-assign]


def _with_access(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(operation, method.upper(), path)
    return document


def _describe(operation: dict[str, Any], method: str, path: str) -> None:
    role = roles.needed(method, path)
    statuses = [403, 421] if role is None else [401, 403, 421, 429, 503]
    operation["x-role"] = role or "anyone"
    operation["security"] = [] if role is None else [{scheme: []} for scheme in SCHEMES]
    responses = operation["responses"]
    if roles.is_repeatable(method, path):
        statuses.append(409)
        for status in responses:
            if status.startswith("2"):
                _add_headers(responses, status, AGAIN)
        parameters = operation.setdefault("parameters", [])
        if REPEATING not in parameters:
            parameters.append(REPEATING)
    if "requestBody" in operation:
        statuses += [400, 413, 415]
    for status, response in described(*statuses).items():
        responses.setdefault(str(status), response)
    if method == "GET" and is_tagged(path):
        responses["304"] = {"description": "If-None-Match holds the answer's ETag", "headers": TAG}
        _add_headers(responses, "200", TAG)
    for status in {"429", "503"} & responses.keys():
        _add_headers(responses, status, WAITING)


def _add_headers(responses: dict[str, Any], status: str, headers: dict[str, Any]) -> None:
    responses[status] = {**responses[status], "headers": responses[status].get("headers", {}) | headers}
