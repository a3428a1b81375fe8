"""Ask and tell: outside workers against the real app and a real runner."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest

from tests.conftest import connect, running, wait_until
from tuner.settings import Settings

SPACE = {
    "x": {"type": "float", "low": -5, "high": 10},
    "c": {"type": "categorical", "choices": ["a", "b"]},
    "k": {"type": "int", "low": 1, "high": 9, "when": {"c": "a"}},
}


class Lab:
    """An API with a runner, and an outside study in it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, name: str, **spec: Any) -> None:
        body = {"name": name, "objective": "external", "search_space": SPACE, "budget": {"n_trials": 12}, **spec}
        answer = self.http.post("/v1/studies", json=body)
        assert answer.status_code == 202, answer.text

    def suggest(self, name: str, client: str = "one", count: int = 1) -> list[dict[str, Any]]:
        answer = self.http.post(f"/v1/studies/{name}/suggest", json={"client_id": client, "count": count})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["trials"])

    def tell(self, name: str, number: int, **how: Any) -> dict[str, Any]:
        answer = self.http.post(f"/v1/studies/{name}/trials/{number}/complete", json=how)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/studies/{name}").json())

    def trial(self, name: str, number: int) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/studies/{name}/trials/{number}").json())


@contextmanager
def lab(settings: Settings) -> Iterator[Lab]:
    with connect(settings) as http, running(settings):
        yield Lab(http)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(Settings(data_dir=tmp_path_factory.mktemp("outside"), parallel=1)) as made:
        yield made


def objective(params: dict[str, Any]) -> float:
    return -((float(params["x"]) - 2) ** 2) - (int(params.get("k", 5)) - 3) ** 2


def test_a_study_is_tuned_from_outside(database_url: str, tmp_path: Path) -> None:
    """Several clients at once bring a study to exactly its total; each trial is given to one of them, and the best is right."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, parallel=1)
    with lab(settings) as service:
        service.post("many", budget={"n_trials": 20})
        seen: list[int] = []

        def work(client: str) -> None:
            while trials := service.suggest("many", client, 2):
                for trial in trials:
                    seen.append(trial["number"])
                    assert ("k" in trial["params"]) == (trial["params"]["c"] == "a")
                    service.tell("many", trial["number"], value=objective(trial["params"]))

        threads = [threading.Thread(target=work, args=(f"client-{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: service.status("many")["state"] == "succeeded", "the study ends")
        assert sorted(seen) == list(range(20))
        trials = [service.trial("many", number) for number in range(20)]
        best = max(trials, key=lambda trial: trial["value"])
        assert service.status("many")["best"] == {"number": best["number"], "value": best["value"],
                                                  "hyperparameters": best["params"]}  # fmt: skip
        storage = optuna.storages.RDBStorage(settings.database_url)
        assert optuna.load_study(study_name="many", storage=storage).best_trial.number == best["number"]
        storage.remove_session()
        storage.engine.dispose()


def test_a_client_gets_its_own_pending_trials_back(service: Lab) -> None:
    """A worker that was restarted finds the trials it had, and another one does not get them."""
    service.post("mine")
    first = service.suggest("mine", "one", 2)
    assert {t["number"] for t in service.suggest("mine", "one", 2)} == {t["number"] for t in first}
    assert not {t["number"] for t in service.suggest("mine", "two", 2)} & {t["number"] for t in first}


def test_a_silent_worker_loses_its_trial(service: Lab) -> None:
    """After its lease a trial goes to another worker under the same number; the first one's tell is late and changes nothing."""
    service.post("silent", lease_seconds=1, budget={"n_trials": 1})
    [lost] = service.suggest("silent", "one")
    wait_until(lambda: service.trial("silent", lost["number"])["state"] == "WAITING", "the lease has ended")
    [again] = service.suggest("silent", "two")
    assert (again["number"], again["params"]) == (lost["number"], lost["params"])
    assert service.tell("silent", again["number"], value=1.0) == {"number": 0, "state": "COMPLETE", "late": False}
    assert service.tell("silent", lost["number"], value=2.0) == {"number": 0, "state": "COMPLETE", "late": True}
    trial = service.trial("silent", 0)
    assert (trial["value"], [a["outcome"] for a in trial["history"]]) == (1.0, ["lease_ended", "complete", "late"])


def test_a_late_value_counts_while_nobody_else_has_one(service: Lab) -> None:
    """A worker that was too slow for its lease, and told before another took the trial, has not worked in vain."""
    service.post("slow", lease_seconds=1, budget={"n_trials": 1})
    [trial] = service.suggest("slow")
    wait_until(lambda: service.trial("slow", 0)["state"] == "WAITING", "the lease has ended")
    assert service.tell("slow", trial["number"], value=3.0) == {"number": 0, "state": "COMPLETE", "late": True}
    wait_until(lambda: service.status("slow")["state"] == "succeeded", "the study ends")
    assert service.status("slow")["best"]["value"] == 3.0


def test_infeasible_is_not_failed(service: Lab) -> None:
    """An infeasible configuration teaches the sampler (PRUNED), a failed one does not (FAIL); both tell their reason."""
    service.post("told", budget={"n_trials": 2})
    service.tell("told", service.suggest("told")[0]["number"], infeasible=True, reason="out of range")
    service.tell("told", service.suggest("told")[0]["number"], failed=True, reason="the disk was full")
    told = [(t["state"], t["reason"], t["detail"]) for t in (service.trial("told", 0), service.trial("told", 1))]
    assert told == [("PRUNED", "infeasible", "out of range"), ("FAIL", "error", "the disk was full")]


def test_the_pruner_stops_a_hopeless_trial(service: Lab) -> None:
    """Measurements are judged by the study's pruner: the worst of several trials is told to stop, the best is not."""
    service.post("pruned", pruner={"kind": "median"}, budget={"n_trials": 8})
    stopped = []
    for _ in range(8):
        [trial] = service.suggest("pruned")
        value = 1.0 if trial["number"] < 7 else 0.0
        answers = [
            service.http.post(
                f"/v1/studies/pruned/trials/{trial['number']}/measure", json={"step": step, "value": value}
            ).json()["should_stop"]
            for step in range(1, 5)
        ]
        stopped.append(answers[-1])
        how = {"pruned": True} if answers[-1] else {"value": value}
        service.tell("pruned", trial["number"], **how)
    assert stopped == [False] * 7 + [True]
    assert (service.trial("pruned", 7)["state"], service.trial("pruned", 7)["value"]) == ("PRUNED", 0.0)


def test_several_objectives(service: Lab) -> None:
    """Each has its name and direction; a wrong number of values is refused."""
    goals = [{"metric": "accuracy"}, {"metric": "seconds", "direction": "minimize"}]
    service.post("two", objectives=goals, budget={"n_trials": 3})
    [trial] = service.suggest("two")
    path = f"/v1/studies/two/trials/{trial['number']}/complete"
    assert service.http.post(path, json={"value": 1.0}).status_code == 422
    service.tell("two", trial["number"], values=[0.9, 12.0])
    service.tell("two", service.suggest("two")[0]["number"], infeasible=True)
    service.tell("two", service.suggest("two")[0]["number"], values=[0.8, 1.0])
    wait_until(lambda: service.status("two")["state"] == "succeeded", "the study ends")
    assert service.status("two")["trials"]["complete"] == 2


def test_pause_takes_trials_back_and_cancel_ends_them(service: Lab) -> None:
    """A paused study gives no trial and waits; a cancelled one says that it is done, and what is told afterwards is late."""
    service.post("held")
    [trial] = service.suggest("held")
    service.http.post("/v1/studies/held/pause")
    wait_until(lambda: service.status("held")["state"] == "paused", "paused")
    assert service.status("held")["trials"]["running"] == 0
    assert service.http.post("/v1/studies/held/suggest", json={"client_id": "one"}).status_code == 409
    service.http.post("/v1/studies/held/resume")
    assert service.suggest("held")[0]["number"] == trial["number"]
    service.http.post("/v1/studies/held/cancel")
    wait_until(lambda: service.status("held")["state"] == "cancelled", "cancelled")
    done = service.http.post("/v1/studies/held/suggest", json={"client_id": "one"}).json()
    assert done == {"trials": [], "done": True}
    assert service.tell("held", trial["number"], value=1.0)["late"]


def test_a_finite_space_ends_when_it_is_exhausted(service: Lab) -> None:
    """Five points are five trials, whatever the budget says."""
    space = {
        "c": {"type": "categorical", "choices": ["a", "b"]},
        "k": {"type": "int", "low": 1, "high": 4, "when": {"c": "a"}},
    }
    service.post("five", search_space=space, budget={"n_trials": 50})
    points = []
    while trials := service.suggest("five"):
        points.append(tuple(sorted(trials[0]["params"].items())))
        service.tell("five", trials[0]["number"], value=0.0)
    wait_until(lambda: service.status("five")["state"] == "succeeded", "the study ends")
    assert (len(points), len(set(points))) == (5, 5)
    assert service.status("five")["stop_reason"] == "exhausted"


def test_workers_outlive_the_runner(tmp_path: Path) -> None:
    """While the runner is replaced, a client keeps its trial and tells it; an outside study takes none of the job places."""
    settings = Settings(data_dir=tmp_path / "data", parallel=1, max_jobs=1)
    with connect(settings) as http:
        service = Lab(http)
        with running(settings):
            service.post("first", budget={"n_trials": 3})
            service.post("second", budget={"n_trials": 3})
            [trial] = service.suggest("first")
            assert service.suggest("second")
        assert service.trial("first", trial["number"])["state"] == "RUNNING"
        assert not service.tell("first", trial["number"], value=1.0)["late"]
        with running(settings):
            while trials := service.suggest("first"):
                service.tell("first", trials[0]["number"], value=1.0)
            wait_until(lambda: service.status("first")["state"] == "succeeded", "the study ends")
        assert service.status("first")["trials"]["complete"] == 3


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"client_id": ""}, "client_id"),
        ({"client_id": "a", "count": 0}, "count"),
        ({"client_id": "a", "more": 1}, "more"),
    ],
)
def test_a_wrong_call_names_its_field(service: Lab, body: dict[str, Any], says: str) -> None:
    answer = service.http.post("/v1/studies/nowhere/suggest", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_what_is_not_there_and_what_is_not_outside(service: Lab) -> None:
    """404 for unknown studies and trials; 409 for a study that trains its own nets, and for a trial nobody was given."""
    service.post("known")
    assert service.http.post("/v1/studies/nowhere/suggest", json={"client_id": "a"}).status_code == 404
    assert service.http.post("/v1/studies/known/trials/999/complete", json={"value": 1}).status_code == 404
    assert service.http.post("/v1/studies/known/trials/x/complete", json={"value": 1}).status_code == 404
    body = {"name": "nets", "budget": {"n_trials": 1}, "subset": {"train": 100, "validation": 100, "epochs": 1}}
    service.http.post("/v1/studies", json={**body, "promotion": None})
    assert service.http.post("/v1/studies/nets/suggest", json={"client_id": "a"}).status_code == 409
    wait_until(lambda: service.status("known")["trials"]["waiting"] > 0, "trials are ready")
    assert service.http.post("/v1/studies/known/trials/0/complete", json={"value": 1}).status_code == 409
    wait_until(lambda: service.status("nets")["state"] == "succeeded", "the study ends")
