"""A job in the hands of its coordinator: the one road to its executor and to its rows."""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from tuner.data.catalogue import Dataset
from tuner.data.splits import part_sizes
from tuner.errors import TunerError, Unavailable
from tuner.executors.protocol import EpochEnded, Event, Executor, Task
from tuner.specs.epoch import EpochRecord
from tuner.specs.job import PromoteWork, SearchWork
from tuner.specs.study import PromotionSpec, StudySpec
from tuner.store import curves, events, jobs, studies, trials
from tuner.store.database import reading, writing
from tuner.store.jobs import JobRequest, Lease, Progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONTROL_SECONDS = 0.25
"""How often a coordinator looks for a user's request; a pause or a cancel acts within 2 s."""

WRITE_SECONDS = 1.0
"""At most so often the reports of all running trials are written, in one transaction with heartbeat and progress."""

MAX_KILLED = 3
"""A trial or run whose worker died so often has failed: most likely it needs more memory than there is."""


OUTAGE_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between the tries to reach a database that cannot be used; the last one again and again."""

ENDING_SECONDS = 2.0
"""So long a runner that is about to end still tries."""


class JobInterrupted(Exception):
    """A user asked to pause or cancel, or the runner is about to end; what runs is to be stopped and given back."""

    def __init__(self, request: JobRequest | None) -> None:
        super().__init__(f"the job was interrupted: {request or 'the runner ends'}")
        self.request = request


class JobFailed(TunerError):
    """The job cannot reach its end; `stop_reason` says why in one word, the message in a sentence."""

    def __init__(self, stop_reason: str, message: str) -> None:
        super().__init__(message)
        self.stop_reason = stop_reason


@dataclass
class RunningJob:
    engine: Engine
    lease: Lease
    name: str
    spec: StudySpec
    dataset: Dataset
    executor: Executor
    models_dir: Path
    ending: threading.Event
    created_at: str
    """Of the study."""
    work: SearchWork | PromoteWork | None = None
    """Of a further job; None: the study's first, which does all that the spec asks for."""
    elapsed_before: float = 0.0
    """Seconds that earlier attempts of this job have run."""
    progress: Progress = field(default=Progress("search", 0, 0, None))

    def __post_init__(self) -> None:
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._reports: list[tuple[int, EpochRecord]] = []
        self._run_records: list[tuple[int, EpochRecord]] = []
        self._epochs: list[dict[str, Any]] = []
        self._keys = itertools.count()
        self._started = time.monotonic()
        self._last_control = self._last_write = float("-inf")
        self._heartbeat = self.lease.heartbeat

    @property
    def study_id(self) -> int:
        return self.lease.study_id

    @property
    def elapsed_seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self._started

    @property
    def promotion(self) -> PromotionSpec | None:
        """How this job promotes, if it does."""
        match self.work:
            case None:
                return self.spec.promotion
            case SearchWork():
                return None
            case PromoteWork():
                return self.work.promotion(self.spec.promotion)

    @property
    def slots(self) -> int:
        return min(self.spec.budget.parallel or self.executor.slots, self.executor.slots)

    @property
    def train_count(self) -> int:
        """Training images that the search may use: those which the split has not kept for validation."""
        return part_sizes(self.dataset.train_count)[0]

    def new_key(self, what: str) -> str:
        """A name that no other task has, of this job or another."""
        return f"job-{self.lease.job_id}/{what}/{next(self._keys)}-{self.lease.fence}"

    def finished_progress(self) -> Progress:
        return Progress(self.progress.stage, self.progress.total, self.progress.total, None)

    def submit(self, task: Task) -> None:
        self._running.add(task.key)
        self.executor.submit(task, self._inbox.put)

    def stop(self, key: str) -> None:
        self.executor.stop(key)

    def wait(self, seconds: float = 0.1) -> list[Event]:
        """The events that have come, after waiting up to `seconds` for the first."""
        events: list[Event] = []
        try:
            events.append(self._inbox.get(timeout=seconds))
            while True:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        self._running -= {event.key for event in events if not isinstance(event, EpochEnded)}
        return events

    def stop_all(self, seconds: float = 3.0) -> None:
        """End every task that runs; the executor kills those that do not obey within a second."""
        for key in self._running:
            self.executor.stop(key)
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            self.wait()

    def report(self, trial_id: int, number: int, record: EpochRecord) -> None:
        """Keep a trial's epoch for the next transaction."""
        self._reports.append((trial_id, record))
        self._epochs.append({"number": number, "epoch": record.epoch, "value": record.validation_accuracy})

    def report_run(self, run_id: int, contender: str, record: EpochRecord) -> None:
        self._run_records.append((run_id, record))
        self._epochs.append({"run": contender, "epoch": record.epoch, "value": record.validation_accuracy})

    def forget_reports(self, trial_id: int) -> None:
        self._reports = [row for row in self._reports if row[0] != trial_id]

    def forget_run(self, run_id: int) -> None:
        self._run_records = [row for row in self._run_records if row[0] != run_id]

    def out_of_time(self) -> bool:
        limit = self.spec.budget.timeout_seconds
        return limit is not None and self.elapsed_seconds >= limit

    def write(self, change: Callable[[Connection], T]) -> T:
        """What `change` answers, after one transaction, guarded by the lease, of it and of the epochs kept so far.

        It is committed exactly once. `change` may be called again, on a new transaction, where the database could not be used:
        the job waits for it as long as it takes, since what its workers have found would be lost otherwise.

        Raises LeaseLost where another runner owns the job, Unavailable where the runner is to end and the database stays away.
        """
        self._heartbeat += 1
        answers: list[T] = []

        def transact() -> None:
            with writing(self.engine) as connection:
                if jobs.advance(connection, self.lease, self._heartbeat):
                    self._write_epochs(connection)
                    answers.append(change(connection))

        try:
            self.outlast(transact)
        except Unavailable:
            raise
        except Exception:
            self._heartbeat -= 1  # rolled back, so the next transaction takes its number
            raise
        self._reports, self._run_records, self._epochs = [], [], []
        return answers[-1]

    def read(self, query: Callable[[Connection], T]) -> T:
        """What `query` answers on a read transaction; an outage is waited for as in `write`."""

        def transact() -> T:
            with reading(self.engine) as connection:
                return query(connection)

        return self.outlast(transact)

    def outlast(self, action: Callable[[], T]) -> T:
        """What `action` answers, tried again while it raises Unavailable."""
        return outlast(action, self.ending, self.name)

    def _write_epochs(self, connection: Connection) -> None:
        trials.add_reports(connection, [(i, r.epoch, r.validation_accuracy) for i, r in self._reports])
        curves.add_records(connection, "trial", self._reports)
        curves.add_records(connection, "run", self._run_records)
        events.record_all(connection, self.study_id, self.lease.job_id, "epoch", self._epochs)

    def log(self, connection: Connection, kind: events.Kind, **data: Any) -> None:
        """One line of the job's log, in the transaction of what it tells."""
        events.record(connection, self.study_id, self.lease.job_id, kind, **data)

    def enter(self, stage: str) -> None:
        self.write(lambda connection: self.log(connection, "stage", stage=stage))

    def tick(self) -> None:
        """Show that the job is alive, and look what its user wants. Raises JobInterrupted where it is to stop."""
        now = time.monotonic()
        if self.ending.is_set():
            raise JobInterrupted(None)
        if now - self._last_write >= WRITE_SECONDS:
            self._last_write = now
            self.write(
                lambda connection: jobs.report_progress(connection, self.lease, self.progress, self.elapsed_seconds)
            )
        if now - self._last_control >= CONTROL_SECONDS:
            self._last_control = now
            self._look()

    def _look(self) -> None:
        job, study = self.read(self._rows)
        if job is None or study is None or study.spec is None:
            raise JobFailed("study_deleted", f"the study {self.name!r} is not in the database any more")
        if job.request is not None:
            raise JobInterrupted(JobRequest(job.request))
        self.spec = study.spec

    def _rows(self, connection: Connection) -> tuple[jobs.Job | None, studies.Study | None]:
        return jobs.find_job(connection, self.lease.job_id), studies.find_study_by_id(connection, self.study_id)


def outlast(action: Callable[[], T], ending: threading.Event, who: str) -> T:
    """What `action` answers, tried again while the database or the disk cannot be used.

    Raises Unavailable where that lasts and `ending` is set.
    """
    pauses = itertools.chain(OUTAGE_PAUSES, itertools.repeat(OUTAGE_PAUSES[-1]))
    last_try = float("inf")
    while True:
        try:
            return action()
        except Unavailable as error:
            if ending.is_set():
                last_try = min(last_try, time.monotonic() + ENDING_SECONDS)
            if time.monotonic() >= last_try:
                raise
            pause = OUTAGE_PAUSES[0] if ending.is_set() else next(pauses)
            logger.error("%s waits: %s", who, error)
            ending.wait(pause) if not ending.is_set() else time.sleep(pause)
