"""The form by which a data set is uploaded: its files go to nameless files on the data sets' disk as they arrive.

Nameless means that a killed process leaves none behind.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from api.bodies import keeping_uploads
from tuner.data.uploaded_files import MAX_FILES, UploadedFile
from tuner.errors import InvalidInput

MAX_NAME_BYTES = 1000
"""Of the field `name`; longer ones need not be read to be refused."""


@dataclass
class Upload:
    """What the form held."""

    name: str | None = None
    files: list[UploadedFile] = field(default_factory=list)


@asynccontextmanager
async def receiving_upload(request: Request, folder: Path) -> AsyncIterator[Upload]:
    """The form of the request's body; its files are in `folder`, nameless, until the block's end.

    Raises InvalidInput for another body or other fields, Unavailable where the disk does not take it.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        got = request.headers.get("content-type", "")[:80]
        raise InvalidInput(f"a data set is uploaded as multipart/form-data with a boundary, but the type is {got!r}")
    with ExitStack() as closing:
        form = _Form(folder, closing)
        with keeping_uploads(folder):
            await _feed(request, boundary, form)
        yield form.upload


async def _feed(request: Request, boundary: bytes, form: "_Form") -> None:
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        async for piece in request.stream():
            await to_thread.run_sync(parser.write, piece)  # also writes to the disk
        parser.finalize()
    except FormParserError as error:
        raise InvalidInput(f"the body must be a multipart form, but {str(error)[:200]}") from error
    except ClientDisconnect as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the client left before the end of its body") from error
    if not form.ended:
        raise InvalidInput("the body must end with the form's last boundary, but it ends before")


class _Form:
    """The parser's callbacks: it tells headers and contents of the parts piece by piece."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self._folder, self._closing = folder, closing
        self.upload, self.ended = Upload(), False
        self._header, self._value = b"", b""
        self._disposition = b""
        self._file: IO[bytes] | None = None
        self._text = b""

    def callbacks(self) -> dict[str, object]:
        names = (
            "part_begin",
            "part_data",
            "part_end",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "end",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        self._disposition, self._file, self._text = b"", None, b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = options.get(b"name"), options.get(b"filename")
        if name == b"files" and filename is not None:
            if len(self.upload.files) == MAX_FILES:
                raise InvalidInput(f"at most {MAX_FILES} files may be uploaded, but got more", ("files",))
            self._file = self._closing.enter_context(TemporaryFile(dir=self._folder))  # noqa: SIM115
            self.upload.files.append(UploadedFile(_decode(filename), self._file))
        elif name != b"name" or filename is not None or self.upload.name is not None:
            what = "another `name`" if name == b"name" and filename is None else _decode(name or b"")[:80]
            raise InvalidInput(f"the form has one text field `name`, and files in the field `files`, but got {what!r}")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_NAME_BYTES:
            raise InvalidInput(f"a name may not have more than {MAX_NAME_BYTES} bytes, but got more", ("name",))

    def _part_end(self) -> None:
        if self._file is None:
            self.upload.name = _decode(self._text)
        else:
            self._file.flush()

    def _end(self) -> None:
        self.ended = True


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")
