"""Sessions: what a browser has after it has logged in with a token. A session is worth what its token is worth, and ends with it.

The cookie's value is random, and only its SHA-256 is stored: neither the cookie nor the table tells the token.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from tuner.store.clock import now, rfc3339
from tuner.store.tables import sessions
from tuner.store.tokens import SECRET_BYTES, digest

LASTS = timedelta(days=7)


def begin_session(connection: Connection, token_sha256: str, token_expires_at: str | None) -> tuple[str, str]:
    """The cookie's value, and when the session ends: after a week, or with its token."""
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now()))
    cookie, began = secrets.token_urlsafe(SECRET_BYTES), datetime.now(UTC)
    expires_at = min(filter(None, (rfc3339(began + LASTS), token_expires_at)))
    values = {
        "sha256": digest(cookie),
        "token_sha256": token_sha256,
        "created_at": rfc3339(began),
        "expires_at": expires_at,
    }
    connection.execute(insert(sessions).values(values))
    return cookie, expires_at


def end_session(connection: Connection, cookie: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.sha256 == digest(cookie)))


def sessions_under_way(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(select(sessions).where(sessions.c.expires_at > now())).all()
