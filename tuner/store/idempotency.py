"""Idempotency keys: a request that is sent again, because its answer got lost, changes nothing and gets the first answer.

The key's row is written in the transaction of the change itself, so it is there if and only if the change is: a crash leaves both
or neither. Of two requests with one key at once, the second waits in the database until the first has ended.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.store.clock import now, rfc3339
from tuner.store.tables import idempotency_keys

KEPT_FOR = timedelta(hours=24)


class KeyTaken(Exception):
    """Another request with this key has just made its change; its answer is there."""


@dataclass(frozen=True)
class Answer:
    """`body` is None where it held a secret, which is not stored."""

    status: int
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Kept:
    request_sha256: str
    answer: Answer


def claim_key(connection: Connection, key_sha256: str, request_sha256: str) -> None:
    """This transaction's change is the key's. Raises KeyTaken where another transaction has taken it; this one is then to be
    rolled back. Keys of more than a day ago are forgotten."""
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < _forgotten()))
    values = {"sha256": key_sha256, "request_sha256": request_sha256, "created_at": now()}
    try:
        connection.execute(insert(idempotency_keys).values(values))
    except IntegrityError as error:
        raise KeyTaken from error


def keep_answer(connection: Connection, key_sha256: str, answer: Answer) -> None:
    """In the transaction that has claimed the key."""
    values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    connection.execute(update(idempotency_keys).where(idempotency_keys.c.sha256 == key_sha256).values(values))


def find_answer(connection: Connection, key_sha256: str) -> Kept | None:
    query = select(idempotency_keys).where(
        idempotency_keys.c.sha256 == key_sha256, idempotency_keys.c.created_at >= _forgotten()
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Kept(row.request_sha256, Answer(row.status, row.headers, row.body))


def _forgotten() -> str:
    return rfc3339(datetime.now(UTC) - KEPT_FOR)
