"""As many of a study's trials as a picture or a statistic can make use of."""

from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select

from tuner.store import trials
from tuner.store.studies import Study
from tuner.store.trials import DIRECTIONS, TRIALS


def sample(connection: Connection, study: Study, states: Sequence[TrialState], limit: int) -> list[FrozenTrial]:
    """The trials in these states that violate no constraint, by number; of more than `limit` so many, evenly spaced, and the
    best."""
    query = select(TRIALS).where(TRIALS.c.study_id == study.id, TRIALS.c.state.in_(states), trials.feasible())
    rows = connection.execute(query.order_by(TRIALS.c.number)).all()
    if len(rows) > limit:
        best = {trial._trial_id for trial in trials.best_trials(connection, study.id, study.minimize, 1)}
        spaced = {rows[k * len(rows) // limit].trial_id for k in range(limit)}
        rows = [row for row in rows if row.trial_id in spaced | best]
    return trials.frozen(connection, rows)


def directions(connection: Connection, study: Study) -> list[StudyDirection]:
    """Of each objective, the first one first."""
    query = select(DIRECTIONS.c.direction).where(DIRECTIONS.c.study_id == study.id).order_by(DIRECTIONS.c.objective)
    return list(connection.execute(query).scalars())
