"""A request that changes something is one transaction: the change, its row in the audit log, and, where it carries an
Idempotency-Key, its answer. It is committed before the answer is sent, if that is a success, and rolled back otherwise.

    the key's first answer is there ──▶ it is sent again
    else: the route, which begins the transaction ──▶ audit row ──▶ answer kept ──▶ commit ──▶ answer sent
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy import Connection, Engine
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import roles
from api.headers import NO_STORE
from api.repeats import KEPT_HEADERS, Repeat, answer_again, reading_repeat
from tuner.store import audit, idempotency
from tuner.store.audit import Entry
from tuner.store.database import reporting_outages, writing
from tuner.store.idempotency import Answer, KeyTaken

WRITERS = 4
"""Transactions at once on PostgreSQL; on SQLite it is one. Who waits for a turn here holds no thread, as in the database it
would, and so leaves one to the transaction that it waits for."""


class Change:
    """One request's transaction, which begins when its route asks for it."""

    def __init__(self, engine: Engine, turns: CapacityLimiter, repeat: Repeat | None) -> None:
        self._engine, self._turns, self._repeat = engine, turns, repeat
        self._open = AsyncExitStack()
        self._connection: Connection | None = None
        self._claimed = False
        self._afterwards: list[Callable[[], None]] = []
        self._undoing: list[Callable[[], None]] = []

    def unless_committed(self, undo: Callable[[], None]) -> None:
        """To be done where the change is rolled back: it takes back what the database knows nothing of."""
        self._undoing.append(undo)

    def afterwards(self, act: Callable[[], None]) -> None:
        """To be done once the change is committed, and not if it is rolled back."""
        self._afterwards.append(act)

    async def begin(self) -> Connection:
        """A connection in a write transaction, which the request's end commits or rolls back.

        Raises Unavailable without a database, KeyTaken where a request with the same key was quicker.
        """
        connection = await self._start()
        if self._repeat is not None and not self._claimed:
            key = (self._repeat.key_sha256, self._repeat.request_sha256)
            with reporting_outages():
                await to_thread.run_sync(idempotency.claim_key, connection, *key)
            self._claimed = True
        return connection

    async def end(self, answer: Answer, entry: Entry | None) -> None:
        """What the route did stands if it succeeded, else not; what it was asked for is in the log, if there is an `entry`.

        Raises Unavailable without a database; then nothing stands.
        """
        if answer.status >= HTTPStatus.BAD_REQUEST:
            await self.roll_back()
        with reporting_outages():
            if entry is not None:
                await to_thread.run_sync(audit.record_change, await self._start(), entry)
            if self._connection is not None and self._repeat is not None and self._claimed:
                await to_thread.run_sync(idempotency.keep_answer, self._connection, self._repeat.key_sha256, answer)
        await self._close()
        self._undoing.clear()
        for act in self._afterwards:
            await to_thread.run_sync(act)

    async def roll_back(self) -> None:
        """Nothing of a transaction that has not ended stands."""
        self._afterwards.clear()
        with CancelScope(shield=True):
            # While the transaction still keeps others from the same thing.
            while self._undoing:
                await to_thread.run_sync(self._undoing.pop())
            if self._connection is not None:
                await to_thread.run_sync(self._connection.rollback)
            await self._close()

    async def _start(self) -> Connection:
        if self._connection is None:
            await self._turns.acquire_on_behalf_of(self)
            self._open.callback(self._turns.release_on_behalf_of, self)
            transaction = contextmanager_in_threadpool(writing(self._engine))
            self._connection = await self._open.enter_async_context(transaction)
        return self._connection

    async def _close(self) -> None:
        self._connection, self._claimed = None, False
        await self._open.aclose()


class Changes:
    """The ASGI middleware within the gate: whatever its app changes goes through a `Change`, `state.change`."""

    def __init__(self, app: ASGIApp, engine: Engine, spool_dir: Path) -> None:
        """Bodies that must be read twice, and are large, lie in `spool_dir` meanwhile."""
        self._app, self._engine, self._spool_dir = app, engine, spool_dir
        self._turns = CapacityLimiter(1 if engine.dialect.name == "sqlite" else WRITERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not roles.changes(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        async with reading_repeat(request, self._spool_dir) as repeat:
            again = None if repeat is None else await to_thread.run_sync(answer_again, self._engine, repeat)
            if again is None:
                try:
                    await self._carry_out(request, repeat, send)
                except KeyTaken:
                    assert repeat is not None
                    again = await to_thread.run_sync(answer_again, self._engine, repeat)
                    assert again is not None, "who takes a key leaves its answer"
            if again is not None:
                await again(scope, receive, send)

    async def _carry_out(self, request: Request, repeat: Repeat | None, send: Send) -> None:
        request.state.change = change = Change(self._engine, self._turns, repeat)
        held = _Held()
        try:
            await self._app(request.scope, request.receive if repeat is None else repeat.receive, held)
            await change.end(held.answer(), _entry(request, held))
        finally:
            await change.roll_back()
        await held.let_go(send)


class _Held:
    """A `send` that keeps an answer until its change is committed."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self._messages.append(message)

    async def let_go(self, send: Send) -> None:
        for message in self._messages:
            await send(message)

    @property
    def status(self) -> int:
        return int(self._messages[0]["status"])

    @property
    def headers(self) -> Headers:
        return Headers(raw=self._messages[0]["headers"])

    def answer(self) -> Answer:
        """As it is kept: without its body where that must not be stored."""
        headers = {name: self.headers[name] for name in KEPT_HEADERS if name in self.headers}
        secret = self.headers.get("cache-control") == NO_STORE
        body = None if secret else b"".join(message.get("body", b"") for message in self._messages[1:])
        return Answer(self.status, headers, body)


def _entry(request: Request, held: _Held) -> Entry | None:
    """What the log says of the request; None where nobody is known, as after a login that failed."""
    caller = request.state.caller
    if caller is None:
        return None
    path = quote(request.scope["path"], safe="/@:")  # so that no line break or NUL of an address gets into a log
    location = held.headers.get("location")
    return Entry(caller.name, request.method, path, held.status, location, request.state.request_id)
