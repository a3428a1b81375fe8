"""What fires the schedules, once a second. The time is an argument, so that a test needs no clock of its own."""

import logging
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from tuner.errors import Unavailable
from tuner.settings import Settings
from tuner.store import firing, schedules
from tuner.store.database import reading, writing
from tuner.store.due_times import WRONG_CLOCK

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0

AT_ONCE = 200
"""A tick fires at most so many schedules, since the runner has more to do; the next tick goes on."""

CORRECTED_EVERY = timedelta(minutes=1)
"""So often, and whenever the clock went back, the ticker looks for times that a wrong clock has left."""

ASIDE = timedelta(minutes=1)
"""So long a schedule that could not be fired for want of an explanation waits, so that it does not fill the log."""


class Ticker:
    """Fires what is due. Any number of them may tick on one database: each due time is settled by one of them."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._corrected = datetime.min.replace(tzinfo=UTC)
        self._aside: dict[int, datetime] = {}

    def tick(self, now: datetime) -> None:
        """Settle the due times up to `now`. Raises Unavailable where the database cannot be used."""
        if not self._corrected <= now < self._corrected + CORRECTED_EVERY:
            self._correct(now)
            self._corrected = now
        self._aside = {schedule_id: until for schedule_id, until in self._aside.items() if now < until <= now + ASIDE}
        with reading(self._engine) as connection:
            due = schedules.due_ids(connection, now, AT_ONCE, self._aside)
        for schedule_id in due:
            self._fire(schedule_id, now)

    def _fire(self, schedule_id: int, now: datetime) -> None:
        try:
            with writing(self._engine) as connection:
                runs = firing.fire_due(connection, schedule_id, now, self._settings)
        except Unavailable:
            raise
        except Exception:
            # One schedule that cannot be understood must not keep the others from firing.
            logger.exception("schedule %d cannot be fired; it is tried again in %d s", schedule_id, ASIDE.seconds)
            self._aside[schedule_id] = now + ASIDE
            return
        for run in runs:
            logger.info("schedule %d: %s for %s %s", schedule_id, run.outcome, run.fire_time, run.reason or run.study)

    def _correct(self, now: datetime) -> None:
        with reading(self._engine) as connection:
            far = schedules.ids_waiting_for(connection, now + WRONG_CLOCK)
        for schedule_id in far:
            with writing(self._engine) as connection:
                if firing.correct(connection, schedule_id, now):
                    logger.warning("schedule %d waited for a time of a clock that was wrong; corrected", schedule_id)
