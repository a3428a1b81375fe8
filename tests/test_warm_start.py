"""Earlier studies inform a later one's sampler, and leave its trials its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.conftest import connect, running
from tests.searching import SMALL, Service
from tests.test_view import run, score, spec
from tuner.settings import Settings
from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.hyperparameters import Hyperparameters
from tuner.stages.view import View
from tuner.store import studies, warm_starts
from tuner.store.database import open_database, reading


def earlier_trials(n: int) -> list[EarlierTrial]:
    trials = run(View(spec(seed=9), [], {}), n).trials()
    return [
        EarlierTrial(study="a", number=t.number, state="COMPLETE", params=t.params, values=(t.values[0],), reports={})
        for t in trials
    ]


def test_a_warm_sampler_begins_where_the_earlier_study_ended() -> None:
    """The mean of its first twelve trials is better than a cold one's; they are numbered from 0, and the same after a reload."""
    earlier = earlier_trials(40)
    asked = spec()

    def first(view: View[Hyperparameters], n: int) -> list[float]:
        return [score(view, trial.number) for trial in run(view, n).trials()[1:]]

    cold, warm = View(asked, [], {}), View(asked, [], {}, earlier=earlier)
    assert sum(first(warm, 13)) > sum(first(cold, 13))
    assert [trial.number for trial in warm.trials()] == list(range(13))
    half = run(View(asked, [], {}, earlier=earlier), 6)
    resumed = run(View(asked, half.trials(), half.study_attributes(), earlier=earlier), 13)
    assert [trial.params for trial in resumed.trials()] == [trial.params for trial in warm.trials()]


def test_a_pruned_and_a_diverged_trial_inform_too() -> None:
    """Trials without a value, with reports or without, are taken by the sampler as its own pruned ones."""
    pruned = [t.model_copy(update={"state": "PRUNED", "reports": {1: 0.5}}) for t in earlier_trials(9)]
    diverged = [t.model_copy(update={"state": "PRUNED", "values": None}) for t in earlier_trials(9)]
    view = View(spec(), [], {}, earlier=[*pruned, *diverged, *earlier_trials(4)])
    assert all(trial.state is TrialState.COMPLETE for trial in run(view, 5).trials())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It has run `first` to its end, and `second`, which began with it and has half its space."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("warm"), parallel=2)
    narrow = {**SMALL["search_space"], "depth": 1}
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        service.finished("first", budget={"n_trials": 16})
        service.finished("second", search_space=narrow, warm_start=["first"], budget={"n_trials": 5})
        yield service


def test_only_trials_within_the_space_inform_and_none_counts(service: Service) -> None:
    """The study has its own five trials; of the earlier ones those of depth 1 are kept for its sampler, as a note says."""
    status = service.status("second")
    assert (status["state"], status["trials"]["total"]) == ("succeeded", 5)
    shallow = [trial for trial in service.trials("first") if trial["hyperparameters"]["depth"] == 1]
    assert status["notes"] == [f"warm_start: {len(shallow)} of 16 trials of 'first' lie in this study's search space"]
    engine = open_database(service.settings.database_url)
    with reading(engine) as connection:
        study = studies.find_study(connection, "second")
        assert study is not None
        kept = warm_starts.load(connection, study.id)
    engine.dispose()
    assert [(trial.study, trial.number) for trial in kept] == [("first", trial["number"]) for trial in shallow]
    assert all("depth" not in trial.params for trial in kept)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"warm_start": ["nobody"]}, "warm_start must name studies that are there, but got 'nobody'"),
        ({"warm_start": ["first", "first"]}, "each study once"),
        (
            {"warm_start": ["first"], "sampler": {"kind": "random"}},
            "takes the sampler tpe or gp, but got random",
        ),
        (
            {"warm_start": ["first"], "subset": {"train": 400, "validation": 200, "epochs": 2}},
            "'first' has another subset",
        ),
        (
            {"warm_start": ["first"], "objectives": [{"metric": "accuracy"}, {"metric": "parameters"}]},
            "'first' has another objectives: accuracy and not accuracy and parameters",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(service: Service, changes: dict[str, Any], says: str) -> None:
    """The answer names the study and what differs."""
    answer = service.api.post("/v1/studies", json={"name": "wrong", **SMALL, **changes})
    assert answer.status_code == 422
    assert says in answer.text
