"""Calibrates this machine when somebody has asked for an estimate and nothing was timed here yet."""

import logging
import socket
import threading

from sqlalchemy import Engine

from tuner.data.catalogue import open_dataset
from tuner.errors import Unavailable
from tuner.executors.protocol import Executor
from tuner.settings import Settings
from tuner.stages.calibration import calibrate
from tuner.store import timings
from tuner.store.database import reading, writing

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Calibrator:
    """Its nets wait for a free worker behind the tasks that were there before, and take the workers some seconds."""

    def __init__(self, engine: Engine, settings: Settings, executor: Executor, ending: threading.Event) -> None:
        self._engine, self._settings, self._executor, self._ending = engine, settings, executor, ending
        self._host = socket.gethostname()

    def work(self) -> None:
        while not self._ending.wait(POLL_SECONDS):
            try:
                self._calibrate_if_asked()
            except Unavailable as error:
                logger.error("%s; trying again", error)

    def _calibrate_if_asked(self) -> None:
        with reading(self._engine) as connection:
            if not timings.is_requested(connection, self._host):
                return
        dataset = open_dataset("mnist", self._settings.datasets_dir)
        timed = calibrate(self._executor, dataset, self._ending)
        if timed:
            with writing(self._engine) as connection:
                timings.finish(connection, self._host, timed)
            logger.info("%d kinds of nets were timed", len(timed))
