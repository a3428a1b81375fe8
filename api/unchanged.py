"""Answers that are given again while the database is as it was: a study that many watch is read once after each of its changes.

Nothing is given that a new reading would not have given: the database's version is read before an answer is made, and again
before it is repeated.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.store.data_version import DataVersion

MAX_BYTES = 16 * 1024 * 1024

ROWS_ALONE = re.compile(r"/v1/(studies|jobs)(/[^/]+)?|/v1/studies/[^/]+/(best|trials(/[^/]+)?)")
"""What is answered from the database's rows, whoever asks and whatever time it is."""


async def read_version(version: DataVersion) -> str | None:
    return await to_thread.run_sync(version.read) if version.waits else version.read()


@dataclass(frozen=True)
class Kept:
    """An answer, the version of the database before it was made, and the route that made it, by which requests are counted."""

    version: str
    route: Any
    head: Message
    body: Message

    def bytes(self) -> int:
        return len(self.body["body"])


class Unchanged:
    """An ASGI middleware around the app itself, within whatever decides who may ask."""

    def __init__(self, app: ASGIApp, version: DataVersion) -> None:
        self._app, self._version = app, version
        self._kept: LRUCache[tuple[str, bytes, str], Kept] = LRUCache(MAX_BYTES, getsizeof=Kept.bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not ROWS_ALONE.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        key = scope["path"], scope["query_string"], Headers(scope=scope).get("accept", "")
        version = await read_version(self._version)
        kept = self._kept.get(key)
        if kept is None or version is None or kept.version != version:
            making = _Making(send)
            await self._app(scope, receive, making)
            if version is not None and (whole := making.whole(version, scope.get("route"))):
                self._keep(key, whole)
            return
        scope["route"] = kept.route
        await send({**kept.head, "headers": list(kept.head["headers"])})  # to which those around it add theirs
        await send(kept.body)

    def _keep(self, key: tuple[str, bytes, str], whole: Kept) -> None:
        if whole.bytes() <= MAX_BYTES:
            self._kept[key] = whole


class _Making:
    """A `send` that lets an answer pass, and has it afterwards."""

    def __init__(self, send: Send) -> None:
        self._send, self._messages = send, list[Message]()

    async def __call__(self, message: Message) -> None:
        self._messages.append({**message, "headers": list(message["headers"])} if "headers" in message else message)
        await self._send(message)

    def whole(self, version: str, route: Any) -> Kept | None:
        """None where it was no success, or came in pieces."""
        if len(self._messages) != 2 or self._messages[0]["status"] != HTTPStatus.OK:
            return None
        return Kept(version, route, *self._messages)
