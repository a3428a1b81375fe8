"""What Prometheus reads: the database's counts, taken when it asks, and this process's requests."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.store.census import SECONDS_BOUNDS, Census, take_census
from tuner.store.database import reading

CENSUS_SECONDS = 5.0
"""A census reads every trial's seconds; several who ask at once share one."""

REQUEST_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
UNKNOWN = "unknown"
"""The route of a request that no route took, and any other method: they are the client's choice, and may not make series of
their own."""


class Metrics:
    """Of one app: no registry is shared."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Database(engine))
        labels = ("method", "route", "status")
        self.requests = Counter("tuner_http_requests", "HTTP requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "tuner_http_request_seconds",
            "Seconds until an answer was whole; not of event streams.",
            ("method", "route"),
            buckets=REQUEST_BOUNDS,
            registry=self.registry,
        )


class Measured:
    """An ASGI middleware that counts what it lets through."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, streams = time.perf_counter(), 500, False

        async def noting(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = (b"content-type", b"text/event-stream") in [
                    (name, value.split(b";")[0]) for name, value in message["headers"]
                ]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN)
            method = scope["method"] if scope["method"] in METHODS else UNKNOWN
            self._metrics.requests.labels(method, route, status).inc()
            if not streams:
                self._metrics.seconds.labels(method, route).observe(time.perf_counter() - began)


class _Database(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._census: Census | None = None
        self._taken = 0.0

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        census = self._newest()
        yield _by("tuner_jobs", "Jobs by state.", "state", census.jobs)
        yield _by("tuner_trials", "Trials by state.", "state", census.trials)
        ended = CounterMetricFamily(
            "tuner_attempts",
            "Attempts at trials, by how they ended; runner_lost and lease_ended are lost leases.",
            labels=["ending"],
        )
        for ending, count in census.attempts.items():
            ended.add_metric([ending], count)
        yield ended
        yield GaugeMetricFamily(
            "tuner_queue_age_seconds", "How long the oldest queued job has waited.", census.oldest_queued_seconds
        )
        buckets = [(str(bound), count) for bound, count in zip(SECONDS_BOUNDS, census.trial_seconds, strict=True)]
        yield HistogramMetricFamily(
            "tuner_trial_seconds",
            "Seconds that trials of our own nets took.",
            buckets=[*buckets, ("+Inf", census.trial_seconds_count)],
            sum_value=census.trial_seconds_sum,
        )
        if census.last_beat is not None:
            silent = (datetime.now(UTC) - census.last_beat).total_seconds()
            yield GaugeMetricFamily("tuner_runner_silent_seconds", "Since any runner was last alive.", max(0.0, silent))

    def _newest(self) -> Census:
        if self._census is None or time.monotonic() - self._taken >= CENSUS_SECONDS:
            with reading(self._engine) as connection:
                self._census = take_census(connection, datetime.now(UTC))
            self._taken = time.monotonic()
        return self._census


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
