"""The runner's loop: once in a while it shows that it is alive and claims what waits, as long as it has room."""

import logging
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from filelock import FileLock, Timeout
from sqlalchemy import Engine

from tuner.data.catalogue import check_same_data, open_dataset
from tuner.errors import Conflict, LeaseLost, TunerError, Unavailable
from tuner.executors.local import LocalExecutor
from tuner.executors.protocol import Executor
from tuner.runner.calibrator import Calibrator
from tuner.runner.coordinator import coordinate
from tuner.runner.housekeeper import Housekeeper
from tuner.runner.postman import Postman
from tuner.runner.ticker import Ticker
from tuner.settings import Settings
from tuner.specs.job import read_work
from tuner.specs.outside_study import OutsideStudySpec
from tuner.stages.job import RunningJob
from tuner.stages.lease_watch import LeaseWatch
from tuner.stages.leased_job import LeasedJob, outlast
from tuner.store import further_jobs, jobs, runners, studies
from tuner.store.database import open_database, reading, writing
from tuner.store.jobs import Job, JobKind, JobState, Lease
from tuner.webhooks import WebhookRules

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.3
BEAT_SECONDS = 2.0
LEASE_SECONDS = 10.0
"""A lease whose heartbeat stands still for so long is taken over; its coordinator would have moved it every second."""

LOCK_SECONDS = 15.0
"""A runner that was killed may need a moment to go; its successor waits so long for its lock."""


def run(settings: Settings, ending: threading.Event) -> None:
    """Work until `ending` is set; then give every job back and end the workers. On SQLite one runner at a time may run."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # TPE's `group` and QMC are meant
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not settings.on_sqlite:
        _run(settings, ending)
        return
    lock = FileLock(settings.data_dir / "runner.lock")
    try:
        with lock.acquire(timeout=LOCK_SECONDS):
            _run(settings, ending)
    except Timeout:
        raise Conflict(f"one runner per data folder: another one works on {settings.data_dir}") from None


def _run(settings: Settings, ending: threading.Event) -> None:
    engine = open_database(settings.database_url, ping=False)  # all of its works outlast outages
    executor = LocalExecutor(settings.parallel, settings.worker_memory_mb)
    postman = Postman(engine, WebhookRules(settings), ending)
    housekeeper = Housekeeper(engine, settings, ending)
    ticker = Ticker(engine, settings, ending)
    calibrator = Calibrator(engine, settings, executor, ending)
    try:
        with _beside(
            ending, postman=postman.work, housekeeper=housekeeper.work, ticker=ticker.work, calibrator=calibrator.work
        ):
            Runner(settings, engine, executor, ending).loop()
    finally:
        executor.close()
        engine.dispose()


@contextmanager
def _beside(ending: threading.Event, **works: Callable[[], None]) -> Iterator[None]:
    """Each of `works` goes on in a thread of its own until `ending` is set, as it is at the end of the block."""
    threads = [threading.Thread(target=work, name=name) for name, work in works.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


class Runner:
    def __init__(self, settings: Settings, engine: Engine, executor: Executor, ending: threading.Event) -> None:
        self._settings, self._engine, self._executor, self._ending = settings, engine, executor, ending
        self._owner = secrets.token_hex(8)
        self._watch = LeaseWatch(LEASE_SECONDS)
        self._threads: dict[int, threading.Thread] = {}
        self._outside: set[int] = set()
        """Jobs whose trials are run elsewhere: they take none of the `max_jobs` places."""
        self._last_beat = float("-inf")

    def loop(self) -> None:
        while not self._ending.is_set():
            try:
                self._beat()
                self._claim()
            except Unavailable as error:
                logger.error("%s; trying again", error)
            self._ending.wait(POLL_SECONDS)
        for thread in self._threads.values():
            thread.join()

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= BEAT_SECONDS:
            with writing(self._engine) as connection:
                runners.beat(connection, self._owner, self._executor.slots)
            self._last_beat = now

    def _claim(self) -> None:
        self._threads = {job_id: thread for job_id, thread in self._threads.items() if thread.is_alive()}
        full = len(self._threads.keys() - self._outside) >= self._settings.max_jobs
        others = [job for job in jobs.running_jobs(self._engine) if job.id not in self._threads]
        # On SQLite this process holds the one runner's lock, so whoever ran these jobs is gone.
        expired = others if self._settings.on_sqlite else self._silent(others)
        lease = jobs.claim(self._engine, self._owner, expired, JobKind.EXTERNAL if full else None)
        if lease is not None:
            if lease.kind is JobKind.EXTERNAL:
                self._outside.add(lease.job_id)
            thread = threading.Thread(target=self._work, args=(lease,), name=f"job-{lease.job_id}")
            self._threads[lease.job_id] = thread
            thread.start()

    def _silent(self, running: list[Job]) -> list[Job]:
        ended = self._watch.ended({job.id: (job.fence, job.heartbeat) for job in running}, time.monotonic())
        return [job for job in running if job.id in ended]

    def _work(self, lease: Lease) -> None:
        try:
            job = outlast(lambda: self._open(lease), self._ending, f"job {lease.job_id}")
            logger.info("job %d (%s) starts, attempt %d", lease.job_id, job.name, lease.fence)
            coordinate(job)
        except (LeaseLost, Unavailable) as error:
            logger.error("job %d is left as it is: %s", lease.job_id, error)
        except TunerError as error:
            logger.error("job %d cannot start: %s", lease.job_id, error)
            self._fail(lease, str(error))

    def _fail(self, lease: Lease, error: str) -> None:
        with writing(self._engine) as connection:
            jobs.advance(connection, lease, lease.heartbeat + 1)
            jobs.end_job(connection, lease, JobState.FAILED, "error", error)

    def _open(self, lease: Lease) -> RunningJob | LeasedJob[OutsideStudySpec]:
        with reading(self._engine) as connection:
            study = studies.find_study_by_id(connection, lease.study_id)
            row = jobs.find_job(connection, lease.job_id)
        if study is None or study.spec is None or study.created_at is None or row is None:
            raise TunerError(f"the study of job {lease.job_id} is not in the database any more")
        work = None if row.work is None else read_work.validate_python(row.work)
        with writing(self._engine) as connection:
            spec = further_jobs.begin(connection, study, work)
        common: dict[str, Any] = {
            "engine": self._engine,
            "lease": lease,
            "name": study.name,
            "ending": self._ending,
            "work": work,
            "elapsed_before": row.elapsed_seconds,
            "failed_before": row.failed_before,
        }
        if isinstance(spec, OutsideStudySpec):
            return LeasedJob(spec=spec, **common)
        dataset = open_dataset(spec.dataset, self._settings.datasets_dir)
        check_same_data(study.name, study.dataset_checksum, dataset)
        return RunningJob(
            spec=spec,
            dataset=dataset,
            executor=self._executor,
            models_dir=self._settings.models_dir,
            created_at=study.created_at,
            **common,
        )
