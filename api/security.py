"""Who may come in: known Host names, the service's own pages, bounded bodies, and, once there is a token, its holders.

every request ── Host known? ── from our own origin? ── body bounded? ── token? ──▶ the app
"""

import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from tuner.settings import LOOPBACK, Settings

MAX_JSON_BYTES = 1024 * 1024
COOKIE = "tuner_session"
OPEN_PATHS = ("/healthz", "/login")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


class Gate:
    """The ASGI middleware around the whole app, the dashboard included."""

    def __init__(self, app: ASGIApp, settings: Settings, token: str | None) -> None:
        self._app = app
        self._hosts = {
            *LOOPBACK,
            settings.host.lower(),
            *(h.strip().lower() for h in settings.allowed_hosts.split(",") if h.strip()),
        }
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        refused = self._refuse(request)
        if refused is None and self._token is not None and request.url.path == "/login":
            refused = await self._login(request, self._token)
        answer = refused or self._app
        await answer(scope, _Bounded(receive), _with_headers(send))

    def _refuse(self, request: Request) -> Response | None:
        host = _hostname(request.headers.get("host", ""))
        if host not in self._hosts:
            return problem(
                HTTPStatus.MISDIRECTED_REQUEST, f"the Host must be one of {sorted(self._hosts)}, but got {host!r}"
            )
        origin = request.headers.get("origin")
        if (
            request.method not in SAFE_METHODS
            and origin is not None
            and urlsplit(origin).netloc != request.headers["host"]
        ):
            return problem(
                HTTPStatus.FORBIDDEN, f"changes must come from the service's own pages, but the Origin is {origin!r}"
            )
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_JSON_BYTES:
            return problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a body may have at most {MAX_JSON_BYTES} bytes, but Content-Length is {length[:20]}",
            )
        if self._token is None or request.url.path in OPEN_PATHS or self._knows(request, self._token):
            return None
        if "text/html" in request.headers.get("accept", "") and request.method == "GET":
            return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        return problem(
            HTTPStatus.UNAUTHORIZED,
            "a valid token must be given as `Authorization: Bearer …`",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _knows(self, request: Request, token: str) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), token.encode())
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), _session(token).encode())

    async def _login(self, request: Request, token: str) -> Response:
        if request.method != "POST":
            return HTMLResponse(_LOGIN_PAGE)
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        if not hmac.compare_digest(form.get("token", [""])[0].strip().encode(), token.encode()):
            return HTMLResponse(
                _LOGIN_PAGE.replace("<!-- refused -->", "<p>That is not the token.</p>"), HTTPStatus.UNAUTHORIZED
            )
        answer = RedirectResponse("/dashboard", HTTPStatus.SEE_OTHER)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, _session(token), httponly=True, samesite="strict", secure=secure)
        return answer


class _Bounded:
    """A `receive` that ends a body which is longer than it said, or never said how long it is."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MAX_JSON_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have at most {MAX_JSON_BYTES} bytes")
        return message


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SECURITY_HEADERS)
        await send(message)

    return wrapped


def _session(token: str) -> str:
    """The cookie's value: it proves that its holder knew the token, and does not tell it."""
    return hmac.new(token.encode(), b"tuner session", hashlib.sha256).hexdigest()


def _hostname(host: str) -> str:
    """Without the port; of an IPv6 address, without the brackets."""
    return (urlsplit(f"//{host}").hostname or "") if host and "/" not in host and "@" not in host else ""


_LOGIN_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tuner: log in</title>
<style>body { font: 16px system-ui; margin: 15vh auto; max-width: 24rem } input, button { font: inherit; padding: .4rem }</style>
</head><body><h1>tuner</h1><!-- refused --><form method="post" action="/login">
<p><label>Token <input type="password" name="token" autocomplete="current-password" autofocus required></label>
<button>Log in</button></p></form></body></html>
"""
