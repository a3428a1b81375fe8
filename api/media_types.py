"""Which types of body an operation takes: those that its document names."""

from collections.abc import Collection
from http import HTTPStatus

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.documents import JSON

JSON_ALONE = ("application/json",)


async def check_media_type(request: Request) -> None:
    """Raises HTTPException 415 where the request names another type. What names none is for the route to judge."""
    route, given = request.scope["route"], request.headers.get("content-type", "")
    taken = _taken(route) if given and isinstance(route, APIRoute) else ()
    named = given.partition(";")[0].strip().lower()
    if not taken or named in taken or (JSON.fullmatch(named) and "application/json" in taken):
        return
    raise HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a body must be {' or '.join(taken)} here, but got {given[:80]!r}"
    )


def _taken(route: APIRoute) -> Collection[str]:
    """Empty where there is no body."""
    described = (route.openapi_extra or {}).get("requestBody")
    if described is not None:
        content: Collection[str] = described["content"]
        return content
    return JSON_ALONE if route.body_field is not None else ()
