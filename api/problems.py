"""Errors as problem+json (RFC 9457): the one place that knows which error has which status."""

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.methods import allowed
from tuner.errors import (
    Conflict,
    DamagedData,
    InvalidInput,
    LimitReached,
    NotFound,
    TestSetSealed,
    TunerError,
    Unavailable,
)
from tuner.specs.job import NO_REPORT

STATUS: dict[type[TunerError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TestSetSealed: HTTPStatus.CONFLICT,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    DamagedData: HTTPStatus.INTERNAL_SERVER_ERROR,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
}


class FieldError(BaseModel):
    loc: list[str | int] = Field(
        description="the field's path in the request", examples=[["body", "budget", "n_trials"]]
    )
    msg: str = Field(examples=["Input should be greater than or equal to 1, but got 0"])


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no study is named 'mnist-qick'"])
    errors: list[FieldError] | None = Field(None, description="for 422: each field that breaks a rule")


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


def problem(
    status: int, detail: str, errors: list[dict[str, Any]] | None = None, headers: dict[str, str] | None = None
) -> ProblemResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    return ProblemResponse(body, status, headers)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these problems."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Every error of the app's is a problem, in its answers and in its OpenAPI document."""
    app.openapi = lambda: _with_problem(FastAPI.openapi(app))  # type: ignore[method-assign]
    app.add_exception_handler(TunerError, _tuner_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def _with_problem(document: dict[str, Any]) -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs", {}), "Problem": schema}
    return document


def as_problem(error: TunerError | HTTPException) -> ProblemResponse:
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    status = STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    errors = [{"loc": [error.where, *error.loc], "msg": str(error)}] if isinstance(error, InvalidInput) else None
    return problem(status, str(error), errors, _when_to_try_again(error))


def _when_to_try_again(error: TunerError) -> dict[str, str] | None:
    if isinstance(error, LimitReached):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    return {"Retry-After": "5"} if isinstance(error, Unavailable) else None


async def _tuner_error(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, TunerError)
    return as_problem(error)


async def _validation_error(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    errors = [{"loc": _path(e["loc"]), "msg": _message(e)} for e in error.errors()]
    first = errors[0]
    where = ".".join(map(str, first["loc"]))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}", errors)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _not_by_this_method(request)
    return as_problem(error)


def _not_by_this_method(request: Request) -> Response:
    allow = ", ".join(allowed(request.app.routes, request.scope["path"]))
    if request.method == "OPTIONS":  # which no route takes: this is its answer
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow})
    rule = f"{request.scope['path'][:200]} takes {allow}"
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{rule}, but not {request.method[:20]}", headers={"Allow": allow})


_SHAPES = {"fixed", "range", "choice", "literal['auto']", "float"}
"""Names of the alternatives of a dimension, which pydantic puts into an error's path; no field is called so."""


_KINDS = {"mlp", "external", "search", "promote", "ensemble"}
"""Names of the alternatives of a body, which stand right behind `body`."""


def _path(loc: tuple[int | str, ...]) -> list[int | str]:
    alternative = loc[:1] == ("body",) and len(loc) > 1 and loc[1] in _KINDS
    return [part for part in (("body", *loc[2:]) if alternative else loc) if part not in _SHAPES]


def _message(error: dict[str, Any]) -> str:
    if error["type"] == "union_tag_invalid" and error["ctx"]["tag"] == "report":
        return NO_REPORT
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, str | int | float) and "but got" not in message:
        shown = repr(given)
        message += f", but got {shown if len(shown) <= 80 else shown[:77] + '...'}"
    return message
