"""Trials that a user wants tried next. They wait in Optuna's queue, as `Study.enqueue_trial` would have put them there."""

from collections.abc import Mapping

from sqlalchemy import Connection

from tuner.errors import Conflict
from tuner.specs.job import PromoteWork, read_work
from tuner.specs.search_space import Value
from tuner.specs.study import StudySpec
from tuner.store import events, further_jobs, revisions, studies, trials
from tuner.store.jobs import ENDED, SEARCH_CLOSED
from tuner.store.studies import Study


def enqueue_trial(connection: Connection, study_id: int, given: Mapping[str, Value]) -> int:
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
    if not isinstance(spec, StudySpec):
        raise Conflict(f"a trial can be enqueued for our own nets only, and {study.name!r} has an external objective")
    params = spec.search_space.params(spec.search_space.complete(given))
    assert params is not None, "a completed point lies inside its space"
    queue = [params]
    number = trials.count_trials(connection, study_id)
    default = spec.default_params()
    if number == 0 and default is not None:
        queue.insert(0, default)
    total = further_jobs.total_trials(study)
    if number + len(queue) > total:
        rule = f"a study's trials are at most its total, and {study.name!r} has {number} of {total}"
        default_first = " and its default configuration comes first" if len(queue) > 1 else ""
        raise Conflict(f"{rule}{default_first}; raise budget.n_trials")
    for wanted in queue:
        trials.enqueue_trial(connection, study_id, number, wanted)
        number += 1
    revisions.raise_revision(connection, study_id)
    assert study.job is not None
    events.record(connection, study_id, study.job.id, "trial_enqueued", number=number - 1)
    return number - 1


def _check_searches(study: Study) -> None:
    job = study.job
    if job is None:
        raise Conflict(f"a foreign study is read only, and {study.name!r} was made by another program")
    if job.state in ENDED:
        rule = "a trial is tried by the study's search, and the last job of"
        raise Conflict(f"{rule} {study.name!r} is {job.state}; queue a further search")
    promotes = job.work is not None and isinstance(read_work.validate_python(job.work), PromoteWork)
    if promotes or job.stage not in (None, "search"):
        stage = job.stage if job.stage != SEARCH_CLOSED else "past its search"
        raise Conflict(f"a trial is tried by the study's search, but {study.name!r} is at {stage or 'promotion'}")
