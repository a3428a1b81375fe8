"""Reads that are repeated: an answer's ETag, the 304 for who has that answer already, and HEAD, which is GET without a body.

The tag is a hash of the answer, so it changes with anything that is shown and with nothing else. It saves the transfer and not
the work; docs/decisions.md says why it is no revision.
"""

import base64
import hashlib
from http import HTTPStatus

from anyio import CancelScope
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import roles

TAGGED = ("/v1/", "/openapi.json")
ASKED_AGAIN = "private, no-cache"
"""A browser may keep a tagged answer for its user, and asks each time whether it still holds: with a token that is good then."""

VARIES = "Accept, Authorization, Cookie"
KEPT_BY_304 = ("etag", "cache-control", "vary", "content-location", "link")


def is_tagged(path: str) -> bool:
    """Whether what is read there has an ETag: everything but what operators alone may see, which is stored nowhere."""
    return path.startswith(TAGGED) and not path.startswith(roles.OPERATORS_READ)


class Conditional:
    """An ASGI middleware; it changes nothing but GET and HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._app(scope, receive, _tagging(scope, send))
        else:
            await self._answer_head(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The route is asked as by GET; a stream is left as soon as it has begun."""
        scope["method"] = "GET"
        try:
            with CancelScope() as enough:
                await self._app(scope, receive, _tagging(scope, _Bodiless(send, enough)))
        finally:
            scope["method"] = "HEAD"


def _tagging(scope: Scope, send: Send) -> Send:
    return _Tagging(send, Headers(scope=scope).getlist("if-none-match")) if is_tagged(scope["path"]) else send


class _Tagging:
    """A `send` that holds back the head of an answer until its body is there, if that comes at once, and not in pieces."""

    def __init__(self, send: Send, known: list[str]) -> None:
        self._send, self._known = send, known
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
            self._head = message
            return
        head, self._head = self._head, None
        if head is None:
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(head)
            await self._send(message)
        else:
            await self._answer(head, message)

    async def _answer(self, head: Message, body: Message) -> None:
        headers = MutableHeaders(scope=head)
        tag = _tag(headers.get("content-type", ""), body.get("body", b""))
        headers.setdefault("Cache-Control", ASKED_AGAIN)
        headers["ETag"], headers["Vary"] = tag, VARIES
        if _is_known(tag, self._known):
            kept = [(name, value) for name, value in head["headers"] if name.decode("latin-1").lower() in KEPT_BY_304]
            head = {"type": "http.response.start", "status": HTTPStatus.NOT_MODIFIED.value, "headers": kept}
            body = {"type": "http.response.body", "body": b""}
        await self._send(head)
        await self._send(body)


class _Bodiless:
    """A `send` that lets a head pass, and of the body only its end."""

    def __init__(self, send: Send, enough: CancelScope) -> None:
        self._send, self._enough = send, enough
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
        elif not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b""})
            if message.get("more_body", False):
                self._enough.cancel()


def _tag(content_type: str, body: bytes) -> str:
    """Weak: a proxy may compress the answer, and it is still the same."""
    found = hashlib.blake2b(content_type.encode("latin-1") + b"\n", digest_size=16)
    found.update(body)
    return f'W/"{base64.urlsafe_b64encode(found.digest()).decode().rstrip("=")}"'


def _is_known(tag: str, known: list[str]) -> bool:
    """By the weak comparison of RFC 9110, 13.1.2; no tag of ours has a comma."""
    given = [one.strip() for line in known for one in line.split(",")]
    return "*" in given or tag.removeprefix("W/") in [one.removeprefix("W/") for one in given]
