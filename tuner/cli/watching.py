"""A study while it goes: a live picture on a terminal, a line every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from tuner.cli.configuration import in_words
from tuner.client.answers import StudyStatus

LINE_SECONDS = 5.0
"""A stage's start and end are told at once, everything else so often."""


class Watching:
    """A context whose `show` takes each new status; the live picture stays in its last state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[times]}"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, times="")
        self._told: tuple[str, str | None] | None = None
        self._told_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: StudyStatus) -> None:
        if self._live is not None:
            self._live.update(self._picture(status), refresh=True)
        else:
            self._tell(status, time.monotonic())

    def _picture(self, status: StudyStatus) -> RenderableType:
        self._bar.update(
            self._task,
            description=f"{status.name}: {_phase(status)}",
            completed=status.progress.done,
            total=status.progress.total,
            times=_times(status),
        )
        lines = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in (_trials(status), _best(status))]
        return Group(self._bar, *lines)

    def _tell(self, status: StudyStatus, now: float) -> None:
        phase = (status.state, status.stage)
        if phase != self._told or now - self._told_at >= LINE_SECONDS:
            self._told, self._told_at = phase, now
            whole = f"{status.name}: {_phase(status)} {status.progress.fraction:.0%}"
            line = ", ".join([whole, _times(status), _trials(status), _best(status)])
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def _phase(status: StudyStatus) -> str:
    return status.stage or status.state if status.state == "running" else status.state


def _trials(status: StudyStatus) -> str:
    counts = status.trials
    of = f"/{status.spec.budget.n_trials}" if status.spec is not None else ""
    running = f", {counts.running} running" if counts.running else ""
    return f"{counts.finished}{of} trials ({counts.complete} complete, {counts.pruned} pruned, {counts.fail} failed){running}"


def _best(status: StudyStatus) -> str:
    if status.best is None:
        return "best –"
    point = status.best.hyperparameters
    words = f": {in_words(point)}" if point is not None else ""
    return f"best {status.best.value:.4f} (trial {status.best.number}{words})"


def _times(status: StudyStatus) -> str:
    elapsed = "" if status.job is None else _clock(status.job.elapsed_seconds)
    left = status.progress.eta_seconds
    return elapsed if left is None else f"{elapsed}, about {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
