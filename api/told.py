"""What comes next for a stream of events: read and written out once for all streams that have come as far."""

from anyio.to_thread import run_sync
from cachetools import LRUCache
from fastapi.sse import ServerSentEvent
from pydantic_core import to_json
from sqlalchemy import Engine

from api.unchanged import read_version
from tuner.store import events
from tuner.store.data_version import DataVersion
from tuner.store.database import reading
from tuner.store.events import Event

BATCH = 500

MAX_KEPT = 100
"""Batches; most streams wait for the next event of some study, and so for the same."""

Batch = list[tuple[int, ServerSentEvent]]


class Told:
    """Of one database. Streams ask again and again; nothing is read while nothing was changed."""

    def __init__(self, engine: Engine, version: DataVersion) -> None:
        self._engine, self._version = engine, version
        self._kept: LRUCache[tuple[int, int], tuple[str, Batch]] = LRUCache(MAX_KEPT)

    async def after(self, study_id: int, last: int) -> Batch:
        """The study's next events after the one with the id `last`, at most BATCH, each with its id."""
        version = await read_version(self._version)
        known, batch = self._kept.get((study_id, last), (None, []))
        if version is None or known != version:
            batch = await run_sync(self._read, study_id, last)
            if version is not None:
                self._kept[study_id, last] = version, batch
        return batch

    def _read(self, study_id: int, last: int) -> Batch:
        with reading(self._engine) as connection:
            return [(event.id, _written(event)) for event in events.of_study(connection, study_id, last, BATCH)]


def _written(event: Event) -> ServerSentEvent:
    data = to_json({"at": event.at, "job": event.job_id, **event.data}, inf_nan_mode="null")
    return ServerSentEvent(id=str(event.id), event=event.kind, raw_data=data.decode())
