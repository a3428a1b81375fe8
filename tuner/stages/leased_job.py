"""A job that this runner has the lease of: the one road to its rows."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine

from tuner.errors import TunerError, Unavailable
from tuner.specs.job import PromoteWork, SearchWork
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import StudySpec
from tuner.store import events, jobs, studies
from tuner.store.database import reading, writing
from tuner.store.events import Entry
from tuner.store.jobs import Lease, Progress

logger = logging.getLogger(__name__)

S = TypeVar("S", StudySpec, OutsideStudySpec)
T = TypeVar("T")

CONTROL_SECONDS = 0.25
"""How often a coordinator looks for a user's request; a pause or a cancel acts within 2 s."""

WRITE_SECONDS = 1.0
"""At most so often the reports of all running trials are written, in one transaction with heartbeat and progress."""

OUTAGE_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between the tries to reach a database that cannot be used; the last one again and again."""

ENDING_SECONDS = 2.0
"""So long a runner that is about to end still tries."""


class JobInterrupted(Exception):
    """A user asked to pause or cancel, or the runner is about to end; what runs is to be stopped and given back."""


class JobFailed(TunerError):
    """The job cannot reach its end; `stop_reason` says why in one word, the message in a sentence."""

    def __init__(self, stop_reason: str, message: str) -> None:
        super().__init__(message)
        self.stop_reason = stop_reason


@dataclass(kw_only=True)
class LeasedJob(Generic[S]):
    engine: Engine
    lease: Lease
    name: str
    """Of the study."""
    spec: S
    ending: threading.Event
    """Set when the runner is to end."""
    work: SearchWork | PromoteWork | None = None
    """Of a further job; None: the study's first, which does all that the spec asks for."""
    elapsed_before: float = 0.0
    """Seconds that earlier attempts of this job have run."""
    failed_before: int = 0
    """FAIL trials that the study had when the job was begun or retried; they do not count against `max_failed`."""
    progress: Progress = field(default=Progress("search", 0, 0, None))

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._last_control = self._last_write = float("-inf")
        self._heartbeat = self.lease.heartbeat
        self.revision = 0
        """Of the study, when this job last looked."""

    @property
    def study_id(self) -> int:
        return self.lease.study_id

    @property
    def elapsed_seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self._started

    def finished_progress(self) -> Progress:
        return Progress(self.progress.stage, self.progress.total, self.progress.total, None)

    def stop_all(self) -> None:
        """End whatever runs for the job."""

    def out_of_time(self) -> bool:
        limit = self.spec.budget.timeout_seconds
        return limit is not None and self.elapsed_seconds >= limit

    def write(self, change: Callable[[Connection], T], *told: Entry, **values: Any) -> T:
        """What `change` answers, after one transaction, guarded by the lease, of it and of what was kept for it. `told` are lines
        of the job's log; `values` go into the job's own row, which is written anyway.

        It is committed exactly once. `change` may be called again, on a new transaction, where the database could not be used:
        the job waits for it as long as it takes, since what its workers have found would be lost otherwise.

        Raises LeaseLost where another runner owns the job, Unavailable where the runner is to end and the database stays away.
        """
        self._heartbeat += 1
        answers: list[T] = []

        def transact() -> None:
            with writing(self.engine) as connection:
                if jobs.advance(connection, self.lease, self._heartbeat, **values):
                    self._write_kept(connection)
                    entries = [*self._kept_entries(), *told]
                    events.record_all(connection, self.study_id, self.lease.job_id, entries)
                    answers.append(change(connection))

        try:
            self.outlast(transact)
        except Unavailable:
            raise
        except Exception:
            self._heartbeat -= 1  # rolled back, so the next transaction takes its number
            raise
        self._forget_kept()
        return answers[-1]

    def note(self, *told: Entry, **values: Any) -> None:
        """A transaction, as `write` makes it, of lines of the log and values of the job's row alone."""
        self.write(lambda _connection: None, *told, **values)

    def read(self, query: Callable[[Connection], T]) -> T:
        """What `query` answers on a read transaction; an outage is waited for as in `write`."""

        def transact() -> T:
            with reading(self.engine) as connection:
                return query(connection)

        return self.outlast(transact)

    def outlast(self, action: Callable[[], T]) -> T:
        """What `action` answers, tried again while it raises Unavailable."""
        return outlast(action, self.ending, self.name)

    def _write_kept(self, connection: Connection) -> None:
        """What the next transaction takes along."""

    def _kept_entries(self) -> Sequence[Entry]:
        """Lines of the log that the next transaction takes along."""
        return ()

    def _forget_kept(self) -> None:
        """It was committed."""

    def log(self, connection: Connection, kind: events.Kind, **data: Any) -> None:
        """One line of the job's log, in the transaction of what it tells; where it is known before, `write` takes it."""
        events.record(connection, self.study_id, self.lease.job_id, kind, **data)

    def enter(self, stage: str) -> None:
        self.note(Entry("stage", {"stage": stage}))

    def tick(self) -> None:
        """Show that the job is alive, and look what its user wants. Raises JobInterrupted where it is to stop."""
        now = time.monotonic()
        if self.ending.is_set():
            raise JobInterrupted
        if now - self._last_write >= WRITE_SECONDS:
            self._last_write = now
            self.note(**jobs.progress_values(self.progress, self.elapsed_seconds))
        if now - self._last_control >= CONTROL_SECONDS:
            self._last_control = now
            self._look()

    def _look(self) -> None:
        job, study = self.read(self._rows)
        if job is None or study is None or study.spec is None:
            raise JobFailed("study_deleted", f"the study {self.name!r} is not in the database any more")
        if job.request is not None:
            raise JobInterrupted
        self.revision = study.revision
        self.spec = study.spec  # type: ignore[assignment]  # a study's kind does not change

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
