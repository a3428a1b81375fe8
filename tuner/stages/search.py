"""The search on the subset: the sampler asks, workers train, the pruner stops, and each trial is told to both views."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from tuner.executors.protocol import (
    Crashed,
    Diverged,
    EpochEnded,
    Event,
    Lost,
    OutOfMemory,
    Stopped,
    Trained,
)
from tuner.specs.build import Build
from tuner.specs.epoch import EpochRecord
from tuner.stages import progress
from tuner.stages.job import MAX_KILLED, RunningJob
from tuner.stages.leased_job import JobFailed
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.stages.stopping import stop_reason
from tuner.stages.trial_task import subset_slice, trial_task
from tuner.stages.view import View, derive_seed
from tuner.store import attempts, curves, jobs, revisions, trials, warm_starts
from tuner.store.attempts import LOST_WORKER, Ending
from tuner.store.events import Entry

logger = logging.getLogger(__name__)

T = TypeVar("T")

SEARCH_SHARE = 0.5
"""Of the job's time limit, where promotion follows."""


@dataclass
class _Running:
    """A trial under way."""

    number: int
    trial_id: int
    written: FrozenTrial
    """As it was started."""
    parameters: int
    started: float = field(default_factory=time.monotonic)
    last: EpochRecord | None = None
    build: Build | None = None
    pruned: bool = False


def search(job: RunningJob) -> str:
    """Bring the study to its total of trials; answers the reason why the search stopped. Repeatable after any interruption."""
    return _Search(job).run()


class StudyChanged(Exception):
    """The study's trials were changed since they were read."""


class _Search:
    def __init__(self, job: RunningJob) -> None:
        self._job = job
        self._attributes = job.read(lambda connection: trials.study_system_attributes(connection, job.study_id))
        earlier = job.read(lambda connection: warm_starts.load(connection, job.study_id))
        self._view = View(job.spec, self._load(), self._attributes, job.violation, earlier)
        self._running: dict[str, _Running] = {}
        self._epochs = 0
        self._began = time.monotonic()

    def run(self) -> str:
        self._job.enter("search")
        if self._view.default_params is None:
            run_baseline(self._job)
        while True:
            if self._job.revision > self._revision:
                self._sync()
            reason = self._start_trials()
            if reason is not None and not self._running and self._close():
                return reason
            for event in self._job.wait():
                self._handle(event)
            finished = sum(trial.state.is_finished() for trial in self._view.trials())
            seconds = time.monotonic() - self._began
            self._job.progress = progress.searching(self._job, finished, self._epochs, seconds)
            self._job.tick()

    def _load(self) -> list[FrozenTrial]:
        """All trials as the database has them. The revision is read before them, so that no change goes unnoticed."""
        study_id = self._job.study_id
        self._revision = self._job.read(lambda connection: revisions.read(connection, study_id))
        stored = self._job.read(lambda connection: trials.load_trials(connection, study_id))
        if not self._job.reports_to_optuna:
            found = stored
            stored = self._job.read(lambda connection: curves.with_reports(connection, found))
        self._ids = {trial.number: trial._trial_id for trial in stored}
        return stored

    def _sync(self) -> None:
        """A user has enqueued trials or declared some void."""
        self._view.sync(self._load(), self._attributes)

    def _close(self) -> bool:
        """Whether the search is over for everybody; False where a user has changed the study's trials at the last moment."""

        def close(connection: Connection) -> None:
            self._check_unchanged(connection)
            jobs.close_search(connection, self._job.lease)

        try:
            self._job.write(close)
        except StudyChanged:
            self._sync()
            return False
        return True

    def _check_unchanged(self, connection: Connection) -> None:
        """Raises StudyChanged where the view is behind; until the transaction ends, it stays as it is."""
        if revisions.lock(connection, self._job.study_id) != self._revision:
            raise StudyChanged

    def _start_trials(self) -> str | None:
        """Fill the free slots; answers why no further trial is to start, or None."""
        while self._view.ready():
            if (reason := self._stop_reason()) is not None or len(self._running) >= self._job.slots:
                return reason
            if not self._start():
                return "exhausted"
        return None

    def _stop_reason(self) -> str | None:
        budget = self._job.spec.budget
        share = SEARCH_SHARE if self._job.promotion is not None else 1.0
        reason = stop_reason(
            budget,
            self._view.judged(),
            minimize=False,
            elapsed=self._job.elapsed_seconds / share,
            failed_before=self._job.failed_before,
        )
        if reason is None and not self._view.waiting() and len(self._view) >= budget.n_trials:
            return "n_trials"
        return reason

    def _start(self) -> bool:
        """Start the next trial, or read the study again where it has changed; False where every point has been tried."""
        asked = self._view.ask()
        if asked is None:
            return False
        number, point = asked.number, asked.hyperparameters
        seed = derive_seed(self._job.spec.seed, number)
        parameters, violation = self._job.parameters(point), self._job.violation(point)
        self._view.annotate(number, {"seed": seed, "parameters": parameters})
        if self._job.spec.constraints.max_parameters is not None:
            self._view.constrain(number, "max_parameters", violation)
        try:
            trial_id = self._write_start(number)
        except StudyChanged:
            self._sync()
            return True
        self._ids[number] = trial_id
        running = _Running(number, trial_id, self._view.trial(number), parameters)
        if violation > 0:
            limit = self._job.spec.constraints.max_parameters
            detail = f"a net may have at most {limit:,} parameters, but this one has {parameters:,}"
            self._tell(running, TrialState.PRUNED, Ending.INFEASIBLE, detail)
            return True
        key = self._job.new_key(f"trial-{number}")
        self._running[key] = running
        self._job.submit(trial_task(self._job.spec, self._job.dataset, point, seed, key))
        return True

    def _write_start(self, number: int) -> int:
        """The trial's id, in its row RUNNING with an open attempt. Raises StudyChanged."""
        trial, lease = self._view.trial(number), self._job.lease
        known = self._ids.get(number)

        def start(connection: Connection) -> int:
            self._check_unchanged(connection)
            if known is None:
                trial_id = trials.start_trial(connection, lease.study_id, trial)
            elif trials.resume_trial(connection, known, trial):
                trial_id = known
            else:
                raise JobFailed("foreign_writer", f"trial {number} waited, but another program has changed its state")
            attempts.open_attempt(connection, trial_id, lease.study_id, lease.job_id, lease.fence)
            return trial_id

        return self._write(start, Entry("trial_started", {"number": number}))

    def _write(self, change: Callable[[Connection], T], *told: Entry, **values: Any) -> T:
        """As `RunningJob.write`, and what the sampler keeps on the study goes along."""
        attributes = dict(self._view.study_attributes())
        changed = {key: value for key, value in attributes.items() if self._attributes.get(key) != value}

        def both(connection: Connection) -> T:
            if changed:
                trials.write_study_system_attributes(connection, self._job.study_id, changed)
            return change(connection)

        answer = self._job.write(both, *told, **values)
        self._attributes = attributes
        return answer

    def _handle(self, event: Event) -> None:
        running = self._running[event.key]
        match event:
            case EpochEnded(record=record, build=build):
                running.build = build
                self._epoch(event.key, running, record)
                return
            case Trained(seconds=seconds) if running.last is not None and not running.pruned:
                values = self._values(running, running.last, seconds)
                self._tell(running, TrialState.COMPLETE, Ending.COMPLETE, values=values)
            case Diverged(epoch=epoch, reason=reason, build=build) if not running.pruned:
                running.build = build
                # The NaN ranks the trial last for the sampler, which would take an earlier epoch's value otherwise.
                self._view.report(running.number, epoch, math.nan)
                self._tell(running, TrialState.PRUNED, Ending.DIVERGED, reason)
            case Trained() | Stopped() | Diverged():  # what came after the pruner had decided does not count
                self._tell(running, TrialState.PRUNED, Ending.PRUNER)
            case OutOfMemory(detail=detail):
                self._tell(running, TrialState.FAIL, Ending.OUT_OF_MEMORY, detail)
            case Lost(why="time_limit", detail=detail):
                self._tell(running, TrialState.FAIL, Ending.TIME_LIMIT, detail)
            case Lost(why=why, detail=detail):
                self._lose(running, Ending(why), detail)
            case Crashed(traceback=traceback):
                self._tell(running, TrialState.FAIL, Ending.ERROR, traceback)
        del self._running[event.key]

    def _epoch(self, key: str, running: _Running, record: EpochRecord) -> None:
        self._epochs += 1
        if running.pruned:
            return  # it was trained before the stop had reached the worker
        running.last = record
        self._job.report(running.trial_id, running.number, record)
        would_prune = self._view.report(running.number, record.epoch, record.validation_accuracy)
        is_default = running.number == 0 and self._view.default_params is not None
        if would_prune and not is_default and record.epoch < self._job.spec.subset.epochs:
            running.pruned = True
            self._job.stop(key)

    def _values(self, running: _Running, last: EpochRecord, seconds: float) -> list[float]:
        """Of each objective, of a trial that has trained to its end in `seconds`."""
        figures = {
            "accuracy": last.validation_accuracy,
            "cross_entropy": last.validation_cross_entropy,
            "parameters": running.parameters,
            "seconds": seconds,
        }
        return [float(figures[objective.metric] or 0.0) for objective in self._job.spec.objectives]

    def _tell(
        self,
        running: _Running,
        state: TrialState,
        outcome: Ending,
        detail: str | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        seconds = round(time.monotonic() - running.started, 3)
        reason: dict[str, str] = {} if state == TrialState.COMPLETE else {"reason": outcome.value}
        if detail is not None:
            reason["detail"] = detail
        trial = self._view.tell(running.number, state, values, seconds=seconds, **reason)
        diverged = [step for step, reported in trial.intermediate_values.items() if math.isnan(reported)]
        value = None if values is None else values[0]

        def end(connection: Connection) -> None:
            if self._job.reports_to_optuna:
                trials.add_reports(connection, [(running.trial_id, step, math.nan) for step in diverged])
            if not trials.finish_trial(connection, running.trial_id, trial, running.written):
                raise JobFailed("foreign_writer", f"trial {running.number} ran, but another program has ended it")
            attempts.close_attempt(connection, running.trial_id, outcome, detail, running.build)

        told = {"number": running.number, "state": state.name, "value": value, **reason}
        self._write(end, Entry("trial_finished", told), **jobs.GOT_ON)
        logger.info("trial %d of %s: %s", running.number, self._job.name, outcome)

    def _lose(self, running: _Running, outcome: Ending, detail: str) -> None:
        """The worker was killed: the trial waits under its own number, unless this has happened too often."""
        trial_id = running.trial_id
        lost = self._job.read(lambda connection: attempts.count_outcomes(connection, trial_id, LOST_WORKER)) + 1
        if lost >= MAX_KILLED:
            self._tell(running, TrialState.FAIL, outcome, f"{detail}; {lost} workers were lost")
            return
        logger.warning("trial %d of %s runs again: %s", running.number, self._job.name, detail)
        self._job.forget_reports(running.trial_id)

        def release(connection: Connection) -> None:
            attempts.release(connection, [trial_id], outcome, detail)

        self._write(release, Entry("warning", {"message": f"trial {running.number} runs again: {detail}"}))
        self._view.release(running.number)


def run_baseline(job: RunningJob) -> None:
    """Train the default configuration on the subset, outside the trials, since the study's space excludes it."""
    plan = Plan("baseline", subset_slice(job.spec, job.dataset), job.spec.subset.epochs, decay=True, keep_weights=False)
    retrain(job, plan, [Contender("default", job.spec.default())])
