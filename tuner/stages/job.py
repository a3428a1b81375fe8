"""A job in the hands of its coordinator: the one road to its executor and to its rows."""

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine

from tuner.data.catalogue import Dataset
from tuner.data.splits import part_sizes
from tuner.errors import TunerError
from tuner.executors.protocol import EpochEnded, Event, Executor, Task
from tuner.specs.epoch import EpochRecord
from tuner.specs.study import StudySpec
from tuner.store import curves, jobs, studies, trials
from tuner.store.database import reading
from tuner.store.jobs import JobRequest, Lease, Progress

CONTROL_SECONDS = 0.25
"""How often a coordinator looks for a user's request; a pause or a cancel acts within 2 s."""

WRITE_SECONDS = 1.0
"""At most so often the reports of all running trials are written, in one transaction with heartbeat and progress."""

MAX_KILLED = 3
"""A trial or run whose worker died so often has failed: most likely it needs more memory than there is."""


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
    elapsed_before: float = 0.0
    """Seconds that earlier attempts of this job have run."""
    progress: Progress = field(default=Progress("search", 0, 0, None))

    def __post_init__(self) -> None:
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._reports: list[tuple[int, EpochRecord]] = []
        self._run_records: list[tuple[int, EpochRecord]] = []
        self._keys = itertools.count()
        self._started = time.monotonic()
        self._last_control = self._last_write = float("-inf")

    @property
    def study_id(self) -> int:
        return self.lease.study_id

    @property
    def elapsed_seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self._started

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

    def report(self, trial_id: int, record: EpochRecord) -> None:
        """Keep a trial's epoch for the next transaction."""
        self._reports.append((trial_id, record))

    def report_run(self, run_id: int, record: EpochRecord) -> None:
        self._run_records.append((run_id, record))

    def forget_reports(self, trial_id: int) -> None:
        self._reports = [row for row in self._reports if row[0] != trial_id]

    def forget_run(self, run_id: int) -> None:
        self._run_records = [row for row in self._run_records if row[0] != run_id]

    def out_of_time(self) -> bool:
        limit = self.spec.budget.timeout_seconds
        return limit is not None and self.elapsed_seconds >= limit

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction that this job's lease guards; it takes along the epochs kept so far."""
        with jobs.fenced(self.engine, self.lease) as connection:
            trials.add_reports(connection, [(i, r.epoch, r.validation_accuracy) for i, r in self._reports])
            curves.add_records(connection, "trial", self._reports)
            curves.add_records(connection, "run", self._run_records)
            yield connection
        self._reports, self._run_records = [], []

    def tick(self) -> None:
        """Show that the job is alive, and look what its user wants. Raises JobInterrupted where it is to stop."""
        now = time.monotonic()
        if self.ending.is_set():
            raise JobInterrupted(None)
        if now - self._last_write >= WRITE_SECONDS:
            self._last_write = now
            with self.transaction() as connection:
                jobs.report_progress(connection, self.lease, self.progress, self.elapsed_seconds)
        if now - self._last_control >= CONTROL_SECONDS:
            self._last_control = now
            self._look()

    def _look(self) -> None:
        with reading(self.engine) as connection:
            job = jobs.find_job(connection, self.lease.job_id)
            study = studies.find_study_by_id(connection, self.study_id)
        if job is None or study is None or study.spec is None:
            raise JobFailed("study_deleted", f"the study {self.name!r} is not in the database any more")
        if job.request is not None:
            raise JobInterrupted(JobRequest(job.request))
        self.spec = study.spec
