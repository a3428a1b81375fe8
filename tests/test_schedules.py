"""Schedules by REST, and with a runner."""

from typing import Any

import httpx
import pytest

from tests.conftest import connect, running, wait_until
from tuner.settings import Settings

SCHEDULES = "/v1/schedules"
NIGHTLY: dict[str, Any] = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "time_zone": "Europe/Berlin",
    "study": {"name": "nightly-{date}", "promotion": None},
}


def create(api: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = api.post(SCHEDULES, json={**NIGHTLY, **changes})
    assert answer.status_code == 201, answer.text
    schedule: dict[str, Any] = answer.json()
    return schedule


def test_a_schedule_is_created_and_read(api: httpx.Client) -> None:
    """201 with its address, every default filled in, and its next time in UTC; a second one of its name is 409."""
    answer = api.post(SCHEDULES, json=NIGHTLY)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{SCHEDULES}/nightly"
    schedule = api.get(answer.headers["Location"]).json()
    assert schedule == answer.json()
    assert {
        key: schedule[key] for key in ("policy", "overlap", "misfire_grace_seconds", "coalesce", "paused", "last_run")
    } == {
        "policy": "new_study",
        "overlap": "skip",
        "misfire_grace_seconds": 300,
        "coalesce": True,
        "paused": False,
        "last_run": None,
    }
    assert schedule["study"]["name"] == "nightly-{date}"
    assert schedule["next_fire_time"][11:] in ("00:30:00.000000Z", "01:30:00.000000Z")
    assert api.post(SCHEDULES, json=NIGHTLY).status_code == 409


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"cron": "0 0 31 2 *"}, ["body", "cron"]),
        ({"interval_seconds": 60}, ["body"]),
        ({"cron": None, "interval_seconds": 0}, ["body", "interval_seconds"]),
        ({"time_zone": "Mars/Base"}, ["body", "time_zone"]),
        ({"study": {"name": "n-{date}", "budget": {"n_trials": 0}}}, ["body", "study", "budget", "n_trials"]),
        ({"study": {"name": "n-{date}", "dataset": "nope"}}, ["body", "study", "dataset"]),
        ({"every": "day"}, ["body", "every"]),
    ],
)
def test_what_breaks_a_rule_is_refused_at_its_field(
    api: httpx.Client, changes: dict[str, Any], where: list[str]
) -> None:
    """At creation, not when it first fires; an edit is judged by the same rules."""
    answer = api.post(SCHEDULES, json={**NIGHTLY, **changes})
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, where)
    assert api.get(SCHEDULES).json()["items"] == []
    create(api)
    if changes != {"interval_seconds": 60}:  # which as an edit takes cron's place
        answer = api.patch(f"{SCHEDULES}/nightly", json=changes)
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, where)


def test_an_edit_answers_the_next_time(api: httpx.Client) -> None:
    """Paused, a schedule has none."""
    before = create(api)
    assert (
        api.patch(f"{SCHEDULES}/nightly", json={"overlap": "queue"}).json()["next_fire_time"]
        == before["next_fire_time"]
    )
    edited = api.patch(f"{SCHEDULES}/nightly", json={"interval_seconds": 60}).json()
    assert (edited["cron"], edited["interval_seconds"], edited["overlap"]) == (None, 60, "queue")
    assert edited["next_fire_time"] != before["next_fire_time"]
    assert api.patch(f"{SCHEDULES}/nightly", json={"paused": True}).json()["next_fire_time"] is None
    assert api.patch(f"{SCHEDULES}/nightly", json={"paused": False}).json()["next_fire_time"] is not None


def test_a_run_now_and_its_history(api: httpx.Client) -> None:
    """The first queues a job, the next is skipped while that one is unfinished; the history pages from the newest."""
    create(api, paused=True)
    answer = api.post(f"{SCHEDULES}/nightly/run")
    started = answer.json()
    assert (answer.status_code, started["outcome"], started["reason"]) == (202, "started", None)
    assert answer.headers["Location"] == f"/v1/jobs/{started['job']}"
    assert api.get(answer.headers["Location"]).json()["study"] == started["study"]
    skipped = api.post(f"{SCHEDULES}/nightly/run").json()
    assert (skipped["outcome"], skipped["job"], skipped["study"]) == ("skipped", None, None)
    page = api.get(f"{SCHEDULES}/nightly/runs?limit=1").json()
    assert page["items"] == [skipped]
    following = api.get(f"{SCHEDULES}/nightly/runs", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert following == {"items": [started], "next_cursor": None}
    assert api.get(f"{SCHEDULES}/nightly").json()["last_run"] == skipped


def test_a_deleted_schedule_frees_its_name(api: httpx.Client) -> None:
    """Its history goes with it; the study that it has started stays."""
    create(api)
    study = api.post(f"{SCHEDULES}/nightly/run").json()["study"]
    assert api.delete(f"{SCHEDULES}/nightly").status_code == 204
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/run"), ("GET", "/runs")):
        assert api.request(method, f"{SCHEDULES}/nightly{path}", json={}).status_code == 404
    assert api.get(f"/v1/studies/{study}").status_code == 200
    create(api)
    assert api.get(f"{SCHEDULES}/nightly/runs").json()["items"] == []


def test_schedules_are_listed_by_pages(api: httpx.Client) -> None:
    """The newest first, each with its own last run."""
    for name in ("a", "b", "c"):
        create(api, name=name)
    run = api.post(f"{SCHEDULES}/b/run").json()
    page = api.get(f"{SCHEDULES}?limit=2").json()
    assert [(schedule["name"], schedule["last_run"]) for schedule in page["items"]] == [("c", None), ("b", run)]
    following = api.get(SCHEDULES, params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert ([schedule["name"] for schedule in following["items"]], following["next_cursor"]) == (["a"], None)


def test_the_documented_examples_are_taken(api: httpx.Client) -> None:
    """Every example of a body in the OpenAPI document is one that the service accepts."""
    paths = api.get("/openapi.json").json()["paths"]
    created = paths[SCHEDULES]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in created.values():
        assert api.post(SCHEDULES, json=example["value"]).status_code == 201
    edited = paths[f"{SCHEDULES}/{{name}}"]["patch"]["requestBody"]["content"]["application/json"]["examples"]
    for example in edited.values():
        assert api.patch(f"{SCHEDULES}/nightly", json=example["value"]).status_code == 200


def test_a_runner_fires_what_is_due(settings: Settings) -> None:
    """By its own clock, within a second or two, and the job is worked on."""
    with connect(settings) as api, running(settings):
        create(api, cron=None, interval_seconds=1, study={**NIGHTLY["study"], "budget": {"n_trials": 1}})
        wait_until(lambda: api.get(f"{SCHEDULES}/nightly/runs").json()["items"] != [], "a run")
        [*_, first] = api.get(f"{SCHEDULES}/nightly/runs").json()["items"]
        wait_until(lambda: api.get(f"/v1/jobs/{first['job']}").json()["state"] == "running", "the job")
