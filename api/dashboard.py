"""The Optuna dashboard on the same database, read only. Its paths /dashboard /api /static /csv /artifacts are compiled in."""

from http import HTTPStatus

import optuna
import optuna_dashboard
from a2wsgi import WSGIMiddleware
from optuna.storages import BaseStorage
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem

PREFIXES = ("/dashboard", "/api/", "/static/", "/csv/", "/artifacts/", "/favicon.ico")
WORKERS = 4


def open_storage(database_url: str) -> BaseStorage:
    """Optuna's cached storage: given a URL instead, the dashboard would load every trial again at each of its polls."""
    return optuna.storages.get_storage(database_url)


def close_storage(storage: BaseStorage) -> None:
    """Its connections are closed; Optuna itself has no call for that."""
    storage.remove_session()
    storage._backend.engine.dispose()  # type: ignore[attr-defined]


def make_dashboard(storage: BaseStorage) -> ASGIApp:
    """Serves the dashboard's paths to readers, and answers every other path with 404."""
    app = WSGIMiddleware(optuna_dashboard.wsgi(storage), workers=WORKERS)

    async def read_only(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        answer: Response | None = None
        if path == "/":
            answer = RedirectResponse("/dashboard")
        elif not path.startswith(PREFIXES):
            answer = problem(HTTPStatus.NOT_FOUND, f"nothing is at {path[:200]}")
        elif scope["method"] not in ("GET", "HEAD"):
            # It has no access control of its own, and could rename, tell and delete.
            answer = problem(HTTPStatus.FORBIDDEN, "the dashboard is read only")
        if answer is not None:
            await answer(scope, receive, send)
            return
        if b"accept-encoding" not in dict(scope["headers"]):  # without it 0.21 answers /static with 500
            scope = {**scope, "headers": [*scope["headers"], (b"accept-encoding", b"identity")]}
        await app(scope, receive, send)  # type: ignore[arg-type]  # a2wsgi types the same dicts more narrowly

    return read_only
