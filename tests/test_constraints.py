"""A bound on the size of a net: what is too large is not trained, is told to the sampler, and wins nothing."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.conftest import connect, running
from tests.digits import install_digits
from tests.searching import Service
from tests.test_view import FINITE, SAMPLERS, score, spec
from tuner.settings import Settings
from tuner.specs.hyperparameters import Hyperparameters
from tuner.stages.view import View

LIMIT = 20_000
"""Of the space's nets about a twelfth are as small; the default configuration has 118,282."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It has run the study `small` to its end."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("constraints"), parallel=2)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        promotion = {"top_k": 1, "max_seeds": 1, "epochs": 1}
        install_digits(settings.datasets_dir)
        body: dict[str, Any] = {
            "dataset": "digits",
            "constraints": {"max_parameters": LIMIT},
            "budget": {"n_trials": 16},
        }
        service.finished("small", 300, **body, promotion=promotion)
        yield service


def test_what_is_too_large_is_infeasible_and_untrained(service: Service) -> None:
    """Such trials are PRUNED for that reason, have no curve and say by how much; all others are small enough."""
    trials = service.trials("small")
    infeasible = [trial for trial in trials if trial["reason"] == "infeasible"]
    assert infeasible
    assert len(infeasible) < len(trials) == 16
    for trial in trials:
        assert (trial["parameters"] > LIMIT) == (trial in infeasible)
    one = service.get(f"/v1/studies/small/trials/{infeasible[0]['number']}")
    assert (one["state"], one["value"], one["curves"]) == ("PRUNED", None, {})
    assert f"a net may have at most 20,000 parameters, but this one has {one['parameters']:,}" in one["detail"]


def test_what_is_too_large_wins_nothing(service: Service) -> None:
    """Neither the search's best, nor the promoted model, though the default configuration was trained beside it."""
    best = service.get("/v1/studies/small/best?k=50&stage=search")["items"]
    assert best
    assert all(item["parameters"] <= LIMIT for item in best)
    promoted = service.get("/v1/studies/small/best?stage=promotion")["items"]
    assert promoted[0]["parameters"] <= LIMIT
    [default] = [item for item in promoted if item["contender"] == "default"]
    assert default["tied"] is False
    entrants = service.get("/v1/studies/small/report")["race"]["entrants"]
    [standing] = [entrant["standing"] for entrant in entrants if entrant["contender"] == "default"]
    assert standing == "too large"
    status = service.status("small")
    assert status["state"] == "succeeded"
    assert service.get(f"/v1/models/{status['promoted']['model']}")["parameters"] <= LIMIT


def test_both_optunas_see_the_constraint(service: Service) -> None:
    """Optuna 5 by its key, and the dashboard, which knows Optuna 4's list, by that; both say feasible where we do."""
    storage = optuna.storages.RDBStorage(service.settings.database_url)
    stock = optuna.load_study(study_name="small", storage=storage)
    infeasible = {trial["number"] for trial in service.trials("small") if trial["reason"] == "infeasible"}
    assert {trial.number for trial in stock.trials if trial.constraints["max_parameters"] > 0} == infeasible
    assert stock.best_trial.number == service.status("small")["best"]["number"]
    shown = service.get(f"/api/studies/{stock._study_id}?after=0")["trials"]
    assert {trial["number"] for trial in shown if max(trial["constraints"]) > 0} == infeasible
    storage.remove_session()
    storage.engine.dispose()


def too_wide(point: Hyperparameters) -> float:
    return point.width / 100 - 1


def grown(kind: str, n: int, **changes: Any) -> View[Hyperparameters]:
    """After `n` trials; nets wider than 100 violate a constraint, and the wide ones are good."""
    asked = spec(sampler={"kind": kind}, **changes)
    view = View(asked, [], {}, too_wide)
    while len(view) < n and (one := view.ask()) is not None:
        view.constrain(one.number, "width", too_wide(one.hyperparameters))
        if too_wide(one.hyperparameters) > 0:
            view.tell(one.number, TrialState.PRUNED)
        else:
            view.tell(one.number, TrialState.COMPLETE, score(view, one.number))
    return view


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in ("grid", "gp")])
def test_every_sampler_goes_on_beside_infeasible_trials(kind: str) -> None:
    """25 trials in a space of which little is feasible: some are infeasible, and the others are at most 100 wide."""
    view = grown(kind, 25, search_space={"width": {"low": 32, "high": 2048}})
    infeasible = [t for t in view.trials() if t.constraints["width"] > 0]
    assert view.default_params is None
    assert 0 < len(infeasible) < 25
    assert all((t.params["width"] > 100) == (t in infeasible) for t in view.trials())


def test_a_finite_space_is_tried_to_its_end() -> None:
    """Of 36 points a third is infeasible: each is a trial once, and then the view says that all are tried."""
    space = {**FINITE, "width": {"choices": [32, 64, 128]}}
    view = grown("grid", 100, search_space=space)
    assert (len(view), view.exhausted()) == (36, True)
    assert sum(t.constraints["width"] > 0 for t in view.trials()) == 12
