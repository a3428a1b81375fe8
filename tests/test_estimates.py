"""What a study will cost: learned from timed nets, told before it starts, kept with it."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select, update

from tests.conftest import Terminal, connect, running, wait_until
from tests.searching import SMALL, Service
from tuner.settings import Settings
from tuner.specs.estimate import Estimate, Timing
from tuner.specs.study import BudgetSpec, StudySpec
from tuner.stages import calibration
from tuner.stages.calibration import CORNERS
from tuner.statistics import study_cost, training_cost
from tuner.statistics.study_cost import Circumstances, EndedStudy, RandomPoint
from tuner.statistics.training_cost import Epoch
from tuner.store import estimating, runners, timings
from tuner.store.database import open_database, reading, writing
from tuner.store.tables import studies

COEFFICIENTS = np.array([200.0, 100.0, 3e-3, 2e-3, 1e-3, 0.05, 0.02, 0.03, 0.02, 0.01, 0.02, 0.05, 0.02])


def truth(epoch: Epoch) -> float:
    return float(np.array(epoch.features()) @ COEFFICIENTS)


def timed(train: int = 1500) -> list[Timing]:
    """The corners on a machine whose costs are known."""
    epochs = [Epoch(corner, 784, 10, train, 500) for corner in CORNERS]
    return [
        Timing(hyperparameters=e.hyperparameters, inputs=784, classes=10, train=train, validation=500, seconds=truth(e))
        for e in epochs
    ]


def expect(slots: int = 2, past: Sequence[EndedStudy] = (), **changes: Any) -> Estimate:
    spec = StudySpec.model_validate({"name": "a", **changes})
    around = Circumstances(784, 10, 50_000, 10_000, 58_000, 2_000, slots)
    return study_cost.estimate(spec, around, training_cost.learn(timed()), len(CORNERS), past)


def test_the_corners_tell_the_cost_of_any_net() -> None:
    """From sixteen timed nets, the epochs of 50 random ones on ten times the images are told within a tenth."""
    cost = training_cost.learn(timed())
    random = RandomPoint(np.random.default_rng(1))
    points = [StudySpec(name="a").search_space.suggest(random) for _ in range(50)]
    epochs = [Epoch(point, 784, 10, 15_000, 2_000) for point in points]
    for epoch, told in zip(epochs, cost.seconds(epochs), strict=True):
        assert abs(told / truth(epoch) - 1) < 0.1


def test_an_estimate_follows_what_the_study_asks_for() -> None:
    """More trials take longer; pruning, workers, a bound on the size and a time limit shorten it; generations cost waiting; there
    is no cost of promotion without it; the interval holds the estimate."""
    search = expect(promotion=None)
    assert search.low < search.seconds < search.high
    assert search.high / search.low < 2
    assert (search.promotion_seconds, search.slots) == (0, 2)
    assert 1.8 < expect(promotion=None, budget={"n_trials": 120}).seconds / search.seconds < 2.2
    assert 1.7 < expect(promotion=None, budget={"n_trials": 6000}).seconds / search.seconds / 50 < 2.2
    assert expect(promotion=None, pruner={"kind": "none"}).seconds > 1.2 * search.seconds
    assert expect(promotion=None, slots=4).seconds < 0.7 * search.seconds
    assert expect(promotion=None, constraints={"max_parameters": 60_000}).seconds < 0.7 * search.seconds
    assert expect(promotion=None, budget={"timeout_seconds": 3}).high <= 3
    assert expect(promotion=None, deterministic=True).seconds > search.seconds
    whole = expect()
    assert whole.promotion_seconds > whole.search_seconds


def test_ended_studies_correct_the_estimates_to_come() -> None:
    """Where twenty studies took twice as long as estimated, the next one is told nearly twice as long, and no less sure."""
    plain = expect(promotion=None)
    corrected = expect(promotion=None, past=[EndedStudy(10.0, 0.0, 20.0)] * 20)
    assert 1.5 < corrected.seconds / plain.seconds < 2
    assert corrected.studies == 20
    assert corrected.simulated_seconds == plain.simulated_seconds == pytest.approx(plain.seconds, rel=0.1)
    assert corrected.high / corrected.low < 1.3 * plain.high / plain.low


def test_what_chance_does_is_not_counted_twice() -> None:
    """Studies that lay as far from what was simulated as chance alone takes them leave the interval as it is; where nothing of
    that was simulated, the same scatter widens it."""
    apart = [EndedStudy(10.0, 0.4, 10.0 * math.exp(0.4 * side)) for side in (-1, 1)] * 10
    unexplained = [replace(told, chance=0.0) for told in apart]
    plain, same, wider = (expect(promotion=None, past=past) for past in ((), apart, unexplained))
    assert plain.simulated_spread is not None
    assert same.high / same.low < plain.high / plain.low
    assert wider.high / wider.low > 1.2 * plain.high / plain.low


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("estimates"), parallel=2)
    with connect(settings) as api, pytest.MonkeyPatch.context() as fewer:
        fewer.setattr(calibration, "TRAIN", 300)
        fewer.setattr(calibration, "VALIDATION", 100)
        answer = api.post("/v1/estimates", json={"name": "a"})
        assert (answer.status_code, "there has been none of late" in answer.text) == (503, True)
        with running(settings):
            yield Service(settings, api)


def test_a_runner_times_nets_when_it_is_asked(service: Service, tmp_path: Path, terminal: Terminal) -> None:
    """The first question has nets timed, and 503 for an answer until that is done; then a study that is posted has the estimate
    that was told, and the command line tells it, too."""
    body = {"name": "told", **SMALL, "budget": {"n_trials": 6}}

    def asked() -> Any:
        return service.api.post("/v1/estimates", json=body)

    wait_until(lambda: "a runner is timing a few nets now" in asked().text, "a runner is there")
    assert asked().headers["Retry-After"] == "5"
    wait_until(lambda: asked().status_code == 200, "the nets are timed", 120)
    told = asked().json()
    assert told["timings"] == len(CORNERS)
    assert 0 < told["low"] <= told["seconds"] <= told["high"]
    service.post("told", **SMALL, budget={"n_trials": 6})
    assert service.status("told")["estimate"] == told
    assert service.finish("told")["state"] == "succeeded"
    later = asked().json()
    assert later["timings"] > len(CORNERS)
    assert later["studies"] == 1
    (tmp_path / "spec.json").write_text(json.dumps(body))
    estimated = terminal("study", "estimate", "spec.json", TUNER_DATA_DIR=str(service.settings.data_dir))
    assert estimated.returncode == 0
    assert f"{later['timings']} timed epochs and 1 ended studies" in estimated.stdout


def test_a_correction_is_not_held_against_the_next_one(service: Service) -> None:
    """A study that was told with a correction teaches by what was simulated: else a steady error would be learned by half."""
    wait_until(lambda: service.api.post("/v1/estimates", json={"name": "a"}).status_code == 200, "nets are timed", 120)
    engine = open_database(service.settings.database_url)
    service.post("first", **SMALL, budget={"n_trials": 6})
    service.finish("first")
    with writing(engine) as connection:
        # As if all that has ended had been told a hundredth: whatever the machine, the next one is corrected by far.
        for study_id, told in connection.execute(select(studies.c.study_id, studies.c.estimate)).all():
            told = {**told, "simulated_seconds": told["simulated_seconds"] / 100}
            connection.execute(update(studies).where(studies.c.study_id == study_id).values(estimate=told))
    service.post("second", **SMALL, budget={"n_trials": 6})
    told = Estimate.model_validate(service.status("second")["estimate"])
    elapsed = service.finish("second")["job"]["elapsed_seconds"]
    assert told.simulated_seconds is not None
    assert told.seconds > 1.2 * told.simulated_seconds
    with reading(engine) as connection:
        newest, *_ = timings.past(connection)
    engine.dispose()
    assert (newest.simulated, newest.took) == pytest.approx((told.simulated_seconds, elapsed), abs=0.01)
    assert newest.chance == told.simulated_spread


def test_what_cannot_be_estimated_is_refused(service: Service) -> None:
    """An outside objective's time is not the service's to know; a spec that cannot be posted cannot be estimated either."""
    space = {"x": {"type": "float", "low": 0, "high": 1}}
    answer = service.api.post("/v1/estimates", json={"name": "a", "objective": "external", "search_space": space})
    assert answer.status_code == 422
    assert service.api.post("/v1/estimates", json={"name": "a", "dataset": "nothing"}).status_code == 422


def test_timings_are_kept_on_either_database(engine: Engine, settings: Settings) -> None:
    """A machine is timed once it was asked for, and once only; its timings then are an estimate."""
    with writing(engine) as connection:
        runners.beat(connection, "owner", 3)
        host, slots = timings.newest_runner(connection) or ("", 0)
        assert estimating.estimate_study(connection, StudySpec(name="a"), settings) is None
        timings.request(connection, host)
        timings.request(connection, host)
        assert timings.is_requested(connection, host)
        timings.finish(connection, host, timed())
        timings.request(connection, host)
        assert not timings.is_requested(connection, host)
        told = estimating.estimate_study(connection, StudySpec(name="a", budget=BudgetSpec(parallel=2)), settings)
        assert timings.past(connection) == []
    assert told is not None
    assert (slots, told.slots, told.timings) == (3, 2, len(CORNERS))
