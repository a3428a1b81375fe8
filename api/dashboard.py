"""The Optuna dashboard on the same database, read only. Its paths /dashboard /api /static /csv /artifacts are compiled in."""

from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from typing import Any

import optuna_dashboard
from a2wsgi import WSGIMiddleware
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import policy
from api.problems import problem
from tuner.store import voided
from tuner.store.studies import DELETED_PREFIX

PREFIXES = ("/dashboard", "/api/", "/static/", "/csv/", "/artifacts/", "/favicon.ico")
WORKERS = 4


class DashboardStorage(_CachedStorage):
    """Optuna's cached storage, without the deleted studies.

    Uncached, as the dashboard would make it from a URL, it would load every trial again at each of its polls.
    """

    def __init__(self, database_url: str) -> None:
        self._rdb = RDBStorage(database_url)
        super().__init__(self._rdb)
        self._void: dict[int, set[int]] = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._forget_where_void_ones_changed(study_id)
        return super().get_all_trials(study_id, deepcopy, states)

    def _forget_where_void_ones_changed(self, study_id: int) -> None:
        """Optuna reads an ended trial once and for all; one that was declared void afterwards must be read again."""
        with self._rdb.engine.connect() as connection:
            void = voided.numbers(connection, study_id)
        with self._lock:
            if self._void.get(study_id, void) != void and study_id in self._studies:
                self._studies[study_id].last_finished_trial_id = -1
            self._void[study_id] = void

    def get_all_studies(self) -> list[FrozenStudy]:
        return [study for study in super().get_all_studies() if not study.study_name.startswith(DELETED_PREFIX)]

    def close(self) -> None:
        """Its connections are closed; Optuna itself has no call for that."""
        self.remove_session()
        self._rdb.engine.dispose()


def make_dashboard(storage: DashboardStorage) -> ASGIApp:
    """Serves the dashboard's paths to readers, and answers every other path with 404."""
    app = WSGIMiddleware(_looking_each_time(optuna_dashboard.wsgi(storage)), workers=WORKERS)

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
        await app(scope, receive, _with_policy(send))  # type: ignore[arg-type]  # a2wsgi types the same dicts more narrowly

    return read_only


def _looking_each_time(dashboard: Any) -> Callable[..., Iterable[bytes]]:
    """The dashboard keeps a study's trials for 2 to 10 s, as if each look loaded all of them again. `DashboardStorage` loads what
    has changed, so each answer can show what is in the database by then, and a curve grows while its net is trained."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        dashboard._inmemory_cache._trials_last_fetched_at.clear()
        answer: Iterable[bytes] = dashboard(environ, start_response)
        return answer

    return app


def _with_policy(send: Send) -> Send:
    """Its scripts are files, its styles are made at run time; it asks its own server alone."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Content-Security-Policy"] = policy(styles="'self' 'unsafe-inline'")
        await send(message)

    return sending
