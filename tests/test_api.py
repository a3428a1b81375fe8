import json
import subprocess
import sys
from typing import Any

import httpx
import optuna
import pytest

from tuner.settings import Settings

POST = "/v1/studies"


def post(api: httpx.Client, name: str, **spec: Any) -> httpx.Response:
    return api.post(POST, json={"name": name, **spec})


LIGHT = """
import sys
import api.app
from api.figures import FIGURES, Subject
from api.fronts import axes_of
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import create_trial

space = {name: FloatDistribution(0, 1) for name in "xy"}
trials = [
    create_trial(params={"x": k / 20, "y": k % 7 / 7}, distributions=space, value=k % 5, user_attrs={"parameters": k})
    for k in range(20)
]
directions = (StudyDirection.MAXIMIZE,)
axes = tuple(axes_of(trials, ["value"], directions))
for draw in FIGURES.values():
    draw(Subject(tuple(trials), directions, "value", (), axes)).to_json()
loaded = {"torch", "ray", "tuner.executors", "tuner.stages", "tuner.runner"} & set(sys.modules)
assert not loaded, loaded
"""


def test_the_api_loads_no_torch() -> None:
    """Neither the app nor drawing what it draws loads torch, ray or anything that trains or searches."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_posted_study_is_queued(api: httpx.Client) -> None:
    """POST answers 202 with study, job and the job's address; status, list and jobs show it."""
    answer = post(api, "a")
    assert answer.status_code == 202
    job = api.get(answer.headers["Location"]).json()
    assert (job["state"], job["study"], job["id"]) == ("queued", "a", answer.json()["job"]["id"])
    status = api.get(f"{POST}/a").json()
    assert (status["state"], status["progress"]["total"], status["spec"]["subset"]["train"]) == ("queued", 375, 5000)
    assert [study["name"] for study in api.get(POST).json()["items"]] == ["a"]
    assert [job["id"] for job in api.get("/v1/jobs?state=queued").json()["items"]] == [job["id"]]


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b'{"name": "x", "dpeth": 3}', 422, ["body", "dpeth"]),
        (b'{"name": "x", "search_space": {"depth": {"low": 5, "high": 2}}}', 422, ["body", "search_space", "depth"]),
        (b'{"name": "x", "search_space": {"activation": "gelu9"}}', 422, ["body", "search_space", "activation"]),
        (
            b'{"name": "x", "subset": {"train": 1000000000, "validation": 10, "epochs": 1}}',
            422,
            ["body", "subset", "train"],
        ),
        (b'{"name": "x", "dataset": "nope"}', 422, ["body", "dataset"]),
        (b'{"name": NaN}', 422, ["body", "name"]),
        (b'{"name": "x", "seed": 1e999}', 422, ["body", "seed"]),
        (b"[]", 422, ["body"]),
        (b"null", 422, ["body"]),
        (b"", 422, ["body"]),
    ],
)
def test_a_wrong_body_is_a_problem_at_its_field(
    shared: httpx.Client, body: bytes, status: int, where: list[str]
) -> None:
    """422 as problem+json with the field's path; nothing half-made remains."""
    answer = shared.post(POST, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["loc"] == where
    assert shared.get(POST).json()["items"] == []


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"name": "a", "name":'])
def test_what_is_no_json_is_refused(shared: httpx.Client, body: bytes) -> None:
    """A body that cannot be parsed is a 4xx problem."""
    answer = shared.post(POST, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["title"]


def test_a_body_over_a_mebibyte_is_refused(shared: httpx.Client) -> None:
    """413, told by its length or, where it does not tell, by its bytes."""
    large = b'{"name": "' + b"x" * 2**20 + b'"}'
    assert shared.post(POST, content=large).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        f"{POST}/none",
        "/v1/jobs/999999",
        "/v1/jobs/x",
        "/v1/models/none",
        "/v1/nothing",
        f"{POST}/none/trials/1",
        "/nowhere",
    ],
)
def test_what_is_not_there_is_a_404_problem(shared: httpx.Client, path: str) -> None:
    """Also where the id in the path is malformed."""
    answer = shared.get(path)
    assert answer.status_code == 404
    assert answer.json()["status"] == 404


def test_a_known_path_with_a_wrong_method_is_a_405(shared: httpx.Client) -> None:
    """The dashboard behind all routes swallows none of them."""
    answer = shared.delete("/v1/jobs/1")
    assert answer.status_code == 405
    assert answer.json()["title"] == "Method Not Allowed"


def test_a_taken_name_is_a_409(api: httpx.Client) -> None:
    """The first study stays as it is."""
    post(api, "a", seed=1)
    assert post(api, "a", seed=2).status_code == 409
    assert api.get(f"{POST}/a").json()["spec"]["seed"] == 1


def test_control_of_a_queued_study(api: httpx.Client) -> None:
    """Pause, resume and cancel answer 202 with the status; what the state does not allow is 409."""
    post(api, "a")
    states = [api.post(f"{POST}/a/{verb}").json()["state"] for verb in ("pause", "resume", "cancel")]
    assert states == ["paused", "queued", "cancelled"]
    assert api.post(f"{POST}/a/resume").status_code == 409


def test_a_deleted_study_is_gone_and_comes_back(api: httpx.Client) -> None:
    """Only an ended study is deleted: then lists, jobs and dashboard know nothing of it and its name is free; it is restored
    once the name is free again."""
    post(api, "a_b", seed=1)
    assert api.delete(f"{POST}/a_b").status_code == 409
    api.post(f"{POST}/a_b/cancel")
    assert api.delete(f"{POST}/a_b").status_code == 204
    assert api.get(f"{POST}/a_b").status_code == 404
    assert [api.get(path).json()["items"] for path in (POST, "/v1/jobs", "/v1/models")] == [[], [], []]
    assert api.get("/api/studies").json()["study_summaries"] == []
    assert api.post(f"{POST}/axb/restore").status_code == 404
    assert post(api, "a_b", seed=2).status_code == 202
    assert api.post(f"{POST}/a_b/restore").status_code == 409
    api.post(f"{POST}/a_b/cancel")
    api.delete(f"{POST}/a_b")
    assert api.post(f"{POST}/a_b/restore").json()["spec"]["seed"] == 2
    assert [study["name"] for study in api.get(POST).json()["items"]] == ["a_b"]


def test_a_budget_is_edited(api: httpx.Client) -> None:
    """PATCH changes what it names, answers the status, and is refused once the study has ended."""
    post(api, "a", budget={"n_trials": 200, "max_failed": 3})
    status = api.patch(f"{POST}/a", json={"n_trials": 100}).json()
    assert (status["spec"]["budget"]["n_trials"], status["spec"]["budget"]["max_failed"]) == (100, 3)
    assert status["progress"]["total"] == 415
    assert api.patch(f"{POST}/a", json={"n_trials": None}).status_code == 422
    api.post(f"{POST}/a/cancel")
    assert api.patch(f"{POST}/a", json={"n_trials": 50}).status_code == 409


def test_a_subset_that_leaves_no_validation_is_cut_and_says_so(api: httpx.Client) -> None:
    """Training images make room for the search's validation images, and the status has a note of it."""
    status = post(api, "a", subset={"train": 50000, "validation": 2000, "epochs": 1}).json()["study"]
    assert "cut subset.train from 50000 to 48000" in status["notes"][0]


def test_lists_page_by_cursor(api: httpx.Client) -> None:
    """Pages of two hold every study once, also when one arrives in between; a made-up cursor is refused."""
    for n in range(5):
        post(api, f"s{n}")
    page = api.get(f"{POST}?limit=2").json()
    names = [study["name"] for study in page["items"]]
    post(api, "late")
    while page["next_cursor"]:
        page = api.get(POST, params={"limit": 2, "cursor": page["next_cursor"]}).json()
        names += [study["name"] for study in page["items"]]
    assert names == ["s4", "s3", "s2", "s1", "s0"]
    refused = api.get(f"{POST}?cursor=%21%21")
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["query", "cursor"])
    assert api.get(f"{POST}?limit=501").status_code == 422


def test_a_stock_study_is_foreign_and_read_only(api: httpx.Client, settings: Settings) -> None:
    """A study by a plain Optuna script is listed, with its trials and its best, and cannot be paused."""
    storage = optuna.storages.RDBStorage(settings.database_url)
    study = optuna.create_study(study_name="plain / odd", storage=storage, direction="minimize")
    study.optimize(lambda trial: (trial.suggest_float("x", -1, 1) - 0.3) ** 2, n_trials=7)
    [summary] = api.get(POST).json()["items"]
    assert (summary["name"], summary["state"], summary["trials"]["complete"]) == ("plain / odd", "foreign", 7)
    status = api.get(f"{POST}/@{study._study_id}").json()
    assert status["best"]["value"] == study.best_value
    assert len(api.get(f"{POST}/@{study._study_id}/trials?limit=5").json()["items"]) == 5
    assert api.post(f"{POST}/@{study._study_id}/pause").status_code == 409
    storage.engine.dispose()


def test_every_operation_is_documented(api: httpx.Client) -> None:
    """Each operation has a summary, each JSON body examples; the examples of studies are taken; errors are problems."""
    document = api.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
                assert kind != "application/json" or body.get("examples"), (method, path)
    content = document["paths"][POST]["post"]["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) >= 2
    for example in content["examples"].values():
        assert post(api, **example["value"]).status_code == 202, json.dumps(example)
    assert "Problem" in document["components"]["schemas"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "application/jsonp"])
def test_another_type_of_body_is_refused(api: httpx.Client, kind: str) -> None:
    """415 names the types that the operation takes and the one that came; any JSON is JSON, and no body has no type."""
    sent = {"content": b'{"name": "a"}', "headers": {"Content-Type": kind}}
    for path in (POST, "/v1/datasets", f"{POST}/a/trials/0/void"):
        answer = api.post(path, **sent)  # type: ignore[arg-type]
        taken = "multipart/form-data" if path == "/v1/datasets" else "application/json"
        assert answer.status_code == 415, (path, answer.text)
        assert answer.json()["detail"] == f"a body must be {taken} here, but got {kind!r}"
    assert api.post(f"{POST}/a/trials/0/void").status_code == 404
    sent["headers"] = {"Content-Type": "application/vnd.study+json; charset=utf-8"}
    assert api.post(POST, **sent).status_code == 202  # type: ignore[arg-type]


def test_the_dashboard_is_read_only(api: httpx.Client) -> None:
    """Its own interface, which could delete studies, answers 403 to everything but reading."""
    post(api, "a")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert api.request(method, "/api/studies/1").status_code == 403, method
    assert api.get("/api/studies").json()["study_summaries"][0]["study_name"] == "a"
    assert "Optuna Dashboard" in api.get("/dashboard").text
