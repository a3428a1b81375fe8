"""From where a request may come: under a name of this service's own, and not from another site's page."""

from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.roles import SAFE_METHODS
from tuner.settings import LOOPBACK, Settings

OWN_PAGES = ("same-origin", "none")
"""What a browser says of itself (Sec-Fetch-Site) when the service's own page asks, or a person at the address bar."""


class Origins:
    """Knows the Host names of one service."""

    def __init__(self, settings: Settings) -> None:
        named = (host.strip().lower() for host in settings.allowed_hosts.split(","))
        self._hosts = {*LOOPBACK, settings.host.lower(), *filter(None, named)}

    def check(self, request: Request) -> None:
        """Raises HTTPException 421 for a strange Host (DNS rebinding), 403 for what another site's page asks for."""
        host = request.headers.get("host", "")
        if _hostname(host) not in self._hosts:
            rule = "the Host must be a name that this service knows (TUNER_ALLOWED_HOSTS)"
            raise HTTPException(HTTPStatus.MISDIRECTED_REQUEST, f"{rule}, but got {host[:200]!r}")
        origin = request.headers.get("origin")
        if request.method not in SAFE_METHODS and origin is not None and _authority(origin) != host.lower():
            rule = "changes must come from the service's own pages"
            raise HTTPException(HTTPStatus.FORBIDDEN, f"{rule}, but the Origin is {origin[:200]!r}")
        if request.headers.get("sec-fetch-site", "none") not in OWN_PAGES and not _is_visit(request):
            raise HTTPException(HTTPStatus.FORBIDDEN, "another site's page may neither read nor change anything here")


def _is_visit(request: Request) -> bool:
    """Whether a person follows a link: the browser leaves the other site, which sees nothing of the answer."""
    fetch = request.headers
    return (
        request.method == "GET"
        and fetch.get("sec-fetch-mode") == "navigate"
        and fetch.get("sec-fetch-dest") == "document"
    )


def _hostname(host: str) -> str:
    """Without the port; of an IPv6 address, without the brackets; empty where it is no name."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "/" not in host and "@" not in host else ""
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    """Host and port; empty where there is none, as in `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
