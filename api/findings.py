"""What is the matter with each of a study's trials: judged when somebody asks, so that old trials have today's rules."""

from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from tuner.data.catalogue import describe
from tuner.errors import NotFound
from tuner.specs.finding import Finding
from tuner.specs.study import StudySpec
from tuner.statistics.diagnosis import Ending, TrainingRun, diagnose
from tuner.statistics.study_diagnosis import JudgedTrial
from tuner.store import attempts, curves
from tuner.store.studies import Study


def findings(
    connection: Connection, study: Study, found: Sequence[FrozenTrial], datasets_dir: Path
) -> dict[int, Finding]:
    """By trial id. Left out are trials that have not ended or are FAIL (what ended those is told by their reason), those of
    outside objectives and of foreign studies, and all where the data set is gone."""
    return {i: trial.finding for i, trial in judge(connection, study, found, datasets_dir).items()}


def judge(
    connection: Connection, study: Study, found: Sequence[FrozenTrial], datasets_dir: Path
) -> dict[int, JudgedTrial]:
    """As `findings`, with the runs."""
    endings = {trial._trial_id: ending for trial in found if (ending := _ending(trial)) is not None}
    classes = _classes(study, datasets_dir)
    if not isinstance(study.spec, StudySpec) or classes is None or not endings:
        return {}
    records = curves.load_many(connection, "trial", list(endings))
    sign = -1.0 if study.minimize else 1.0
    judged = {}
    for trial in found:
        i = trial._trial_id
        try:
            point = study.spec.search_space.restore(trial.params)
        except (KeyError, ValueError):  # of another program, with other parameters
            continue
        if i not in endings:
            continue
        run = TrainingRun(records.get(i, ()), point, classes, endings[i])
        finding = diagnose(run)
        if finding is not None:
            value = sign * trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None
            judged[i] = JudgedTrial(run, finding, value)
    return judged


def _ending(trial: FrozenTrial) -> Ending | None:
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "diverged" if trial.user_attrs.get("reason") == attempts.Ending.DIVERGED else "pruned"
    return None


def _classes(study: Study, datasets_dir: Path) -> int | None:
    """Of the study's data set; None where there is none, or it is not there any more."""
    if not isinstance(study.spec, StudySpec):
        return None
    try:
        dataset = describe(study.spec.dataset, datasets_dir)
    except NotFound:
        return None
    return dataset.classes if study.dataset_checksum in (None, dataset.checksum) else None
