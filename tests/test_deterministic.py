"""Whole deterministic studies: the real app, the real runner, real workers, real digits."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import connect, running, wait_until
from tests.searching import Service, ended, workers
from tuner.settings import Settings

STUDY: dict[str, Any] = {
    "deterministic": True,
    "generation_size": 6,
    "subset": {"train": 600, "validation": 200, "epochs": 4},
    "search_space": {"depth": {"low": 1, "high": 2}, "width": {"low": 16, "high": 64}},
    "promotion": None,
    "seed": 3,
}
N_TRIALS = 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("deterministic"), parallel=5, max_jobs=3)
    with connect(settings) as api, running(settings):
        yield Service(settings, api)


def post(service: Service, name: str, parallel: int) -> None:
    service.post(name, **STUDY, budget={"n_trials": N_TRIALS, "parallel": parallel})


def story(service: Service, name: str) -> list[Any]:
    """All that the service tells of the study's trials but how long they took and how often they were begun."""
    numbers = [trial["number"] for trial in service.trials(name)]
    trials = [service.get(f"/v1/studies/{name}/trials/{number}") for number in numbers]
    names = ("number", "state", "value", "params", "seed", "reason", "detail")
    return [
        ({n: t[n] for n in names}, {key: values for key, values in t["curves"].items() if key != "seconds"})
        for t in trials
    ]


@pytest.fixture(scope="module")
def alone(service: Service) -> list[Any]:
    """The trials of a study of one worker."""
    post(service, "alone", 1)
    assert service.finish("alone")["state"] == "succeeded"
    return story(service, "alone")


def test_a_deterministic_study_is_the_same_with_any_number_of_workers(service: Service, alone: list[Any]) -> None:
    """With 2 and 5 workers, and under other names: the same points, seeds, states, values and curves, trial by trial."""
    assert len(alone) == N_TRIALS
    assert {trial["state"] for trial, _ in alone} >= {"COMPLETE", "PRUNED"}
    post(service, "two", 2)
    post(service, "five", 5)
    for name in ("two", "five"):
        assert service.finish(name)["state"] == "succeeded"
        assert story(service, name) == alone


def test_a_disturbed_deterministic_study_is_the_same(service: Service, alone: list[Any]) -> None:
    """All workers killed with -9 in the middle, and a pause after it: trials begin again, and the study ends as the other did."""
    post(service, "disturbed", 5)
    wait_until(lambda: ended(service, "disturbed") >= 3, "three trials have ended")
    for worker in workers():
        worker.kill()
    wait_until(lambda: ended(service, "disturbed") >= 9, "nine trials have ended")
    service.api.post("/v1/studies/disturbed/pause")
    wait_until(lambda: service.status("disturbed")["state"] == "paused", "the study is paused")
    service.api.post("/v1/studies/disturbed/resume")
    assert service.finish("disturbed")["state"] == "succeeded"
    assert story(service, "disturbed") == alone
    assert sum(trial["attempts"] for trial in service.trials("disturbed")) > N_TRIALS


def test_a_time_limit_is_refused_later_too(service: Service) -> None:
    """Neither a study nor an edit of its budget may set one; the message names the rule and the value."""
    answer = service.api.post("/v1/studies", json={"name": "hurry", **STUDY, "budget": {"timeout_seconds": 60}})
    assert answer.status_code == 422
    assert "takes no time limit, but got budget.timeout_seconds=60" in answer.text
    service.post("patient", **STUDY, budget={"n_trials": 500})
    answer = service.api.patch("/v1/studies/patient", json={"timeout_seconds": 60})
    assert answer.status_code == 422
    assert "takes no time limit, but got budget.timeout_seconds=60" in answer.text
    assert service.status("patient")["spec"]["budget"]["trial_timeout_seconds"] is None
    service.api.post("/v1/studies/patient/cancel")


@pytest.mark.slow
def test_promotion_after_it_is_the_same_too(service: Service) -> None:
    """Rung, race and verdict with one worker and with three: the same contenders, seeds, accuracies and winner."""
    told = []
    for name, parallel in (("one", 1), ("three", 3)):
        promotion = {"top_k": 2, "max_seeds": 2, "epochs": 1}
        body: dict[str, Any] = {**STUDY, "promotion": promotion, "budget": {"n_trials": 12, "parallel": parallel}}
        assert service.finished(name, 300, **body)["state"] == "succeeded"
        best = service.get(f"/v1/studies/{name}/best?stage=promotion&k=10")["items"]
        told.append([{k: v for k, v in item.items() if k != "model"} for item in best])
    assert told[0]
    assert told[0] == told[1]
