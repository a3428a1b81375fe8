"""Training runs that are no trials of the search: one for each stage, contender and seed; what a restart need not repeat."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sqlalchemy import Connection, func, insert, select, update

from tuner.specs.hyperparameters import Hyperparameters
from tuner.store.jobs import Lease
from tuner.store.tables import runs


class RunState(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    DIVERGED = "diverged"
    FAILED = "failed"


Stage = Literal["baseline", "optimism", "rung", "local_search", "promotion", "ensemble", "verdict", "challenge"]


@dataclass(frozen=True)
class Run:
    """`contender` is `default`, or `trial-<number>` of the search; in a challenge `champion` or `challenger`; in an ensemble
    `member-<winner>`, whose seed draws its bootstrap sample too, or `student-<start of its teachers' SHA-256>-<epochs>`.
    `weights` names the run's folder among the models."""

    id: int
    stage: Stage
    contender: str
    seed: int
    hyperparameters: Hyperparameters
    parameters: int
    state: RunState
    validation_accuracy: float | None
    best_epoch: int | None
    seconds: float | None
    cpu_seconds: float | None
    weights: str | None
    reason: str | None


def start_run(
    connection: Connection,
    lease: Lease,
    stage: Stage,
    contender: str,
    seed: int,
    hyperparameters: Hyperparameters,
    parameters: int,
) -> int:
    """The run's id; the one of an earlier start, if it was interrupted."""
    key = {
        "study_id": lease.study_id,
        "job_id": lease.job_id,
        "stage": stage,
        "contender": contender,
        "seed": seed,
    }
    found = connection.execute(select(runs.c.id).filter_by(**key)).scalar_one_or_none()
    if found is not None:
        return int(found)
    values = {
        **key,
        "hyperparameters": hyperparameters.model_dump(),
        "parameters": parameters,
        "state": RunState.RUNNING,
    }
    return int(connection.execute(insert(runs).values(values)).inserted_primary_key[0])  # type: ignore[index]


def end_run(connection: Connection, run_id: int, state: RunState, **values: float | str | None) -> None:
    connection.execute(update(runs).where(runs.c.id == run_id).values(state=state, **values))


def newest_job(connection: Connection, study_id: int, stage: Stage) -> int | None:
    """The last job that has come as far as this stage."""
    query = select(func.max(runs.c.job_id)).where(runs.c.study_id == study_id, runs.c.stage == stage)
    job_id: int | None = connection.execute(query).scalar_one()
    return job_id


def costs_of_study(connection: Connection, study_id: int) -> list[tuple[str, int, float]]:
    """By stage, in the order of their first runs: how many reached their end, and their CPU seconds; of all the study's jobs."""
    query = select(runs.c.stage, func.count(), func.sum(runs.c.cpu_seconds)).where(
        runs.c.study_id == study_id, runs.c.cpu_seconds.is_not(None)
    )
    rows = connection.execute(query.group_by(runs.c.stage).order_by(func.min(runs.c.id)))
    return [(row[0], row[1], float(row[2])) for row in rows]


def load_runs(connection: Connection, study_id: int, job_id: int | None, stage: Stage) -> list[Run]:
    """The runs of one job, in the order of their starts."""
    rows = connection.execute(select(runs).filter_by(study_id=study_id, job_id=job_id, stage=stage).order_by(runs.c.id))
    return [
        Run(
            id=row.id,
            stage=row.stage,
            contender=row.contender,
            seed=row.seed,
            hyperparameters=Hyperparameters.model_validate(row.hyperparameters),
            parameters=row.parameters,
            state=RunState(row.state),
            validation_accuracy=row.validation_accuracy,
            best_epoch=row.best_epoch,
            seconds=row.seconds,
            cpu_seconds=row.cpu_seconds,
            weights=row.weights,
            reason=row.reason,
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Cost:
    """Of a job's runs at a stage that have ended; the seconds of those that may have run at once are summed."""

    stage: Stage
    runs: int
    seconds: float
    cpu_seconds: float


def costs(connection: Connection, study_id: int, job_id: int) -> list[Cost]:
    """By stage, in the order of their first runs."""
    sums = func.count(), func.sum(runs.c.seconds), func.sum(runs.c.cpu_seconds)
    query = (
        select(runs.c.stage, *sums)
        .where(runs.c.study_id == study_id, runs.c.job_id == job_id, runs.c.state != RunState.RUNNING)
        .group_by(runs.c.stage)
        .order_by(func.min(runs.c.id))
    )
    return [Cost(stage, count, wall or 0.0, cpu or 0.0) for stage, count, wall, cpu in connection.execute(query)]
