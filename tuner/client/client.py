"""The two clients: the same calls, carried out by a thread or in an event loop."""

import secrets
from typing import Self

import httpx

from tuner.client.calls import Calls
from tuner.client.carriers import Awaiting, Blocking
from tuner.client.in_process import InProcessTransport, load_app
from tuner.settings import Settings

TIMEOUT_SECONDS = 30.0


class Client(Calls, Blocking):
    """`client.study("x")` answers a status, `client.studies()` an iterator."""

    @classmethod
    def over_http(cls, url: str, token: str | None = None) -> Self:
        return cls(httpx.Client(base_url=url, headers=_bearer(token), timeout=TIMEOUT_SECONDS))

    @classmethod
    def in_process(cls, settings: Settings) -> Self:
        """The app of these settings in this process; who can open its database is its operator, and needs no token."""
        token = secrets.token_urlsafe()  # known to this process alone
        listens_nowhere = settings.model_copy(update={"host": "127.0.0.1", "token_file": None})
        transport = InProcessTransport(load_app(listens_nowhere, token))
        return cls(httpx.Client(transport=transport, base_url="http://127.0.0.1", headers=_bearer(token)))


class AsyncClient(Calls, Awaiting):
    """`await client.study("x")` answers a status, `async for study in client.studies()` goes through them."""

    @classmethod
    def over_http(cls, url: str, token: str | None = None) -> Self:
        return cls(httpx.AsyncClient(base_url=url, headers=_bearer(token), timeout=TIMEOUT_SECONDS))


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
