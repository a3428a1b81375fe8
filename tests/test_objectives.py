"""Two objectives of our own nets: pruned by the first, judged by both, read by stock Optuna."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.conftest import connect, running
from tests.digits import install_digits
from tests.searching import SMALL, Service
from tests.test_view import SAMPLERS, score, spec
from tuner.settings import Settings
from tuner.stages.view import View

TWO = [{"metric": "accuracy"}, {"metric": "parameters"}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It has run the study `two` to its end."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("objectives"), parallel=2)
    subset = {"train": 500, "validation": 200, "epochs": 4}
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        install_digits(settings.datasets_dir)
        body: dict[str, Any] = {
            "dataset": "digits",
            "budget": {"n_trials": 24},
            "subset": subset,
            "pruner": {"kind": "median"},
        }
        service.finished("two", objectives=TWO, **body, promotion={"top_k": 1, "max_seeds": 1, "epochs": 1})
        yield service


def test_trials_are_pruned_by_the_first_objective(service: Service) -> None:
    """Some trials are PRUNED by the pruner, without values; the COMPLETE ones have two, accuracy and size."""
    trials = service.trials("two")
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    assert [trial for trial in trials if trial["reason"] == "pruner" and trial["values"] is None]
    assert all(trial["values"] == [trial["value"], trial["parameters"]] for trial in complete)
    assert all(0 < trial["value"] <= 1 for trial in complete)
    status = service.status("two")
    assert status["best"]["value"] == max(trial["value"] for trial in complete)
    assert (status["state"], status["trials"]["total"]) == ("succeeded", 24)


def test_the_front_is_of_both_and_promotion_of_the_first(service: Service) -> None:
    """On the front no trial is as accurate and as small as another; what is promoted comes from the search, by accuracy."""
    front = service.get("/v1/studies/two/pareto")
    assert [(axis["name"], axis["direction"]) for axis in front["axes"]] == [
        ("accuracy", "maximize"),
        ("parameters", "minimize"),
    ]
    points = [item["values"] for item in front["items"] if item["on_front"]]
    assert len(points) >= 2
    for a in points:
        assert not any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in points)
    rung = service.get("/v1/studies/two/best?stage=promotion")["items"]
    searched = [item["contender"] for item in service.get("/v1/studies/two/best?stage=search")["items"]]
    assert {item["contender"] for item in rung} - {"default"} <= set(searched)
    assert service.get("/v1/studies/two/plots/curves")["data"]


def test_stock_optuna_reads_goes_on_and_agrees(service: Service) -> None:
    """Values by objective, the front and the directions are ours; its own TPE can go on, and the dashboard shows the study."""
    storage = optuna.storages.RDBStorage(service.settings.database_url)
    stock = optuna.load_study(study_name="two", storage=storage)
    assert [direction.name for direction in stock.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert stock.metric_names == ["accuracy", "parameters"]
    ours = {t["number"]: t["values"] for t in service.trials("two") if t["state"] == "COMPLETE"}
    assert {t.number: t.values for t in stock.trials if t.state is TrialState.COMPLETE} == ours
    front = {item["number"] for item in service.get("/v1/studies/two/pareto")["items"] if item["on_front"]}
    assert {trial.number for trial in stock.best_trials} == front
    memory = optuna.create_study(directions=stock.directions)
    memory.add_trials(stock.trials)
    memory.sampler = optuna.samplers.TPESampler(n_startup_trials=1)
    memory.ask().suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    shown = service.get(f"/api/studies/{stock._study_id}?after=0")
    assert len(shown["trials"]) == 24
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in ("cmaes", "gp", "grid")])
def test_every_sampler_takes_two_objectives_with_pruned_trials(kind: str) -> None:
    """25 trials, a third of them pruned after reports: the sampler goes on, and the same when the view is loaded anew."""
    two = spec(sampler={"kind": kind}, objectives=TWO, pruner={"kind": "median"})

    def go_on(view: View[Any], n: int) -> View[Any]:
        while len(view) < n:
            asked = view.ask()
            assert asked is not None
            view.report(asked.number, 1, score(view, asked.number))
            if asked.number % 3 == 2:
                assert view.tell(asked.number, TrialState.PRUNED).values is None
            else:
                view.tell(asked.number, TrialState.COMPLETE, [score(view, asked.number), asked.hyperparameters.width])
        return view

    whole = go_on(View(two, [], {}), 25)
    half = go_on(View(two, [], {}), 17)
    again = go_on(View(two, half.trials(), half.study_attributes()), 25)
    assert [trial.params for trial in again.trials()] == [trial.params for trial in whole.trials()]


@pytest.mark.parametrize(
    ("objectives", "says"),
    [
        ([{"metric": "parameters"}], "accuracy and at most one other metric, but got parameters"),
        ([{"metric": "accuracy"}, {"metric": "accuracy"}], "but got accuracy, accuracy"),
        (
            [{"metric": "accuracy"}, {"metric": "seconds", "direction": "maximize"}],
            "seconds takes the direction minimize",
        ),
    ],
)
def test_wrong_objectives_are_refused(service: Service, objectives: list[Any], says: str) -> None:
    answer = service.api.post("/v1/studies", json={"name": "wrong", **SMALL, "objectives": objectives})
    assert answer.status_code == 422
    assert says in answer.text


def test_no_clock_decides_in_a_deterministic_study(service: Service) -> None:
    """`seconds` are refused there, and several objectives by CMA-ES."""
    timed = [{"metric": "accuracy"}, {"metric": "seconds"}]
    answer = service.api.post("/v1/studies", json={"name": "wrong", "objectives": timed, "deterministic": True})
    assert (answer.status_code, "no objective that a clock measures" in answer.text) == (422, True)
    answer = service.api.post("/v1/studies", json={"name": "wrong", "objectives": timed, "sampler": {"kind": "cmaes"}})
    assert (answer.status_code, "cmaes takes one objective" in answer.text) == (422, True)
