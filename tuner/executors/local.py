"""Training on this machine: worker processes from a fork server that has torch loaded already."""

import atexit
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tuner.executors.dispatcher import Command, Dispatcher, WakeUp
from tuner.executors.inbox import Inbox
from tuner.executors.oom_kills import OomKills, find_counter
from tuner.executors.protocol import Event, Task
from tuner.executors.seat import Assignment
from tuner.executors.worker import StopAsked
from tuner.executors.worker_process import WorkerProcess

CLOSE_SECONDS = 5.0


class LocalExecutor:
    """Runs up to `slots` tasks at once, first come first served, each in a process with one thread.

    Returns at once; the workers come up behind it, are kept from task to task, and are replaced when lost. This process
    does not load torch. Workers and fork server end with this process, however it ends; the fork server is
    multiprocessing's own, and stays for the next executor after `close`.

    `memory_mb` bounds the data of each worker, in MiB: a task that asks for more ends as `OutOfMemory`. `module` is the name of
    the module whose `run` a worker calls; `oom_counter` the file that counts the kernel's kills.
    """

    def __init__(
        self,
        slots: int,
        memory_mb: int | None = None,
        module: str = "tuner.executors.training_task",
        oom_counter: Path | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots >= 1 must hold, but got {slots=}")
        start = partial(WorkerProcess.start, module, memory_mb, OomKills(oom_counter or find_counter()))
        self._inbox: Inbox[Command] = Inbox()
        self._closing = threading.Event()
        self._dispatcher = Dispatcher(slots, start, self._inbox, self._closing)
        self._thread = threading.Thread(target=self._dispatcher.run, name="executor", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # else multiprocessing ends the workers there, and the dispatcher replaces them

    @property
    def slots(self) -> int:
        return len(self._dispatcher.seats)

    @property
    def workers(self) -> dict[int, str | None]:
        """The process ids of the workers that are up, and the key of the task that each is running."""
        up = [(seat.worker, seat.assignment) for seat in self._dispatcher.seats if seat.ready]
        return {worker.pid: running.task.key if running else None for worker, running in up if worker}

    def submit(self, task: Task, deliver: Callable[[Event], None]) -> None:
        """As the protocol says. An error that `deliver` raises is logged, and the task goes on."""
        if not self._inbox.put(Assignment(task, deliver)):
            raise RuntimeError(f"the executor is closed and takes no task, but got {task.key!r}")

    def stop(self, key: str) -> None:
        self._inbox.put(StopAsked(key))

    def close(self) -> None:
        """As the protocol says; done once or often. A `deliver` that does not return is waited for 5 s at most."""
        atexit.unregister(self.close)
        self._closing.set()
        self._inbox.put(WakeUp())
        if threading.current_thread() is not self._thread:  # `deliver` may close its executor
            self._thread.join(CLOSE_SECONDS)
