"""Keeps processes running: whichever dies is started again, at once or, where it keeps dying, after a pause."""

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
STEADY_SECONDS = 10.0
"""A process that lived so long did start well: when it dies, its successor starts at once."""

PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the next start, by the number of processes in a row that died young."""

GRACE_SECONDS = 4.0
"""So long the processes may take to end in order."""


@dataclass(frozen=True)
class Role:
    """What a process is for. Both `target` and `arguments` go through pickle."""

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]


class Supervisor:
    """A context: within it every role has its process; after it none of them is left, nor any process of theirs."""

    def __init__(self, *roles: Role) -> None:
        self._posts = [_Post(role) for role in roles]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="supervisor")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _tend(self) -> None:
        while not self._ending.is_set():
            for post in self._posts:
                post.fill(time.monotonic())
            self._ending.wait(LOOK_SECONDS)
        _end([post.process for post in self._posts if post.process is not None])


class _Post:
    """One role, and the process that has it now."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.process: BaseProcess | None = None
        self._started_at = 0.0
        self._died_young = 0
        self._next_start = 0.0

    def fill(self, now: float) -> None:
        """Start a process where there is none and none is due later."""
        if self.process is not None and self.process.exitcode is not None:
            self._vacate(self.process, now)
        if self.process is None and now >= self._next_start:
            # Processes inherit the mask: Ctrl-C, which goes to all of a terminal's processes, is for the first one alone.
            resource_tracker.ensure_running()  # `start` would do it, and unblock the signal
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            context = multiprocessing.get_context("spawn")
            self.process = context.Process(target=self._role.target, args=self._role.arguments, name=self._role.name)
            self.process.start()
            self._started_at = now
            logger.info("the %s is process %d", self._role.name, self.process.pid)

    def _vacate(self, dead: BaseProcess, now: float) -> None:
        lived = now - self._started_at
        self._died_young = self._died_young + 1 if lived < STEADY_SECONDS else 0
        pause = PAUSES[min(max(self._died_young - 1, 0), len(PAUSES) - 1)]
        again = f"in {pause:.1f} s" if pause else "at once"
        ended = (
            f"exit code {dead.exitcode}" if (dead.exitcode or 0) >= 0 else signal.Signals(-(dead.exitcode or 0)).name
        )
        logger.warning("the %s ended (%s) after %.1f s; another one starts %s", self._role.name, ended, lived, again)
        dead.close()
        self.process, self._next_start = None, now + pause


def _end(processes: list[BaseProcess]) -> None:
    """Ask them to end, wait, and kill those that did not; their own processes end with them."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
