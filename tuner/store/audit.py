"""The audit log: who asked for which change, when, and what came of it. It holds no bodies, and so no secrets."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from tuner.store.clock import now
from tuner.store.tables import audit

MAX_PATH = 500


@dataclass(frozen=True)
class Entry:
    """`who` is a token's name, `token-file`, `local:<user>` or `anonymous`; `location` the address of what was made."""

    who: str
    method: str
    path: str
    status: int
    location: str | None
    request_id: str


def record_change(connection: Connection, entry: Entry) -> None:
    values = {**asdict(entry), "path": entry.path[:MAX_PATH]}
    connection.execute(insert(audit).values(at=now(), **values))


def list_changes(
    connection: Connection, who: str | None, path: str | None, before: int | None, limit: int
) -> list[Row[Any]]:
    """From the newest down; `path` is how the address begins, `before` an id."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if who is not None:
        query = query.where(audit.c.who == who)
    if path is not None:
        query = query.where(audit.c.path.startswith(path, autoescape=True))
    if before is not None:
        query = query.where(audit.c.id < before)
    return list(connection.execute(query).all())


def forget_changes(connection: Connection, before: str) -> int:
    """Delete what is older than the time `before`; answers how much it was."""
    return connection.execute(delete(audit).where(audit.c.at < before)).rowcount
