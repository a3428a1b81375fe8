"""The executor's end of one worker."""

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal, NamedTuple, Self

from tuner.executors import worker
from tuner.executors.oom_kills import OomKills
from tuner.executors.protocol import EpochEnded, Task

Message = worker.Ready | EpochEnded | worker.Outcome

LAST_WORDS_SECONDS = 1.0
"""How long a killed process may take to close its end of the pipe, and its parent to hear of it."""

FORKSERVER_GONE = 255
"""multiprocessing's exit code of a process whose fork server, which alone could wait for it, has died."""


class Cause(NamedTuple):
    """How a worker ended, in a word and in a sentence."""

    why: Literal["killed", "out_of_memory"]
    detail: str


class WorkerProcess:
    """A process and the pipe to it; only `start` and `end` take time."""

    def __init__(self, process: BaseProcess, connection: Connection, oom_kills: OomKills) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.sentinel = process.sentinel
        """Readable when the process has ended, or its fork server has."""
        self.connection = connection
        self.gone = False
        """Whether the worker has closed its end of the pipe."""
        self._process = process
        self._oom_kills, self._oom_kills_before = oom_kills, oom_kills.count()

    @classmethod
    def start(cls, module: str, memory_mb: int | None, oom_kills: OomKills) -> Self:
        """A new worker that will run tasks by `module.run` in `memory_mb` MiB, and says `Ready` when it can.

        Returns once the fork server is up, which takes as long as the import of torch for the first worker.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", module, "tuner.executors.fork_server"])
        ours, theirs = context.Pipe()
        process = context.Process(
            target=worker.main, args=(theirs, module, memory_mb), name="tuner-worker", daemon=True
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # while it is open here, its closing there goes unseen
        return cls(process, ours, oom_kills)

    def send(self, message: Task | worker.StopAsked) -> bool:
        """Whether there was somebody to send to; what is sent need not be read."""
        try:
            self.connection.send(message)
        except OSError:
            return False
        return True

    def read(self, until: float = 0.0) -> list[Message]:
        """What the worker has said, and says up to that time of the monotonic clock if it is not gone before."""
        said: list[Message] = []
        try:
            while self.connection.poll(max(0.0, until - time.monotonic())):
                said.append(self.connection.recv())
        except (EOFError, OSError):  # OSError where it died in the midst of a message
            self.gone = True
        return said

    def kill(self) -> None:
        """The process ends soon, unless it is known to have ended: then its number may be another's by now."""
        if self._process.exitcode in (None, FORKSERVER_GONE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[list[Message], Cause]:
        """What the worker had still said, and how it ended; afterwards nothing of it is left."""
        if self.gone:
            self._process.join(LAST_WORDS_SECONDS)  # it is ending by itself: let it name the cause
        cause = self._cause()
        self.kill()
        last_words = [] if self.gone else self.read(time.monotonic() + LAST_WORDS_SECONDS)
        self.connection.close()
        self._process.join(LAST_WORDS_SECONDS)
        if self._process.exitcode is not None:
            self._process.close()
        return last_words, cause

    def _cause(self) -> Cause:
        exit_code = self._process.exitcode
        if exit_code == -signal.SIGKILL and self._oom_kills.claim(self._oom_kills_before):
            words = "was killed by the kernel for want of memory"
            return Cause("out_of_memory", f"worker {self.pid} {words}")
        return Cause("killed", f"worker {self.pid} {_in_words(exit_code)}")


def _in_words(exit_code: int | None) -> str:
    if exit_code is None:
        return "was killed by its executor"
    if exit_code == FORKSERVER_GONE:
        return "was lost with its fork server"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed by {signal.Signals(-exit_code).name}"
