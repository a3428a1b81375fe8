"""What the dispatcher knows of a task under way, and of a place where one can run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tuner.executors.protocol import Event, Task
from tuner.executors.worker_process import WorkerProcess


@dataclass
class Assignment:
    """A task under way: waiting, running, or asked to stop."""

    task: Task
    deliver: Callable[[Event], None]
    stopping: bool = False


@dataclass
class Seat:
    """A place for one worker, and what the worker in it is doing. Times are of the monotonic clock."""

    worker: WorkerProcess | None = None
    starting: bool = False
    ready: bool = False
    assignment: Assignment | None = None
    deadline: float = math.inf
    """When the worker is killed, unless it has done by then what it is expected to do."""
    failed_starts: int = 0
    start_at: float = -math.inf
