"""Cursors: the key of a page's last item, opaque to clients. A page after it stays right while items arrive."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from tuner.errors import InvalidInput

T = TypeVar("T")


def encode(key: str | int) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def decode(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise _invalid(cursor) from error


def decode_int(cursor: str | None) -> int | None:
    key = decode(cursor)
    if key is not None and not (key.isdecimal() and len(key) < 19):
        raise _invalid(cursor)
    return None if key is None else int(key)


def cut(rows: Sequence[T], limit: int, key: Callable[[T], str | int]) -> tuple[list[T], str | None]:
    """The page of at most `limit` of up to `limit` + 1 rows, and the cursor of the next one."""
    page = list(rows[:limit])
    return page, encode(key(page[-1])) if len(rows) > limit else None


def _invalid(cursor: str | None) -> InvalidInput:
    return InvalidInput(
        f"a cursor must be the next_cursor of an earlier page, but got {cursor!r}", ("cursor",), "query"
    )
