"""What analyses read of a study's trials, on either database."""

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, Engine

from tuner.specs.build import Build
from tuner.specs.study import StudySpec
from tuner.store import attempts, studies, trial_samples, trials, voided
from tuner.store.attempts import Ending
from tuner.store.database import reading, writing
from tuner.store.studies import Study

BUILD = Build(
    tuner="1", python="3", torch="2", numpy="2", system="Linux", cpu="a processor", capability="AVX2", threads=1
)


def found(connection: Connection) -> Study:
    study = studies.find_study(connection, "s")
    assert study is not None
    return study


def add(connection: Connection, study_id: int, job_id: int, number: int, value: float, state: TrialState) -> int:
    trial = create_trial(state=state, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}, value=value)
    trial.number = number
    trial_id = trials.start_trial(connection, study_id, trial)
    attempts.open_attempt(connection, trial_id, study_id, job_id, fence=1)
    trials.finish_trial(connection, trial_id, trial)
    attempts.close_attempt(connection, trial_id, Ending.COMPLETE, build=BUILD if number % 2 else None)
    return trial_id


def test_a_sample_is_spaced_and_has_the_best(engine: Engine) -> None:
    """Of a hundred COMPLETE trials ten, evenly spaced, and the best; without pruned ones and void ones; all, where there are no
    more; and each attempt tells its build."""
    with writing(engine) as connection:
        job_id = studies.create_study(connection, StudySpec(name="s"), [], 1)
        study = found(connection)
        ids = [
            add(connection, study.id, job_id, k, 1.0 if k == 57 else k / 1000, TrialState.COMPLETE) for k in range(101)
        ]
        pruned = add(connection, study.id, job_id, 101, 0.5, TrialState.PRUNED)
        last = trials.load_trial(connection, study.id, 100)
        assert last is not None
        voided.void_trial(connection, study.id, last, None)
    with reading(engine) as connection:
        few = trial_samples.sample(connection, study, [TrialState.COMPLETE], 10)
        assert [trial.number for trial in few] == [0, 10, 20, 30, 40, 50, 57, 60, 70, 80, 90]
        both = trial_samples.sample(connection, study, [TrialState.COMPLETE, TrialState.PRUNED], 1000)
        assert [trial._trial_id for trial in both] == [*ids[:-1], pruned]
        assert trial_samples.directions(connection, study) == [StudyDirection.MAXIMIZE]
        builds = [attempts.load_attempts(connection, trial_id)[0].build for trial_id in ids[:2]]
        assert builds == [None, BUILD]


def test_directions_of_a_stock_study(engine: Engine) -> None:
    """In the order of the objectives."""
    storage = optuna.storages.RDBStorage(engine.url.render_as_string(hide_password=False))
    optuna.create_study(study_name="s", storage=storage, directions=["minimize", "maximize"])
    storage.remove_session()
    storage.engine.dispose()
    with reading(engine) as connection:
        directions = trial_samples.directions(connection, found(connection))
    assert directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
