"""Whether the service is alive, and whether it can work."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.answers import Health, Ready
from api.dependencies import Reading
from api.problems import described
from tuner.errors import Unavailable
from tuner.store import runners

router = APIRouter(tags=["health"])

SILENT_AFTER = timedelta(seconds=15)
"""A runner beats every two seconds."""


@router.get("/healthz", response_model=Health, summary="The API process answers")
def healthz() -> Health:
    """Open to everybody; it looks at nothing, and says that this process answers."""
    return Health(status="ok")


@router.get("/readyz", response_model=Ready, responses=described(503), summary="The database and a runner can work")
def readyz(connection: Reading) -> Ready:
    """503 where the database cannot be read, or no runner was alive in the last 15 s."""
    beat_at = runners.last_beat(connection)
    if beat_at is None or datetime.now(UTC) - datetime.fromisoformat(beat_at) > SILENT_AFTER:
        raise Unavailable(
            f"a runner must have been alive in the last {SILENT_AFTER.seconds} s, but the last beat was {beat_at}"
        )
    return Ready(status="ready", runner_beat_at=beat_at)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}, **described(503)},
    summary="What Prometheus reads",
)
def metrics(request: Request) -> Response:
    """Jobs and trials by state, attempts by their end, trial seconds, the queue's age, HTTP requests by route."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
