"""A data folder with something of everything in it, for tests that ask every route for things that are there."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import optuna

from tests.conftest import connect, running, wait_until
from tests.digits import install_digits
from tests.receiver import SECRET
from tests.serving import free_port
from tuner.settings import Settings

NETS: dict[str, Any] = {
    "name": "done",
    "dataset": "digits",
    "search_space": {
        "depth": 1,
        "width": {"low": 8, "high": 32},
        "activation": {"choices": ["relu", "tanh"]},
        "batch_size": 256,
        "shift_pixels": 0,
        "rotate_degrees": 0,
        "zoom": 0,
        "batch_norm": False,
    },
    "subset": {"train": 400, "validation": 200, "epochs": 2},
    "budget": {"n_trials": 12},
    "promotion": {"top_k": 1, "max_seeds": 1, "epochs": 1},
}

OUTSIDE: dict[str, Any] = {
    "name": "outside",
    "objective": "external",
    "search_space": {
        "x": {"type": "float", "low": -5, "high": 10},
        "c": {"type": "categorical", "choices": ["a", "b"]},
    },
    "budget": {"n_trials": 6},
    "lease_seconds": 3600,
}

WORKER = "worker-1"
"""Who has the outside study's trials: as in the OpenAPI document's examples."""

SCHEDULE: dict[str, Any] = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "paused": True,
    "study": {**NETS, "name": "n-{date}"},
}


Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Furnished:
    """`names` are those of things that are there, by the beginning of an operation (a path, or a method and a path; the first
    that fits) and by the name of the path's parameter."""

    settings: Settings
    names: Mapping[str, Names]


def furnish(folder: Path, database_url: str | None = None) -> Furnished:
    """A finished study with its trials, models and webhooks, an outside study under way whose runner has gone, a queued one, a
    foreign one, cancelled and deleted ones, jobs with logs, a schedule with a run. No runner works here afterwards."""
    settings = _settings(folder, database_url)
    install_digits(settings.datasets_dir)
    with connect(settings) as api:
        _post(api, "/v1/studies", {**NETS, "webhook": f"http://127.0.0.1:{free_port()}/"})
        _post(api, "/v1/studies", OUTSIDE)
        with running(settings):
            wait_until(lambda: len(_suggested(api)) == 6, "every trial of the outside study is given out")
            number = _suggested(api)[0]["number"]
            _post(api, f"/v1/studies/outside/trials/{number}/complete", {"value": 0.5})
            wait_until(lambda: _get(api, "/v1/studies/done")["state"] == "succeeded", "the study is done", 100)
        for name in ("waiting", "later", "ended", "deleted", "to-purge"):
            _post(api, "/v1/studies", {**NETS, "name": name})
        for name in ("ended", "deleted", "to-purge"):
            _post(api, f"/v1/studies/{name}/cancel", {})
        for name in ("deleted", "to-purge"):
            api.delete(f"/v1/studies/{name}").raise_for_status()
        for name in ("nightly", "spare"):
            _post(api, "/v1/schedules", {**SCHEDULE, "name": name})
        _post(api, "/v1/schedules/nightly/run", {})
        _add_dataset(api)
        _add_foreign(settings)
        return Furnished(settings, _names(api))


def _settings(folder: Path, database_url: str | None) -> Settings:
    (folder / "secret").write_text(SECRET)
    return Settings(
        data_dir=folder / "data",
        database_url=database_url or "",
        parallel=2,
        requests_burst=1_000_000,  # what asks so much in a test is no flood
        requests_per_second=1_000_000,
        webhook_hosts="127.0.0.1",
        webhook_secret_file=folder / "secret",
    )


def _names(api: httpx.Client) -> dict[str, Names]:
    """What ends, deletes or tells something does so of things that are kept for it, so that the others stay for the rest."""
    numbers: Names = {"number": ("5", "0", "1")}
    models = {"model_id": tuple(model["id"] for model in _get(api, "/v1/models")["items"])}
    deliveries = {"delivery_id": tuple(one["id"] for one in _get(api, "/v1/studies/done/deliveries")["items"])}
    later: Names = {"job_id": (str(_get(api, "/v1/studies/later")["job"]["id"]),)}
    controlled: Names = {"name": ("waiting", "done", "@3")}
    return {
        "DELETE /v1/studies/{name}/trials": {"name": ("done",), **numbers},
        "DELETE /v1/studies": {"name": ("ended",)},
        "POST /v1/studies/{name}/restore": {"name": ("deleted",)},
        "POST /v1/studies/{name}/purge": {"name": ("to-purge",)},
        "POST /v1/studies/{name}/pause": controlled,
        "POST /v1/studies/{name}/resume": controlled,
        "POST /v1/studies/{name}/cancel": controlled,
        "POST /v1/studies/{name}/suggest": {"name": ("outside",)},
        "POST /v1/studies/{name}/trials/{number}/void": {"name": ("done",), **numbers},
        "POST /v1/studies/{name}/trials/{number}/measure": {"name": ("outside",), "number": ("4", "5")},
        "POST /v1/studies/{name}/trials/{number}/complete": {"name": ("outside",), "number": ("1", "0", "2")},
        "GET /v1/studies/{name}/trials/{number}/should-stop": {"name": ("outside",), **numbers},
        "/v1/studies/{name}/deliveries": {"name": ("done",), **deliveries},
        "/v1/studies": {"name": ("done", "outside", "waiting", "@3"), **numbers},
        "POST /v1/jobs": later,
        "PATCH /v1/jobs": later,
        "/v1/jobs": {"job_id": ("1", "2", "3")},
        "/v1/models": models,
        "DELETE /v1/schedules": {"name": ("spare",)},
        "/v1/schedules": {"name": ("nightly",)},
        "/v1/datasets": {"name": ("mnist", "noise")},
        "/v1/tokens": {"name": ("spare",)},
    }


def _add_dataset(api: httpx.Client) -> None:
    """Of noise; no study uses it."""
    drawn, packed = np.random.default_rng(0), io.BytesIO()
    np.savez(packed, x_train=drawn.integers(0, 256, (100, 8, 8), np.uint8), y_train=np.arange(100) % 2)
    form = {"files": ("noise.npz", packed.getvalue())}
    api.post("/v1/datasets", data={"name": "noise"}, files=form).raise_for_status()


def _add_foreign(settings: Settings) -> None:
    storage = optuna.storages.RDBStorage(settings.database_url)
    study = optuna.create_study(study_name="by a script", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
    storage.remove_session()
    storage.engine.dispose()


def _suggested(api: httpx.Client) -> Any:
    """All that one worker has, and as many more as are ready by now."""
    return _post(api, "/v1/studies/outside/suggest", {"client_id": WORKER, "count": 6})["trials"]


def _get(api: httpx.Client, path: str) -> Any:
    return api.get(path).raise_for_status().json()


def _post(api: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    return api.post(path, json=body).raise_for_status().json()
