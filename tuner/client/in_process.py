"""The service's own app as a transport: the same checks and answers as over HTTP, without a port."""

import importlib
from contextlib import ExitStack
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal

from tuner.settings import Settings

# By name, since `tuner` imports nothing of `api`.
APP_MODULE = "api.app"


def load_app(settings: Settings, local_token: str | None = None) -> Any:
    """The ASGI app for these settings; who shows it `local_token` is its operator."""
    return importlib.import_module(APP_MODULE).create_app(settings, local_token)


class InProcessTransport(httpx.BaseTransport):
    """Runs the app, from its start to its end, in an event loop of another thread. Answers are read whole."""

    def __init__(self, app: Any) -> None:
        self._asgi = httpx.ASGITransport(app)
        with ExitStack() as closing:
            self._portal = closing.enter_context(start_blocking_portal())
            closing.enter_context(self._portal.wrap_async_context_manager(app.router.lifespan_context(app)))
            self._closing = closing.pop_all()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._answer, request)

    def close(self) -> None:
        self._closing.close()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._asgi.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
