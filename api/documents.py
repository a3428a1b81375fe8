"""What every JSON body must be, whichever route it is for: one document of text in UTF-8, that every reader takes for the same.

Python's own reader takes more: UTF-16, the last of two equal keys, NaN. What one program reads another way than the next one is
refused here; what a field may hold is for its spec.
"""

import json
import math
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import roles
from api.problems import ProblemResponse, problem

JSON = re.compile(r"application/([\w.!#$&^-]+\+)?json\s*(;.*)?", re.IGNORECASE | re.DOTALL)
MAX_DEPTH = 64
MAX_FAULTS = 20
READ_AT_ONCE = 16 * 1024
"""A larger one is read in a thread, so that others need not wait for it."""

UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")
"""A NUL, which PostgreSQL cannot hold, and half a character."""


class NoDocument(ValueError):
    """Not JSON, or JSON that readers disagree about."""


class Documents:
    """An ASGI middleware that refuses such bodies as problems: 400 where it is no document, 422 at the field."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_document = (
            scope["type"] == "http"
            and scope["method"] not in roles.SAFE_METHODS
            and JSON.fullmatch(Headers(scope=scope).get("content-type", ""))
        )
        if not is_document:
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        refused = await to_thread.run_sync(_refusal, body) if len(body) > READ_AT_ONCE else _refusal(body)
        if refused is not None:
            await refused(scope, receive, send)
            return
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else await receive()

        await self._app(scope, again, send)


def read(body: bytes) -> Any:
    """The document. Raises NoDocument, with the reason."""
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except UnicodeDecodeError as error:
        raise NoDocument(f"must be UTF-8, but has {body[error.start]:#x} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise NoDocument(f"must be JSON, but at character {error.pos}: {error.msg}") from error
    except RecursionError as error:
        raise NoDocument(f"must not be nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise error if isinstance(error, NoDocument) else NoDocument(f"must be readable: {error}") from error


def faults(value: Any, place: tuple[str | int, ...] = ("body",)) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where the document holds what no field may hold, and which rule that breaks. Raises NoDocument where it is too deep."""
    if len(place) > MAX_DEPTH:
        raise NoDocument(f"must not be nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            here = (*place, key[:80].encode("utf-8", "backslashreplace").decode())
            yield from _faults_of_text(key, here)
            yield from faults(inner, here)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if not isinstance(inner, int):
                yield from faults(inner, (*place, index))
    elif isinstance(value, str):
        yield from _faults_of_text(value, place)
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, f"a number must be finite, but got {value}"


def _faults_of_text(text: str, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if found := UNSPEAKABLE.search(text):
        yield place, f"a text must be of whole characters other than NUL, but has {found[0]!a} at {found.start()}"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NoDocument(f"must have each key once in an object, but has {ascii(repeated)[:80]} twice")
    return read


def _refusal(body: bytes) -> ProblemResponse | None:
    if not body:
        return None  # whether there must be one is for the route
    try:
        found = list(islice(faults(read(body)), MAX_FAULTS))
    except NoDocument as fault:
        return problem(HTTPStatus.BAD_REQUEST, f"the body {fault}")
    if not found:
        return None
    errors = [{"loc": list(place), "msg": message} for place, message in found]
    where = ".".join(map(str, errors[0]["loc"]))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {errors[0]['msg']}", errors)
