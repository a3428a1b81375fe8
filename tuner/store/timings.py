"""What nets have taken to train here: the calibration of each machine, and the epochs of trials and runs that have ended."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from tuner.data.catalogue import describe
from tuner.data.splits import part_sizes, refit_sizes
from tuner.errors import NotFound
from tuner.specs.epoch import EpochRecord
from tuner.specs.estimate import Estimate, Timing
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.outside_study import read_spec
from tuner.specs.study import StudySpec
from tuner.statistics.study_cost import EndedStudy
from tuner.store import curves, trials
from tuner.store.attempts import Ending
from tuner.store.clock import now
from tuner.store.jobs import JobState
from tuner.store.runs import RunState
from tuner.store.tables import attempts, calibrations, jobs, runners, runs, studies

NEWEST = 100
"""So many of the trials and of the runs that ended last are learned from."""

NEWEST_STUDIES = 50


@dataclass(frozen=True)
class Timed:
    timings: tuple[Timing, ...]
    trial_overhead: float | None
    """The median seconds of a trial that its epochs do not account for; None: there is no trial."""


def newest_runner(connection: Connection) -> tuple[str, int] | None:
    """The host and the slots of the runner that was last alive; None: there was none of late."""
    row = connection.execute(
        select(runners.c.host, runners.c.slots).order_by(runners.c.beat_at.desc()).limit(1)
    ).one_or_none()
    return None if row is None else (row.host, row.slots)


def request(connection: Connection, host: str) -> None:
    """Have a runner of `host` calibrate it, unless it has or is about to."""
    known = connection.execute(select(calibrations.c.host).where(calibrations.c.host == host)).one_or_none()
    if known is None:
        connection.execute(insert(calibrations).values(host=host, requested_at=now()))


def is_requested(connection: Connection, host: str) -> bool:
    open_ = select(calibrations.c.host).where(calibrations.c.host == host, calibrations.c.finished_at.is_(None))
    return connection.execute(open_).one_or_none() is not None


def finish(connection: Connection, host: str, timings: Sequence[Timing]) -> None:
    values = {"timings": [timing.model_dump(mode="json") for timing in timings], "finished_at": now()}
    connection.execute(update(calibrations).where(calibrations.c.host == host).values(values))


def load(connection: Connection, host: str, datasets_dir: Path) -> Timed:
    """By the calibration of `host`, and by what has been trained since, on whatever machine."""
    stored = connection.execute(select(calibrations.c.timings).where(calibrations.c.host == host)).scalar_one_or_none()
    found = [Timing.model_validate(timing) for timing in stored or ()]
    of_trials = _of_trials(connection, datasets_dir)
    return Timed((*found, *of_trials.timings, *_of_runs(connection, datasets_dir)), of_trials.trial_overhead)


def past(connection: Connection) -> list[EndedStudy]:
    """The newest studies without a time limit whose first job has succeeded at once, with what was simulated before any
    correction (a steady error would be learned by half)."""
    first = (jobs.c.study_id == studies.c.study_id) & jobs.c.work.is_(None)
    query = select(studies.c.estimate, studies.c.spec, jobs.c.elapsed_seconds).join(jobs, first)
    ended = (jobs.c.state == JobState.SUCCEEDED) & (jobs.c.attempt == 1) & (jobs.c.stop_reason == "n_trials")
    wanted = query.where(studies.c.estimate.is_not(None), ended, jobs.c.elapsed_seconds > 0)
    rows = connection.execute(wanted.order_by(jobs.c.id.desc()).limit(NEWEST_STUDIES)).all()
    unlimited = [row for row in rows if row.spec.get("budget", {}).get("timeout_seconds") is None]
    told = [(Estimate.model_validate(row.estimate), row.elapsed_seconds) for row in unlimited]
    return [EndedStudy(one.simulated_seconds or one.seconds, one.simulated_spread or 0.0, took) for one, took in told]


def _of_trials(connection: Connection, datasets_dir: Path) -> Timed:
    complete = attempts.c.outcome == Ending.COMPLETE
    newest = select(attempts.c.trial_id, attempts.c.study_id).where(complete, attempts.c.client_id.is_(None))
    rows = connection.execute(newest.order_by(attempts.c.id.desc()).limit(NEWEST)).all()
    study_of = {row.trial_id: row.study_id for row in rows}
    specs, records = _specs(connection, set(study_of.values())), curves.load_many(connection, "trial", list(study_of))
    query = select(trials.TRIALS).where(trials.TRIALS.c.trial_id.in_(study_of))
    timed, beside = [], []
    for trial in trials.frozen(connection, connection.execute(query).all()):
        spec, told = specs.get(study_of[trial._trial_id]), records.get(trial._trial_id)
        if spec is not None and told is not None:
            point = spec.search_space.restore(trial.params)
            timed += _timing(spec, datasets_dir, point, _subset_sizes(spec), told)
            beside.append(trial.user_attrs["seconds"] - sum(record.seconds for record in told))
    return Timed(tuple(timed), max(0.0, statistics.median(beside)) if beside else None)


def _of_runs(connection: Connection, datasets_dir: Path) -> list[Timing]:
    """Of race and verdict."""
    whole = (runs.c.state == RunState.COMPLETE) & runs.c.stage.in_(["promotion", "verdict"])
    query = select(runs.c.id, runs.c.study_id, runs.c.hyperparameters, runs.c.stage).where(whole)
    rows = connection.execute(query.order_by(runs.c.id.desc()).limit(NEWEST)).all()
    specs = _specs(connection, {row.study_id for row in rows})
    records = curves.load_many(connection, "run", [row.id for row in rows])
    timed = []
    for row in rows:
        if row.study_id in specs and row.id in records:
            spec, point = specs[row.study_id], Hyperparameters.model_validate(row.hyperparameters)
            sizes = part_sizes if row.stage == "promotion" else refit_sizes
            timed += _timing(spec, datasets_dir, point, sizes, records[row.id])
    return timed


def _specs(connection: Connection, study_ids: set[int]) -> dict[int, StudySpec]:
    rows = connection.execute(select(studies.c.study_id, studies.c.spec).where(studies.c.study_id.in_(study_ids)))
    read = {row.study_id: read_spec.validate_python(row.spec) for row in rows}
    return {study_id: spec for study_id, spec in read.items() if isinstance(spec, StudySpec)}


Sizes = Callable[[int], tuple[int, int]]
"""Of so many images of a data set, those that are trained on and those that judge."""


def _subset_sizes(spec: StudySpec) -> Sizes:
    sizes = spec.subset.train, spec.subset.validation
    return lambda _count: sizes


def _timing(
    spec: StudySpec, datasets_dir: Path, point: Hyperparameters, sizes: Sizes, records: Sequence[EpochRecord]
) -> list[Timing]:
    """One, of the median epoch; none where the data set is gone."""
    try:
        dataset = describe(spec.dataset, datasets_dir)
    except NotFound:
        return []
    train, validation = sizes(dataset.train_count)
    seconds = statistics.median(record.seconds for record in records)
    return [
        Timing(
            hyperparameters=point,
            inputs=dataset.inputs,
            classes=dataset.classes,
            train=train,
            validation=validation,
            seconds=max(seconds, 1e-6),
        )
    ]
