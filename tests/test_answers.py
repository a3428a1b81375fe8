"""What can be asked about a finished study: exports, predictions, importances, pictures, fronts, replays."""

import dataclasses
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import optuna
import pytest
import yaml
from PIL import Image
from sqlalchemy import select, update

from api.remembered import Remembered
from tests.conftest import Terminal, connect, running, wait_until
from tests.digits import images_and_labels, install_digits
from tuner.cli.replaying import record_of
from tuner.client.answers import TrialWithCurves
from tuner.data.catalogue import open_dataset
from tuner.errors import InvalidInput
from tuner.executors.local import LocalExecutor
from tuner.settings import Settings
from tuner.specs.finding import FINDINGS
from tuner.specs.study import StudySpec
from tuner.stages.replay import TrialRecord, replay
from tuner.statistics.importances import importances
from tuner.statistics.pareto import on_front
from tuner.store import trials
from tuner.store.database import open_database, writing
from tuner.store.tables import curves

SPEC: dict[str, Any] = {
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
    "subset": {"train": 400, "validation": 200, "epochs": 3},
    "budget": {"n_trials": 12},
    "promotion": {"top_k": 1, "max_seeds": 1, "epochs": 1},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("answers"), parallel=2)


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[httpx.Client]:
    """Of a service that has run the study `done` to its end."""
    install_digits(settings.datasets_dir)
    with connect(settings) as api:
        api.post("/v1/studies", json=SPEC)
        with running(settings):
            wait_until(lambda: api.get("/v1/studies/done").json()["state"] == "succeeded", "the study is done", 200)
        yield api


@pytest.fixture(scope="module")
def model(api: httpx.Client) -> str:
    """The id of the promoted model."""
    promoted: str = api.get("/v1/studies/done").json()["promoted"]["model"]
    return promoted


def png(pixels: np.ndarray[Any, Any], mode: str | None = None) -> bytes:
    written = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(written, "PNG")
    return written.getvalue()


def test_the_best_come_in_four_formats(api: httpx.Client, model: str) -> None:
    """YAML says what JSON says; the scripts are of the furthest stage's winner, with its seed, epochs and images; each row
    with a model is of that model's run. Other ranks, and the search's configurations, can be had too."""
    best = api.get("/v1/studies/done/best?k=2").json()
    assert [item["epochs"] for item in best["items"]] == [1, 1]
    answer = api.get("/v1/studies/done/best?k=2&format=yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(answer.text) == best
    for framework in ("torch", "keras"):
        answer = api.get(f"/v1/studies/done/best?format={framework}")
        assert answer.headers["Content-Type"].startswith("text/x-python")
        source, first = answer.text, best["items"][0]
        for line in (f"SEED = {first['seed']}", "EPOCHS = 1", f"WIDTH = {first['hyperparameters']['width']}"):
            assert f"\n{line}\n" in source
        assert first["train_images"] == 3480
        assert "return order[0:3480], order[3480:3600]" in source
        assert model in source
        second = api.get(f"/v1/studies/done/best?format={framework}&rank=2").text
        assert best["items"][1]["contender"] in second
    rows = {item["contender"]: item for item in api.get("/v1/studies/done/best?k=9").json()["items"]}
    kept = {each["id"]: each["metrics"] for each in api.get("/v1/models?study=done").json()["items"]}
    assert {name for name, row in rows.items() if row["model"]} == {first["contender"], "default"}
    for row in rows.values():
        assert row["train_images"] == (3480 if row["model"] else None)
        assert row["kept_epoch"] == row["epochs"]
        if row["model"]:
            assert kept[row["model"]]["validation_accuracy"] == row["seed_value"]
            assert kept[row["model"]]["validation_images"] == 120
    searched = api.get("/v1/studies/done/best?format=torch&stage=search").text
    assert "\nEPOCHS = 3\n" in searched
    assert "return order[0:400], order[2800:3000]" in searched
    assert api.get("/v1/studies/done/best?format=torch&rank=9").status_code == 404
    assert api.get("/v1/studies/done/best?format=onnx").status_code == 422


def test_what_is_no_net_of_ours_has_no_script(api: httpx.Client, settings: Settings) -> None:
    """An outside objective's configuration comes as JSON and YAML only."""
    space = {"x": {"type": "float", "low": 0, "high": 1}}
    api.post("/v1/studies", json={"name": "outside", "objective": "external", "search_space": space})
    add_trials(settings, "outside", [{"x": 0.5}])
    assert yaml.safe_load(api.get("/v1/studies/outside/best?format=yaml").text)["items"][0]["hyperparameters"] == {
        "x": 0.5
    }
    answer = api.get("/v1/studies/outside/best?format=torch")
    assert (answer.status_code, "tunes something else" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("shape", [(784,), (28, 28)])
def test_predictions_are_those_of_the_model(api: httpx.Client, model: str, shape: tuple[int, ...]) -> None:
    """Flat or in rows: most of a hundred digits are told right, and probabilities add up to 1."""
    images, labels = images_and_labels()
    body = {"images": images[-100:].reshape(100, *shape).tolist()}
    answer = api.post(f"/v1/models/{model}/predict", json=body).json()
    assert np.mean(np.array(answer["labels"]) == labels[-100:]) > 0.8
    assert np.allclose(np.sum(answer["probabilities"], axis=1), 1, atol=1e-5)
    assert np.argmax(answer["probabilities"], axis=1).tolist() == answer["labels"]


def test_a_png_is_predicted_as_its_pixels(api: httpx.Client, model: str) -> None:
    """As the body, or as parts of a form; grey, coloured, with a palette or an opaque alpha: the answer that the pixels get."""
    images, _ = images_and_labels()
    path = f"/v1/models/{model}/predict"
    expected = api.post(path, json={"images": images[:2].tolist()}).json()
    forms = [png(image, mode) for image in images[:2] for mode in ("L", "RGB", "P", "RGBA")]
    answer = api.post(path, files=[("files", (f"{k}.png", form, "image/png")) for k, form in enumerate(forms)]).json()
    # A product of eight rows may round otherwise than one of two.
    np.testing.assert_allclose(answer["probabilities"], np.repeat(expected["probabilities"], 4, axis=0), atol=2e-6)
    alone = api.post(path, content=forms[0], headers={"Content-Type": "image/png"}).json()
    assert alone["labels"] == expected["labels"][:1]


FLAT = [0] * 784


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"images": []}, ["images"], "at least 1"),
        ({"images": [[0]] * 1001}, ["images"], "at most 1000"),
        ({"images": [FLAT, FLAT[1:]]}, ["images", 1], "784 pixels, flat or as 28×28, but got 783"),
        ({"images": [[[0] * 28] * 27]}, ["images", 0], "but got 27×28"),
        ({"images": [[[0] * 28] * 27 + [[0] * 27]]}, ["images", 0], "different lengths"),
        ({"images": [[*FLAT[1:], 256]]}, ["images", 0, 783], "but got 256"),
        ({"images": [[*FLAT[1:], -1]]}, ["images", 0, 783], "but got -1"),
        ({"images": [[*FLAT[1:], "0"]]}, ["images", 0, 783], "valid number"),
        ({"images": [[*FLAT[1:], None]]}, ["images", 0, 783], "valid number"),
        ({"images": [0]}, ["images", 0], "array"),
        ({"images": [[[[[0]]]]]}, ["images", 0, 0, 0, 0], "valid number"),
        ({"imges": [FLAT]}, ["images"], "required"),
        ([FLAT], [], "object"),
    ],
)
def test_wrong_images_are_refused_where_they_are_wrong(
    api: httpx.Client, model: str, body: Any, where: list[Any], said: str
) -> None:
    """422 with the place and the value."""
    answer = api.post(f"/v1/models/{model}/predict", json=body)
    assert answer.status_code == 422, answer.text[:300]
    [*_, error] = [error for error in answer.json()["errors"] if error["loc"] == ["body", *where]]
    assert said in error["msg"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_pixel_is_a_number(api: httpx.Client, model: str, number: str) -> None:
    """What JSON's dialects call a number and is none is refused."""
    body = '{"images": [[' + ",".join(["0"] * 783 + [number]) + "]]}"
    answer = api.post(f"/v1/models/{model}/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][:2] == ["body", "images"]


def bad_pngs() -> dict[str, tuple[bytes, str]]:
    pixels = np.zeros((28, 28), np.uint8)
    whole = png(pixels)
    huge = bytearray(whole)
    huge[16:24] = b"\0\0\xff\xff" * 2  # width and height, and with them the header's checksum
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4)
    clear = Image.fromarray(pixels).convert("RGBA")
    clear.putalpha(7)
    return {
        "not a PNG": (b"GIF89a", "whole PNG"),
        "cut off": (whole[:-20], "whole PNG"),
        "another size": (png(np.zeros((20, 28), np.uint8)), "28×28 pixels, but got 28×20"),
        "a bomb": (bytes(huge), "bomb"),
        "transparent": (png(np.asarray(clear)), "opacity of 7"),
        "sixteen bits": (png(np.zeros((28, 28), np.uint16)), "8 bits"),
    }


@pytest.mark.parametrize("name", bad_pngs())
def test_a_png_that_does_not_fit_is_refused(api: httpx.Client, model: str, name: str) -> None:
    """422 and a sentence; nothing is unpacked of a picture whose header does not fit."""
    content, said = bad_pngs()[name]
    answer = api.post(f"/v1/models/{model}/predict", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_a_form_without_files_and_a_model_that_is_not_there(api: httpx.Client, model: str) -> None:
    assert api.post(f"/v1/models/{model}/predict", files={"a": (None, "b")}).status_code == 422
    assert api.post("/v1/models/none/predict", json={"images": [FLAT]}).status_code == 404


def test_damaged_weights_are_not_served(api: httpx.Client, model: str, settings: Settings) -> None:
    """A model whose file is not the one that was kept answers 500 naming the checksums; mended, it predicts again."""
    weights = settings.models_dir / model / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with connect(settings) as fresh:
        answer = fresh.post(f"/v1/models/{model}/predict", json={"images": [FLAT]})
        assert (answer.status_code, "SHA-256" in answer.json()["detail"]) == (500, True)
        weights.write_bytes(whole)
        assert fresh.post(f"/v1/models/{model}/predict", json={"images": [FLAT]}).status_code == 200


def test_what_is_remembered_has_a_bound() -> None:
    """What was not asked for the longest goes first; what is larger than all of it is made each time."""
    made: list[str] = []

    def maker(text: str) -> Callable[[], bytes]:
        def make() -> bytes:
            made.append(text)
            return text.encode()

        return make

    kept = Remembered[bytes](8, len)
    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb", "123456789", "123456789"):
        assert kept.get(text, maker(text)) == text.encode()
    assert made == ["aaaa", "bbbb", "cccc", "bbbb", "123456789", "123456789"]


def test_every_ended_trial_says_what_is_the_matter_with_it(api: httpx.Client) -> None:
    """In the list as by itself: a name, and the number that decided beside its threshold."""
    listed = api.get("/v1/studies/done/trials").json()["items"]
    assert len(listed) == 12
    for trial in listed:
        evidence = trial["finding"]["evidence"]
        assert trial["finding"]["name"] in FINDINGS
        assert isinstance(evidence["value"], int | float)
        assert isinstance(evidence["threshold"], int | float)
        assert api.get(f"/v1/studies/done/trials/{trial['number']}").json()["finding"] == trial["finding"]


def test_importances_name_what_decided(api: httpx.Client) -> None:
    """Shares of the parameters that varied, together 1, the largest first, from the COMPLETE trials alone."""
    answer = api.get("/v1/studies/done/importances").json()
    complete = api.get("/v1/studies/done").json()["trials"]["complete"]
    assert answer["trials"] == complete
    if complete < 10:
        assert str(complete) in answer["note"]
        return
    shares = [item["share"] for item in answer["items"]]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert "depth" not in [item["parameter"] for item in answer["items"]]


def plain_study(settings: Settings, name: str, trials: int, *directions: Literal["minimize", "maximize"]) -> int:
    """A study by a plain Optuna script: x decides nearly all, y little. Its id."""
    storage = optuna.storages.RDBStorage(settings.database_url)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions, sampler=sampler)

    def objective(trial: optuna.Trial) -> Any:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        values = [10 * x + 0.1 * y, 1 - x]
        return values[: len(directions)]

    study.optimize(objective, n_trials=trials)
    storage.remove_session()
    storage.engine.dispose()
    return int(study._study_id)


def complete(point: dict[str, float], value: float) -> optuna.trial.FrozenTrial:
    """A COMPLETE trial at a point between 0 and 1."""
    unit = optuna.distributions.FloatDistribution(0, 1)
    return optuna.trial.create_trial(params=point, distributions=dict.fromkeys(point, unit), value=value)


def add_trials(settings: Settings, name: str, points: list[dict[str, float]]) -> None:
    """Trials at these points, written by the store; the value is their sum."""
    engine = open_database(settings.database_url)
    with writing(engine) as connection:
        query = select(trials.STUDIES.c.study_id).where(trials.STUDIES.c.study_name == name)
        study_id = connection.execute(query).scalar_one()
        for number, point in enumerate(points):
            trial = complete(point, sum(point.values()))
            trial.number = number
            trials.finish_trial(connection, trials.start_trial(connection, study_id, trial), trial)
    engine.dispose()


def test_importances_of_a_plain_study(api: httpx.Client, settings: Settings) -> None:
    """A foreign study has them too; with too few trials the answer says so."""
    study_id = plain_study(settings, "plain", 20, "maximize")
    first, second = api.get(f"/v1/studies/@{study_id}/importances").json()["items"]
    assert (first["parameter"], second["parameter"]) == ("x", "y")
    assert first["share"] > 0.8
    few = plain_study(settings, "few", 4, "maximize")
    answer = api.get(f"/v1/studies/@{few}/importances").json()
    assert (answer["items"], "at least 10 COMPLETE trials" in answer["note"]) == ([], True)


KINDS = ["history", "slice", "parallel", "contour", "importances", "curves", "pareto"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_plot_is_a_figure(api: httpx.Client, kind: str) -> None:
    """Data and layout as plotly takes them, of a study of ours and of one with too few trials."""
    answer = api.get(f"/v1/studies/done/plots/{kind}")
    assert answer.status_code == 200, answer.text
    figure = answer.json()
    assert figure["layout"]["meta"]["of"] == 12
    assert figure["data"] or "are needed" in answer.text
    api.post("/v1/studies", json={**SPEC, "name": "empty"})
    assert "are needed" in api.get(f"/v1/studies/empty/plots/{kind}").text


def test_plots_of_chosen_parameters(api: httpx.Client, settings: Settings) -> None:
    """A contour is of the two that were asked for; unknown ones, and unknown plots, are refused."""
    study_id = plain_study(settings, "two", 12, "maximize", "minimize")
    plots = f"/v1/studies/@{study_id}/plots"
    figure = api.get(f"{plots}/contour?params=y&params=x").json()
    assert {figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis")} == {"x", "y"}
    for kind in KINDS:
        if kind != "curves":
            assert api.get(f"{plots}/{kind}").json()["data"], kind
    assert api.get(f"{plots}/contour?params=x").status_code == 422
    assert api.get(f"{plots}/slice?params=z").status_code == 422
    assert api.get(f"{plots}/pie").status_code == 404


def test_a_large_contour_is_of_a_sample(api: httpx.Client, settings: Settings) -> None:
    """500 of 520 trials and the best are in it, and it says so."""
    points = np.random.default_rng(0).random((520, 2))
    study_id = plain_study(settings, "large", 0, "minimize")
    add_trials(settings, "large", [{"x": x, "y": y} for x, y in points.tolist()])
    figure = api.get(f"/v1/studies/@{study_id}/plots/contour").json()
    assert figure["layout"]["meta"]["trials"] in (500, 501)
    assert figure["layout"]["meta"]["of"] == 520


def test_the_front_of_one_objective_is_against_the_size(api: httpx.Client) -> None:
    """No trial is as good with fewer parameters as one on the front; the front comes first, from its best value down."""
    answer = api.get("/v1/studies/done/pareto").json()
    assert [axis["name"] for axis in answer["axes"]] == ["accuracy", "parameters"]
    points = [item["values"] for item in answer["items"]]
    for item in answer["items"]:
        value, size = item["values"]
        beaten = any(v >= value and s <= size and (v, s) != (value, size) for v, s in points)
        assert item["on_front"] is not beaten
    marks = [item["on_front"] for item in answer["items"]]
    assert marks == sorted(marks, reverse=True)
    front = [item["values"][0] for item in answer["items"] if item["on_front"]]
    assert front == sorted(front, reverse=True)


def test_the_front_of_two_objectives(api: httpx.Client, settings: Settings) -> None:
    """Every trial of a pure trade-off is on the front; one objective without sizes has none, and that is a 409."""
    both = plain_study(settings, "trade-off", 6, "maximize", "maximize")
    answer = api.get(f"/v1/studies/@{both}/pareto?limit=5").json()
    assert (answer["trials"], len(answer["items"])) == (6, 5)
    one = plain_study(settings, "no sizes", 3, "minimize")
    assert api.get(f"/v1/studies/@{one}/pareto").status_code == 409


def test_the_front_is_what_nothing_beats() -> None:
    """Against the definition, with ties and a NaN, on three axes."""
    costs = np.random.default_rng(3).integers(0, 4, (80, 3)).astype(float)
    costs[7, 1] = np.nan
    beaten = [any((q <= p).all() and (q < p).any() for q in costs) for p in costs]
    expected = [not lost and not np.isnan(p).any() for lost, p in zip(beaten, costs, strict=True)]
    assert on_front(costs).tolist() == expected


def test_importances_of_constant_values() -> None:
    """Nothing decides where all values are equal: no warning, no division by zero."""
    found = importances([complete({"x": k / 20}, 1.0) for k in range(20)], [optuna.study.StudyDirection.MAXIMIZE])
    assert sum(found.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(slots=1)) as executor:
        yield executor


def record(api: httpx.Client, number: int) -> TrialRecord:
    answer = api.get(f"/v1/studies/done/trials/{number}")
    return record_of(TrialWithCurves.model_validate_json(answer.content))


def test_trials_replay_bit_for_bit(api: httpx.Client, settings: Settings, executor: LocalExecutor) -> None:
    """The first trials and the last of each state come out as they were; a number of a curve that was changed in its last bit is
    reported, and so are another build and a missing epoch."""
    spec = StudySpec.model_validate(api.get("/v1/studies/done").json()["spec"])
    dataset = open_dataset("digits", settings.datasets_dir)
    by_state = {trial["state"]: trial["number"] for trial in api.get("/v1/studies/done/trials").json()["items"]}
    for number in {0, 1, *by_state.values()}:
        outcome = replay(record(api, number), spec, dataset, executor)
        assert (outcome.differences, outcome.builds) == ((), ())
        assert outcome.compared > 9
    true = record(api, by_state["COMPLETE"])
    assert true.build is not None
    first = true.epochs[0]
    wrong = first.model_copy(update={"train_loss": float(np.nextafter(first.train_loss, 1))})
    build = true.build.model_copy(update={"cpu": "another"})
    tampered = dataclasses.replace(true, epochs=(wrong, *true.epochs[1:]), build=build)
    outcome = replay(tampered, spec, dataset, executor)
    [difference] = outcome.differences
    assert (difference.where, difference.name, difference.recorded) == ("epoch 1", "train_loss", wrong.train_loss)
    assert [(b.name, b.recorded, b.replayed) for b in outcome.builds] == [("cpu", "another", true.build.cpu)]
    outcome = replay(dataclasses.replace(true, epochs=true.epochs[:1]), spec, dataset, executor)
    assert ("trial", "epochs") in [(one.where, one.name) for one in outcome.differences]
    with pytest.raises(InvalidInput, match=r"but trial \d+ is FAIL"):
        replay(dataclasses.replace(true, state="FAIL"), spec, dataset, executor)


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(api: httpx.Client, settings: Settings, terminal: Terminal) -> Ask:
    """`tuner …` in this process, on the service's data folder: exit code and what was said."""

    def ask(*arguments: str) -> tuple[int, str]:
        ran = terminal(*arguments, TUNER_DATA_DIR=str(settings.data_dir))
        return ran.returncode, ran.stdout + ran.stderr

    return ask


def test_replay_in_the_terminal(ask: Ask, settings: Settings) -> None:
    """`tuner trial replay` says what it has compared, exit code 0; of a curve that was tampered with in the database it shows
    the number and what it should have been, exit code 1."""
    code, said = ask("trial", "replay", "done", "1")
    assert (code, "all are equal, bit for bit" in said) == (0, True)
    engine = open_database(settings.database_url)
    with writing(engine) as connection:
        ours = select(trials.TRIALS.c.trial_id).join(trials.STUDIES).where(trials.STUDIES.c.study_name == "done")
        trial_id = connection.execute(ours.where(trials.TRIALS.c.number == 2)).scalar_one()
        here = (curves.c.subject == "trial") & (curves.c.subject_id == trial_id) & (curves.c.epoch == 1)
        record = connection.execute(select(curves.c.record).where(here)).scalar_one()
        connection.execute(update(curves).where(here).values(record={**record, "validation_loss": 0.125}))
    engine.dispose()
    code, said = ask("trial", "replay", "done", "2")
    assert code == 1
    assert re.search(rf"epoch 1 +validation_loss +0\.125 +{record['validation_loss']}", said)
    assert "1 differs" in said


def test_models_in_the_terminal(ask: Ask, model: str, tmp_path: Path) -> None:
    """Shown, downloaded as a whole zip, asked about a picture."""
    assert "done" in ask("model", "show", model)[1]
    archive, picture = tmp_path / "model.zip", tmp_path / "digit.png"
    assert ask("model", "download", model, str(archive))[0] == 0
    assert "done-single/weights.safetensors" in zipfile.ZipFile(archive).namelist()
    picture.write_bytes(png(images_and_labels()[0][-1]))
    code, said = ask("model", "predict", model, str(picture))
    assert code == 0
    assert len(re.findall(r"^\d +[01]\.\d{4}", said, re.MULTILINE)) == 10
    for arguments in (["predict", model, "nowhere.png"], ["download", model, "/nowhere/x.zip"], ["show", "none"]):
        code, said = ask("model", *arguments)
        assert (code, len(said.splitlines())) == (1, 1), said


def test_studies_in_the_terminal(ask: Ask, api: httpx.Client) -> None:
    """Importances or why there are none, the front with its stars, a script as the service exports it."""
    assert "COMPLETE trials" in ask("study", "importances", "done")[1]
    front = ask("study", "pareto", "done")[1]
    assert "parameters" in front
    assert "\n* " in front
    assert ask("study", "export", "done")[1] == api.get("/v1/studies/done/best?format=torch").text
    assert ask("study", "export", "done", "--rank", "9")[0] == 1
