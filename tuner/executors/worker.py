"""What a local worker process does: take a task, run it, say how it ended, take the next.

The executor's own process imports this module too, so torch is imported only where a worker has begun.
"""

import contextlib
import importlib
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tuner.executors.guard import die_with_parent
from tuner.executors.protocol import Crashed, Diverged, EpochEnded, OutOfMemory, Stopped, Task, Trained

Outcome = Trained | Diverged | Stopped | OutOfMemory | Crashed
Run = Callable[[Task, Callable[[EpochEnded], None], Callable[[], bool]], Trained | Diverged | Stopped | OutOfMemory]

NICENESS = 10
"""Whoever answers people on the same cores goes first."""

POLL_SECONDS = 0.01
"""A look into the pipe costs 3 µs, and the smallest nets take batches of 100 µs: not every batch looks."""


@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs."""


@dataclass(frozen=True)
class StopAsked:
    key: str


def main(connection: Connection, module: str, memory_mb: int | None) -> None:
    """Run tasks by `module.run`, one after the other, until the other end of the pipe is closed.

    With `memory_mb` no more than so many MiB are given to this process; a run that asks for more raises an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the executor ends its workers
    die_with_parent()
    os.nice(NICENESS)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries loaded later; torch, loaded before the fork, is told below
    import torch

    torch.set_num_threads(1)
    if memory_mb is not None:
        # Data and not address space: what is mapped from a file, as the images are, needs no memory of its own.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, hard))
    run: Run = importlib.import_module(module).run
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(Ready())
        while True:
            asked: Task | StopAsked = connection.recv()
            if isinstance(asked, Task):  # a StopAsked comes here when its task had just ended
                connection.send(_outcome(run, asked, connection))


def _outcome(run: Run, task: Task, connection: Connection) -> Outcome:
    try:
        return run(task, connection.send, _StopFlag(connection, task.key))
    except Exception:
        return Crashed(task.key, traceback.format_exc())


class _StopFlag:
    """Whether the executor has asked, since the task began, to stop it."""

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self._key = key
        self._next_look = 0.0
        self._asked = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._asked or now < self._next_look:
            return self._asked
        self._next_look = now + POLL_SECONDS
        while not self._asked and self._connection.poll():
            self._asked = self._connection.recv() == StopAsked(self._key)
        return self._asked
