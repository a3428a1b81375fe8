"""Who takes the steps of a flow: a thread that blocks, or a task that awaits. All that differs between the two is here."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from tuner.client.flow import Ask, Came, Emit, Flow, Items, Open, Pause, Step
from tuner.client.refused import NoAnswer

T = TypeVar("T")


class Blocking:
    """Talks to one service until it is closed. `http` carries the address and the token."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        came: Came = None
        with closing(flow), closing(_BlockingWire(self._http)) as wire:
            while True:
                try:
                    step = flow.send(came)
                except StopIteration as end:
                    result: T = end.value
                    return result
                came = wire.take(step)

    def iterate(self, flow: Items[T]) -> Generator[T, None, None]:
        came: Came = None
        with closing(flow), closing(_BlockingWire(self._http)) as wire:
            while True:
                try:
                    step = flow.send(came)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    came = None
                    yield step.item
                else:
                    came = wire.take(step)


class Awaiting:
    """As `Blocking`, in an event loop of asyncio's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        came: Came = None
        async with aclosing(_AwaitingWire(self._http)) as wire:
            with closing(flow):
                while True:
                    try:
                        step = flow.send(came)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                    came = await wire.take(step)

    async def iterate(self, flow: Items[T]) -> AsyncGenerator[T, None]:
        came: Came = None
        async with aclosing(_AwaitingWire(self._http)) as wire:
            with closing(flow):
                while True:
                    try:
                        step = flow.send(came)
                    except StopIteration:
                        return
                    if isinstance(step, Emit):
                        came = None
                        yield step.item
                    else:
                        came = await wire.take(step)


class _BlockingWire:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._events: Iterator[ServerSentEvent] = iter(())

    def take(self, step: Step) -> Came:
        try:
            match step:
                case Pause():
                    time.sleep(step.seconds)
                    return None
                case Ask():
                    return self._http.send(_request(self._http, step))
                case Open():
                    self.close()
                    self._response = self._http.send(_request(self._http, step.ask), stream=True)
                    if not self._response.is_success:
                        self._response.read()
                    self._events = EventSource(self._response).iter_sse()
                    return self._response
                case _:
                    return next(self._events, None)
        except httpx.TransportError as error:
            return error

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class _AwaitingWire:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._events: AsyncIterator[ServerSentEvent]

    async def take(self, step: Step) -> Came:
        try:
            match step:
                case Pause():
                    await asyncio.sleep(step.seconds)
                    return None
                case Ask():
                    return await self._http.send(_request(self._http, step))
                case Open():
                    await self.aclose()
                    self._response = await self._http.send(_request(self._http, step.ask), stream=True)
                    if not self._response.is_success:
                        await self._response.aread()
                    self._events = EventSource(self._response).aiter_sse()
                    return self._response
                case _:
                    return await anext(self._events, None)
        except httpx.TransportError as error:
            return error

    async def aclose(self) -> None:
        if self._response is not None:
            await self._response.aclose()


def _request(http: httpx.Client | httpx.AsyncClient, ask: Ask) -> httpx.Request:
    try:
        return http.build_request(ask.verb, ask.path, **ask.more)
    except httpx.InvalidURL as error:
        raise NoAnswer(f"no service answers at {http.base_url}: {error}") from error
