"""The methods that an address takes: what `Allow` says of it, to OPTIONS and beside a 405."""

from collections.abc import Sequence

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, compile_path

ALWAYS = ("OPTIONS",)


def allowed(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Of all routes that match the path, which Starlette's own 405 takes from the first one alone; HEAD wherever GET is."""
    found: set[str] = set()
    for route in iter_route_contexts(routes):
        if route.path is not None and compile_path(str(route.path))[0].match(path):
            found.update(route.methods or ())
    return sorted({*found, *ALWAYS, *(["HEAD"] if "GET" in found else [])})
