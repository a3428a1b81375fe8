"""Webhooks on their way: a delivery is written in the transaction of what it tells, so it is there if and only if that happened.

    pending ──claim──▶ on its way ──▶ delivered | pending again, later | given up        each one may be sent again

A delivery on its way is due again when its claim runs out: whoever carried it may have died. So it arrives at least once, under
one id and with one body, and a receiver that knows the id has had it before.
"""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, insert, select, update

from tuner.errors import NotFound
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.outside_study import OutsideStudySpec, read_spec
from tuner.specs.study import StudySpec
from tuner.specs.webhook import BestFound, JobReport, NewChampion, PromotedModel, WebhookMessage
from tuner.store import model_registry, trials
from tuner.store.clock import now
from tuner.store.tables import deliveries, jobs, studies

MAX_ERROR_CHARACTERS = 300

State = Literal["pending", "delivered", "given_up"]


@dataclass(frozen=True)
class Delivery:
    """`attempts` were begun since it was written or last asked for; `next_attempt_at` is None once it needs none."""

    id: str
    job_id: int
    event: str
    url: str
    body: str
    attempts: int
    next_attempt_at: str | None
    delivered_at: str | None
    last_error: str | None
    created_at: str

    @property
    def state(self) -> State:
        if self.delivered_at is not None:
            return "delivered"
        return "given_up" if self.next_attempt_at is None else "pending"


def enqueue(
    connection: Connection, study_id: int, job_id: int, event: str, champion: NewChampion | None = None
) -> None:
    """A delivery of `event`, due at once, if the study's webhook asks for it."""
    row = connection.execute(select(studies.c.spec).where(studies.c.study_id == study_id)).one()
    if row.spec.get("webhook") is None:
        return
    spec = read_spec.validate_python(row.spec)
    if spec.webhook is None or event not in spec.webhook.events:
        return
    at = now()
    report = _report(connection, study_id, job_id, spec).model_copy(update={"champion": champion})
    message = WebhookMessage(type=event, timestamp=at, data=report)
    values = {
        "id": f"msg_{secrets.token_hex(16)}",
        "study_id": study_id,
        "job_id": job_id,
        "url": str(spec.webhook.url),
        "event": event,
        "body": message.model_dump_json(),
        "next_attempt_at": at,
        "created_at": at,
    }
    connection.execute(insert(deliveries).values(values))


def due(connection: Connection, at: str, horizon: str, limit: int) -> list[Delivery]:
    """Those whose next attempt is due, the most overdue first; also those beyond the horizon, which a wrong clock has set."""
    overdue = (deliveries.c.next_attempt_at <= at) | (deliveries.c.next_attempt_at > horizon)
    query = select(deliveries).where(overdue).order_by(deliveries.c.next_attempt_at)
    return [_delivery(row) for row in connection.execute(query.limit(limit))]


def claim(connection: Connection, delivery: Delivery, until: str) -> Delivery | None:
    """The delivery, one attempt further and ours until then; None where somebody else has it or has changed it."""
    values = {"attempts": delivery.attempts + 1, "next_attempt_at": until}
    if connection.execute(update(deliveries).where(_unchanged(delivery)).values(values)).rowcount != 1:
        return None
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery.id)).one()
    return _delivery(row)


def record_success(connection: Connection, claimed: Delivery) -> None:
    """It arrived. Changes nothing where it was asked for again meanwhile, or where the claim has run out."""
    values = {"next_attempt_at": None, "delivered_at": now(), "last_error": None}
    connection.execute(update(deliveries).where(_unchanged(claimed)).values(values))


def record_failure(connection: Connection, claimed: Delivery, error: str, next_attempt_at: str | None) -> None:
    """It did not arrive; None: it is given up."""
    values = {"next_attempt_at": next_attempt_at, "last_error": error[:MAX_ERROR_CHARACTERS]}
    connection.execute(update(deliveries).where(_unchanged(claimed)).values(values))


def find_delivery(connection: Connection, study_id: int, delivery_id: str) -> Delivery:
    """Raises NotFound where the study has no such delivery."""
    row = connection.execute(_of_study(study_id).where(deliveries.c.id == delivery_id)).one_or_none()
    if row is None:
        raise NotFound(f"this study has no delivery {delivery_id!r}")
    return _delivery(row)


def list_deliveries(connection: Connection, study_id: int, before: str | None, limit: int) -> list[Delivery]:
    """From the newest down, at most `limit`; `before` is the cursor `<created_at> <id>`."""
    query = _of_study(study_id).order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc()).limit(limit)
    if before is not None:
        created_at, _, delivery_id = before.partition(" ")
        same_time = and_(deliveries.c.created_at == created_at, deliveries.c.id < delivery_id)
        query = query.where((deliveries.c.created_at < created_at) | same_time)
    return [_delivery(row) for row in connection.execute(query)]


def send_again(connection: Connection, delivery: Delivery) -> None:
    """Due at once, whatever became of it, with all its attempts before it and under its old id."""
    values = {"attempts": 0, "next_attempt_at": now(), "delivered_at": None}
    connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(values))


def _of_study(study_id: int) -> Select[Any]:
    return select(deliveries).where(deliveries.c.study_id == study_id)


def _unchanged(delivery: Delivery) -> ColumnElement[bool]:
    return and_(
        deliveries.c.id == delivery.id,
        deliveries.c.attempts == delivery.attempts,
        deliveries.c.next_attempt_at == delivery.next_attempt_at,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        event=row.event,
        url=row.url,
        body=row.body,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        delivered_at=row.delivered_at,
        last_error=row.last_error,
        created_at=row.created_at,
    )


def _report(connection: Connection, study_id: int, job_id: int, spec: StudySpec | OutsideStudySpec) -> JobReport:
    job = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    lines: Sequence[str] = (job.error or "").strip().splitlines()
    return JobReport(
        study=spec.name,
        job=job_id,
        kind=job.kind,
        state=job.state,
        stop_reason=job.stop_reason,
        error=lines[-1][:MAX_ERROR_CHARACTERS] if lines else None,
        best=_best(connection, study_id, spec),
        promoted=_promoted(connection, study_id),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _best(connection: Connection, study_id: int, spec: StudySpec | OutsideStudySpec) -> BestFound | None:
    """None also where several objectives leave no single best."""
    directions = spec.directions()
    found = trials.best_trials(connection, study_id, directions[0] == "minimize", 1) if len(directions) == 1 else []
    if not found or not math.isfinite(found[0].values[0]):
        return None
    [trial] = found
    return BestFound(
        number=trial.number,
        value=trial.values[0],
        params=trial.params,
        hyperparameters=_hyperparameters(trial, spec),
    )


def _hyperparameters(trial: FrozenTrial, spec: StudySpec | OutsideStudySpec) -> Hyperparameters | None:
    return spec.search_space.find(trial.params) if isinstance(spec, StudySpec) else None


def _promoted(connection: Connection, study_id: int) -> PromotedModel | None:
    model = model_registry.promoted_model(connection, study_id)
    if model is None:
        return None
    accuracy = model.metrics.test_accuracy
    return PromotedModel(model=model.id, hyperparameters=model.hyperparameters, test_accuracy=accuracy)
