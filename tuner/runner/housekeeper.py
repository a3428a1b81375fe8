"""The housekeeper: a thread of the runner that deletes what is kept no longer, a little at a time."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Engine

from tuner.errors import Unavailable
from tuner.settings import Settings
from tuner.store.retention import finish_purges, keep_house

logger = logging.getLogger(__name__)

FIRST_SECONDS = 60.0
EVERY_SECONDS = 3600.0
LOOK_SECONDS = 5.0
"""So soon a purge that a user has begun is carried on."""

PAUSE_SECONDS = 0.02
"""Between two steps, in which those who wait for the write lock get it."""


class Housekeeper:
    """Keeps house until `ending` is set, soon after the start and then every hour."""

    def __init__(self, engine: Engine, settings: Settings, ending: threading.Event) -> None:
        self._engine, self._settings, self._ending = engine, settings, ending

    def work(self) -> None:
        next_round = time.monotonic() + FIRST_SECONDS
        while not self._ending.wait(LOOK_SECONDS):
            self._take(finish_purges(self._engine, self._settings))
            if time.monotonic() >= next_round:
                self._take(keep_house(self._engine, self._settings, datetime.now(UTC)))
                next_round = time.monotonic() + EVERY_SECONDS

    def _take(self, steps: Iterator[None]) -> None:
        try:
            for _ in steps:
                if self._ending.wait(PAUSE_SECONDS):
                    return
        except Unavailable as error:
            logger.error("housekeeping waits: %s", error)
        except Exception:
            # A row that cannot be understood must not end the housekeeping for good.
            logger.exception("housekeeping waits")
