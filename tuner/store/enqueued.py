"""Trials that a user wants tried next. They wait in Optuna's queue, as `Study.enqueue_trial` would have put them there."""

from collections.abc import Mapping

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from tuner.errors import Conflict, InvalidInput
from tuner.specs.job import PromoteWork, read_work
from tuner.specs.outside_space import Scalar
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import StudySpec
from tuner.store import events, further_jobs, revisions, studies, trials
from tuner.store.jobs import ENDED, SEARCH_CLOSED
from tuner.store.studies import Study


def enqueue_trial(connection: Connection, study_id: int, given: Mapping[str, Scalar]) -> int:
    """The number of the new trial, which waits to be tried with the `given` hyperparameters, completed by the study's space.

    A study that has no trial yet gets its default configuration first, which is trial 0 of every study whose space has it.
    Raises InvalidInput where the space has no such point; Conflict where the study searches no more, or where it has all the
    trials that it is to have.
    """
    revisions.lock(connection, study_id)
    study = studies.find_study_by_id(connection, study_id)
    assert study is not None
    _check_searches(study)
    spec = studies.own_spec(study)
    queue, number = [_params(spec, given)], trials.count_trials(connection, study_id)
    default = spec.default_params()
    if number == 0 and default is not None:
        queue.insert(0, default)
    _check_room(study, number, len(queue))
    for wanted in queue:
        if isinstance(spec, StudySpec):
            trials.enqueue_trial(connection, study_id, number, wanted)
        else:  # a worker is told a waiting trial's parameters, so they must stand there
            trials.start_trial(connection, study_id, _drawn(spec, wanted, number), TrialState.WAITING)
        number += 1
    revisions.raise_revision(connection, study_id)
    events.record(connection, study_id, studies.own_job(study).id, "trial_enqueued", number=number - 1)
    return number - 1


def _params(spec: StudySpec | OutsideStudySpec, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    if isinstance(spec, StudySpec):
        params = spec.search_space.params(spec.search_space.complete(given))
        assert params is not None, "a completed point lies inside its space"
        return {**params}
    try:
        return spec.search_space.check(given)
    except ValueError as error:
        raise InvalidInput(str(error), ("hyperparameters",)) from error


def _drawn(spec: OutsideStudySpec, params: Mapping[str, Scalar], number: int) -> FrozenTrial:
    """The trial as it is once its parameters are drawn, which is when Optuna learns their distributions."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    study.enqueue_trial({**params})
    spec.search_space.suggest(study.ask())
    [trial] = study.get_trials()
    trial.number = number
    return trial


def _check_room(study: Study, number: int, more: int) -> None:
    total = further_jobs.total_trials(study)
    if number + more > total:
        rule = f"a study's trials are at most its total, and {study.name!r} has {number} of {total}"
        default_first = " and its default configuration comes first" if more > 1 else ""
        raise Conflict(f"{rule}{default_first}; raise budget.n_trials")


def _check_searches(study: Study) -> None:
    job = studies.own_job(study)
    if job.state in ENDED:
        rule = "a trial is tried by the study's search, and the last job of"
        raise Conflict(f"{rule} {study.name!r} is {job.state}; queue a further search")
    promotes = job.work is not None and isinstance(read_work.validate_python(job.work), PromoteWork)
    if promotes or job.stage not in (None, "search"):
        stage = job.stage if job.stage != SEARCH_CLOSED else "past its search"
        raise Conflict(f"a trial is tried by the study's search, but {study.name!r} is at {stage or 'promotion'}")
