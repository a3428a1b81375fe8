"""Training of given configurations outside the search. Each run is a row, so that a restart repeats only what it must."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection

from tuner.errors import Unavailable
from tuner.executors.protocol import (
    Crashed,
    DataSlice,
    Diverged,
    EpochEnded,
    Event,
    Lost,
    OutOfMemory,
    Stopped,
    Task,
    Teacher,
    Trained,
)
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters
from tuner.stages.job import MAX_KILLED, RunningJob
from tuner.stages.view import derive_seed
from tuner.store import curves, jobs, runs
from tuner.store.checkpoints import read_checkpoint, remove_checkpoint, write_checkpoint
from tuner.store.events import Entry
from tuner.store.model_files import write_weights
from tuner.store.runs import Run, RunState, Stage

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 2.0
"""What an interruption costs a run at most, besides the epoch it is in; a checkpoint takes some 10 ms."""


@dataclass(frozen=True)
class Contender:
    """`name` is `default`, or `trial-<number>` of the search; in a challenge `champion` or `challenger`."""

    name: str
    hyperparameters: Hyperparameters
    epochs: int | None = None
    """None: the plan's."""
    seeds: tuple[int, ...] | None = None
    """None: the plan's."""
    bootstrap: bool = False
    """Whether each run is trained on a bootstrap sample, drawn by its seed."""
    teacher: Teacher | None = None
    """Whose name, as what else a run depends on, is part of the contender's, so that a restart finds only runs of the same."""


@dataclass(frozen=True)
class Plan:
    """How the contenders of a stage are trained: on the same images, one run for each seed."""

    stage: Stage
    data: DataSlice
    epochs: int
    decay: bool
    keep_weights: bool
    seeds: tuple[int, ...] = ()
    """Of each contender that brings none of its own; empty: one, the stage's."""
    seeds_before: int = 0
    """That the stage's runs had in earlier plans; for their names in the log."""


@dataclass(frozen=True)
class _Entry:
    contender: Contender
    seed: int
    epochs: int

    @property
    def key(self) -> tuple[str, int]:
        return self.contender.name, self.seed


@dataclass
class _Running:
    run_id: int
    entry: _Entry
    last: EpochRecord | None = None


def stage_seeds(study_seed: int, stage: Stage, count: int = 1) -> tuple[int, ...]:
    """The first `count` seeds of a study's stage; those of other stages and of the trials are unrelated.

    After the race they are others than in versions whose nets had the race's images there, so that nets and checkpoints of such a
    one are not taken for ours when its job goes on.
    """
    label = f"refit {stage}" if stage in ("verdict", "ensemble") else stage
    return tuple(derive_seed(study_seed, *label.encode(), *([k] if k else [])) for k in range(count))


def retrain(
    job: RunningJob, plan: Plan, contenders: Sequence[Contender], show: Callable[[int], None] = lambda _epochs: None
) -> list[Run]:
    """Train every contender with each of its seeds, in the given order, where no run of them has ended yet; answers the stage's
    runs. Their nets are of the last epoch, whose rate has decayed: the images that judge them would choose a worse one
    (docs/decisions.md, "The net of the last epoch").

    All contenders have had the first seed before the second one begins.

    `show` is told the epochs trained so far. A job's time limit ends the runs that are under way without a row's being lost.
    """
    return _Retraining(job, plan, contenders, show).run()


def ended_alone(job: RunningJob, stage: Stage, contender: Contender) -> Contender:
    """With those of its seeds whose run of the stage has ended: after the test set was opened no other net joins its list, though
    a retry of the job has the whole time again."""
    ended = {run.seed for run in job.runs(stage) if run.contender == contender.name and run.state != RunState.RUNNING}
    return replace(contender, seeds=tuple(seed for seed in contender.seeds or () if seed in ended))


class _Retraining:
    def __init__(
        self, job: RunningJob, plan: Plan, contenders: Sequence[Contender], show: Callable[[int], None]
    ) -> None:
        self._job, self._plan, self._show = job, plan, show
        ended = {(run.contender, run.seed) for run in self._job.runs(self._plan.stage) if self._has_ended(run)}
        self._seeds = plan.seeds or stage_seeds(job.spec.seed, plan.stage)
        entries = self._entries(contenders)
        self._waiting = deque(entry for entry in entries if entry.key not in ended)
        self._epochs = sum(entry.epochs for entry in entries if entry.key in ended)
        self._running: dict[str, _Running] = {}
        self._killed: Counter[tuple[str, int]] = Counter()

    def run(self) -> list[Run]:
        while self._waiting or self._running:
            if self._job.out_of_time():
                logger.warning("%s of %s: the time limit has passed", self._plan.stage, self._job.name)
                self._waiting.clear()
                self._job.stop_all()
                break
            while self._waiting and len(self._running) < self._job.slots:
                self._start(self._waiting.popleft())
            for event in self._job.wait():
                self._handle(event)
            self._show(self._epochs)
            self._job.tick()
        return self._job.runs(self._plan.stage)

    def _entries(self, contenders: Sequence[Contender]) -> list[_Entry]:
        """Of all the first seed, then of all the second."""
        own = [[_Entry(c, seed, c.epochs or self._plan.epochs) for seed in self._seeds_of(c)] for c in contenders]
        return [entry for row in zip_longest(*own) for entry in row if entry is not None]

    def _seeds_of(self, contender: Contender) -> tuple[int, ...]:
        return self._seeds if contender.seeds is None else contender.seeds

    def _has_ended(self, run: Run) -> bool:
        """A net whose weights are needed, and were removed in the months before a retry, is trained again."""
        bare = self._plan.keep_weights and run.state == RunState.COMPLETE and run.weights is None
        return run.state != RunState.RUNNING and not bare

    def _start(self, entry: _Entry) -> None:
        name, point = entry.contender.name, entry.contender.hyperparameters
        lease, parameters = self._job.lease, self._job.parameters(point)

        def start(connection: Connection) -> int:
            run_id = runs.start_run(connection, lease, self._plan.stage, name, entry.seed, point, parameters)
            curves.forget(connection, "run", run_id)
            return run_id

        run_id = self._job.write(start)
        checkpoint = read_checkpoint(self._job.models_dir, run_id)
        key = self._job.new_key(f"{self._plan.stage}-{name}")
        self._running[key] = _Running(run_id, entry)
        self._job.submit(
            Task(
                key=key,
                hyperparameters=point,
                data=replace(self._plan.data, bootstrap=entry.seed if entry.contender.bootstrap else None),
                epochs=entry.epochs,
                seed=entry.seed,
                decay=self._plan.decay,
                last=True,
                teacher=entry.contender.teacher,
                keep_weights=self._plan.keep_weights,
                checkpoint_seconds=CHECKPOINT_SECONDS,
                checkpoint=checkpoint,
            )
        )

    def _handle(self, event: Event) -> None:
        running = self._running[event.key]
        if isinstance(event, EpochEnded):
            running.last = event.record
            self._epochs += 1
            self._save(running, event.checkpoint)
            self._job.report_run(running.run_id, self._label(running.entry), event.record)
            return
        del self._running[event.key]
        match event:
            case Trained():
                self._complete(running, event)
            case Diverged(reason=reason):
                self._end(running, RunState.DIVERGED, reason=reason)
            case OutOfMemory(detail=detail):
                self._end(running, RunState.FAILED, reason=f"out of memory: {detail}")
            case Lost(detail=detail):
                self._lose(running, detail)
            case Crashed(traceback=traceback):
                self._end(running, RunState.FAILED, reason=traceback)
            case Stopped():
                raise RuntimeError(f"nobody has asked {event.key} to stop")

    def _save(self, running: _Running, checkpoint: bytes | None) -> None:
        if checkpoint is None:
            return
        try:
            write_checkpoint(self._job.models_dir, running.run_id, checkpoint)
        except Unavailable as error:  # it only saves work, should the run be interrupted
            logger.warning("%s of %s: %s", self._plan.stage, self._job.name, error)
            return
        self._job.note(**jobs.GOT_ON)

    def _complete(self, running: _Running, event: Trained) -> None:
        weights = None
        if event.weights is not None:
            weights, content = f"run-{running.run_id}", event.weights
            self._job.outlast(lambda: write_weights(self._job.models_dir / weights, content))
        self._end(
            running,
            RunState.COMPLETE,
            validation_accuracy=event.validation_accuracy,
            best_epoch=event.best_epoch,
            seconds=event.seconds,
            cpu_seconds=event.cpu_seconds,
            weights=weights,
        )

    def _end(self, running: _Running, state: RunState, **values: float | str | None) -> None:
        told: dict[str, Any] = {
            "contender": running.entry.contender.name,
            "seed": running.entry.seed,
            "stage": self._plan.stage,
            "state": state,
            **{key: values[key] for key in ("validation_accuracy", "reason") if key in values},
        }

        def end(connection: Connection) -> None:
            runs.end_run(connection, running.run_id, state, **values)

        self._job.write(end, Entry("run_finished", told), **jobs.GOT_ON)
        remove_checkpoint(self._job.models_dir, running.run_id)
        logger.info("%s of %s is %s", self._label(running.entry), self._job.name, state)

    def _lose(self, running: _Running, detail: str) -> None:
        """The worker was killed: train this contender on from its last checkpoint, unless this has happened too often."""
        entry = running.entry
        self._killed[entry.key] += 1
        if self._killed[entry.key] >= MAX_KILLED:
            self._end(running, RunState.FAILED, reason=f"{detail}; {self._killed[entry.key]} times")
            return
        logger.warning("%s of %s is trained again: %s", self._label(entry), self._job.name, detail)
        self._epochs -= running.last.epoch if running.last is not None else 0
        self._job.forget_run(running.run_id)
        self._waiting.appendleft(entry)

    def _label(self, entry: _Entry) -> str:
        """The run's name in the log; its seed is counted where there are several."""
        parts = [self._plan.stage, entry.contender.name]
        seeds = self._seeds_of(entry.contender)
        number = self._plan.seeds_before + seeds.index(entry.seed) + 1
        if len(seeds) > 1 or number > 1:
            parts.append(str(number))
        return "/".join(parts)
