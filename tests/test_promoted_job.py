"""Whole jobs to their promotion: the real app, runner and workers, real digits, on either database."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from tests.conftest import connect, running, wait_until
from tests.digits import install_digits
from tests.searching import Service, open_service, workers
from tuner.data import catalogue
from tuner.nets.weights import from_bytes
from tuner.settings import Settings
from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace
from tuner.store import curves, ledger, runs, studies
from tuner.store.database import open_database, reading
from tuner.store.model_files import StoredNet
from tuner.store.runs import RunState


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with open_service(tmp_path_factory.mktemp("service")) as service:
        install_digits(service.settings.datasets_dir)
        yield service


PROMOTED: dict[str, Any] = {
    "dataset": "digits",
    "promotion": {"top_k": 2, "max_seeds": 1, "epochs": 5},
    "budget": {"n_trials": 6},
}


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
    assert status["promoted"]["test_accuracy"] == best["items"][0]["test_accuracy"] > 0.8
    search = service.get("/v1/studies/promoted/best?stage=search&k=100")
    found = {item["contender"]: item["hyperparameters"] for item in search["items"]}
    for item in best["items"]:
        if item["contender"] != "default":
            fitted = found[item["contender"]]["weight_decay"] * 500 / 3000
            assert item["hyperparameters"]["weight_decay"] == pytest.approx(fitted)

    model = service.get(f"/v1/models/{status['promoted']['model']}")
    low, high = model["metrics"]["test_interval"]
    assert low < model["metrics"]["test_accuracy"] < high
    packed = service.api.get(f"/v1/models/{model['id']}/download").content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"weights.safetensors", "config.json", "metrics.json", "README.md"}
    point = Hyperparameters.model_validate(model["hyperparameters"])
    dataset = catalogue.open_dataset("digits", service.settings.datasets_dir)
    images = np.array(catalogue.training_images(dataset)[:500])
    net = from_bytes(files["weights.safetensors"], point, dataset.inputs, dataset.classes)
    with torch.inference_mode():
        expected = torch.softmax(net(torch.from_numpy(images)), dim=1).numpy()
    stored = StoredNet.from_bytes(files["weights.safetensors"], point.activation)
    assert np.abs(stored.predict(images) - expected).max() < 1e-5

    engine = open_database(service.settings.database_url)
    with reading(engine) as connection:
        assert len(ledger.load_openings(connection, dataset.checksum)) == 1
        trained, seconds = curves.cost_of_trials(connection, 1)
    assert (trained, seconds > 0) == (status["trials"]["total"], True)
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


@pytest.mark.parametrize(("share", "batch_size"), [(1.0, 32), (0.5, 32), (0.1, 128), (0.01, 256)])
def test_normalised_nets_take_larger_batches(share: float, batch_size: int) -> None:
    """As the power 2/3 of the data."""
    fitted = fit(Hyperparameters(batch_norm=True, batch_size=32), SearchSpace(), share)
    assert fitted.batch_size == batch_size


@pytest.mark.parametrize(
    ("optimizer", "space", "rate"),
    [
        ({"optimizer": "adam"}, {}, 0.02),
        ({"optimizer": "rmsprop", "rmsprop_alpha": 0.9}, {}, 0.02),
        ({"optimizer": "sgd"}, {}, 0.04),
        ({"optimizer": "momentum", "momentum": 0.9}, {}, 0.04),
        ({"optimizer": "sgd"}, {"learning_rate": 0.01}, 0.01),
        ({"optimizer": "sgd"}, {"batch_size": 32}, 0.01),
    ],
)
def test_normalised_nets_take_a_higher_rate_with_larger_batches(
    optimizer: dict[str, Any], space: dict[str, Any], rate: float
) -> None:
    """Four times the batch: twice the rate where the optimizer divides gradients by their size, four times where not; what the
    user fixed stays, and so does a rate beside a fixed batch. No rate is beyond what a net can have."""
    point = Hyperparameters(batch_norm=True, batch_size=32, learning_rate=0.01, **optimizer)
    assert fit(point, SearchSpace.model_validate(space), 0.1).learning_rate == pytest.approx(rate)
    assert fit(point.model_copy(update={"learning_rate": 80.0}), SearchSpace(), 0.1).learning_rate == 100


def test_a_promoted_net_that_explodes_is_replaced(service: Service) -> None:
    """Where promoted configurations diverge on the full data, the next best are trained, until top_k have ended."""
    space = {"depth": 2, "width": 32, "activation": "maxout", "loss": "cross_entropy", "optimizer": "sgd", "dropout": 0.0,
             "learning_rate": {"choices": [0.05, 0.7]}, "shift_pixels": {"choices": [0, 1]}, "batch_size": 50,
             "weight_decay": 0.0, "rotate_degrees": 0, "zoom": 0, "batch_norm": False}  # fmt: skip
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
    service.post("hit", **{**PROMOTED, "promotion": {"top_k": 2, "max_seeds": 1, "epochs": 20}})
    wait_until(lambda: service.status("hit")["stage"] == "promotion", "the search has ended")
    for worker in workers():
        worker.kill()
    status = service.finish("hit")
    assert (status["state"], status["promoted"] is not None) == ("succeeded", True)


def test_a_job_on_either_database(database_url: str, tmp_path: Path) -> None:
    """The whole job, a stock reader and a foreign study work alike on SQLite and PostgreSQL."""
    settings = Settings(data_dir=tmp_path, database_url=database_url, parallel=2)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        storage = optuna.storages.RDBStorage(database_url)
        plain = optuna.create_study(study_name="plain", storage=storage)
        plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        install_digits(settings.datasets_dir)
        status = service.finished("a", **PROMOTED)
        assert (status["state"], status["promoted"] is not None, status["trials"]["total"]) == ("succeeded", True, 6)
        assert service.status("plain")["state"] == "foreign"
        by_value = service.get("/v1/studies/a/trials?sort=-value&limit=3")
        values = [trial["value"] for trial in by_value["items"]]
        assert values == sorted(values, reverse=True)
        assert optuna.load_study(study_name="a", storage=storage).best_value == status["best"]["value"]
        storage.remove_session()
        storage.engine.dispose()
