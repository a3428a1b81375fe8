"""How large a body may be, and whether two are the same."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message as Headers
from http import HTTPStatus
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from tuner.errors import Unavailable

MEBIBYTE = 1024 * 1024
MAX_BYTES = 1 * MEBIBYTE
MAX_UPLOAD_BYTES = 512 * MEBIBYTE
UPLOADS = {("POST", "/v1/datasets")}


def is_upload(request: Request) -> bool:
    """Of a form; JSON is read into memory, also where a form is wanted."""
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    return is_form and (request.method, request.scope["path"]) in UPLOADS


@contextmanager
def keeping_uploads(folder: Path | None) -> Iterator[None]:
    """`folder` is there, and what cannot be written to it becomes Unavailable with its reason; None: nothing is kept."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if folder is None:
            raise
        raise Unavailable(f"the upload cannot be kept: {error.strerror or error}") from error


class Bounded:
    """A `receive` that ends a body which is longer than it may be: HTTPException 413, at once where the length is told."""

    def __init__(self, request: Request) -> None:
        self._receive, self._bytes = request.receive, 0
        self._maximum = MAX_UPLOAD_BYTES if is_upload(request) else MAX_BYTES
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._maximum:
            raise self._too_large(f", but Content-Length is {length[:20]}")

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._maximum:
            raise self._too_large("")
        return message

    def _too_large(self, but: str) -> HTTPException:
        return HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have at most {self._maximum} bytes here{but}"
        )


class Spooled:
    """A body that has been read to its end, and can be read again; over a mebibyte it lies in a temporary file."""

    def __init__(self, file: IO[bytes], receive: Receive) -> None:
        self._file, self._receive, self._ended = file, receive, False

    @classmethod
    async def read(cls, receive: Receive, file: SpooledTemporaryFile[bytes]) -> "Spooled":
        """Into `file`, which the caller closes. Raises ClientDisconnect where the client left before the end."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            await to_thread.run_sync(file.write, message.get("body", b""))
            more = message.get("more_body", False)
        file.seek(0)
        return cls(file, receive)

    async def receive(self) -> Message:
        """The body again; after it what comes from the client, which can only be that it has gone."""
        if self._ended:
            return await self._receive()
        body = await to_thread.run_sync(self._file.read, MEBIBYTE)
        self._ended = len(body) < MEBIBYTE
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    def sha256(self, content_type: str, query: bytes) -> str:
        """The same for the same request; the boundary of a multipart body, which clients draw anew each time, does not count."""
        header = Headers()
        header["Content-Type"] = content_type
        found = hashlib.sha256(query + b"\n")
        for piece in _pieces(self._file, (header.get_boundary() or "").encode("latin-1")):
            found.update(piece)
        self._file.seek(0)
        return found.hexdigest()


def _pieces(file: IO[bytes], without: bytes) -> Iterator[bytes]:
    """What the file holds, with an end of line in the place of each `without` that is not empty."""
    rest = b""
    while block := file.read(MEBIBYTE):
        if not without:
            yield block
            continue
        *whole, tail = (rest + block).split(without)
        for piece in whole:
            yield piece + b"\n"
        kept = max(0, len(tail) - len(without) + 1)  # what follows may be the beginning of another one
        yield tail[:kept]
        rest = tail[kept:]
    yield rest
