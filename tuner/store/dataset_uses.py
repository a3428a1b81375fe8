"""Who uses which data set: studies by their rows, schedules by their specs. The data sets themselves are folders, not rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Subquery, func, select

from tuner.store import trials
from tuner.store.tables import schedules, studies

NAMES_TOLD = 20


@dataclass(frozen=True)
class Uses:
    """`studies` are the newest of `study_count`, deleted ones not among them."""

    study_count: int
    studies: tuple[str, ...]
    schedules: tuple[str, ...]


def hold(connection: Connection, dataset: str) -> None:
    """Until this transaction ends, nobody else begins to use or removes the data set. On SQLite it writes alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"tuner data set {dataset}"))))


def find_uses(connection: Connection, datasets: Sequence[str]) -> dict[str, Uses]:
    by_schedule = _schedules(connection)
    return {
        dataset: Uses(
            _study_count(connection, dataset), _newest_studies(connection, dataset), by_schedule.get(dataset, ())
        )
        for dataset in datasets
    }


def _study_count(connection: Connection, dataset: str) -> int:
    return int(connection.execute(select(func.count()).select_from(_using(dataset))).scalar_one())


def _newest_studies(connection: Connection, dataset: str) -> tuple[str, ...]:
    using = _using(dataset)
    query = select(using.c.name).order_by(using.c.study_id.desc()).limit(NAMES_TOLD)
    return tuple(connection.execute(query).scalars())


def _using(dataset: str) -> Subquery:
    """A study that another program has deleted from Optuna's tables, or whose id is another one's by now, uses nothing."""
    same = (trials.STUDIES.c.study_id == studies.c.study_id) & (trials.STUDIES.c.study_name == studies.c.name)
    there = (studies.c.dataset == dataset) & studies.c.deleted_at.is_(None)
    return select(studies.c.study_id, studies.c.name).join(trials.STUDIES, same).where(there).subquery()


def _schedules(connection: Connection) -> dict[str, tuple[str, ...]]:
    """The names of the schedules by the data set of their studies."""
    found: dict[str, tuple[str, ...]] = {}
    for name, spec in connection.execute(select(schedules.c.name, schedules.c.spec).order_by(schedules.c.name)):
        dataset = spec["study"].get("dataset", "mnist")
        found[dataset] = (*found.get(dataset, ()), name)
    return found
