"""Searches that are killed, paused and given from runner to runner: real workers, real digits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import connect, running, wait_until
from tests.searching import LONG, Service, ended, kill_while_it_trains, open_service, workers
from tuner.settings import Settings


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with open_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> list[Any]:
    """The trials of a study that nobody disturbs, one at a time."""
    service.finished("calm", **DISTURBED)
    return service.trials("calm")


DISTURBED: dict[str, Any] = {
    "subset": {"train": 5000, "validation": 500, "epochs": 3},
    "budget": {"n_trials": 6, "parallel": 1},
    "seed": 5,
}


def results(trials: list[Any]) -> list[tuple[Any, ...]]:
    return [(t["number"], t["state"], t["value"], t["params"], t["seed"], t["reason"]) for t in trials]


def test_killed_workers_cost_attempts_and_not_trials(service: Service, undisturbed: list[Any]) -> None:
    """Workers killed with -9 in the middle: the study ends with the same trials, bit for bit, as one left alone."""
    service.post("killed", **DISTURBED)
    for finished in (1, 3):
        wait_until(lambda n=finished: ended(service, "killed") >= n, f"{finished} trials have ended")  # type: ignore[misc]
        wait_until(lambda: service.status("killed")["trials"]["running"] == 1, "a trial runs")
        for worker in workers():
            worker.kill()
    assert service.finish("killed")["state"] == "succeeded"
    assert results(service.trials("killed")) == results(undisturbed)
    assert sum(trial["attempts"] for trial in service.trials("killed")) > 6


def test_a_paused_study_ends_like_an_undisturbed_one(service: Service, undisturbed: list[Any]) -> None:
    """Pausing gives the running trial back under its number; after resuming, the study ends with the same trials."""
    service.post("paused", **DISTURBED)
    for finished in (1, 3):
        wait_until(lambda n=finished: ended(service, "paused") >= n, f"{finished} trials have ended")  # type: ignore[misc]
        service.api.post("/v1/studies/paused/pause")
        wait_until(lambda: service.status("paused")["state"] == "paused", "the study is paused")
        service.api.post("/v1/studies/paused/resume")
    assert service.finish("paused")["state"] == "succeeded"
    assert results(service.trials("paused")) == results(undisturbed)


def test_a_trial_that_always_loses_its_worker_fails(service: Service) -> None:
    """The third worker that a trial loses is the last: it is FAIL with the reason killed, and the others go on."""
    service.post(
        "deadly", subset=LONG | {"epochs": 30}, pruner={"kind": "none"}, budget={"n_trials": 1, "max_failed": 1}
    )
    kill_while_it_trains(service, "deadly")
    service.finish("deadly")
    [trial] = service.trials("deadly")
    assert (trial["state"], trial["reason"], trial["attempts"]) == ("FAIL", "killed", 3)


def test_a_new_runner_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """A runner that ends gives its job back with the trials WAITING; the next runner ends the study with all its trials."""
    settings = Settings(data_dir=tmp_path, parallel=2)
    with connect(settings) as api:
        service = Service(settings, api)
        with running(settings):
            service.post("a", budget={"n_trials": 8}, subset={"train": 5000, "validation": 200, "epochs": 3})
            wait_until(lambda: ended(service, "a") >= 2, "two trials have ended")
        status = service.status("a")
        assert (status["state"], status["trials"]["running"]) == ("queued", 0)
        with running(settings):
            status = service.finish("a")
    assert (status["state"], status["trials"]["total"], status["job"]["attempt"]) == ("succeeded", 8, 2)
