"""The door for browsers: a token buys a session's cookie."""

import html
import logging
import time
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qs

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from api.dependencies import TheChange, TheKeyring, TheLimits
from api.headers import Page
from api.keyring import COOKIE, Caller, Credential
from api.limits import address_of
from api.roles import LOGIN, LOGOUT
from tuner.errors import LimitReached
from tuner.store import sessions
from tuner.store.tokens import digest

logger = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

HOME = "/"


@router.get(LOGIN)
async def show_login(request: Request, keyring: TheKeyring) -> Response:
    """The form; for who is logged in, who that is and the way out; where there are no tokens, the way in."""
    if not await keyring.is_guarded():
        return RedirectResponse(HOME, HTTPStatus.SEE_OTHER)
    caller: Caller | None = request.state.caller
    return Page(_form() if caller is None else _logged_in(caller))


@router.post(LOGIN)
async def log_in(request: Request, change: TheChange, keyring: TheKeyring, limits: TheLimits) -> Response:
    try:
        limits.logins.take(address_of(request), time.monotonic())
    except LimitReached as reached:
        page = Page(_form(f"{reached}."), HTTPStatus.TOO_MANY_REQUESTS)
        page.headers["Retry-After"] = str(int(reached.retry_after) + 1)
        return page
    given = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0].strip()
    caller = await keyring.find(Credential("token", digest(given)), anew=True)
    if caller is None or caller.token_sha256 is None:
        logger.warning("a login from %s failed: no such token", address_of(request))
        return Page(_form("That is no valid token."), HTTPStatus.UNAUTHORIZED)
    request.state.caller = caller
    cookie, expires_at = await to_thread.run_sync(
        sessions.begin_session, await change.begin(), caller.token_sha256, caller.expires_at
    )
    answer = RedirectResponse(HOME, HTTPStatus.SEE_OTHER)
    left = datetime.fromisoformat(expires_at) - datetime.now(UTC)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, cookie, int(left.total_seconds()), httponly=True, samesite="strict", secure=secure)
    return answer


@router.post(LOGOUT)
async def log_out(request: Request, change: TheChange, keyring: TheKeyring) -> Response:
    """The session is over, on the server too."""
    cookie = request.cookies.get(COOKIE)
    if cookie:
        await to_thread.run_sync(sessions.end_session, await change.begin(), cookie)
        change.afterwards(keyring.forget)
    answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _form(refused: str = "") -> str:
    return _page(
        f"""<form method="post" action="{LOGIN}"><p>{html.escape(refused)}</p>
<p><label>Token <input type="password" name="token" autocomplete="current-password" autofocus required></label>
<button>Log in</button></p></form>"""
    )


def _logged_in(caller: Caller) -> str:
    return _page(
        f"""<p>You are logged in as {html.escape(caller.name)}, {caller.role}.</p>
<form method="post" action="{LOGOUT}"><p><a href="{HOME}">Go on</a> <button>Log out</button></p></form>"""
    )


def _page(body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tuner: log in</title>
<style>
body {{ font: 16px system-ui; margin: 15vh auto; max-width: 26rem }}
input, button {{ font: inherit; padding: .4rem }}
</style>
</head><body><h1>tuner</h1>{body}</body></html>
"""
