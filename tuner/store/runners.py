"""The runners, each with the time it was last alive; an operator's view, on which no decision about a job rests."""

import os
import socket
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, update

from tuner.store.clock import now, rfc3339
from tuner.store.tables import runners

FORGOTTEN_AFTER = timedelta(days=1)


def beat(connection: Connection, owner: str, slots: int) -> None:
    values = {"slots": slots, "beat_at": now()}
    if connection.execute(update(runners).where(runners.c.owner == owner).values(values)).rowcount == 0:
        forgotten = rfc3339(datetime.now(UTC) - FORGOTTEN_AFTER)
        connection.execute(delete(runners).where(runners.c.beat_at < forgotten))
        row = {"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), **values}
        connection.execute(insert(runners).values(row))


def last_beat(connection: Connection) -> str | None:
    """When any runner was last alive."""
    beat_at: str | None = connection.execute(select(func.max(runners.c.beat_at))).scalar_one()
    return beat_at
