import math
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, select

from tuner.specs.study import StudySpec
from tuner.stages.view import View
from tuner.store import attempts, jobs, studies, trial_pages, trials
from tuner.store.database import reading, writing

Outcome = tuple[list[float], TrialState]
OUTCOMES: list[Outcome] = [
    ([0.5, 0.6, 0.7], TrialState.COMPLETE),
    ([0.3], TrialState.PRUNED),
    ([0.4, math.nan], TrialState.PRUNED),
    ([], TrialState.FAIL),
    ([0.8, 0.9], TrialState.COMPLETE),
]


def stock(url: str, sampler: optuna.samplers.BaseSampler) -> None:
    """The outcomes, written by Optuna itself."""
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="stock", storage=storage, direction="maximize", sampler=sampler)
    space = StudySpec(name="a").search_space
    params = space.params(space.default())
    assert params is not None
    study.enqueue_trial(params)
    for reports, state in OUTCOMES:
        trial = study.ask()
        space.suggest(trial)
        trial.set_user_attr("seed", 7)
        for epoch, value in enumerate(reports, start=1):
            trial.report(value, epoch)
        trial.set_user_attr("seconds", 0.5)
        study.tell(trial, reports[-1] if state is TrialState.COMPLETE else None, state=state)
    storage.engine.dispose()


def ours(engine: Engine) -> int:
    """The same outcomes, asked of a view and written by our SQL."""
    spec = StudySpec.model_validate({"name": "ours", "sampler": {"kind": "random"}})
    with writing(engine) as connection:
        studies.create_study(connection, spec, [], 5)
    view = View(spec, [], {})
    with writing(engine) as connection:
        study = studies.find_study(connection, "ours")
        assert study is not None
        for reports, state in OUTCOMES:
            asked = view.ask()
            assert asked is not None
            view.annotate(asked.number, {"seed": 7})
            written = view.trial(asked.number)
            trial_id = trials.start_trial(connection, study.id, written)
            for epoch, value in enumerate(reports, start=1):
                view.report(asked.number, epoch, value)
                trials.add_reports(connection, [(trial_id, epoch, value)])
            final = reports[-1] if state is TrialState.COMPLETE else None
            ended = view.tell(asked.number, state, final, seconds=0.5)
            assert trials.finish_trial(connection, trial_id, ended, written)
    return study.id


def rows(engine: Engine, study_name: str) -> dict[str, list[tuple[Any, ...]]]:
    """The trial tables' rows of a study, without surrogate keys and times."""
    dropped = {"study_id", "datetime_start", "datetime_complete"}
    found = {}
    with reading(engine) as connection:
        study_id = connection.execute(select(trials.STUDIES.c.study_id).filter_by(study_name=study_name)).scalar_one()
        own = select(trials.TRIALS.c.trial_id, trials.TRIALS.c.number).filter_by(study_id=study_id)
        numbers = {row.trial_id: row.number for row in connection.execute(own)}
        tables = (
            trials.TRIALS,
            trials.VALUES,
            trials.REPORTS,
            trials.PARAMS,
            trials.USER_ATTRIBUTES,
            trials.SYSTEM_ATTRIBUTES,
        )
        for table in tables:
            key = next(iter(table.primary_key)).name
            columns = [c for c in table.c if c.name not in dropped | ({key} if key != "trial_id" else set())]
            query = select(*columns).where(table.c.trial_id.in_(numbers)).order_by(table.c.trial_id)
            found[table.name] = sorted(
                [
                    tuple(numbers[v] if c.name == "trial_id" else v for c, v in zip(columns, row, strict=True))
                    for row in connection.execute(query)
                ],
                key=repr,
            )
    return found


def test_our_rows_equal_stock_optunas(engine: Engine, database_url: str) -> None:
    """Row by row, of every trial table, what our SQL writes is what Optuna writes for the same trials."""
    stock(database_url, optuna.samplers.RandomSampler(seed=3))
    ours(engine)
    mine, theirs = rows(engine, "ours"), rows(engine, "stock")
    assert mine["trials"] == theirs["trials"]
    assert mine["trial_values"] == theirs["trial_values"]
    assert mine["trial_intermediate_values"] == theirs["trial_intermediate_values"]
    assert mine["trial_user_attributes"] == theirs["trial_user_attributes"]
    strip = [(n, name, dist) for n, name, _, dist in theirs["trial_params"] if n == 0]
    assert [(n, name, dist) for n, name, _, dist in mine["trial_params"] if n == 0] == strip
    halving = [row for row in mine["trial_system_attributes"] if not row[1].startswith("completed_rung_")]
    assert halving == theirs["trial_system_attributes"]


def test_stock_optuna_reads_what_we_write(engine: Engine, database_url: str) -> None:
    """`optuna.load_study` sees our trials exactly as our own reader does, and finds the best one."""
    study_id = ours(engine)
    with reading(engine) as connection:
        mine = trials.load_trials(connection, study_id)
    storage = optuna.storages.RDBStorage(database_url)
    theirs = optuna.load_study(study_name="ours", storage=storage)
    for one, other in zip(mine, theirs.trials, strict=True):
        assert _without_nan(one) == _without_nan(other)
    assert theirs.best_trial.number == 4
    storage.engine.dispose()


def _without_nan(trial: FrozenTrial) -> dict[str, Any]:
    """NaN does not equal itself."""
    values = {step: None if math.isnan(v) else v for step, v in trial.intermediate_values.items()}
    return {**vars(trial), "_intermediate_values": None, "intermediate_values": values}


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_trial_ends_with_its_attributes_of_then(engine: Engine, all_of_them: bool) -> None:
    """What it has gained since it was written is added, what has changed is replaced, what it has lost is gone."""
    view = View(StudySpec(name="a"), [], {})
    with writing(engine) as connection:
        study_id = trials.create_study(connection, "a", [optuna.study.StudyDirection.MAXIMIZE])
        for changes in ({"gained": 1}, {"seed": 8}, {"seed": None}):
            asked = view.ask()
            assert asked is not None
            view.annotate(asked.number, {"seed": 7})
            written = view.trial(asked.number)
            trial_id = trials.start_trial(connection, study_id, written)
            ended = view.tell(asked.number, TrialState.COMPLETE, 0.5)
            ended.user_attrs = {k: v for k, v in {**ended.user_attrs, **changes}.items() if v is not None}
            assert trials.finish_trial(connection, trial_id, ended, None if all_of_them else written)
            stored = trials.load_trial(connection, study_id, asked.number)
            assert stored is not None
            assert (stored.user_attrs, stored.system_attrs) == (ended.user_attrs, ended.system_attrs)


def test_a_finished_trial_is_not_finished_again(engine: Engine) -> None:
    """The second end of a trial is refused, and changes nothing."""
    study_id = ours(engine)
    with writing(engine) as connection:
        [best] = trials.best_trials(connection, study_id, minimize=False, limit=1)
        assert not trials.finish_trial(connection, best._trial_id, best)
        assert not trials.resume_trial(connection, best._trial_id, best)


def test_a_released_trial_keeps_number_and_parameters(engine: Engine) -> None:
    """An interrupted trial waits without reports, its attempt closed; another program's RUNNING trial is left alone."""
    spec = StudySpec(name="a")
    with writing(engine) as connection:
        job_id = studies.create_study(connection, spec, [], 60)
        job = jobs.find_job(connection, job_id)
        assert job is not None
        view = View(spec, [], {})
        ids = []
        for _ in range(2):
            asked = view.ask()
            assert asked is not None
            ids.append(trials.start_trial(connection, job.study_id, view.trial(asked.number)))
        attempts.open_attempt(connection, ids[0], job.study_id, job_id, 1)
        trials.add_reports(connection, [(ids[0], 1, 0.5)])
        attempts.release_interrupted(connection, job.study_id, attempts.Ending.PAUSED)
        mine, foreign = trials.load_trials(connection, job.study_id)
        assert (mine.state, mine.params, mine.intermediate_values) == (TrialState.WAITING, view.trial(0).params, {})
        assert foreign.state is TrialState.RUNNING
        [attempt] = attempts.load_attempts(connection, ids[0])
        assert (attempt.outcome, attempt.job_id) == (attempts.Ending.PAUSED, job_id)


@pytest.mark.parametrize("sort", ["number", "-number", "value", "-value"])
def test_pages_hold_every_trial_once(engine: Engine, sort: trial_pages.Sort) -> None:
    """Page by page of two, every trial comes once, in order, and those without a value last."""
    study_id = ours(engine)
    found: list[FrozenTrial] = []
    after = None
    with reading(engine) as connection:
        while page := trial_pages.page(connection, study_id, None, sort, after, 2):
            found += page
            after = trial_pages.key(page[-1], sort)
    assert sorted(t.number for t in found) == [0, 1, 2, 3, 4]
    expected = {
        "number": [0, 1, 2, 3, 4],
        "-number": [4, 3, 2, 1, 0],
        "value": [1, 0, 4, 2, 3],
        "-value": [4, 0, 1, 2, 3],
    }
    assert [t.number for t in found] == expected[sort]


def test_an_id_is_not_given_again_after_a_stock_delete(engine: Engine) -> None:
    """Stock Optuna deletes the newest study, whose rows of ours stay; the next study posted here gets another id."""
    with writing(engine) as connection:
        studies.create_study(connection, StudySpec(name="first"), [], 1)
    storage = optuna.storages.RDBStorage(engine.url.render_as_string(hide_password=False))
    optuna.delete_study(study_name="first", storage=storage)
    storage.remove_session()
    storage.engine.dispose()
    with writing(engine) as connection:
        studies.create_study(connection, StudySpec(name="second"), [], 1)
        found = studies.find_study(connection, "second")
    assert found is not None
    assert found.id == 2
