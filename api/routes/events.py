"""What happens to a study, as it happens: server-sent events."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.dependencies import AnEngine, StudyName, TheCaller, TheLimits, find_study
from api.keyring import ANONYMOUS
from api.limits import address_of
from api.problems import described
from api.told import BATCH, Told
from tuner.store import events
from tuner.store.database import reading

router = APIRouter(prefix="/v1/studies", tags=["studies"])

POLL_SECONDS = 0.5

STREAM_SECONDS = 600.0
"""A stream ends after so long: clients connect again by themselves, and show by that that they may still come in."""

Since = Annotated[
    int | None, Query(ge=0, lt=2**63, description="an event's id; 0: from the first one that is kept", examples=[0])
]
LastEventId = Annotated[
    int | None,
    Header(
        ge=0, lt=2**63, description="as a browser sends it when it connects again; wins over `after`", examples=[17]
    ),
]


def _begin(
    name: StudyName, engine: AnEngine, after: Since = None, last_event_id: LastEventId = None
) -> tuple[int, int]:
    """The study's id, and the id of the last event that the client has."""
    if last_event_id is not None:
        after = last_event_id
    with reading(engine) as connection:
        study = find_study(connection, name)
        return study.id, events.newest(connection, study.id) if after is None else after


def _told(request: Request) -> Told:
    told: Told = request.app.state.told
    return told


def _one_more(request: Request, caller: TheCaller, limits: TheLimits) -> Iterator[None]:
    with limits.streams.opening(address_of(request) if caller == ANONYMOUS else caller.name):
        yield


@router.get(
    "/{name}/events",
    response_class=EventSourceResponse,
    responses=described(404, 429),
    dependencies=[Depends(_one_more)],
    summary="Follow a study by server-sent events",
)
async def follow_events(
    begun: Annotated[tuple[int, int], Depends(_begin)], told: Annotated[Told, Depends(_told)]
) -> AsyncIterator[ServerSentEvent]:
    """From now on, or from `after` or `Last-Event-ID` on. After ten minutes the stream ends, and a browser connects again.

    `event` is the kind: job, stage, trial_started, epoch, trial_finished, run_finished, …; `data` is JSON with `at`, `job`
    and what the kind tells; `id` resumes.
    """
    study_id, after = begun
    yield ServerSentEvent(id=str(after))  # no event: who loses the stream before the first one goes on from here
    until = time.monotonic() + STREAM_SECONDS
    while time.monotonic() < until:
        found = await told.after(study_id, after)
        for event_id, event in found:
            yield event
            after = event_id
        if len(found) < BATCH:
            await anyio.sleep(POLL_SECONDS)
