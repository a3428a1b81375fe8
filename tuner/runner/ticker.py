"""The ticker: a thread of the runner that fires the schedules. It takes the time as an argument, so a test needs no clock."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from tuner.errors import Unavailable
from tuner.settings import Settings
from tuner.store import firing, schedules
from tuner.store.database import reading, writing
from tuner.store.due_times import WRONG_CLOCK

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0

CORRECTED_EVERY = timedelta(minutes=1)
"""So often, and whenever the clock went back, the ticker looks for times that a wrong clock has left."""

ASIDE = timedelta(minutes=1)
"""So long a schedule that cannot be fired, nobody knows why, is left alone; it must not fill the log."""


class Ticker:
    """Fires what is due, once a second until `ending` is set. Any number may tick on one database."""

    def __init__(self, engine: Engine, settings: Settings, ending: threading.Event) -> None:
        self._engine, self._settings, self._ending = engine, settings, ending
        self._corrected = datetime.min.replace(tzinfo=UTC)
        self._aside: dict[int, datetime] = {}

    def work(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            try:
                self.tick(datetime.now(UTC))
            except Unavailable as error:
                logger.error("schedules wait: %s", error)
            except Exception:
                # Whatever it was, later due times must find a ticker.
                logger.exception("schedules wait")

    def tick(self, now: datetime) -> None:
        """Settle the due times up to `now`. Raises Unavailable where the database cannot be used."""
        self._aside = {schedule_id: until for schedule_id, until in self._aside.items() if now < until <= now + ASIDE}
        if not self._corrected <= now < self._corrected + CORRECTED_EVERY:
            self._correct(now)
            self._corrected = now
        with reading(self._engine) as connection:
            due = schedules.due_ids(connection, now)
        for schedule_id in due:
            if self._ending.is_set():
                return
            if schedule_id not in self._aside:
                self._fire(schedule_id, now)

    def _fire(self, schedule_id: int, now: datetime) -> None:
        with self._apart(schedule_id, now):
            with writing(self._engine) as connection:
                runs = firing.fire_due(connection, schedule_id, now, self._settings)
            for run in runs:
                logger.info(
                    "schedule %d: %s for %s %s", schedule_id, run.outcome, run.fire_time, run.reason or run.study
                )

    def _correct(self, now: datetime) -> None:
        with reading(self._engine) as connection:
            far = schedules.ids_waiting_for(connection, now + WRONG_CLOCK)
        for schedule_id in far:
            with self._apart(schedule_id, now), writing(self._engine) as connection:
                if firing.correct(connection, schedule_id, now):
                    logger.warning("schedule %d waited for a time of a clock that had been wrong", schedule_id)

    @contextmanager
    def _apart(self, schedule_id: int, now: datetime) -> Iterator[None]:
        """One schedule that cannot be understood does not keep the others from firing."""
        try:
            yield
        except Unavailable:
            raise
        except Exception:
            logger.exception("schedule %d cannot be fired; it is tried again in %d s", schedule_id, ASIDE.seconds)
            self._aside[schedule_id] = now + ASIDE
