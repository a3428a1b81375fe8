"""The postman: a thread of the runner that carries webhooks to their receivers, again and again until they have them.

Several runners may carry at once. Each claims a delivery before it sends it, so two seldom send the same one; where a runner died
with a delivery in its hands, the claim runs out and another one sends it once more.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import anyio
import httpx
from anyio.abc import TaskGroup
from sqlalchemy import Engine

from tuner import __version__
from tuner.errors import TunerError, Unavailable
from tuner.store import deliveries
from tuner.store.clock import rfc3339
from tuner.store.database import reading, writing
from tuner.store.deliveries import Delivery
from tuner.webhooks import WebhookRules, sign

logger = logging.getLogger(__name__)

PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0, 18 * 3600.0)
"""Seconds between the attempts, each up to half longer at random; after the last one, 25 to 38 h on, it is given up."""

HORIZON_SECONDS = 2 * PAUSES[-1]
"""No attempt is ever due later."""

POLL_SECONDS = 0.3
TIMEOUT_SECONDS = 10.0
"""For one attempt, from the look-up of the name to the answer's status."""

LAST_SECONDS = 1.0
"""When the runner ends, what is due is sent, and may take so long; the rest is left to the next runner."""

MAX_ON_THEIR_WAY = 8


@dataclass(frozen=True)
class Refusal:
    """Why an attempt came to nothing; a `final` one is not made again."""

    reason: str
    final: bool = False


class Postman:
    """Carries until `ending` is set, then for LAST_SECONDS at most."""

    def __init__(
        self,
        engine: Engine,
        rules: WebhookRules,
        ending: threading.Event,
        pauses: tuple[float, ...] = PAUSES,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._engine, self._rules, self._ending = engine, rules, ending
        self._pauses, self._timeout = pauses, timeout_seconds
        self._on_their_way = 0

    def work(self) -> None:
        anyio.run(self._work)

    async def _work(self) -> None:
        agent = {"User-Agent": f"tuner/{__version__}", "Content-Type": "application/json"}
        # Connections are not kept: webhooks are rare, and a receiver may have closed one meanwhile.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(headers=agent, limits=limits, timeout=None, follow_redirects=False) as client,
            anyio.create_task_group() as carrying,
        ):
            while not self._ending.is_set():
                self._send_out(carrying, client)
                await anyio.sleep(POLL_SECONDS)
            self._send_out(carrying, client)
            with anyio.move_on_after(LAST_SECONDS):
                while self._on_their_way:
                    await anyio.sleep(POLL_SECONDS / 5)
            carrying.cancel_scope.cancel()

    def _send_out(self, carrying: TaskGroup, client: httpx.AsyncClient) -> None:
        """Claim what is due and start to carry it."""
        try:
            claimed = self._claim_due(MAX_ON_THEIR_WAY - self._on_their_way)
        except Unavailable as error:
            logger.error("webhooks wait: %s", error)
            return
        for delivery in claimed:
            self._on_their_way += 1
            carrying.start_soon(self._carry, client, delivery)

    def _claim_due(self, limit: int) -> list[Delivery]:
        with reading(self._engine) as connection:
            due = deliveries.due(connection, _after(0), _after(HORIZON_SECONDS), limit)
        if not due:
            return []
        until = _after(2 * self._timeout)
        with writing(self._engine) as connection:
            claims = [deliveries.claim(connection, delivery, until) for delivery in due]
        return [claimed for claimed in claims if claimed is not None]

    async def _carry(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        refusal: Refusal | None = Refusal("the runner ended during the attempt")
        again: str | None = _after(0)
        try:
            refusal = await self._attempt(client, delivery)
            again = self._next_attempt(delivery, refusal)
        finally:  # also where the attempt was cut off because the runner ends
            self._on_their_way -= 1
            self._record(delivery, refusal, again)

    async def _attempt(self, client: httpx.AsyncClient, delivery: Delivery) -> Refusal | None:
        """Why the receiver did not take it, or None."""
        try:
            url, sent_at = httpx.URL(delivery.url), int(time.time())
            if not self._rules.allows(url.host, url.port or {"http": 80, "https": 443}[url.scheme]):
                return Refusal(f"TUNER_WEBHOOK_HOSTS does not allow {url.host} any more", final=True)
            signatures = sign(self._rules.secrets(), delivery.id, sent_at, delivery.body)
            if not signatures:
                return Refusal("there is no secret to sign with; set TUNER_WEBHOOK_SECRET_FILE")
            headers = {"webhook-id": delivery.id, "webhook-timestamp": str(sent_at), "webhook-signature": signatures}
            with anyio.fail_after(self._timeout):
                # What the receiver answers is neither read nor kept: it may be long, or not meant for who reads deliveries.
                async with client.stream("POST", url, content=delivery.body.encode(), headers=headers) as answer:
                    return _judge(answer.status_code)
        except TimeoutError:
            return Refusal(f"no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, TunerError) as error:
            return Refusal(f"{type(error).__name__}: {error}")
        except Exception as error:
            # One delivery that cannot be sent for want of an explanation must not keep the others from being sent.
            logger.exception("webhook %s", delivery.id)
            return Refusal(f"an error of the service's own, {type(error).__name__}; see its log")

    def _next_attempt(self, delivery: Delivery, refusal: Refusal | None) -> str | None:
        if refusal is None or refusal.final or delivery.attempts > len(self._pauses):
            return None
        return _after(self._pauses[delivery.attempts - 1] * random.uniform(1.0, 1.5))

    def _record(self, delivery: Delivery, refusal: Refusal | None, next_attempt_at: str | None) -> None:
        try:
            with writing(self._engine) as connection:
                if refusal is None:
                    deliveries.record_success(connection, delivery)
                else:
                    deliveries.record_failure(connection, delivery, refusal.reason, next_attempt_at)
        except Unavailable as error:  # the claim runs out, and it is sent again
            logger.error("webhook %s: %s", delivery.id, error)
            return
        if refusal is None:
            logger.info("webhook %s (%s of job %d) arrived", delivery.id, delivery.event, delivery.job_id)
        else:
            then = f"again at {next_attempt_at}" if next_attempt_at else "given up"
            logger.warning("webhook %s, attempt %d: %s; %s", delivery.id, delivery.attempts, refusal.reason, then)


def _judge(status: int) -> Refusal | None:
    if 200 <= status < 300:
        return None
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "no status of HTTP"
    if 300 <= status < 400:
        return Refusal(f"{status} {phrase}: a redirect is not followed")
    return Refusal(f"{status} {phrase}", final=status == HTTPStatus.GONE)


def _after(seconds: float) -> str:
    return rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
