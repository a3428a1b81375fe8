"""What Prometheus reads, and the board that shows it."""

import json
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import connect, running, wait_until
from tests.serving import TINY
from tuner.settings import Settings

BOARD = Path(__file__).parents[1] / "docs" / "grafana.json"


def samples(http: httpx.Client) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_the_counts_are_the_databases(database_url: str, tmp_path: Path) -> None:
    """After a study of four trials and beside one that waits, jobs, trials, attempts and seconds are counted right."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, parallel=1)
    with connect(settings) as http:
        http.post("/v1/studies", json={**TINY, "name": "done", "pruner": {"kind": "none"}})
        with running(settings):
            wait_until(lambda: http.get("/v1/studies/done").json()["state"] == "succeeded", "the study ends")
        http.post("/v1/studies", json={**TINY, "name": "waits"})
        found = samples(http)
        ended = http.get("/v1/studies/done").json()["trials"]
        assert (found["tuner_jobs", "succeeded"], found["tuner_jobs", "queued"]) == (1, 1)
        assert found["tuner_trials", "COMPLETE"] == ended["complete"]
        assert sum(count for key, count in found.items() if key[0] == "tuner_attempts_total") == 4
        assert (found["tuner_trial_seconds_count",], found["tuner_trial_seconds_bucket", "+Inf"]) == (4, 4)
        assert found["tuner_trial_seconds_sum",] > 0
        assert found["tuner_queue_age_seconds",] > 0


def test_requests_are_counted_by_route(api: httpx.Client) -> None:
    """By the route's pattern, not by the address, which is the client's choice, as a method is."""
    for name in ("a", "b", "c"):
        api.get(f"/v1/studies/{name}")
    api.get("/nowhere/at/all")
    for method in ("FETCH", "GRAB"):
        api.request(method, "/v1/studies")
    found = samples(api)
    assert found["tuner_http_requests_total", "GET", "/v1/studies/{name}", "404"] == 3
    assert found["tuner_http_requests_total", "GET", "unknown", "404"] == 1
    assert found["tuner_http_request_seconds_count", "GET", "/v1/studies/{name}"] == 3
    assert not [key for key in found if "/v1/studies/a" in key or "FETCH" in key or "GRAB" in key]


@pytest.mark.parametrize("panel", json.loads(BOARD.read_text())["panels"], ids=lambda panel: str(panel["title"]))
def test_the_board_asks_for_metrics_that_are_there(panel: dict[str, object], shared: httpx.Client) -> None:
    """Every name in a panel's query is one that the service tells, or will as soon as there is something to tell."""
    shared.get("/v1/studies")
    told = {re.sub(r"_(total|bucket|sum|count)$", "", key[0]) for key in samples(shared)}
    told |= {"tuner_attempts", "tuner_runner_silent_seconds"}  # once there is an attempt, or a runner
    asked = {name for target in panel["targets"] for name in re.findall(r"tuner_\w+", target["expr"])}  # type: ignore[attr-defined]
    assert asked
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} <= told
