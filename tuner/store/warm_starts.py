"""What earlier studies tell a later one's sampler: their trials as they were when the later study was posted."""

import math

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, insert, select

from tuner.errors import InvalidInput
from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.study import StudySpec
from tuner.store import studies, trial_samples
from tuner.store.studies import Study
from tuner.store.tables import warm_trials

TRIALS_OF_A_STUDY = 500
"""Of more, so many are taken, evenly spaced, and the best."""


def gather(
    connection: Connection, spec: StudySpec, dataset_checksum: str | None
) -> tuple[list[EarlierTrial], list[str]]:
    """The trials that have ended, of the studies of `spec.warm_start`, that lie in its space; and a note on each study.

    Raises InvalidInput for a study that is not there, or whose values cannot be compared with those to come.
    """
    gathered: list[EarlierTrial] = []
    notes = []
    for k, name in enumerate(spec.warm_start):
        study = studies.find_study(connection, name)
        if study is None:
            raise InvalidInput(f"warm_start must name studies that are there, but got {name!r}", ("warm_start", k))
        if (difference := _difference(spec, dataset_checksum, study)) is not None:
            rule = "the values of warm_start's studies must be comparable with this one's"
            raise InvalidInput(f"{rule}, but {name!r} has {difference}", ("warm_start", k))
        states = [TrialState.COMPLETE, TrialState.PRUNED]
        found = trial_samples.sample(connection, study, states, TRIALS_OF_A_STUDY)
        inside = [earlier for trial in found if (earlier := _fitted(spec, study, trial)) is not None]
        notes.append(f"warm_start: {len(inside)} of {len(found)} trials of {name!r} lie in this study's search space")
        gathered += inside
    return gathered, notes


def keep(connection: Connection, study_id: int, gathered: list[EarlierTrial]) -> None:
    rows = [{"study_id": study_id, "position": k, "trial": t.model_dump(mode="json")} for k, t in enumerate(gathered)]
    if rows:
        connection.execute(insert(warm_trials), rows)


def load(connection: Connection, study_id: int) -> list[EarlierTrial]:
    query = select(warm_trials.c.trial).where(warm_trials.c.study_id == study_id).order_by(warm_trials.c.position)
    return [EarlierTrial.model_validate(trial) for trial in connection.execute(query).scalars()]


def _difference(spec: StudySpec, dataset_checksum: str | None, study: Study) -> str | None:
    """What keeps the values of `study` from being compared with those of a study of `spec`."""
    earlier = study.spec
    if not isinstance(earlier, StudySpec):
        return "an objective that is not the service's own"
    for name in ("dataset", "objectives", "subset"):
        theirs, ours = getattr(earlier, name), getattr(spec, name)
        if theirs != ours:
            return f"another {name}: {_shown(theirs)} and not {_shown(ours)}"
    if study.dataset_checksum != dataset_checksum:
        return f"other data of the name {spec.dataset}: {study.dataset_checksum} and not {dataset_checksum}"
    return None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " and ".join(objective.metric for objective in value)
    return str(value)


def _fitted(spec: StudySpec, study: Study, trial: FrozenTrial) -> EarlierTrial | None:
    """The trial in terms of the later study's space; None where its configuration lies outside."""
    assert isinstance(study.spec, StudySpec)
    point = study.spec.search_space.find(trial.params)
    params = None if point is None else spec.search_space.params(point)
    if params is None:
        return None
    whole = all(math.isfinite(value) for value in trial.intermediate_values.values())
    return EarlierTrial(
        study=study.name,
        number=trial.number,
        state="COMPLETE" if trial.state is TrialState.COMPLETE else "PRUNED",
        params=params,
        values=None if trial.values is None else tuple(trial.values),
        reports=trial.intermediate_values if whole else {},
    )
