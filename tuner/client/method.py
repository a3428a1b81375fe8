"""A call described once, as a method of both clients: it answers a value on the one, an awaitable of it on the other."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from tuner.client.carriers import Awaiting, Blocking
from tuner.client.flow import Ask, Flow, Items, address, answer, items, keyed

P = ParamSpec("P")
T = TypeVar("T")


class Call(Generic[T]):
    """What a call says beside its address, in httpx's words (params, json, content, …), and the class of its answer: str and
    bytes as it comes, `type(None)` for none."""

    def __init__(self, answer: type[T], **more: Any) -> None:
        self.answer, self.more = answer, more


class Method(Generic[P, T]):
    """`operation` is the verb and the path that the OpenAPI document has for it; None of what asks by way of other methods."""

    def __init__(self, begin: Callable[Concatenate[Any, P], Flow[T]], operation: tuple[str, str] | None = None) -> None:
        self._begin, self.operation = begin, operation
        self.__doc__ = begin.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self
        return update_wrapper(lambda *args, **kwargs: client.run(self._begin(client, *args, **kwargs)), self._begin)


class ItemsMethod(Generic[P, T]):
    """As `Method`, but what it answers comes item by item; to be closed by who leaves a stream before its end."""

    def __init__(
        self, begin: Callable[Concatenate[Any, P], Items[T]], operation: tuple[str, str] | None = None
    ) -> None:
        self._begin, self.operation = begin, operation
        self.__doc__ = begin.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self
        return update_wrapper(lambda *args, **kwargs: client.iterate(self._begin(client, *args, **kwargs)), self._begin)


class Operation:
    """Makes a method of a function that answers a `Call`. Arguments that the path names in braces stand in it."""

    def __init__(self, verb: str, path: str) -> None:
        self._verb, self._path = verb, path

    def __call__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> Method[P, T]:
        def begin(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
            call = describe(client, *args, **kwargs)
            ask = _ask(self._verb, self._path, call, describe, args, kwargs)
            return answer(keyed(ask) if self._verb == "POST" else ask, call.answer)

        return Method(update_wrapper(begin, describe), (self._verb, self._path))


class Listing:
    """As `Operation`, of a call that answers pages; `Call.answer` is the class of an item."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> ItemsMethod[P, T]:
        def begin(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
            call = describe(client, *args, **kwargs)
            return items(_ask("GET", self._path, call, describe, args, kwargs), call.answer)

        return ItemsMethod(update_wrapper(begin, describe), ("GET", self._path))


get, post, patch, delete = (partial(Operation, verb) for verb in ("GET", "POST", "PATCH", "DELETE"))
listing = Listing


def _ask(verb: str, path: str, call: Call[Any], describe: Callable[..., Any], args: Any, kwargs: Any) -> Ask:
    given = inspect.signature(describe).bind(None, *args, **kwargs).arguments
    return Ask(verb, address(path, **given), call.more)
