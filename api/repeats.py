"""Requests that are sent again with their Idempotency-Key, and the answers they get."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import SpooledTemporaryFile

from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from api import roles
from api.bodies import MAX_BYTES, Spooled, is_upload, keeping_uploads
from tuner.errors import Conflict
from tuner.store import idempotency
from tuner.store.database import reading

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
PATTERN = r"^[!-~]{1,255}$"
KEPT_HEADERS = ("content-type", "location")


@dataclass(frozen=True)
class Repeat:
    """A request that may be sent again: its key is its caller's own, at one address; `receive` gives its body."""

    key_sha256: str
    request_sha256: str
    receive: Receive


@asynccontextmanager
async def reading_repeat(request: Request, spool_dir: Path) -> AsyncIterator[Repeat | None]:
    """None for a request without a key. Its body has been read then, and is kept until the block's end: what is larger than a
    mebibyte, as only an upload may be, in a nameless file in `spool_dir`.

    Raises HTTPException 422 where the key is none, Unavailable where the body cannot be kept.
    """
    key, caller = request.headers.get(HEADER), request.state.caller
    if key is None or not roles.is_repeatable(request.method, request.scope["path"]):
        yield None
        return
    if not re.fullmatch(PATTERN, key):
        rule = f"{HEADER} must be 1 to 255 visible ASCII characters"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{rule}, but got {key[:80]!r}")
    whose = json.dumps([caller.name, request.scope["path"], key])
    with SpooledTemporaryFile[bytes](max_size=MAX_BYTES, dir=str(spool_dir)) as file:
        with keeping_uploads(spool_dir if is_upload(request) else None):
            body = await Spooled.read(request.receive, file)
        same = body.sha256(request.headers.get("content-type", ""), request.scope["query_string"])
        yield Repeat(hashlib.sha256(whose.encode()).hexdigest(), same, body.receive)


def answer_again(engine: Engine, repeat: Repeat) -> Response | None:
    """The answer that the first request with this key got; None where there was none, or it did not succeed.

    Raises Conflict where that was another request, and where its answer held a secret, which is told once.
    """
    with reading(engine) as connection:
        kept = idempotency.find_answer(connection, repeat.key_sha256)
    if kept is None:
        return None
    if kept.request_sha256 != repeat.request_sha256:
        raise Conflict(f"an {HEADER} must come with the same body each time, but this one came with another")
    answer = kept.answer
    if answer.body is None:
        raise Conflict(
            f"this {HEADER}'s request was carried out, and its answer held a secret, which is told only once"
        )
    return Response(answer.body, answer.status, {**answer.headers, REPLAYED: "true"})
