"""Webhooks: what was told of a study, and what was not taken yet."""

from typing import Annotated

from fastapi import APIRouter, Path

from api import cursors
from api.answers import DeliveryAnswer, Page
from api.dependencies import Cursor, Limit, Reading, StudyName, Writing, find_study
from api.problems import described
from tuner.specs.webhook import WebhookMessage
from tuner.store import deliveries
from tuner.store.deliveries import Delivery

router = APIRouter(prefix="/v1/studies/{name}/deliveries", tags=["webhooks"])
webhooks = APIRouter()

DeliveryId = Annotated[
    str,
    Path(description="the delivery's id, its header `webhook-id`", examples=["msg_8f14e45fceea167a5a36dedd4bea2543"]),
]


@router.get(
    "", response_model=Page[DeliveryAnswer], responses=described(404), summary="A study's webhooks, newest first"
)
def get_deliveries(
    name: StudyName, connection: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[DeliveryAnswer]:
    """Those on their way, those that arrived, and those that were given up."""
    study = find_study(connection, name)
    found = deliveries.list_deliveries(connection, study.id, cursors.decode(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda delivery: f"{delivery.created_at} {delivery.id}")
    return Page(items=[_answer(delivery) for delivery in page], next_cursor=next_cursor)


@router.post(
    "/{delivery_id}/send-again",
    status_code=202,
    response_model=DeliveryAnswer,
    responses=described(404),
    summary="Send a webhook again",
)
def send_again(name: StudyName, delivery_id: DeliveryId, connection: Writing) -> DeliveryAnswer:
    """At once, under its old id, with all its attempts before it; whether it had arrived or was given up."""
    study = find_study(connection, name)
    deliveries.send_again(connection, deliveries.find_delivery(connection, study.id, delivery_id))
    return _answer(deliveries.find_delivery(connection, study.id, delivery_id))


@webhooks.post("job", summary="A job has changed its state", tags=["webhooks"])
def job(message: WebhookMessage) -> None:
    """What a study's `webhook` is sent, by the Standard Webhooks scheme: `webhook-id` stays the same when it is sent again,
    `webhook-signature` is made of id, `webhook-timestamp` and body. Any 2xx takes it, 410 ends the attempts, all else is tried
    again after some 5 s, 30 s, 2 min, 10 min, 1 h, 6 h and 18 h. It arrives at least once: forget what has a known id."""


def _answer(delivery: Delivery) -> DeliveryAnswer:
    return DeliveryAnswer.model_validate(delivery, from_attributes=True)
