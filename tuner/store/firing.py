"""Firing a schedule: a due time is settled and its job queued in one transaction, so neither is there without the other."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import Connection

from tuner.errors import Conflict, DamagedData, InvalidInput
from tuner.settings import Settings
from tuner.specs.job import SearchWork, read_work
from tuner.specs.study import BudgetSpec, CommonSpec, StudySpec
from tuner.store import further_jobs, jobs, posting, schedule_runs, schedules, studies, trials
from tuner.store.clock import rfc3339
from tuner.store.due_times import MAX_CATCH_UP, Settled, nearer, settle
from tuner.store.jobs import Job
from tuner.store.schedule_runs import Outcome, ScheduleRun
from tuner.store.schedules import Schedule
from tuner.store.studies import Study

MAX_QUEUED = 100
"""A schedule with so many unfinished jobs queues no further one: it fires faster than its jobs end."""


def fire_due(connection: Connection, schedule_id: int, now: datetime, settings: Settings) -> list[ScheduleRun]:
    """Settle every due time of the schedule up to `now`; answers the runs, none where another runner was first."""
    schedule = schedules.find_schedule_by_id(connection, schedule_id)
    if schedule is None or schedule.next_fire_time is None or schedule.next_fire_time > now:
        return []
    settled, following = settle(schedule.spec, schedule.next_fire_time, now)
    if not schedules.advance(connection, schedule, following):
        return []
    firing = _Firing(connection, schedule, now, settings)
    # A time can come again after the clock was set back.
    return [firing.settle(due) for due in settled if not schedule_runs.has_run(connection, schedule.id, due.fire_time)]


def fire_now(connection: Connection, schedule: Schedule, now: datetime, settings: Settings) -> ScheduleRun:
    """A run beside the due times, also of a paused schedule; its fire time is this second, or the next one without a run.

    The schedule must be locked by this transaction.
    """
    fire_time = schedule_runs.free_second(connection, schedule.id, now)
    return _Firing(connection, schedule, now, settings).fire(fire_time)


def correct(connection: Connection, schedule_id: int, now: datetime) -> bool:
    """Whether the schedule waited for a time of a clock that had been wrong; it waits for one of this clock now."""
    schedule = schedules.find_schedule_by_id(connection, schedule_id)
    if schedule is None or schedule.next_fire_time is None:
        return False
    instead = nearer(schedule.spec, schedule.next_fire_time, now)
    return instead is not None and schedules.advance(connection, schedule, instead)


@dataclass(frozen=True)
class _Firing:
    """One schedule at one moment, in one transaction."""

    connection: Connection
    schedule: Schedule
    now: datetime
    settings: Settings

    def settle(self, due: Settled) -> ScheduleRun:
        others = f"stands for every due time since {rfc3339(due.since)}" if due.since < due.fire_time else None
        if not due.missed:
            return self.fire(due.fire_time, others)
        late, grace = (self.now - due.fire_time).total_seconds(), self.schedule.spec.misfire_grace_seconds
        if late > grace:
            why = f"it may be {grace} s late, but was {late:.0f} s"
        else:
            why = f"at most {MAX_CATCH_UP} due times are caught up with, and newer ones had gathered"
        return self._record(ScheduleRun(due.fire_time, Outcome.MISSED, "; ".join(filter(None, (why, others)))))

    def fire(self, fire_time: datetime, note: str | None = None) -> ScheduleRun:
        spec = self.schedule.spec.study.at(fire_time)
        continued = studies.find_study(self.connection, spec.name) if self.schedule.spec.policy == "continue" else None
        unfinished = self._unfinished_jobs(continued)
        if unfinished and self.schedule.spec.overlap == "skip":
            reason = f"job {unfinished[-1].id} of an earlier run is {unfinished[-1].state}"
            return self._record(ScheduleRun(fire_time, Outcome.SKIPPED, reason))
        if len(unfinished) >= MAX_QUEUED:
            reason = f"at most {MAX_QUEUED} jobs of a schedule may be unfinished, but {len(unfinished)} are"
            return self._record(ScheduleRun(fire_time, Outcome.SKIPPED, reason))
        try:
            with self.connection.begin_nested():
                job_id = self._queue_job(spec, continued, unfinished)
        except (Conflict, InvalidInput, DamagedData) as error:
            return self._record(ScheduleRun(fire_time, Outcome.FAILED, str(error)))
        job = jobs.find_job(self.connection, job_id)
        assert job is not None
        return self._record(
            ScheduleRun(fire_time, Outcome.STARTED, note, self.now, job_id, job.study_id, study=spec.name)
        )

    def _unfinished_jobs(self, continued: Study | None) -> list[Job]:
        """What a firing must not overlap: of a study that is continued also what others have queued."""
        if continued is not None:
            return jobs.unfinished_jobs(self.connection, continued.id)
        return schedule_runs.unfinished_jobs(self.connection, self.schedule.id)

    def _queue_job(self, spec: StudySpec, continued: Study | None, unfinished: list[Job]) -> int:
        if continued is None:
            after_job_id = unfinished[-1].id if unfinished else None
            return posting.post_study(self.connection, spec, self.settings, after_job_id)
        fitted = posting.fit_to_data(self.connection, spec, self.settings).spec
        if _but_for_its_budget(studies.own_spec(continued)) != _but_for_its_budget(fitted):
            raise Conflict(f"a schedule continues a study of its own spec, but that of {spec.name!r} is another one")
        n_trials = self._trials_to_come(continued, unfinished) + spec.budget.n_trials
        try:
            work = SearchWork(n_trials=n_trials, queue=True, priority=spec.priority)
        except ValidationError as error:
            raise Conflict(f"n_trials: {error.errors()[0]['msg']}, but {spec.name!r} would have {n_trials}") from error
        return further_jobs.queue_job(self.connection, continued.id, work)

    def _trials_to_come(self, study: Study, unfinished: list[Job]) -> int:
        """How many the study has, or will have when its unfinished jobs have ended."""
        totals = [trials.count_trials(self.connection, study.id)]
        for job in unfinished:
            work = None if job.work is None else read_work.validate_python(job.work)
            if isinstance(work, SearchWork):
                totals.append(work.n_trials)
            elif work is None:
                totals.append(studies.own_spec(study).budget.n_trials)
        return max(totals)

    def _record(self, run: ScheduleRun) -> ScheduleRun:
        schedule_runs.add_run(self.connection, self.schedule.id, run)
        return run


def _but_for_its_budget(spec: CommonSpec) -> CommonSpec:
    return spec.model_copy(update={"budget": BudgetSpec(), "priority": 0})
