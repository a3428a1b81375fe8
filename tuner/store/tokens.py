"""Tokens: who may come in, and as what. Only the SHA-256 of a token's secret is stored.

A slow hash (scrypt, Argon2) protects passwords, which people choose and programs guess. These secrets are 256 random bits: who
has the table cannot try them all, however fast the hash is, and a fast one costs a request no time. A secret is found by its
hash, so how long a comparison takes tells nothing: nobody can choose how the hash of a guess begins without having guessed.

Rows are never deleted: access control is on once there was a token; revoking the last one locks the door and does not open it.
"""

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, exists, insert, inspect, or_, select, update
from sqlalchemy.exc import IntegrityError

from tuner.errors import Conflict, NotFound
from tuner.specs.token import TokenSpec
from tuner.store.clock import now, rfc3339
from tuner.store.database import reading
from tuner.store.tables import tokens

Token = Row[Any]

PREFIX = "tuner_"
"""By it scanners for leaked secrets, and people, know what they have found."""

SECRET_BYTES = 32
USE_NOTED_EVERY = timedelta(minutes=1)


def digest(secret: str) -> str:
    """SHA-256, in hexadecimal digits."""
    return sha256(secret.encode()).hexdigest()


def create_token(connection: Connection, spec: TokenSpec, created_by: str) -> str:
    """The secret, which nobody can read again. Raises Conflict where a token of that name is not revoked."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    created = datetime.now(UTC)
    expires = None if spec.expires_days is None else rfc3339(created + timedelta(days=spec.expires_days))
    values = {
        "name": spec.name,
        "role": spec.role,
        "sha256": digest(secret),
        "created_at": rfc3339(created),
        "created_by": created_by,
        "expires_at": expires,
    }
    try:
        connection.execute(insert(tokens).values(values))
    except IntegrityError as error:
        rule = "a token's name must be free until it is revoked"
        raise Conflict(f"{rule}, but {spec.name!r} is taken") from error
    return secret


def find_token(connection: Connection, name: str) -> Token:
    """The token of that name that is not revoked. Raises NotFound."""
    token = connection.execute(select(tokens).where(_live(), tokens.c.name == name)).one_or_none()
    if token is None:
        raise NotFound(f"no token is named {name!r}, or it is revoked")
    return token


def list_tokens(connection: Connection, before: int | None, limit: int) -> list[Token]:
    """From the newest down, revoked and expired ones too; `before` is an id."""
    query = select(tokens).order_by(tokens.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(tokens.c.id < before)
    return list(connection.execute(query).all())


def live_tokens(connection: Connection) -> list[Token]:
    """Those not revoked; whether one has expired is for the reader's clock to say."""
    return list(connection.execute(select(tokens).where(_live())).all())


def any_token(connection: Connection) -> bool:
    """Whether there ever was a token: then access control is on."""
    return bool(connection.execute(select(exists().select_from(tokens))).scalar_one())


def access_is_controlled(engine: Engine) -> bool:
    """The same of a database that may be of an earlier version, or have no tables yet."""
    with reading(engine) as connection:
        return inspect(connection).has_table(tokens.name) and any_token(connection)


def revoke_token(connection: Connection, name: str) -> None:
    """Neither it nor a session that began with it opens anything from now on. Raises NotFound."""
    token = find_token(connection, name)
    connection.execute(update(tokens).where(tokens.c.id == token.id).values(revoked_at=now()))


def note_use(connection: Connection, token_id: int) -> None:
    """`last_used_at` is at most a minute behind."""
    due = rfc3339(datetime.now(UTC) - USE_NOTED_EVERY)
    outdated = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < due)
    connection.execute(update(tokens).where(tokens.c.id == token_id, outdated).values(last_used_at=now()))


def _live() -> Any:
    return tokens.c.revoked_at.is_(None)
