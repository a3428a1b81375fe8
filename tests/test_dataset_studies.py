"""Studies on data sets of one's own: the whole job on uploaded digits, what is fitted to the data, and data that goes."""

import runpy
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sqlalchemy import Engine

from tests.conftest import connect, running, wait_until
from tests.test_datasets import URL, X, Y, npz, npz_files, upload
from tuner.cli.replaying import replay_here
from tuner.client.answers import StudyStatus, TrialWithCurves
from tuner.data.installation import install
from tuner.errors import Conflict
from tuner.nets.denormals import denormals_are_zero
from tuner.settings import Settings
from tuner.specs.schedule import ScheduleSpec
from tuner.specs.study import StudySpec
from tuner.store import firing, posting, schedules, studies
from tuner.store.clock import from_rfc3339, now
from tuner.store.database import writing

STUDIES = "/v1/studies"
ENDED = ("succeeded", "failed", "cancelled")

NET = {
    "depth": 1,
    "width": {"low": 16, "high": 32},
    "activation": "relu",
    "loss": "cross_entropy",
    "optimizer": "adam",
    "learning_rate": 0.005,
    "batch_size": 32,
    "dropout": 0.0,
}
SMALL: dict[str, Any] = {
    "search_space": NET,
    "subset": {"epochs": 2},
    "budget": {"n_trials": 3},
    "promotion": {"top_k": 1, "epochs": 5},
}


@dataclass
class House:
    """A service with a runner, and studies that have ended."""

    api: httpx.Client
    settings: Settings

    def post(self, name: str, **spec: Any) -> httpx.Response:
        return self.api.post(STUDIES, json={"name": name, **SMALL, **spec})

    def ended(self, name: str) -> dict[str, Any]:
        wait_until(lambda: self.status(name)["state"] in ENDED, f"{name} has ended")
        return self.status(name)

    def status(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.get(f"{STUDIES}/{name}").json()
        return answer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("house") / "data", parallel=2)
    digits = load_digits()
    with connect(settings) as api, running(settings):
        house = House(api, settings)
        for name, images in (("grey", digits.images), ("flat", digits.data.astype(np.uint8))):
            files = npz_files(x_train=images, y_train=digits.target, x_test=None, y_test=None)
            assert upload(api, name, files).status_code == 201
        assert house.post("grey", dataset="grey").status_code == 202
        assert house.post("flat", dataset="flat", promotion=None).status_code == 202
        house.ended("flat")
        house.ended("grey")
        yield house


def test_the_whole_job_on_uploaded_digits(house: House) -> None:
    """Search, promotion and one opening of the part that was split off: a model that recognises them."""
    status = house.ended("grey")
    assert (status["state"], status["stop_reason"]) == ("succeeded", "n_trials"), status["error"]
    dataset = house.api.get(f"{URL}/grey").json()
    assert status["dataset_checksum"] == dataset["checksum"]
    assert status["promoted"]["test_accuracy"] > 0.8
    model = status["promoted"]["model"]
    pixels = load_digits().images[:3].tolist()
    predicted = house.api.post(f"/v1/models/{model}/predict", json={"images": pixels}).json()
    assert len(predicted["labels"]) == 3
    assert len(predicted["probabilities"][0]) == 10
    assert (dataset["study_count"], dataset["studies"], dataset["schedules"]) == (1, ["grey"], [])


def test_what_is_left_to_the_data_is_fitted_and_told(house: House) -> None:
    """The default subset becomes as large as the data allows; images without two dimensions are not moved; the status says so,
    and its spec is what is run."""
    grey, flat = house.status("grey"), house.status("flat")
    for status in (grey, flat):
        assert status["spec"]["subset"] == {"train": 856, "validation": 342, "epochs": 2}
        assert "cut subset.train from 5000 to 856 and subset.validation from 2000 to 342" in status["notes"][-1]
    assert grey["spec"]["search_space"]["shift_pixels"] == {"choices": [0, 1, 2]}
    assert (flat["state"], flat["spec"]["search_space"]["shift_pixels"]) == ("succeeded", 0)
    assert [flat["spec"]["search_space"][name] for name in ("rotate_degrees", "zoom")] == [0, 0]
    assert (
        "search_space.zoom set to 0: only images of two dimensions can be moved, and these have 64" in flat["notes"][0]
    )


@pytest.mark.parametrize(
    ("said", "fitted"),
    [
        ({}, (64, 26)),
        ({"train": 20}, (20, 70)),
        ({"train": 80}, (80, 26)),
        ({"validation": 30}, (60, 30)),
        ({"train": 90, "validation": 20}, (90, 20)),
    ],
)
def test_what_was_said_of_a_subset_stays(
    said: dict[str, int], fitted: tuple[int, int], sqlite: Engine, settings: Settings
) -> None:
    """Only what was left out is cut down; of two that were given the training images make room, as ever."""
    arrays = {"train_images": X[:108], "train_labels": Y[:108], "test_images": X[:30], "test_labels": Y[:30]}
    install("noise", settings.datasets_dir, arrays)  # 90 images for the search, 18 for the race
    spec = StudySpec.model_validate({"name": "a", "dataset": "noise", "subset": said})
    with writing(sqlite) as connection:
        found = posting.fit_to_data(connection, spec, settings).spec
    assert isinstance(found, StudySpec)
    assert (found.subset.train, found.subset.validation) == fitted


@pytest.mark.parametrize(
    ("dataset", "spec", "loc", "rule"),
    [
        ("grey", {"subset": {"train": 1199}}, ["subset", "train"], "at most 1198 images, but got 1199"),
        ("grey", {"subset": {"validation": 1198}}, ["subset", "validation"], "at least one of 1198 images"),
        ("flat", {"search_space": {"shift_pixels": 1}}, ["search_space", "shift_pixels"], "two dimensions, but got 64"),
        ("flat", {"search_space": {"shift_pixels": {"choices": [0, 1, 2]}}}, ["search_space", "shift_pixels"], "64"),
        ("flat", {"search_space": {"zoom": 0.2}}, ["search_space", "zoom"], "zoom needs images of two dimensions"),
        ("none", {}, ["dataset"], "no data set is named 'none'"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(
    dataset: str, spec: dict[str, Any], loc: list[str], rule: str, house: House
) -> None:
    """422 names the field and the largest that fits, of studies and of schedules."""
    answer = house.post("bad", dataset=dataset, **spec)
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", *loc])
    assert rule in answer.json()["detail"]
    study = {"name": "{date}", "dataset": dataset, **spec}
    answer = house.api.post("/v1/schedules", json={"name": "bad", "cron": "0 3 * * *", "study": study})
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", "study", *loc])


def test_the_script_divides_the_users_own_file(house: House, tmp_path: Path) -> None:
    """It splits the test part off and makes bytes of the floats as the service did: the same net, with the same test accuracy."""
    digits, path, data = load_digits(), tmp_path / "script.py", tmp_path / "digits.npz"
    path.write_text(house.api.get(f"{STUDIES}/grey/best", params={"format": "torch"}).text)
    data.write_bytes(npz(x_train=digits.images, y_train=digits.target, x_test=None, y_test=None))
    best = house.api.get(f"{STUDIES}/grey/best").json()["items"][0]
    script = runpy.run_path(str(path))
    *train, images, labels = (torch.tensor(array) for array in script["load"](data))
    with denormals_are_zero():
        net = script["train"](*train)
    assert script["accuracy"](net, images, labels) == pytest.approx(best["test_accuracy"], abs=1e-7)


def test_a_schedule_remembers_what_was_left_to_the_data(engine: Engine, tmp_path: Path) -> None:
    """Read from its row it still fits its studies to the data; one that continues finds its own study again."""
    settings = Settings(data_dir=tmp_path / "data")
    noise = {"train_images": X.reshape(120, 20), "train_labels": Y, "test_images": X[:30], "test_labels": Y[:30]}
    install("noise", settings.datasets_dir, {**noise, "test_images": X[:30].reshape(30, 20)})
    study = {"name": "growing", "dataset": "noise", "budget": {"n_trials": 2}}
    timing = {"name": "hourly", "interval_seconds": 3600, "policy": "continue", "overlap": "queue"}
    with writing(engine) as connection:
        spec = ScheduleSpec.model_validate({**timing, "study": study})
        schedules.create_schedule(connection, spec, from_rfc3339(now()))
        for _ in range(2):
            schedule = schedules.find_schedule(connection, "hourly", lock=True)
            assert schedule.spec.study.left_to_data() == spec.study.left_to_data()
            run = firing.fire_now(connection, schedule, from_rfc3339(now()), settings)
            assert run.job_id is not None, run.reason
        found = studies.find_study(connection, "growing")
    assert found is not None
    assert len(found.notes) == 2


def test_data_in_use_is_not_deleted(api: httpx.Client) -> None:
    """By a study or a schedule, which the refusal names; a deleted study does not keep it."""
    upload(api, "noise", npz_files())
    api.post(STUDIES, json={"name": "a", "dataset": "noise"})
    api.post("/v1/schedules", json={"name": "s", "cron": "0 3 * * *", "study": {"name": "{date}", "dataset": "noise"}})
    refused = api.delete(f"{URL}/noise")
    assert (refused.status_code, refused.json()["detail"].endswith("the studies a and the schedules s")) == (409, True)
    uses = api.get(f"{URL}/noise").json()
    assert (uses["study_count"], uses["studies"], uses["schedules"]) == (1, ["a"], ["s"])
    api.post(f"{STUDIES}/a/cancel")
    api.delete(f"{STUDIES}/a")
    assert api.delete(f"{URL}/noise").json()["detail"].endswith("is used by the schedules s")
    api.delete("/v1/schedules/s")
    assert api.delete(f"{URL}/noise").status_code == 204
    assert api.get(f"{URL}/noise").status_code == 404
    assert api.post(f"{STUDIES}/a/restore").json()["dataset_checksum"] == uses["checksum"]


def test_posting_and_deleting_take_turns(engine: Engine, tmp_path: Path) -> None:
    """Whoever deletes a data set while a study on it is being posted waits for that, and then finds it in use."""
    settings = Settings(data_dir=tmp_path / "data", database_url=engine.url.render_as_string(hide_password=False))
    with connect(settings) as api:
        upload(api, "noise", npz_files())
        answers: list[int] = []
        deleting = threading.Thread(target=lambda: answers.append(api.delete(f"{URL}/noise").status_code))
        with writing(engine) as connection:
            posting.post_study(connection, StudySpec(name="a", dataset="noise"), settings)
            deleting.start()
            deleting.join(0.5)
            assert answers == []
        deleting.join(20)
    assert answers == [409]


def test_other_data_under_the_name_is_not_mixed_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study whose data was deleted, and its name given to other data, can be looked at, but neither trains, replays nor
    exports; a new study on that name trains on the new data, also in workers that had the old."""
    digits = load_digits()
    trial = house.api.get(f"{STUDIES}/flat/trials/0").json()
    house.api.delete(f"{STUDIES}/flat")
    assert house.api.delete(f"{URL}/flat").status_code == 204
    files = npz_files(x_train=np.zeros((1797, 64), np.uint8), y_train=digits.target, x_test=None, y_test=None)
    assert upload(house.api, "flat", files).status_code == 201
    assert house.api.post(f"{STUDIES}/flat/restore").status_code == 200
    assert house.api.post(f"{STUDIES}/flat/jobs", json={"kind": "search", "n_trials": 5}).status_code == 202
    failed = house.ended("flat")
    assert (failed["state"], failed["trials"]["total"]) == ("failed", 3)
    assert "the one of that name here has" in failed["error"]
    script = house.api.get(f"{STUDIES}/flat/best", params={"format": "torch"})
    assert (script.status_code, "the one of that name here has" in script.json()["detail"]) == (409, True)
    assert house.api.get(f"{STUDIES}/flat/best").status_code == 200
    monkeypatch.setenv("TUNER_DATA_DIR", str(house.settings.data_dir))
    with pytest.raises(Conflict, match="the one of that name here has"):
        replay_here(StudyStatus.model_validate(failed), TrialWithCurves.model_validate(trial))
    assert house.post("flat-again", dataset="flat", promotion=None).status_code == 202
    assert house.ended("flat-again")["state"] == "succeeded"
    # The new images are all black: nothing can be learned of them, and nearly everything of the old.
    assert max(trial["value"] for trial in house.api.get(f"{STUDIES}/flat-again/trials").json()["items"]) < 0.2
    assert house.status("flat")["best"]["value"] > 0.5
