"""What every answer tells the browser to forbid, and the pages that may do a little more."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import Message, Scope, Send

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of all that is no page of ours: should a browser take it for one, it loads and runs nothing."""

HSTS = "max-age=31536000"

NO_STORE = "no-store"
STORED_NOWHERE = ("/v1/", "/api/", "/csv/", "/dashboard", "/login")
"""What a browser must not keep after its session."""


def located(status: int, what: str, always: bool = True) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose success tells in `Location` where `what` is."""
    schema = {"type": "string", "format": "uri-reference"}
    return {status: {"headers": {"Location": {"schema": schema, "description": what, "required": always}}}}


def policy(scripts: str = "'self'", styles: str = "'self'") -> str:
    """A page that asks its own service and nobody else. Styles that a library makes at run time need `'unsafe-inline'`."""
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self' data:; font-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class Page(HTMLResponse):
    """HTML of our own. Its policy allows the scripts and styles that are written in it, by their hashes, and the service's files;
    with `injects_styles` any style, for libraries that write theirs at run time."""

    def __init__(self, html: str, status_code: int = 200, *, injects_styles: bool = False) -> None:
        scripts = " ".join(["'self'", *_hashes(r"<script(?:\s+type=\"[^\"]*\")?>(.*?)</script>", html)])
        styles = "'unsafe-inline'" if injects_styles else " ".join(_hashes(r"<style>(.*?)</style>", html))
        headers = {"Content-Security-Policy": policy(scripts, f"'self' {styles}".strip())}
        super().__init__(html, status_code, headers)


def guarding(send: Send, scope: Scope, request_id: str) -> Send:
    """A `send` that adds the headers which an answer does not set itself."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers["X-Request-ID"] = request_id
            headers.setdefault("Content-Security-Policy", NOTHING)
            if scope["scheme"] == "https":
                headers["Strict-Transport-Security"] = HSTS
            if scope["path"].startswith(STORED_NOWHERE):
                headers.setdefault("Cache-Control", NO_STORE)
        await send(message)

    return guarded


def _hashes(pattern: str, html: str) -> list[str]:
    """Of what the page holds between such tags, as a policy names it."""
    inline = (found.group(1).encode() for found in re.finditer(pattern, html, re.DOTALL))
    return [f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline]
