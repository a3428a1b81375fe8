"""The one thread that knows every local worker: who starts, who runs what, who is late, who is lost."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait

from tuner.executors.inbox import Inbox
from tuner.executors.protocol import EpochEnded, Event, Lost, Stopped
from tuner.executors.seat import Assignment, Seat
from tuner.executors.worker import Ready, StopAsked
from tuner.executors.worker_process import Message, WorkerProcess

logger = logging.getLogger(__name__)

STOP_SECONDS = 1.0
"""How long a task that was asked to stop may go on before its worker is killed."""

START_SECONDS = 120.0
"""How long a worker may take to become ready; one second is usual."""

FAILED_STARTS = 3
"""As often must the starting of every worker have failed, in a row, before the waiting tasks are given up."""

LONGEST_PAUSE_SECONDS = 30.0
"""Between two tries to start a worker."""


@dataclass(frozen=True)
class Started:
    seat: Seat
    outcome: WorkerProcess | Exception


@dataclass(frozen=True)
class WakeUp:
    """Look whether to close."""


Command = Assignment | StopAsked | Started | WakeUp


class Dispatcher:
    def __init__(
        self, slots: int, start: Callable[[], WorkerProcess], inbox: Inbox[Command], closing: threading.Event
    ) -> None:
        self.seats = [Seat() for _ in range(slots)]
        self._start = start
        self._inbox = inbox
        self._closing = closing
        self._waiting: deque[Assignment] = deque()

    def run(self) -> None:
        """Serve until `closing` is set. Whatever ends this: no worker outlives it, and no task stays without an end."""
        try:
            while not self._closing.is_set():
                self._start_workers()
                self._assign()
                self._listen()
                self._kill_the_late()
        finally:
            self._end_all()

    def _start_workers(self) -> None:
        for seat in self.seats:
            if seat.worker is None and not seat.starting and time.monotonic() >= seat.start_at:
                seat.starting = True
                threading.Thread(target=self._start_worker, args=(seat,), name="start-worker", daemon=True).start()

    def _start_worker(self, seat: Seat) -> None:
        # In a thread of its own: it waits for the fork server, and others want to be heard meanwhile.
        outcome: WorkerProcess | Exception
        try:
            outcome = self._start()
        except Exception as error:  # of many kinds, from sockets, pipes and the fork server; the seat must hear of each
            outcome = error
        if not self._inbox.put(Started(seat, outcome)) and isinstance(outcome, WorkerProcess):
            outcome.end()

    def _assign(self) -> None:
        for seat in self.seats:
            if not self._waiting:
                return
            if seat.worker is None or not seat.ready or seat.assignment is not None:
                continue
            task = self._waiting[0].task
            if not seat.worker.send(task):
                self._lose(seat)
                continue
            seat.assignment = self._waiting.popleft()
            seat.deadline = math.inf if task.timeout_seconds is None else time.monotonic() + task.timeout_seconds

    def _listen(self) -> None:
        """Sleep until a caller, a worker or the clock wants something, and hear all that callers and workers say."""
        workers = {seat.worker: seat for seat in self.seats if seat.worker}
        wanted = [self._inbox.fileno(), *(w.connection.fileno() for w in workers), *(w.sentinel for w in workers)]
        heard = set(wait(wanted, self._seconds_to_next_deadline()))
        for worker, seat in workers.items():
            if worker.connection.fileno() in heard:
                for message in worker.read():
                    self._hear(seat, message)
            if worker.gone or worker.sentinel in heard:
                self._lose(seat)
        for command in self._inbox.take():
            self._obey(command)

    def _seconds_to_next_deadline(self) -> float | None:
        times = [seat.deadline if seat.worker or seat.starting else seat.start_at for seat in self.seats]
        return None if min(times) == math.inf else max(0.0, min(times) - time.monotonic())

    def _obey(self, command: Command) -> None:
        match command:
            case Assignment():
                self._waiting.append(command)
            case StopAsked(key):
                self._stop(key)
            case Started(seat, WorkerProcess() as worker):
                seat.starting, seat.worker = False, worker
                seat.deadline = time.monotonic() + START_SECONDS
            case Started(seat, Exception() as error):
                seat.starting = False
                self._start_failed(seat, repr(error))

    def _stop(self, key: str) -> None:
        for assignment in [waiting for waiting in self._waiting if waiting.task.key == key]:
            self._waiting.remove(assignment)
            self._deliver(assignment, Stopped(key))
        for seat in self.seats:
            running = seat.assignment
            if seat.worker and running and running.task.key == key and not running.stopping:
                running.stopping = True
                seat.deadline = min(seat.deadline, time.monotonic() + STOP_SECONDS)
                seat.worker.send(StopAsked(key))

    def _hear(self, seat: Seat, message: Message) -> None:
        if isinstance(message, Ready):
            seat.ready, seat.failed_starts, seat.deadline = True, 0, math.inf
            return
        assert seat.assignment is not None
        assignment = seat.assignment
        if not isinstance(message, EpochEnded):
            seat.assignment, seat.deadline = None, math.inf
        self._deliver(assignment, message)

    def _kill_the_late(self) -> None:
        for seat in self.seats:
            if seat.worker and time.monotonic() >= seat.deadline:
                self._lose(seat, late=True)

    def _lose(self, seat: Seat, late: bool = False) -> None:
        """The worker is dead and its seat empty; its task, if that had not ended, has its last event."""
        assert seat.worker is not None
        last_words, cause = seat.worker.end()
        for message in last_words:
            self._hear(seat, message)
        assignment, was_ready = seat.assignment, seat.ready
        seat.worker, seat.assignment, seat.ready, seat.deadline = None, None, False, math.inf
        if not was_ready:
            self._start_failed(seat, f"{cause.detail} before it was ready")
        elif assignment is None:
            extra = {"action": "worker_lost", "cause": cause.detail}
            logger.warning("an idle worker was lost: %s", cause.detail, extra=extra)
        elif assignment.stopping:
            self._deliver(assignment, Stopped(assignment.task.key))
        elif late:
            limit = f"{cause.detail} at the time limit of {assignment.task.timeout_seconds:g} s"
            self._deliver(assignment, Lost(assignment.task.key, "time_limit", limit))
        else:
            self._deliver(assignment, Lost(assignment.task.key, cause.why, cause.detail))

    def _start_failed(self, seat: Seat, cause: str) -> None:
        seat.failed_starts += 1
        pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2.0 ** min(seat.failed_starts, 10))
        seat.start_at = time.monotonic() + pause
        logger.warning("a worker did not start: %s", cause, extra={"action": "worker_start_failed", "cause": cause})
        if all(other.failed_starts >= FAILED_STARTS for other in self.seats):
            self._give_up_waiting(f"no worker can be started; the last try: {cause}")

    def _give_up_waiting(self, why: str) -> None:
        while self._waiting:
            assignment = self._waiting.popleft()
            self._deliver(assignment, Lost(assignment.task.key, "killed", why))

    def _deliver(self, assignment: Assignment, event: Event) -> None:
        if self._closing.is_set():
            return
        try:
            assignment.deliver(event)
        except Exception:
            # The caller's error is the caller's: other tasks go on, and so does this one, whose end somebody awaits.
            logger.exception("deliver raised", extra={"action": "deliver_raised", "key": assignment.task.key})

    def _end_all(self) -> None:
        for command in self._inbox.close():
            self._obey(command)
        workers = [seat.worker for seat in self.seats if seat.worker]
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.end()
        self._waiting.extendleft(seat.assignment for seat in self.seats if seat.assignment)
        self._give_up_waiting("the executor failed")  # or was closed, and then nothing is delivered
