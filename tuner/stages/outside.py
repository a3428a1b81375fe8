"""A search whose trials are run elsewhere: made ready ahead, taken and told through the API, judged and given back here.

The coordinator reads what outside workers have done whenever the study's revision has risen. It holds no worker slot.
"""

import copy
import logging
import math
import time
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from tuner.specs.outside_space import Point
from tuner.specs.outside_study import OutsideStudySpec
from tuner.stages.lease_watch import LeaseWatch
from tuner.stages.leased_job import LeasedJob
from tuner.stages.stopping import stop_reason
from tuner.stages.view import View
from tuner.store import attempts, jobs, outside, revisions, trials, voided
from tuner.store.attempts import Ending
from tuner.store.jobs import Progress
from tuner.store.outside import Judgement
from tuner.store.voided import is_void

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1

FEWEST_AHEAD, MOST_AHEAD = 2, 32
"""So many trials are kept ready. Each was asked for without the results of those that run, as parallel trials are: where few
are taken, few are kept."""

MAX_LOST = 3
"""A trial whose workers went silent so often has failed."""


def search_outside(job: LeasedJob[OutsideStudySpec]) -> str:
    """Bring the study to its total of trials; answers the reason why the search stopped. Repeatable after any interruption."""
    return _Outside(job).run()


class _Outside:
    def __init__(self, job: LeasedJob[OutsideStudySpec]) -> None:
        self._job = job
        self._revision = job.read(lambda connection: revisions.read(connection, job.study_id))
        stored = job.read(lambda connection: trials.load_trials(connection, job.study_id))
        self._attributes = job.read(lambda connection: trials.study_system_attributes(connection, job.study_id))
        self._view: View[Point] = View(job.spec, [_started(trial) for trial in stored], self._attributes)
        self._waiting = {trial.number for trial in stored if trial.state is TrialState.WAITING}
        self._void = {trial.number for trial in stored if is_void(trial)}
        self._ids = {trial.number: trial._trial_id for trial in stored}
        self._watch = LeaseWatch(job.spec.lease_seconds)
        self._ahead = FEWEST_AHEAD

    def run(self) -> str:
        self._job.enter("search")
        while True:
            self._read_changes()
            self._give_back_lost()
            reason = self._stop_reason()
            if reason is None and not self._make_ready():
                reason = "exhausted"
            if reason is not None:
                self._withdraw()
                if not self._unfinished():
                    return reason
            self._show()
            self._job.tick()
            self._job.ending.wait(POLL_SECONDS)

    def _stop_reason(self) -> str | None:
        spec = self._job.spec
        reason = stop_reason(
            spec.budget,
            self._view.finished(),
            minimize=spec.directions()[0] == "minimize",
            elapsed=self._job.elapsed_seconds,
            failed_before=self._job.failed_before,
        )
        if reason is None and len(self._view) - len(self._unfinished()) >= spec.budget.n_trials:
            return "n_trials"
        return reason

    def _unfinished(self) -> list[FrozenTrial]:
        return [trial for trial in self._view.trials() if not trial.state.is_finished()]

    def _read_changes(self) -> None:
        """The view has what outside workers have done since it was last read."""
        revision = self._job.read(lambda connection: revisions.read(connection, self._job.study_id))
        if revision == self._revision:
            return
        void = self._job.read(lambda connection: voided.numbers(connection, self._job.study_id))
        known = [*(trial.number for trial in self._unfinished()), *(void ^ self._void)]
        changed = self._job.read(
            lambda connection: trials.load_changed(connection, self._job.study_id, known, len(self._view))
        )
        measured = []
        for trial in changed:
            if trial.state is TrialState.WAITING:
                self._waiting.add(trial.number)
            else:
                self._waiting.discard(trial.number)
            self._ids[trial.number] = trial._trial_id
            steps = set(trial.intermediate_values)
            if trial.number < len(self._view):
                steps -= set(self._view.trial(trial.number).intermediate_values)
            self._view.absorb(_started(trial))
            if trial.state is TrialState.RUNNING and steps:
                measured.append((trial.number, max(steps)))
        self._judge(measured)
        if any(trial.state.is_finished() for trial in changed):
            self._job.note(**jobs.GOT_ON)
        self._revision, self._void = revision, void

    def _judge(self, measured: list[tuple[int, int]]) -> None:
        """Tell the workers what the pruner says of the newest step of each of these trials."""
        if not measured:
            return
        single = len(self._job.spec.objectives) == 1
        said = [
            (self._ids[number], Judgement(step, single and self._view.would_prune(number))) for number, step in measured
        ]

        def write(connection: Connection) -> None:
            for trial_id, judgement in said:
                outside.judge(connection, trial_id, judgement)

        self._job.write(write)

    def _give_back_lost(self) -> None:
        """A trial whose worker has been silent for the lease's length waits for another one, or has failed."""
        found = self._job.read(lambda connection: outside.open_leases(connection, self._job.study_id))
        for trial_id in self._watch.ended(found, time.monotonic()):
            self._lose(trial_id, found[trial_id])

    def _lose(self, trial_id: int, seen: tuple[int, int]) -> None:
        number = next(number for number, known in self._ids.items() if known == trial_id)

        def lose(connection: Connection) -> bool:
            revisions.lock(connection, self._job.study_id)
            if outside.open_leases(connection, self._job.study_id).get(trial_id) != seen:
                return False  # it was heard in this very moment
            lost = attempts.count_outcomes(connection, trial_id, [Ending.LEASE_ENDED]) + 1
            if lost >= MAX_LOST:
                attempts.close_attempt(connection, trial_id, Ending.LEASE_ENDED)
                trials.fail_trials(connection, [trial_id], Ending.LEASE_ENDED)
            else:
                attempts.release(connection, [trial_id], Ending.LEASE_ENDED)
            message = f"nothing was heard of trial {number} for {self._job.spec.lease_seconds:g} s; {lost} of {MAX_LOST} times"
            self._job.log(connection, "warning", message=message)
            revisions.raise_revision(connection, self._job.study_id)
            return True

        if self._job.write(lose):
            logger.warning("trial %d of %s: its worker is silent", number, self._job.name)

    def _make_ready(self) -> bool:
        """Keep a few trials waiting, as long as the budget has any; False where every point has been tried and none is left."""
        taken = self._ahead - len(self._waiting)
        if taken >= self._ahead:
            self._ahead = min(MOST_AHEAD, 2 * self._ahead)
        elif taken <= 0:
            self._ahead = max(FEWEST_AHEAD, self._ahead // 2)
        budget = self._job.spec.budget
        room = min(self._ahead - len(self._waiting), budget.n_trials - len(self._view))
        for _ in range(room):
            asked = self._view.draw()
            if asked is None:
                return bool(self._unfinished())
            if not self._write_ready(asked.number):
                return True  # somebody has enqueued a trial: read it first
        return True

    def _write_ready(self, number: int) -> bool:
        """Whether the new trial waits in the database now; not where its number is another one's there."""
        trial = self._view.trial(number)
        attributes = dict(self._view.study_attributes())
        changed = {key: value for key, value in attributes.items() if self._attributes.get(key) != value}

        def write(connection: Connection) -> int | None:
            revisions.lock(connection, self._job.study_id)
            if trials.count_trials(connection, self._job.study_id) != number:
                return None
            if changed:
                trials.write_study_system_attributes(connection, self._job.study_id, changed)
            return trials.start_trial(connection, self._job.study_id, trial, TrialState.WAITING)

        trial_id = self._job.write(write)
        if trial_id is None:
            self._view.drop_last()
            return False
        self._attributes = attributes
        self._ids[number] = trial_id
        self._waiting.add(number)
        return True

    def _withdraw(self) -> None:
        """The search is over: what nobody has taken is not needed any more."""
        if not self._waiting:
            return

        def withdraw(connection: Connection) -> None:
            revisions.lock(connection, self._job.study_id)
            trials.fail_waiting(connection, [self._ids[number] for number in self._waiting], Ending.CANCELLED)
            revisions.raise_revision(connection, self._job.study_id)

        self._job.write(withdraw)

    def _show(self) -> None:
        finished = len(self._view) - len(self._unfinished())
        total = max(self._job.spec.budget.n_trials, len(self._view))
        pace = self._job.elapsed_seconds / finished if finished else math.nan
        eta = None if math.isnan(pace) else pace * (total - finished)
        self._job.progress = Progress("search", finished, total, eta)


def _started(trial: FrozenTrial) -> FrozenTrial:
    """As the sampler is to see a trial that waits: it counts as one that runs, so that no other is asked for beside it."""
    if trial.state is not TrialState.WAITING:
        return trial
    started = copy.copy(trial)
    started.state, started.datetime_start = TrialState.RUNNING, datetime.now()
    return started
