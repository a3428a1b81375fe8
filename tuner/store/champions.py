"""The champions of schedules: which model stands for each, since when, and how every challenger fared.

A row is the decision of one job. The newest row of a schedule names the model that stands; of those rows that brought a new
model, the newest one says since when.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, Row, Select, func, insert, select

from tuner.specs.spec import Spec
from tuner.store.clock import now
from tuner.store.jobs import Lease
from tuner.store.tables import champions, models, schedules, studies


class Ruling(StrEnum):
    FIRST = "first"
    """The job's winner stands now, and there was no champion that it could have been compared with."""
    REPLACED = "replaced"
    """The job's winner stands now: it is better than the champion before it, beyond chance."""
    KEPT = "kept"


class Contest(Spec):
    """What a decision rests on. Accuracies are shares of the validation images, means over the seeds."""

    reason: str
    challenger: str = Field(description="the model that the job has brought")
    champion: str | None = Field(None, description="the model that stood until then; null: none did")
    seeds: tuple[int, ...] = Field(
        (), description="both configurations were trained with each; empty: no net was trained"
    )
    images: int | None = Field(None, description="validation images on which the nets were compared")
    challenger_accuracy: float | None = None
    champion_accuracy: float | None = None
    difference: float | None = Field(None, description="challenger − champion, in expected accuracy")
    interval: tuple[float, float] | None = Field(None, description="95 %, of the difference")
    p_value: float | None = Field(None, description="one-sided: of such a difference where there is none")


@dataclass(frozen=True)
class Decision:
    """`model_id` stands after it; `study` is the job's, None once it was deleted."""

    id: int
    schedule_id: int
    model_id: str
    study: str | None
    job_id: int
    verdict: Ruling
    contest: Contest
    decided_at: str


@dataclass(frozen=True)
class Champion:
    """`job_id` has brought the model, in `study`; `last` is the schedule's newest decision."""

    model_id: str
    job_id: int
    study: str | None
    since: str
    last: Decision


@dataclass(frozen=True)
class Reign:
    """A time in which a model was a schedule's champion; `until` is None while it is."""

    schedule: str
    since: str
    until: str | None


def decide(
    connection: Connection, schedule_id: int, lease: Lease, verdict: Ruling, contest: Contest
) -> Decision | None:
    """Record what became of a job's challenge; None where the schedule was deleted meanwhile.

    Where another job has decided first, so that not `contest.champion` stands any more, that job's champion is kept.
    """
    locked = select(schedules.c.id).where(schedules.c.id == schedule_id).with_for_update()
    if connection.execute(locked).one_or_none() is None:
        return None
    standing = standing_model(connection, schedule_id)
    if standing != contest.champion:
        reason = f"while the challenge was under way, another job has made {standing} the champion"
        verdict, contest = Ruling.KEPT, contest.model_copy(update={"reason": reason})
    values = {
        "schedule_id": schedule_id,
        "model_id": standing if verdict is Ruling.KEPT else contest.challenger,
        "study_id": lease.study_id,
        "job_id": lease.job_id,
        "verdict": verdict,
        "comparison": contest.model_dump(mode="json"),
        "decided_at": now(),
    }
    connection.execute(insert(champions).values(values))
    return decision_of(connection, schedule_id, lease.job_id)


def decision_of(connection: Connection, schedule_id: int, job_id: int) -> Decision | None:
    row = connection.execute(_query().where(_of(schedule_id), champions.c.job_id == job_id)).one_or_none()
    return None if row is None else _decision(row)


def list_decisions(connection: Connection, schedule_id: int, before: int | None, limit: int) -> list[Decision]:
    """From the newest down, at most `limit`; `before` is an id."""
    query = _query().where(_of(schedule_id)).order_by(champions.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(champions.c.id < before)
    return [_decision(row) for row in connection.execute(query)]


def standing_model(connection: Connection, schedule_id: int) -> str | None:
    query = select(champions.c.model_id).where(_of(schedule_id)).order_by(champions.c.id.desc()).limit(1)
    model_id: str | None = connection.execute(query).scalar_one_or_none()
    return model_id


def standing(connection: Connection, schedule_ids: Sequence[int]) -> dict[int, Champion]:
    """By schedule, for those that have a champion."""
    newest = select(func.max(champions.c.id)).where(champions.c.schedule_id.in_(schedule_ids))
    newest = newest.group_by(champions.c.schedule_id)
    last = _by_schedule(connection, newest)
    crowned = _by_schedule(connection, newest.where(_brought()))
    return {
        schedule_id: Champion(
            decision.model_id, decision.job_id, decision.study, decision.decided_at, last[schedule_id]
        )
        for schedule_id, decision in crowned.items()
    }


def reigns(connection: Connection, model_ids: Iterable[str]) -> dict[str, list[Reign]]:
    """By model, for those that are or were a champion, the first one first."""
    later = champions.alias()
    ended = select(func.min(later.c.decided_at)).where(
        later.c.schedule_id == champions.c.schedule_id,
        later.c.id > champions.c.id,
        later.c.verdict != Ruling.KEPT,
    )
    columns = (champions.c.model_id, schedules.c.name, champions.c.decided_at, ended.scalar_subquery().label("until"))
    joined = select(*columns).join(schedules, schedules.c.id == champions.c.schedule_id)
    found: dict[str, list[Reign]] = {}
    for row in connection.execute(
        joined.where(_brought(), champions.c.model_id.in_(list(model_ids))).order_by(champions.c.id)
    ):
        found.setdefault(row.model_id, []).append(Reign(row.name, row.decided_at, row.until))
    return found


def schedules_of(connection: Connection, study_id: int) -> list[str]:
    """The names of the schedules whose champion comes from this study."""
    query = select(schedules.c.name).join(champions, champions.c.schedule_id == schedules.c.id)
    query = query.join(models, models.c.id == champions.c.model_id)
    return list(connection.execute(query.where(_stands(), models.c.study_id == study_id)).scalars())


def standing_models() -> Select[Any]:
    """The ids of the models that are some schedule's champion."""
    return select(champions.c.model_id).where(_stands())


def _of(schedule_id: int) -> Any:
    return champions.c.schedule_id == schedule_id


def _stands() -> Any:
    """Of a schedule's newest decision."""
    return champions.c.id.in_(select(func.max(champions.c.id)).group_by(champions.c.schedule_id))


def _brought() -> Any:
    """Of a decision that has brought a new champion."""
    return champions.c.verdict != Ruling.KEPT


def _by_schedule(connection: Connection, ids: Select[Any]) -> dict[int, Decision]:
    return {row.schedule_id: _decision(row) for row in connection.execute(_query().where(champions.c.id.in_(ids)))}


def _query() -> Select[Any]:
    there = (studies.c.study_id == champions.c.study_id) & studies.c.deleted_at.is_(None)
    return select(champions, studies.c.name).outerjoin(studies, there)


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        id=row.id,
        schedule_id=row.schedule_id,
        model_id=row.model_id,
        study=row.name,
        job_id=row.job_id,
        verdict=Ruling(row.verdict),
        contest=Contest.model_validate(row.comparison),
        decided_at=row.decided_at,
    )
