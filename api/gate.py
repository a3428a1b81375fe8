"""The gate around the whole app, the dashboard included: what comes in, and as whom.

    Host known? ── not another site's page? ── body bounded? ── not too many requests? ── whose token? ── its role? ──▶ the app

A request that passes carries `state.caller` (None on the paths that are open to everybody, where nobody is known) and
`state.request_id`, which its answer tells, and the audit log, if it was a change.
"""

import logging
import re
import secrets
import time
from http import HTTPStatus
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import roles
from api.bodies import Bounded
from api.headers import guarding
from api.keyring import ANONYMOUS, Caller, Keyring, shown_by
from api.limits import Limits, address_of
from api.origins import Origins
from api.problems import as_problem, problem
from tuner.errors import TunerError
from tuner.specs.token import Role

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """An ASGI middleware; nothing else may lie around it that answers."""

    def __init__(self, app: ASGIApp, origins: Origins, keyring: Keyring, limits: Limits) -> None:
        self._app, self._origins, self._keyring, self._limits = app, origins, keyring, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._pass(Request(scope, receive), send)
        elif scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def _pass(self, request: Request, send: Send) -> None:
        request.state.caller, request.state.request_id = None, _request_id(request)
        answering = _Answering(guarding(send, request.scope, request.state.request_id))
        began = time.perf_counter()
        try:
            self._origins.check(request)
            if "\0" in request.scope["path"]:  # which PostgreSQL cannot even look for
                raise HTTPException(HTTPStatus.NOT_FOUND, "nothing is at an address with a NUL in it")
            body = Bounded(request)
            request.state.caller = await self._admit(request)
            await self._app(request.scope, body, answering)
        except ClientDisconnect:
            return  # before its request was whole: nobody waits for an answer
        except Exception as error:
            if answering.status is not None:
                raise
            await _refusal(request, error)(request.scope, request.receive, answering)
        finally:
            caller: Caller | None = request.state.caller
            # Without the query and the headers, in which a secret can be.
            logger.debug(
                "%s %s %s: %s in %.0f ms (%s)",
                caller.name if caller else "-",
                request.method,
                quote(request.scope["path"]),
                answering.status,
                1000 * (time.perf_counter() - began),
                request.state.request_id,
            )
        if caller is not None:
            await self._keyring.note_use(caller)

    async def _admit(self, request: Request) -> Caller | None:
        """Who is asking, if they may ask this. Raises HTTPException 401 or 403, LimitReached, and Unavailable where the database
        cannot tell."""
        role = roles.needed(request.method, request.scope["path"])
        if request.scope["path"] == roles.HEALTH:
            return None
        caller = await self._identify(request)
        if role is None:
            return caller
        if caller is None and not await self._keyring.is_guarded():
            caller = ANONYMOUS
        if caller is None:
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "a valid token must be given as `Authorization: Bearer …`, or a session's cookie (/login)",
                {"WWW-Authenticate": "Bearer"},
            )
        if role is Role.OPERATOR and caller.role is not Role.OPERATOR:
            raise HTTPException(
                HTTPStatus.FORBIDDEN, f"this needs an operator's token, but {caller.name!r} is a {caller.role}'s"
            )
        return caller

    async def _identify(self, request: Request) -> Caller | None:
        """Counts the request for its caller, else for its address, before the database is asked about an unknown secret."""
        shown = shown_by(request)
        caller = None if shown is None else await self._keyring.find(shown)
        if caller is None or not caller.is_local:
            self._limits.requests.take(caller.name if caller else address_of(request), time.monotonic())
        return caller if shown is None or caller is not None else await self._keyring.find(shown, anew=True)


class _Answering:
    """A `send` that knows whether an answer has begun, and with which status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _refusal(request: Request, error: Exception) -> Response:
    """What is no refusal is a fault of the service's: the log has it, under the request's id, and the client no word of it."""
    if not isinstance(error, TunerError | HTTPException):
        logger.error("request %s failed", request.state.request_id, exc_info=error)
        found = f"the service has failed here; its log has the reason under the request id {request.state.request_id}"
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, found)
    unknown = isinstance(error, HTTPException) and error.status_code == HTTPStatus.UNAUTHORIZED
    if unknown and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(roles.LOGIN, HTTPStatus.SEE_OTHER)
    return as_problem(error)


def _request_id(request: Request) -> str:
    """The client's own, so that its log and ours can be laid side by side, or a new one."""
    given = request.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
