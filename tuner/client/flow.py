"""What a call does, step by step, without doing it: generators that yield steps and are sent what came of them.

So paging, waiting, following and trying again are written once; `tuner.client.carriers` takes the steps, blocking or awaiting.
"""

import re
import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent
from pydantic import TypeAdapter, ValidationError

from tuner.client.answers import Page
from tuner.client.refused import NoAnswer, refusal

T = TypeVar("T")

PAGE = 200

PAUSES = (0.2, 0.8, 2.0)
"""Seconds before the second, third and last attempt, where the service does not say better."""

PATIENCE_SECONDS = 30.0
"""Of a service that wants to be asked again later than this, its caller shall hear."""

BUSY = (429, 503)
"""The service has done nothing, and may do it later."""


@dataclass(frozen=True)
class Ask:
    """A request to send; it comes to a whole answer. `more` is httpx's: params, json, content, headers, …"""

    verb: str
    path: str
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_repeatable(self) -> bool:
        """Whether it changes no more when it arrives twice."""
        return self.verb == "GET" or KEY in self.more.get("headers", {})


@dataclass(frozen=True)
class Open:
    """A request whose answer is a stream of events, to be read by `Next`; it comes to the answer's head."""

    ask: Ask


class Next:
    """The next event of the stream that was opened last; it comes to None at its end."""


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    """An item for whoever iterates; it comes to None."""

    item: T


Step = Ask | Open | Next | Pause
Came = httpx.Response | ServerSentEvent | httpx.TransportError | None
Flow = Generator[Step, Came, T]
Items = Generator[Step | Emit[T], Came, None]

KEY = "Idempotency-Key"


def address(path: str, /, **given: Any) -> str:
    """The path with what it names in braces filled in and escaped."""
    return re.sub(r"{(\w+)}", lambda named: quote(str(given[named[1]]), safe="@"), path)


def keyed(ask: Ask) -> Ask:
    """A POST under a key of its own, by which the service carries it out once however often it is sent."""
    headers = {KEY: secrets.token_hex(16), **ask.more.get("headers", {})}
    return Ask(ask.verb, ask.path, {**ask.more, "headers": headers})


def carry_out(step: Ask | Open) -> Flow[httpx.Response]:
    """The answer, which is a success. It is asked again while the service is away or busy, at most three times, and where
    that can do no harm. Raises NoAnswer and Refused."""
    ask = step.ask if isinstance(step, Open) else step
    came = yield step
    for pause in PAUSES:
        wait = _wait(ask, came, pause)
        if wait is None:
            break
        yield Pause(wait)
        came = yield step
    if isinstance(came, httpx.TransportError):
        raise NoAnswer(f"no service answers at {_site(came.request)}: {came}") from came
    assert isinstance(came, httpx.Response)
    if not came.is_success:
        raise refusal(came)
    return came


def _wait(ask: Ask, came: Came, pause: float) -> float | None:
    """Seconds until it is worth asking again; None where it is not, or might be done twice."""
    if isinstance(came, httpx.ConnectError):  # it was not even sent
        return pause
    if isinstance(came, httpx.TransportError):
        return pause if ask.is_repeatable else None
    assert isinstance(came, httpx.Response)
    if came.status_code not in BUSY or not (ask.is_repeatable or came.status_code == 429):
        return None
    told = came.headers.get("Retry-After", "")
    wait = float(told) if told.isdecimal() else pause
    return wait if wait <= PATIENCE_SECONDS else None


def answer(ask: Ask, kind: type[T]) -> Flow[T]:
    """The answer as an object of `kind`; str and bytes as it came, None where nothing comes."""
    return read((yield from carry_out(ask)), kind)


def items(ask: Ask, kind: type[T]) -> Items[T]:
    """Every item of a list, a page at a time as they are asked for."""
    params: dict[str, Any] = {"limit": PAGE, **ask.more.get("params", {})}
    while True:
        response = yield from carry_out(Ask(ask.verb, ask.path, {**ask.more, "params": params}))
        page = read(response, Page[kind])  # type: ignore[valid-type]
        for item in page.items:
            yield Emit(item)
        if page.next_cursor is None:
            return
        params["cursor"] = page.next_cursor


def read(response: httpx.Response, kind: type[T]) -> T:
    """Raises NoAnswer where the body is not of that kind."""
    raw: Any = {bytes: response.content, str: response.text, type(None): None}.get(kind, response)
    if raw is not response:
        whole: T = raw
        return whole
    try:
        return TypeAdapter(kind).validate_json(response.content, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole of it"
        site, path = _site(response.request), response.request.url.path
        raise NoAnswer(f"no service of this version answers at {site}: {path}, {where}: {first['msg']}") from error


def _site(request: httpx.Request) -> str:
    return str(request.url.join("/")).rstrip("/")
