"""Following a study by server-sent events, over real HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving import TINY, Service, serving, wait_for


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("events") / "data") as service:
        service.post("/v1/studies", {**TINY, "name": "done"})
        wait_for(lambda: service.get("/v1/studies/done")["state"] == "succeeded", "the study ends")
        yield service


def follow(service: Service, name: str, until: str, **request: Any) -> list[dict[str, Any]]:
    """The events up to the first whose data hold the text `until`."""
    seen: list[dict[str, Any]] = []
    url = f"{service.url}/v1/studies/{name}/events"
    with httpx.stream("GET", url, timeout=30, **request) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, Any] = {}
        for line in answer.iter_lines():
            key, _, value = line.partition(": ")
            if key in ("id", "event", "data"):
                event[key] = value
            elif not line and "data" in event:
                seen.append({**event, "data": json.loads(event["data"])})
                event = {}
                if until in json.dumps(seen[-1]["data"]):
                    return seen
    raise AssertionError(f"the stream ended before {until}")


def test_a_study_is_told_from_its_start_to_its_end(service: Service) -> None:
    """Every trial's start, epochs and end, and the job's states, in order and each once."""
    seen = follow(service, "done", '"succeeded"', params={"after": 0})
    kinds = [event["event"] for event in seen]
    assert [event["data"]["state"] for event in seen if event["event"] == "job"] == ["queued", "running", "succeeded"]
    assert (kinds.count("trial_started"), kinds.count("trial_finished")) == (4, 4)
    assert kinds.count("epoch") >= 4
    ids = [int(event["id"]) for event in seen]
    assert ids == sorted(set(ids))


def test_a_stream_goes_on_where_it_broke(service: Service) -> None:
    """With Last-Event-ID a new stream begins at the very next event."""
    seen = follow(service, "done", '"succeeded"', params={"after": 0})
    rest = follow(service, "done", '"succeeded"', headers={"Last-Event-ID": seen[4]["id"]})
    assert rest == seen[5:]


def test_a_stream_is_live(service: Service) -> None:
    """Without an id a stream begins now: a study posted behind another one is followed from its first trial to its end."""
    service.post("/v1/studies", {**TINY, "name": "live", "budget": {"n_trials": 8}})
    seen = follow(service, "live", '"succeeded"')
    assert seen[-1]["data"]["state"] == "succeeded"


def test_a_new_stream_says_where_it_begins(service: Service) -> None:
    """Before any event comes the newest one's id, by which a stream that breaks at once is resumed without a gap."""
    newest = follow(service, "done", '"succeeded"', params={"after": 0})[-1]["id"]
    with httpx.stream("GET", f"{service.url}/v1/studies/done/events") as answer:
        assert next(answer.iter_lines()) == f"id: {newest}"


def test_what_cannot_be_followed(service: Service) -> None:
    """An unknown study is 404, a wrong id 422, and a stream too many 429."""
    url = f"{service.url}/v1/studies/done/events"
    assert httpx.get(f"{service.url}/v1/studies/nowhere/events").status_code == 404
    assert httpx.get(url, headers={"Last-Event-ID": "x"}).status_code == 422
    assert httpx.get(url, params={"after": -1}).status_code == 422
