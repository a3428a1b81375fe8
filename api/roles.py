"""What a request needs: the one table of who may do what. A method or a path that it does not name needs an operator.

`path` is the scope's, by which the router finds the route. The path of `request.url` is another one where an address holds an
escaped `?`, `#` or line break, and what is decided by it can be gone around.
"""

import re

from tuner.specs.token import Role

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

HEALTH = "/healthz"
LOGIN, LOGOUT = "/login", "/logout"
OPEN = (HEALTH, LOGIN, LOGOUT)

OPERATORS_READ = ("/v1/tokens", "/v1/audit")
"""How the addresses begin that a reader may not even read."""

READERS_POST = re.compile(r"/v1/models/[^/]+/predict|/v1/estimates")
"""A POST that changes nothing: its body is a question too long for an address."""

SUGGESTION = re.compile(r"/v1/studies/[^/]+/suggest")
"""It needs no Idempotency-Key: the same `client_id` gets its own trials back."""

MEASUREMENT = re.compile(r"/v1/studies/[^/]+/trials/[^/]+/measure")
"""Data that an outside worker sends all the time; the trial's own rows are its log."""


def needed(method: str, path: str) -> Role | None:
    """The role that may do this; None: everybody."""
    if path in OPEN:
        return None
    reads = method in SAFE_METHODS or (method == "POST" and READERS_POST.fullmatch(path))
    return Role.READER if reads and not path.startswith(OPERATORS_READ) else Role.OPERATOR


def changes(method: str, path: str) -> bool:
    """Whether such a request can change what somebody may want to know the author of."""
    asks = method in SAFE_METHODS or needed(method, path) is Role.READER
    return not asks and not MEASUREMENT.fullmatch(path)


def is_repeatable(method: str, path: str) -> bool:
    """Whether an Idempotency-Key makes a second such request get the first one's answer."""
    return method == "POST" and path not in OPEN and changes(method, path) and not SUGGESTION.fullmatch(path)
