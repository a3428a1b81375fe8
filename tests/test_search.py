"""Whole jobs: the real app, the real runner, real workers, real digits, a real SQLite file."""

import io
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import optuna
import psutil
import pytest
import torch

from tests.conftest import connect, running, wait_until
from tests.receiver import SECRET, receiving
from tuner.cli import main
from tuner.data import catalogue
from tuner.nets.weights import from_bytes
from tuner.settings import Settings
from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace
from tuner.store import ledger, runs, studies
from tuner.store.database import open_database, reading
from tuner.store.model_files import StoredNet
from tuner.store.runs import RunState

ENDED = ("succeeded", "failed", "cancelled")
SMALL: dict[str, Any] = {
    "subset": {"train": 500, "validation": 200, "epochs": 2},
    "search_space": {"depth": {"low": 1, "high": 2}, "width": {"low": 16, "high": 128}},
    "promotion": None,
}
LONG = {"train": 40_000, "validation": 2000, "epochs": 3}
"""A subset whose trials run long enough to be disturbed."""


class Service:
    """A client of the app, with a runner beside it."""

    def __init__(self, settings: Settings, api: httpx.Client) -> None:
        self.settings, self.api = settings, api

    def post(self, name: str, **changes: Any) -> None:
        answer = self.api.post("/v1/studies", json={"name": name, **SMALL, **changes})
        assert answer.status_code == 202, answer.text

    def get(self, path: str) -> Any:
        return self.api.get(path).json()

    def status(self, name: str) -> Any:
        return self.get(f"/v1/studies/{name}")

    def trials(self, name: str) -> list[Any]:
        items: list[Any] = self.get(f"/v1/studies/{name}/trials?limit=500")["items"]
        return items

    def finish(self, name: str, seconds: float = 180) -> Any:
        wait_until(lambda: self.status(name)["state"] in ENDED, f"{name} has ended", seconds)
        return self.status(name)

    def finished(self, name: str, seconds: float = 180, **changes: Any) -> Any:
        self.post(name, **changes)
        return self.finish(name, seconds)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    secret = folder / "webhook-secret.txt"
    secret.write_text(SECRET)
    settings = Settings(data_dir=folder, parallel=2, webhook_hosts="127.0.0.1", webhook_secret_file=secret)
    with connect(settings) as api, running(settings):
        yield Service(settings, api)


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


def test_the_end_of_a_study_is_told_by_webhook(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    monkeypatch.setenv("TUNER_DATA_DIR", str(service.settings.data_dir))
    monkeypatch.setattr(sys, "argv", ["tuner", "study", "deliveries", "told"])
    with pytest.raises(SystemExit):
        main()
    assert f"{message_id}  job.succeeded" in capsys.readouterr().out


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
                  "optimizer": "sgd", "learning_rate": 0.1, "dropout": 0.0, "shift_pixels": 0, "batch_size": 32,
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


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> list[Any]:
    """The trials of a study that nobody disturbs, one at a time."""
    service.finished("calm", **DISTURBED)
    return service.trials("calm")


DISTURBED: dict[str, Any] = {
    "subset": {"train": 8000, "validation": 500, "epochs": 3},
    "budget": {"n_trials": 8, "parallel": 1},
    "seed": 5,
}


def results(trials: list[Any]) -> list[tuple[Any, ...]]:
    return [(t["number"], t["state"], t["value"], t["params"], t["seed"], t["reason"]) for t in trials]


def test_killed_workers_cost_attempts_and_not_trials(service: Service, undisturbed: list[Any]) -> None:
    """Workers killed with -9 in the middle: the study ends with the same trials, bit for bit, as one left alone."""
    service.post("killed", **DISTURBED)
    for finished in (1, 4):
        wait_until(lambda n=finished: ended(service, "killed") >= n, f"{finished} trials have ended")  # type: ignore[misc]
        wait_until(lambda: service.status("killed")["trials"]["running"] == 1, "a trial runs")
        for worker in workers():
            worker.kill()
    assert service.finish("killed")["state"] == "succeeded"
    assert results(service.trials("killed")) == results(undisturbed)
    assert sum(trial["attempts"] for trial in service.trials("killed")) > 8


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


def ended(service: Service, name: str) -> int:
    counts = service.status(name)["trials"]
    return int(counts["complete"] + counts["pruned"])


def kill_while_it_trains(service: Service, name: str) -> None:
    """Kill every worker whenever the study's one trial trains, until the study has ended.

    The killed worker's trial may go to the next one before that is killed, too: so a round may cost two attempts.
    """

    def over() -> bool:
        return service.status(name)["state"] in ENDED

    while not over():
        wait_until(lambda: trains(service, name) or over(), f"the trial of {name} trains")
        for worker in workers():
            worker.kill()
        wait_until(lambda: not trains(service, name) or over(), f"the trial of {name} is interrupted")


def trains(service: Service, name: str) -> bool:
    """Whether the study's one trial has a worker, which it may wait for long after its attempt has begun: its curve tells."""
    trial = service.api.get(f"/v1/studies/{name}/trials/0")
    return trial.status_code == 200 and trial.json()["state"] == "RUNNING" and bool(trial.json()["curves"])


def workers() -> list[psutil.Process]:
    """The worker processes of this process's executor: the fork server's children."""
    return [grandchild for child in psutil.Process().children() for grandchild in child.children()]


PROMOTED: dict[str, Any] = {"promotion": {"top_k": 2, "max_seeds": 1, "epochs": 1}, "budget": {"n_trials": 6}}


def test_the_best_are_promoted_and_tested_once(service: Service) -> None:
    """Top k and the default are retrained on the full data; the best is a model that loads and predicts; one opening."""
    status = service.finished("promoted", **PROMOTED)
    assert (status["state"], status["stop_reason"], status["progress"]["fraction"]) == ("succeeded", "n_trials", 1.0)
    best = service.get("/v1/studies/promoted/best")
    assert best["stage"] == "promotion"
    contenders = [item["contender"] for item in best["items"]]
    assert (len(contenders), len(set(contenders)), "default" in contenders) == (3, 3, True)
    values = [item["value"] for item in best["items"]]
    assert values == sorted(values, reverse=True)
    assert status["promoted"]["hyperparameters"] == best["items"][0]["hyperparameters"]
    assert status["promoted"]["test_accuracy"] == best["items"][0]["test_accuracy"] > 0.85
    search = service.get("/v1/studies/promoted/best?stage=search&k=100")
    found = {item["contender"]: item["hyperparameters"] for item in search["items"]}
    for item in best["items"]:
        if item["contender"] != "default":
            assert item["hyperparameters"]["weight_decay"] == found[item["contender"]]["weight_decay"] * 0.01

    model = service.get(f"/v1/models/{status['promoted']['model']}")
    low, high = model["metrics"]["test_interval"]
    assert low < model["metrics"]["test_accuracy"] < high
    packed = service.api.get(f"/v1/models/{model['id']}/download").content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"weights.safetensors", "config.json", "metrics.json", "README.md"}
    point = Hyperparameters.model_validate(model["hyperparameters"])
    dataset = catalogue.open_dataset("mnist", service.settings.datasets_dir)
    images = np.array(catalogue.training_images(dataset)[:500])
    net = from_bytes(files["weights.safetensors"], point, dataset.inputs, dataset.classes)
    with torch.inference_mode():
        expected = torch.softmax(net(torch.from_numpy(images)), dim=1).numpy()
    stored = StoredNet.from_bytes(files["weights.safetensors"], point.activation)
    assert np.abs(stored.predict(images) - expected).max() < 1e-5

    engine = open_database(service.settings.database_url)
    with reading(engine) as connection:
        assert ledger.count_openings(connection, dataset.checksum) == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("space", "share", "weight_decay", "batch_size"),
    [
        ({}, 0.1, 1e-4, 64),
        ({}, 0.01, 1e-5, 256),
        ({}, 1.0, 1e-3, 32),
        ({"weight_decay": 1e-3}, 0.1, 1e-3, 64),
        ({"batch_size": 32}, 0.1, 1e-4, 32),
    ],
)
def test_what_shifts_with_the_data_is_set_anew(
    space: dict[str, Any], share: float, weight_decay: float, batch_size: int
) -> None:
    """The penalty shrinks as the data grow, the batch grows as their root, to 256 at the most; what the user fixed stays."""
    point = Hyperparameters(weight_decay=1e-3, batch_size=32)
    fitted = fit(point, SearchSpace.model_validate(space), share)
    assert fitted == point.model_copy(update={"weight_decay": weight_decay, "batch_size": batch_size})


def test_a_promoted_net_that_explodes_is_replaced(service: Service) -> None:
    """Where promoted configurations diverge on the full data, the next best are trained, until top_k have ended."""
    space = {"depth": 2, "width": 32, "activation": "maxout", "loss": "cross_entropy", "optimizer": "sgd", "dropout": 0.0,
             "learning_rate": {"choices": [0.05, 0.7]}, "shift_pixels": {"choices": [0, 1]}, "batch_size": 50,
             "weight_decay": 0.0}  # fmt: skip
    subset = {"train": 50, "validation": 100, "epochs": 1}  # one step: nothing can explode yet
    service.post(
        "explosive",
        search_space=space,
        subset=subset,
        promotion={"top_k": 2, "max_seeds": 1, "epochs": 1},
        budget={"n_trials": 4, "parallel": 1},
    )
    assert service.finish("explosive")["state"] == "succeeded"
    best = service.get("/v1/studies/explosive/best")["items"]
    assert [item["hyperparameters"]["learning_rate"] for item in best if item["contender"] != "default"] == [0.05, 0.05]
    engine = open_database(service.settings.database_url)
    with reading(engine) as connection:
        study = studies.find_study(connection, "explosive")
        assert study is not None
        job_id = runs.newest_job(connection, study.id, "promotion")
        states = [run.state for run in runs.load_runs(connection, study.id, job_id, "promotion")]
    engine.dispose()
    assert RunState.DIVERGED in states


def test_a_killed_promotion_goes_on(service: Service) -> None:
    """A worker lost in the middle of promotion costs that run's time; the promoted model is there in the end."""
    service.post("hit", **PROMOTED)
    wait_until(lambda: service.status("hit")["stage"] == "promotion", "the search has ended")
    for worker in workers():
        worker.kill()
    status = service.finish("hit")
    assert (status["state"], status["promoted"] is not None) == ("succeeded", True)


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


def _act(service: Service, name: str, verb: str, state: str) -> float:
    """Seconds until the study is in `state` and nothing of it runs."""
    began = time.monotonic()
    assert service.api.post(f"/v1/studies/{name}/{verb}").status_code == 202
    wait_until(lambda: service.status(name)["state"] == state, f"{name} is {state}")
    assert service.status(name)["trials"]["running"] == 0
    return time.monotonic() - began


def test_a_job_on_either_database(database_url: str, tmp_path: Path) -> None:
    """The whole job, a stock reader and a foreign study work alike on SQLite and PostgreSQL."""
    settings = Settings(data_dir=tmp_path, database_url=database_url, parallel=2)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        storage = optuna.storages.RDBStorage(database_url)
        plain = optuna.create_study(study_name="plain", storage=storage)
        plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        status = service.finished("a", **PROMOTED)
        assert (status["state"], status["promoted"] is not None, status["trials"]["total"]) == ("succeeded", True, 6)
        assert service.status("plain")["state"] == "foreign"
        by_value = service.get("/v1/studies/a/trials?sort=-value&limit=3")
        values = [trial["value"] for trial in by_value["items"]]
        assert values == sorted(values, reverse=True)
        assert optuna.load_study(study_name="a", storage=storage).best_value == status["best"]["value"]
        storage.remove_session()
        storage.engine.dispose()
