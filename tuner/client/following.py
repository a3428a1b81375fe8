"""Watching a study: until nothing more is to be seen, or event by event."""

import json
import time
from collections.abc import Callable
from contextlib import suppress

from httpx_sse import ServerSentEvent, SSEError

from tuner.client.answers import ENDED, Event, StudyStatus
from tuner.client.bodies import given
from tuner.client.flow import Ask, Emit, Flow, Items, Next, Open, Pause, address, answer, carry_out
from tuner.client.refused import NoAnswer, Refused

POLL_SECONDS = 0.5

OUTAGE_SECONDS = 15.0
"""A supervisor starts a dead API again in less; what takes longer is for a person to see."""

UNAVAILABLE = 503


def wait(name: str, on_progress: Callable[[StudyStatus], object] | None) -> Flow[StudyStatus]:
    ask, answered = Ask("GET", address("/v1/studies/{name}", name=name)), time.monotonic()
    while True:
        try:
            status = yield from answer(ask, StudyStatus)
        except (NoAnswer, Refused) as error:
            _outlast(error, answered)
        else:
            answered = time.monotonic()
            if on_progress is not None:
                on_progress(status)
            if status.state in (*ENDED, "paused"):
                return status
        yield Pause(POLL_SECONDS)


def events(name: str, after: int | None) -> Items[Event]:
    path, last, answered = address("/v1/studies/{name}/events", name=name), after, time.monotonic()
    while True:
        more = {"params": given(after=last), "headers": {"Accept": "text/event-stream"}}
        try:
            response = yield from carry_out(Open(Ask("GET", path, more)))
        except (NoAnswer, Refused) as error:
            _outlast(error, answered)
        else:
            while isinstance(told := (yield Next()), ServerSentEvent):
                with suppress(ValueError):
                    last = int(told.id)  # of one without data, too, by which the service says where a stream begins
                if told.data:
                    yield Emit(Event(id=int(told.id), kind=told.event, data=json.loads(told.data)))
            if isinstance(told, SSEError):
                raise NoAnswer(f"no stream of events is at {response.url}: {told}")
            answered = time.monotonic()
        yield Pause(POLL_SECONDS)


def _outlast(error: NoAnswer | Refused, answered: float) -> None:
    """Raises the error unless it may pass, and the last answer is not long ago."""
    passing = isinstance(error, NoAnswer) or error.status == UNAVAILABLE
    if not passing or time.monotonic() - answered > OUTAGE_SECONDS:
        raise error
