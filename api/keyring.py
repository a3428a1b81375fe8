"""Who is asking: a token or a session's cookie, and what it is worth."""

import getpass
import logging
import os
import time
from dataclasses import dataclass

from anyio import to_thread
from sqlalchemy import Connection, Engine
from starlette.requests import Request

from tuner.errors import Unavailable
from tuner.specs.token import Role
from tuner.store import sessions, tokens
from tuner.store.clock import now
from tuner.store.database import reading, writing

logger = logging.getLogger(__name__)

COOKIE = "tuner_session"
SECONDS_OLD = 1.0
"""A token that was made, revoked or deleted by another process is known here after so long."""

USE_NOTED_EVERY_SECONDS = tokens.USE_NOTED_EVERY.total_seconds()


@dataclass(frozen=True)
class Caller:
    """`name` is the audit log's: a token's name, `token-file`, `local:<user>` or `anonymous`."""

    name: str
    role: Role
    token_id: int | None = None
    token_sha256: str | None = None
    expires_at: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is this process's own user, whose folder it is."""
        return self.name.startswith("local:")

    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= now()


ANONYMOUS = Caller("anonymous", Role.OPERATOR)
"""Everybody, where there is no token: then only this machine's own users reach the service."""


@dataclass(frozen=True)
class Credential:
    """The hash of what a request shows; the secret itself goes no further."""

    kind: str
    sha256: str


@dataclass(frozen=True)
class _Ring:
    """The database's tokens and sessions, by the hashes of their secrets, as they were at `read_at` of the monotonic clock."""

    read_at: float
    guarded: bool
    callers: dict[Credential, Caller]


class Keyring:
    """Knows the tokens of the database, at most a second late, that of the token file, and that of this process."""

    def __init__(self, engine: Engine, file_token: str | None, local_token: str | None) -> None:
        self._engine = engine
        self._fixed: dict[Credential, Caller] = {}
        if file_token is not None:
            self._fixed |= _bearer(Caller("token-file", Role.OPERATOR, token_sha256=tokens.digest(file_token)))
        self._always_guarded = file_token is not None
        if local_token is not None:
            self._fixed |= _bearer(Caller(f"local:{_user()}", Role.OPERATOR, token_sha256=tokens.digest(local_token)))
        self._ring: _Ring | None = None
        self._use_noted: dict[int, float] = {}

    async def is_guarded(self) -> bool:
        """Whether access control is on. Raises Unavailable without a database."""
        return self._always_guarded or (await self._current(SECONDS_OLD)).guarded

    async def find(self, credential: Credential, *, anew: bool = False) -> Caller | None:
        """Whose credential it is, if it is good now; `anew` looks into the database for it. Raises Unavailable without one."""
        known = self._fixed.get(credential)
        if known is None:
            known = (await self._current(0.0 if anew else SECONDS_OLD)).callers.get(credential)
        return None if known is None or known.has_expired() else known

    def forget(self) -> None:
        """Something was revoked or ended: from now on the database is asked anew."""
        self._ring = None

    async def note_use(self, caller: Caller) -> None:
        """The token's row tells, at most a minute late, when it was last used."""
        at = time.monotonic()
        if (
            caller.token_id is None
            or at - self._use_noted.get(caller.token_id, float("-inf")) < USE_NOTED_EVERY_SECONDS
        ):
            return
        self._use_noted[caller.token_id] = at
        try:
            await to_thread.run_sync(self._write_use, caller.token_id)
        except Unavailable as error:  # the answer has been sent, and matters more
            logger.warning("the last use of token %s is not noted: %s", caller.name, error)

    def _write_use(self, token_id: int) -> None:
        with writing(self._engine) as connection:
            tokens.note_use(connection, token_id)

    async def _current(self, seconds_old: float) -> _Ring:
        if self._ring is None or time.monotonic() - self._ring.read_at >= seconds_old:
            self._ring = await to_thread.run_sync(self._read)
        return self._ring

    def _read(self) -> _Ring:
        read_at = time.monotonic()
        with reading(self._engine) as connection:
            callers = dict(self._fixed)
            for token in tokens.live_tokens(connection):
                callers |= _bearer(Caller(token.name, Role(token.role), token.id, token.sha256, token.expires_at))
            return _Ring(read_at, tokens.any_token(connection), callers | _sessions(connection, callers))


def shown_by(request: Request) -> Credential | None:
    """What the request shows; a token goes before a cookie."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Credential("token", tokens.digest(given.strip()))
    cookie = request.cookies.get(COOKIE)
    return Credential("session", tokens.digest(cookie)) if cookie else None


def _sessions(connection: Connection, callers: dict[Credential, Caller]) -> dict[Credential, Caller]:
    """Of the sessions, those whose token still is one; each ends when it said it would, and its token with it."""
    found: dict[Credential, Caller] = {}
    for session in sessions.sessions_under_way(connection):
        owner = callers.get(Credential("token", session.token_sha256))
        if owner is not None:
            ends_at = min(filter(None, (session.expires_at, owner.expires_at)))
            found[Credential("session", session.sha256)] = Caller(
                owner.name, owner.role, owner.token_id, owner.token_sha256, ends_at
            )
    return found


def _bearer(caller: Caller) -> dict[Credential, Caller]:
    assert caller.token_sha256 is not None
    return {Credential("token", caller.token_sha256): caller}


def _user() -> str:
    """The operating system's name for this process's user, or its number where it has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
