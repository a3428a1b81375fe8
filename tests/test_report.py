"""A study's report: what it says, at any time of the study's life, as JSON, as a page and in the terminal."""

import html.parser
import re
from collections.abc import Iterator
from typing import Any

import httpx
import optuna
import pytest
from typer.testing import CliRunner

from tests.conftest import connect, running, wait_until
from tests.digits import install_digits
from tuner.cli import study, trial
from tuner.client import Client
from tuner.settings import Settings
from tuner.specs.finding import FINDINGS

SPEC: dict[str, Any] = {
    "name": "told",
    "dataset": "digits",
    "search_space": {
        "depth": {"low": 1, "high": 8},
        "width": {"low": 16, "high": 64},
        "activation": {"choices": ["relu", "sigmoid"]},
        "shift_pixels": 0,
        "rotate_degrees": 0,
        "zoom": 0,
        "batch_norm": False,
    },
    "subset": {"train": 400, "validation": 200, "epochs": 3},
    "budget": {"n_trials": 14},
    "promotion": {"top_k": 1, "max_seeds": 2, "epochs": 1},
    "ensemble": {"members": 2},
}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("report"), parallel=2)


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[httpx.Client]:
    """Of a service that has run the study `told` to its end, and that has one which nobody runs."""
    install_digits(settings.datasets_dir)
    with connect(settings) as api:
        assert api.post("/v1/studies", json=SPEC).status_code == 202
        with running(settings):
            wait_until(lambda: api.get("/v1/studies/told").json()["state"] == "succeeded", "the study is done", 200)
        api.post("/v1/studies", json={"name": "waits"})
        yield api


@pytest.fixture(scope="module")
def report(api: httpx.Client) -> dict[str, Any]:
    answer = api.get("/v1/studies/told/report")
    assert answer.headers["Content-Type"] == "application/json"
    told: dict[str, Any] = answer.json()
    return told


class Outline(html.parser.HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]


def test_the_numbers_are_those_of_the_study(api: httpx.Client, report: dict[str, Any]) -> None:
    """Best, accuracy and counts are those that the study, its trials and its models tell; what it cost is what was trained."""
    status = api.get("/v1/studies/told").json()
    models = {m["kind"]: m for m in api.get("/v1/models").json()["items"]}
    assert report["trials"] == status["trials"]
    assert report["best"]["test_accuracy"] == status["promoted"]["test_accuracy"]
    assert report["best"]["model"] == report["ensemble"]["single"]["model"] == status["promoted"]["model"]
    default = models.get("default", models["single"])  # the default configuration may have won itself
    assert report["ensemble"]["default"]["test_accuracy"] == default["metrics"]["test_accuracy"]
    assert {"over_default", "interval", "verdict"} <= report["gain"].keys()
    assert {"value", "interval", "verdict"} <= report["tau"].keys()
    assert report["cost"]["wall_seconds"] > 0
    stages = {stage["stage"]: stage for stage in report["cost"]["stages"]}
    assert {"search", "promotion"} <= stages.keys()
    assert stages["search"]["runs"] == status["trials"]["total"]
    assert report["cost"]["cpu_seconds"] == pytest.approx(
        sum(s["cpu_seconds"] for s in report["cost"]["stages"]), abs=0.01
    )
    for kind in ("bag", "student"):
        assert report["ensemble"][kind]["test_accuracy"] == models[kind]["metrics"]["test_accuracy"]
    assert report["test_ledger"]["opened"] == len(report["test_ledger"]["readings"]) == 1
    assert report["reproduce"]["spec"] == status["spec"]
    assert report["reproduce"]["versions"]["torch"]


def test_findings_are_counted(api: httpx.Client, report: dict[str, Any]) -> None:
    """Of every ended trial that has one."""
    trials = api.get("/v1/studies/told/trials").json()["items"]
    found = [trial["finding"]["name"] for trial in trials if trial["finding"] is not None]
    assert {name: found.count(name) for name in FINDINGS} == report["diagnosis"]["findings"]
    assert report["diagnosis"]["trials"] == len(found)


def test_the_next_space_can_be_posted(api: httpx.Client, report: dict[str, Any]) -> None:
    """As it is."""
    body = {**SPEC, "name": "next", "search_space": report["diagnosis"]["next_search_space"]}
    assert api.post("/v1/studies", json=body).status_code == 202


def test_the_page_needs_nothing_else(api: httpx.Client) -> None:
    """No script, no address, no style outside of the one that its policy names; with pictures, and what the JSON says."""
    answer = api.get("/v1/studies/told/report", headers=HTML)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Accept" in answer.headers["Vary"].split(", ")
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    outline = Outline(answer.text)
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert not [a for a in outline.attributes if a[1] in ("style", "src", "href") or a[1].startswith("on")]
    assert "url(" not in answer.text
    assert "@import" not in answer.text
    assert outline.tags.count("svg") >= 3
    told = api.get("/v1/studies/told/report").json()
    images = "The net that is delivered was trained on 3,480 images."
    for words in (told["headline"], images, told["ensemble"]["words"], "What to search next", "How to reproduce it"):
        assert words in answer.text
    drawn = {value for _, name, value in outline.attributes if name == "aria-label"}
    assert any(label.startswith("Accuracy on the sealed test set") for label in drawn)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        ("application/json, text/html", "application/json"),
        ("text/html;q=0.9, application/json;q=0.1", "text/html; charset=utf-8"),
    ],
)
def test_who_asks_for_html_gets_html(api: httpx.Client, accept: str, kind: str) -> None:
    assert api.get("/v1/studies/told/report", headers={"Accept": accept}).headers["Content-Type"] == kind


def test_a_study_that_waits_has_a_report(api: httpx.Client) -> None:
    """What is not known is null or unknown; the page is there as well."""
    report = api.get("/v1/studies/waits/report").json()
    assert report["best"] is report["diagnosis"] is report["race"] is report["optimism"] is None
    assert report["gain"]["verdict"] == report["tau"]["verdict"] == "unknown"
    assert report["cost"]["cpu_seconds"] is None
    assert "0 trials" in report["headline"]
    assert api.get("/v1/studies/waits/report", headers=HTML).status_code == 200
    assert api.get("/v1/studies/nobody/report").status_code == 404


def test_names_of_others_are_text(api: httpx.Client, settings: Settings) -> None:
    """A study by another program, whose name and parameters are markup, is reported on, and runs nothing in a browser."""
    markup = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    plain = optuna.create_study(storage=settings.database_url, study_name=markup, direction="minimize")
    for k in range(12):
        asked = plain.ask()
        x = asked.suggest_float(markup, 0, 1)
        asked.suggest_categorical('"><svg onload=alert(3)>', [markup, "b"])
        plain.tell(asked, x + k / 100)
    number = plain._study_id
    answer = api.get(f"/v1/studies/@{number}/report", headers=HTML)
    assert answer.status_code == 200
    outline = Outline(answer.text)
    assert not {"script", "img"} & set(outline.tags)
    assert not [a for a in outline.attributes if a[1].startswith("on")]
    report = api.get(f"/v1/studies/@{number}/report").json()
    assert (report["study"], report["state"], report["diagnosis"]) == (markup, "foreign", None)
    assert report["cost"]["wall_seconds"] is None
    assert sum(item["share"] for item in report["importances"]["items"]) == pytest.approx(1)


def test_an_outside_objective_is_reported_on(api: httpx.Client) -> None:
    """Without what only nets have."""
    space = {"x": {"type": "float", "low": 0, "high": 1}}
    api.post("/v1/studies", json={"name": "outside", "objective": "external", "search_space": space})
    report = api.get("/v1/studies/outside/report").json()
    assert (report["diagnosis"], report["test_ledger"]["opened"]) == (None, 0)
    assert api.get("/v1/studies/outside/report", headers=HTML).status_code == 200


def test_a_report_takes_no_job(api: httpx.Client) -> None:
    """422, and where to get one instead."""
    answer = api.post("/v1/studies/told/jobs", json={"kind": "report"})
    assert answer.status_code == 422
    assert "GET /v1/studies/{name}/report" in answer.json()["errors"][0]["msg"]


def test_the_client_and_the_terminal_tell_the_same(
    api: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]
) -> None:
    """The typed client reads all of it; `tuner study report` prints the verdict and the findings, and writes the page."""
    with Client.in_process(settings) as client:
        assert client.report("told").headline == report["headline"]
        page = client.report_page("told")
    monkeypatch.setenv("TUNER_DATA_DIR", str(settings.data_dir))
    file = settings.data_dir / "report.html"
    told = CliRunner().invoke(study.app, ["report", "told", "--html", str(file)])
    assert told.exit_code == 0, told.output
    assert report["headline"] in told.output
    assert "finding" in told.output
    assert file.read_text() == page
    shown = CliRunner().invoke(trial.app, ["show", "told", "0"]).output
    assert re.search(r"^finding +\w+", shown, re.MULTILINE)
    assert "because" in shown
