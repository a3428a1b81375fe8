"""One record an epoch of every trial and every run; Optuna's own table holds one number a step."""

import copy
from collections.abc import Iterable, Sequence
from typing import Literal

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, delete, func, insert, select

from tuner.specs.epoch import EpochRecord
from tuner.store.tables import curves
from tuner.store.trials import TRIALS

Subject = Literal["trial", "run"]

_INSERT = insert(curves)


def add_records(connection: Connection, subject: Subject, records: Iterable[tuple[int, EpochRecord]]) -> None:
    rows = [
        {"subject": subject, "subject_id": i, "epoch": record.epoch, "record": record.model_dump()}
        for i, record in records
    ]
    if rows:
        connection.execute(_INSERT, rows)


def load_records(connection: Connection, subject: Subject, subject_id: int) -> list[EpochRecord]:
    query = select(curves.c.record).where(curves.c.subject == subject, curves.c.subject_id == subject_id)
    return [
        EpochRecord.model_validate(record) for record in connection.execute(query.order_by(curves.c.epoch)).scalars()
    ]


def load_many(connection: Connection, subject: Subject, subject_ids: Sequence[int]) -> dict[int, list[EpochRecord]]:
    """Of each of them; one without a record is left out."""
    records: dict[int, list[EpochRecord]] = {}
    for first in range(0, len(subject_ids), 10_000):
        chosen = curves.c.subject_id.in_(subject_ids[first : first + 10_000])
        query = select(curves.c.subject_id, curves.c.record).where(curves.c.subject == subject, chosen)
        for subject_id, record in connection.execute(query.order_by(curves.c.subject_id, curves.c.epoch)):
            records.setdefault(subject_id, []).append(EpochRecord.model_validate(record))
    return records


def with_reports(connection: Connection, found: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, with each epoch's validation accuracy as an intermediate value.

    Of several objectives Optuna takes no reports, and its samplers fail on them; so none stand in its tables.
    """
    records = load_many(connection, "trial", [trial._trial_id for trial in found])
    reported = [copy.copy(trial) for trial in found]
    for trial in reported:
        told = records.get(trial._trial_id, [])
        trial.intermediate_values = {record.epoch: record.validation_accuracy for record in told}
    return reported


def count_records(connection: Connection, subject: Subject, subject_ids: Sequence[int]) -> dict[int, int]:
    """How many epochs each of them has a record of; one without is left out."""
    query = select(curves.c.subject_id, func.count()).where(
        curves.c.subject == subject, curves.c.subject_id.in_(subject_ids)
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(curves.c.subject_id))}


def cost_of_trials(connection: Connection, study_id: int) -> tuple[int, float]:
    """How many of the study's trials have trained an epoch, and the seconds of all their epochs."""
    of_study = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id)
    seconds = func.sum(curves.c.record["seconds"].as_float())
    query = select(func.count(curves.c.subject_id.distinct()), seconds).where(
        curves.c.subject == "trial", curves.c.subject_id.in_(of_study)
    )
    row = connection.execute(query).one()
    return row[0], float(row[1] or 0.0)


def forget(connection: Connection, subject: Subject, subject_id: int) -> None:
    connection.execute(delete(curves).where(curves.c.subject == subject, curves.c.subject_id == subject_id))
