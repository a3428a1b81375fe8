"""The Optuna dashboard on the same database, read only. Its paths /dashboard /api /static /csv /artifacts are compiled in."""

from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from typing import Any

import anyio
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


class Dashboard:
    """Serves the dashboard's paths to readers, and answers every other path with 404.

    Its program is loaded when somebody first looks: that takes a second, which a service's start, and every command that works
    without a service, would wait for.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._loading = anyio.Lock()
        self._storage: DashboardStorage | None = None
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _instead(scope["path"], scope["method"])
        if answer is not None:
            await answer(scope, receive, send)
            return
        if b"accept-encoding" not in dict(scope["headers"]):  # without it 0.21 answers /static with 500
            scope = {**scope, "headers": [*scope["headers"], (b"accept-encoding", b"identity")]}
        async with self._loading:
            if self._app is None:
                self._app = await anyio.to_thread.run_sync(self._load)
        await self._app(scope, receive, _with_policy(send))

    def _load(self) -> ASGIApp:
        import optuna_dashboard

        self._storage = self._storage or DashboardStorage(self._database_url)
        wsgi = _looking_each_time(optuna_dashboard.wsgi(self._storage))
        return WSGIMiddleware(wsgi, workers=WORKERS)  # type: ignore[return-value]  # a2wsgi types the same dicts more narrowly

    def close(self) -> None:
        """Its connections are closed."""
        if self._storage is not None:
            self._storage.close()


def _instead(path: str, method: str) -> Response | None:
    """The answer where the dashboard is not to be asked."""
    if path == "/":
        return RedirectResponse("/dashboard")
    if not path.startswith(PREFIXES):
        return problem(HTTPStatus.NOT_FOUND, f"nothing is at {path[:200]}")
    if method not in ("GET", "HEAD"):
        # It has no access control of its own, and could rename, tell and delete.
        return problem(HTTPStatus.FORBIDDEN, "the dashboard is read only")
    return None


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
