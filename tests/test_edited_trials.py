"""Trials that a user enqueues or declares void: in the app, in Optuna's own eyes, and beside a search that runs."""

import threading
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine

from tests.conftest import connect, running, wait_until
from tests.searching import Service
from tests.test_jobs import claim, job_of, owned, post
from tests.test_outside import lab
from tests.test_view import FINITE, run, spec
from tuner.errors import Conflict
from tuner.settings import Settings
from tuner.stages import leased_job
from tuner.stages.view import View
from tuner.store import enqueued, jobs
from tuner.store.database import writing

POST = "/v1/studies"


def enqueue(api: httpx.Client, name: str = "a", **hyperparameters: Any) -> httpx.Response:
    return api.post(f"{POST}/{name}/trials", json={"hyperparameters": hyperparameters})


def stock(settings: Settings, name: str = "a") -> optuna.Study:
    """As a plain Optuna script loads it."""
    storage = optuna.storages.RDBStorage(settings.database_url)
    study = optuna.load_study(study_name=name, storage=storage)
    study.get_trials()
    storage.remove_session()
    storage.engine.dispose()
    return study


def test_an_enqueued_trial_waits_with_its_hyperparameters(api: httpx.Client, settings: Settings) -> None:
    """201 with its number and address; what was not given is the default's; trial 0 is still the default configuration; Optuna's
    own queue has the parameters as its `enqueue_trial` writes them."""
    api.post(POST, json={"name": "a"})
    answer = enqueue(api, width=64, optimizer="sgd", learning_rate=0.1)
    assert answer.status_code == 201, answer.text
    trial = api.get(answer.headers["Location"]).json()
    assert (trial["number"], trial["state"], trial["history"]) == (1, "WAITING", [])
    point = trial["hyperparameters"]
    assert (point["width"], point["optimizer"], point["depth"], point["loss"]) == (64, "sgd", 2, "cross_entropy")
    default, ours = stock(settings).get_trials()
    assert (default.system_attrs["fixed_params"]["width"], default.state) == (128, TrialState.WAITING)
    theirs = optuna.create_study()
    theirs.enqueue_trial(trial["params"])
    assert ours.system_attrs == theirs.trials[0].system_attrs
    assert (ours.params, ours.user_attrs, ours.datetime_start) == ({}, {}, None)


@pytest.mark.parametrize(
    ("given", "field", "rule"),
    [
        ({"depth": 9}, "depth", "depth must be from 1 to 3, but got 9"),
        ({"depth": 1.5}, "depth", "valid integer"),
        ({"batch_size": 33}, "batch_size", "batch_size must be one of 32, 64, but got 33"),
        ({"loss": "mse"}, "loss", "loss must be 'cross_entropy', as the study's space fixes it, but got 'mse'"),
        ({"momentum": 0.5}, "momentum", "momentum applies only where optimizer is 'momentum', but it is 'adam'"),
        ({"optimizer": "sgd"}, "learning_rate", "was not given, and the default configuration has 0.001"),
        ({"dpeth": 1}, "dpeth", "dpeth is no hyperparameter"),
        ({"depth": None}, "depth", ""),
    ],
)
def test_a_point_outside_the_space_is_refused(shared: httpx.Client, given: Any, field: str, rule: str) -> None:
    """422 at the hyperparameter, with its rule and the value; nothing is enqueued."""
    space = {"depth": {"low": 1, "high": 3}, "batch_size": {"choices": [32, 64]}, "loss": "cross_entropy"}
    shared.post(POST, json={"name": "a", "search_space": space})  # 409 where it is there already
    answer = shared.post(f"{POST}/a/trials", json={"hyperparameters": {"batch_size": 64, **given}})
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert field in error["loc"]
    assert rule in error["msg"]
    assert shared.get(f"{POST}/a/trials").json()["items"] == []


def test_no_trial_is_enqueued_beyond_the_total_or_after_the_end(api: httpx.Client) -> None:
    """409 with the figures where the total is taken up, the default included; after a raised budget it goes on; an ended study
    takes none."""
    api.post(POST, json={"name": "a", "budget": {"n_trials": 2}})
    assert [enqueue(api, width=w).status_code for w in (64, 65)] == [201, 409]
    assert "has 2 of 2" in enqueue(api).json()["detail"]
    api.patch(f"{POST}/a", json={"n_trials": 3})
    assert enqueue(api, width=66).json()["number"] == 2
    api.post(f"{POST}/a/cancel")
    assert "is cancelled" in enqueue(api).json()["detail"]
    assert enqueue(api, "none").status_code == 404


def test_a_closed_search_takes_no_trial(engine: Engine) -> None:
    """From the moment at which the search has ended, a trial that would never be tried is refused."""
    job_id = post(engine)
    lease = claim(engine)
    with owned(engine, lease) as connection:
        jobs.close_search(connection, lease)
    with pytest.raises(Conflict, match="past its search"), writing(engine) as connection:
        enqueued.enqueue_trial(connection, job_of(engine, job_id).study_id, {})


@pytest.fixture
def ended(api: httpx.Client, settings: Settings) -> httpx.Client:
    """A study `a` that has ended with five trials; the third is best, the last is FAIL."""
    api.post(POST, json={"name": "a"})
    api.post(f"{POST}/a/cancel")
    storage = optuna.storages.RDBStorage(settings.database_url)
    study = optuna.load_study(study_name="a", storage=storage)
    distributions: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    for value in (0.2, 0.5, 0.9, 0.7, None):
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, params={"x": 0.1}, distributions=distributions))
    storage.remove_session()
    storage.engine.dispose()
    return api


def test_a_void_trial_stays_and_counts_for_nothing(ended: httpx.Client, settings: Settings) -> None:
    """It keeps state and value, and is not the best: not for us, not for stock Optuna; the dashboard, which had read it before,
    shows it infeasible. Twice is as once; taken back, it is the best again, and nothing of it is left."""
    study_id = stock(settings)._study_id

    def seen() -> tuple[int, int, list[Any]]:
        """The best trial here and in stock Optuna, and what the dashboard says of trial 2's constraints."""
        dashboard = ended.get(f"/api/studies/{study_id}?after=0").json()["trials"]
        best = ended.get(f"{POST}/a").json()["best"]["number"]
        return best, stock(settings).best_trial.number, dashboard[2]["constraints"]

    def forget_polls() -> None:
        """The dashboard asks its storage again after 2 s."""
        ended.get(f"/api/studies/{study_id}?after=0")

    assert seen() == (2, 2, [])
    for reason in ("a broken fan", "another"):
        answer = ended.post(f"{POST}/a/trials/2/void", json={"reason": reason})
        assert (answer.status_code, answer.json()["void"], answer.json()["void_reason"]) == (200, True, "a broken fan")
    assert (answer.json()["state"], answer.json()["value"]) == ("COMPLETE", 0.9)
    wait_until(lambda: seen() == (3, 3, [1.0]), "the dashboard has read it again", 60)
    assert ended.get(f"{POST}/a/best").json()["items"] == []  # their parameters are no hyperparameters of ours
    assert ended.delete(f"{POST}/a/trials/2/void").json()["void"] is False
    assert ended.delete(f"{POST}/a/trials/2/void").status_code == 200
    wait_until(lambda: seen() == (2, 2, []), "the dashboard has read it again", 60)
    trial = stock(settings).get_trials()[2]
    assert (trial.system_attrs, trial.user_attrs) == ({}, {})
    assert ended.post(f"{POST}/a/trials/4/void").json()["void"] is True
    assert ended.post(f"{POST}/a/trials/9/void").status_code == 404
    assert ended.post(f"{POST}/a/trials/2/void", json={"raeson": "x"}).status_code == 422


def test_only_an_ended_trial_of_ours_can_be_void(api: httpx.Client, settings: Settings) -> None:
    """One that waits, and one of a foreign study, are 409."""
    api.post(POST, json={"name": "a"})
    enqueue(api)
    assert "trial 0 is WAITING" in api.post(f"{POST}/a/trials/0/void").json()["detail"]
    storage = optuna.storages.RDBStorage(settings.database_url)
    study = optuna.create_study(study_name="plain", storage=storage)
    study.add_trial(create_trial(value=1.0))
    storage.engine.dispose()
    assert api.post(f"{POST}/plain/trials/0/void").status_code == 409
    assert enqueue(api, "plain").status_code == 409


@pytest.mark.parametrize("kind", ["tpe", "random", "cmaes"])
def test_a_void_trial_is_out_of_the_samplers_view(kind: str) -> None:
    """The view of a study whose best trials are void asks as if they had failed, and counts neither them nor their failure; their
    points are not drawn again."""
    whole = run(View(spec(sampler={"kind": kind}), [], {}), 20)
    stored = whole.trials()
    for trial in stored[5:10]:
        trial._system_attrs = {**trial.system_attrs, "constraints:void": 1.0}
    view = View(spec(sampler={"kind": kind}), stored, whole.study_attributes())
    assert [trial.number for trial in view.finished()] == [n for n in range(20) if not 5 <= n < 10]
    assert all(trial.value is None and not trial.intermediate_values for trial in view.trials()[5:10])
    asked = view.ask()
    assert asked is not None
    assert asked.number == 20


def test_a_void_point_of_a_finite_space_is_not_drawn_again() -> None:
    """Twelve points are twelve trials, also where some were declared void on the way."""
    view = run(View(spec(sampler={"kind": "grid"}, search_space=FINITE), [], {}), 6)
    stored = view.trials()
    stored[3]._system_attrs = {**stored[3].system_attrs, "constraints:void": 1.0}
    view.sync(stored, {})
    seen = [
        asked.hyperparameters for asked in iter(view.ask, None) if view.tell(asked.number, TrialState.COMPLETE, 0.5)
    ]
    assert len(seen) == len(set(seen)) == 6
    assert view.exhausted()


def test_a_view_reads_what_a_user_has_changed() -> None:
    """Synchronised, it has the trials of the database and its own unwritten reports, and asks for the enqueued trial under the
    number that the database gave it; a trial that it was about to start is asked for anew."""
    view = run(View(spec(), [], {}), 3)
    started = view.ask()
    assert started is not None
    stored = [*view.trials()]
    view.report(started.number, 1, 0.25)
    about_to_start = view.ask()
    assert about_to_start is not None
    assert about_to_start.number == 4
    space = spec().search_space
    wanted = space.complete({"width": 77})
    enqueued_trial = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": space.params(wanted)})
    enqueued_trial.number = 4
    view.sync([*stored, enqueued_trial], view.study_attributes())
    assert view.trial(3).intermediate_values == {1: 0.25}
    asked = view.ask()
    assert asked is not None
    assert (asked.number, asked.hyperparameters) == (4, wanted)
    again = view.ask()
    assert again is not None
    assert again.number == 5


def test_many_hands_enqueue_into_a_running_study(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads enqueue while the search starts trials as fast as it can: every number is there once, every enqueued point is
    tried under the number it was given, and the study has exactly its total. The search is kept from looking for news once in a
    while, so that it learns of them only where it must: in the transaction that starts a trial."""
    monkeypatch.setattr(leased_job, "CONTROL_SECONDS", 1e9)
    settings = Settings(data_dir=tmp_path, database_url=database_url, parallel=2)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        tiny = {"train": 200, "validation": 100, "epochs": 1}
        service.post("a", subset=tiny, budget={"n_trials": 30}, sampler={"kind": "random"})
        wait_until(lambda: service.status("a")["trials"]["total"] >= 2, "the search has begun")
        numbers: dict[int, int] = {}

        def hand(first: int) -> None:
            for width in range(first, first + 4):
                answer = enqueue(api, width=width)
                assert answer.status_code in (201, 409), answer.text
                if answer.status_code == 201:
                    numbers[answer.json()["number"]] = width

        hands = [threading.Thread(target=hand, args=(17 + 4 * n,)) for n in range(8)]
        for thread in hands:
            thread.start()
        for thread in hands:
            thread.join()
        assert service.finish("a")["state"] == "succeeded"
        found = service.trials("a")
    assert [trial["number"] for trial in found] == list(range(30))
    assert len(numbers) > 8
    widths = {trial["number"]: trial["hyperparameters"]["width"] for trial in found}
    assert {number: widths[number] for number in numbers} == numbers


def test_a_running_search_forgets_a_void_trial(tmp_path: Path) -> None:
    """A trial that is declared void in the midst of the search is out of the best, and the search goes on to its total."""
    settings = Settings(data_dir=tmp_path, parallel=1)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        service.post("a", budget={"n_trials": 6}, pruner={"kind": "none"})
        wait_until(lambda: service.status("a")["trials"]["complete"] >= 1, "a trial has ended")
        assert api.post(f"{POST}/a/trials/0/void").status_code == 200
        status = service.finish("a")
        assert (status["state"], status["trials"]["total"]) == ("succeeded", 6)
        assert status["best"]["number"] != 0
        log = [entry["text"] for entry in service.get(f"/v1/jobs/{status['job']['id']}/log?kind=trial_voided")["items"]]
        assert log == ["trial 0 is void"]


def test_trials_of_an_outside_objective_are_edited_too(settings: Settings) -> None:
    """An enqueued point goes to the next worker that asks past those made ready before it, with just those parameters; a point
    outside the space is refused. A void trial is not the best, and counts as one of the total."""
    with lab(settings) as service:
        service.post("a", budget={"n_trials": 8, "max_failed": 0})
        assert enqueue(service.http, x=1.5, c="c").json()["errors"][0]["loc"] == ["body", "hyperparameters"]
        answer = enqueue(service.http, x=1.5, c="b")
        assert answer.status_code == 201, answer.text
        number = answer.json()["number"]
        taken: dict[int, dict[str, Any]] = {}
        while number not in taken:
            for trial in service.suggest("a", count=4):
                taken[trial["number"]] = trial["params"]
                if trial["number"] != number:
                    service.tell("a", trial["number"], value=0.5)
        assert taken[number] == {"x": 1.5, "c": "b"}
        service.tell("a", number, value=9.0)
        assert service.status("a")["best"]["number"] == number
        assert service.http.post(f"{POST}/a/trials/{number}/void").json()["void"] is True
        best = service.status("a")["best"]  # there is none yet where it was the first to be taken
        assert best is None or best["number"] != number
        while service.status("a")["state"] == "running":
            for trial in service.suggest("a", count=4):
                service.tell("a", trial["number"], value=0.25)
        assert (service.status("a")["state"], service.status("a")["trials"]["complete"]) == ("succeeded", 8)
