"""Whole jobs: the real app, the real runner, real workers, real digits, a real SQLite file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.conftest import Terminal, connect, running, wait_until
from tests.receiver import receiving
from tests.searching import LONG, SMALL, Service, open_service
from tuner.data import catalogue
from tuner.settings import Settings
from tuner.store.database import open_database


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with open_service(tmp_path_factory.mktemp("service")) as service:
        yield service


def test_a_search_ends_with_exactly_its_trials(service: Service) -> None:
    """Every trial has ended, numbers are whole, trial 0 is the default, curves are there, stock Optuna reads it all."""
    status = service.finished("whole", budget={"n_trials": 12})
    counts = status["trials"]
    assert (status["state"], status["stop_reason"], counts["total"]) == ("succeeded", "n_trials", 12)
    assert counts["complete"] + counts["pruned"] + counts["fail"] == 12
    assert (status["progress"]["fraction"], status["progress"]["done"]) == (1.0, 12)
    trials = service.trials("whole")
    assert [trial["number"] for trial in trials] == list(range(12))
    assert trials[0]["hyperparameters"]["depth"] == 2
    one = service.get("/v1/studies/whole/trials/0")
    assert one["curves"]["epoch"] == [1, 2]
    assert one["value"] == one["curves"]["validation_accuracy"][-1]
    assert (one["attempts"], one["parameters"] > 0, one["seconds"] > 0) == (1, True, True)
    storage = optuna.storages.RDBStorage(service.settings.database_url)
    stock = optuna.load_study(study_name="whole", storage=storage)
    assert stock.best_value == status["best"]["value"]
    assert all(trial.params and trial.intermediate_values for trial in stock.trials)
    storage.remove_session()
    storage.engine.dispose()


def test_the_end_of_a_study_is_told_by_webhook(service: Service, terminal: Terminal) -> None:
    """The message of its job's end names state, reason and best; the service shows it and sends it again."""
    with receiving() as receiver:
        status = service.finished("told", webhook=receiver.url, budget={"n_trials": 2})
        wait_until(lambda: bool(receiver.got), "the webhook", 60)
        [(message_id, message)] = receiver.messages()
        data, job = message["data"], status["job"]
        assert (message["type"], data["stop_reason"]) == ("job.succeeded", "n_trials")
        assert (data["job"], data["finished_at"]) == (job["id"], job["finished_at"])
        assert data["best"] | status["best"] == data["best"]
        path = "/v1/studies/told/deliveries"
        wait_until(lambda: service.get(path)["items"][0]["state"] == "delivered", "its delivery", 60)
        again = service.api.post(f"{path}/{message_id}/send-again")
        assert (again.status_code, again.json()["state"]) == (202, "pending")
        wait_until(lambda: len(receiver.messages()) == 2, "the webhook again", 60)
    told = terminal("study", "deliveries", "told", TUNER_DATA_DIR=str(service.settings.data_dir))
    assert f"{message_id}  job.succeeded" in told.stdout


def test_a_default_outside_the_space_runs_as_a_baseline(service: Service) -> None:
    """No trial is the default then; it is trained once, outside the trials."""
    service.finished("baseline", search_space={"depth": 1, "width": 16}, budget={"n_trials": 3})
    assert all(trial["hyperparameters"]["depth"] == 1 for trial in service.trials("baseline"))
    engine = open_database(service.settings.database_url)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT stage, contender, state FROM tuner_runs WHERE stage = 'baseline'"
        ).all()
    engine.dispose()
    assert rows == [("baseline", "default", "complete")]


@pytest.mark.parametrize(
    ("name", "changes", "reason", "at_most"),
    [
        ("target", {"budget": {"n_trials": 50, "target": 0.1, "parallel": 1}}, "target", 3),
        ("stale", {"budget": {"n_trials": 50, "no_improvement_trials": 4, "parallel": 1}}, "no_improvement", 49),
        ("late", {"budget": {"n_trials": 5000, "timeout_seconds": 2}}, "timeout", 200),
        ("tiny", {"search_space": {"depth": {"low": 1, "high": 2}, "width": 16, "activation": "relu", "loss": "mse",
                  "optimizer": "sgd", "learning_rate": 0.1, "dropout": 0.0, "shift_pixels": 0,
                  "rotate_degrees": 0, "zoom": 0, "batch_norm": False, "batch_size": 32,
                  "weight_decay": {"choices": [0.0, 0.01]}}, "budget": {"n_trials": 50}}, "exhausted", 4),
    ],
)  # fmt: skip
def test_a_search_stops_for_its_reason(
    service: Service, name: str, changes: dict[str, Any], reason: str, at_most: int
) -> None:
    """Target, standstill, time and an exhausted space each end the search, which says so and leaves nothing running."""
    status = service.finished(name, **changes)
    assert (status["state"], status["stop_reason"]) == ("succeeded", reason)
    assert 0 < status["trials"]["total"] <= at_most
    assert status["trials"]["running"] + status["trials"]["waiting"] == 0


def test_too_many_failures_fail_the_job(service: Service) -> None:
    """Trials over their time limit are FAIL with that reason, and more than `max_failed` of them end the job as failed."""
    budget = {"n_trials": 50, "max_failed": 2, "trial_timeout_seconds": 0.02}
    status = service.finished("slow", subset=LONG, budget=budget)
    assert (status["state"], status["stop_reason"]) == ("failed", "max_failed")
    assert "at most 2 trials may fail, but 3 have failed" in status["error"]
    assert {trial["reason"] for trial in service.trials("slow") if trial["state"] == "FAIL"} <= {"time_limit", "failed"}


def test_a_diverged_trial_is_pruned_with_its_reason(service: Service) -> None:
    """A net whose loss explodes is PRUNED at once, spends no failure budget, and says why."""
    space = {
        "activation": "maxout",
        "loss": "cross_entropy",
        "optimizer": "sgd",
        "learning_rate": 100.0,
        "normalisation": "none",
    }
    status = service.finished("diverged", search_space=space, budget={"n_trials": 3, "max_failed": 0})
    assert status["state"] == "succeeded"
    diverged = [trial for trial in service.trials("diverged") if trial["reason"] == "diverged"]
    assert diverged
    assert all(
        trial["state"] == "PRUNED" and trial["value"] is None and "became" in trial["detail"] for trial in diverged
    )


def test_a_net_too_large_for_its_worker_fails_once(tmp_path: Path) -> None:
    """Workers of 512 MiB: a trial whose net needs more is FAIL with the reason out_of_memory after one attempt, since it would
    need as much again; the job goes on to its end."""
    settings = Settings(data_dir=tmp_path, parallel=1, worker_memory_mb=512)
    space = {**SMALL["search_space"], "depth": 5, "width": {"choices": [4096]}}
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        status = service.finished("wide", search_space=space, budget={"n_trials": 2})
        assert (status["state"], status["trials"]["fail"]) == ("succeeded", 2)
        for trial in service.trials("wide"):
            assert (trial["reason"], trial["attempts"]) == ("out_of_memory", 1)
            assert "allocate" in trial["detail"]


def test_pause_and_cancel_act_at_once(service: Service) -> None:
    """Within 2 s nothing runs; a resumed study goes on with its own trials; a cancelled one leaves none unfinished."""
    service.post("control", subset=LONG, budget={"n_trials": 40}, pruner={"kind": "none"})
    wait_until(lambda: service.status("control")["trials"]["running"] == 2, "two trials run")
    paused_at = _act(service, "control", "pause", "paused")
    assert service.status("control")["trials"]["waiting"] == 2
    seeds = {trial["number"]: trial["seed"] for trial in service.trials("control")}
    service.api.post("/v1/studies/control/resume")
    wait_until(lambda: service.status("control")["trials"]["running"] == 2, "two trials run again")
    assert {trial["number"]: trial["seed"] for trial in service.trials("control")} == seeds
    cancelled_at = _act(service, "control", "cancel", "cancelled")
    counts = service.status("control")["trials"]
    assert counts["running"] + counts["waiting"] == 0
    assert max(paused_at, cancelled_at) < 2
    assert service.api.post("/v1/studies/control/resume").status_code == 409


def test_a_damaged_data_set_fails_the_job_with_its_file(tmp_path: Path) -> None:
    """A bit flipped in a stored array: the job fails, naming the file and the checksums, before anything is trained."""
    settings = Settings(data_dir=tmp_path, parallel=1)
    catalogue.open_dataset("mnist", settings.datasets_dir)
    file = settings.datasets_dir / "mnist" / "train_images.npy"
    with file.open("r+b") as array:
        array.seek(10_000_000)
        array.write(b"\xff")
    with connect(settings) as api, running(settings):
        status = Service(settings, api).finished("a")
    assert (status["state"], status["trials"]["total"]) == ("failed", 0)
    assert "train_images.npy: must have the SHA-256" in status["error"]


def _act(service: Service, name: str, verb: str, state: str) -> float:
    """Seconds until the study is in `state` and nothing of it runs."""
    began = time.monotonic()
    assert service.api.post(f"/v1/studies/{name}/{verb}").status_code == 202
    wait_until(lambda: service.status(name)["state"] == state, f"{name} is {state}")
    assert service.status(name)["trials"]["running"] == 0
    return time.monotonic() - began
