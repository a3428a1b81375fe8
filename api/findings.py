"""What is the matter with each of a study's trials: judged when somebody asks, so that old trials have today's rules."""

import threading
from collections.abc import Hashable, Sequence
from pathlib import Path

from cachetools import LRUCache
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

KEPT = 20_000
"""Findings, of some 800 bytes each."""


class Findings:
    """The findings of ended trials, which do not change any more: each is made once while there is room, those first forgotten
    that were not asked for the longest. Safe to share between threads."""

    def __init__(self, datasets_dir: Path) -> None:
        self._datasets_dir = datasets_dir
        self._kept: LRUCache[Hashable, Finding | None] = LRUCache(KEPT)
        self._lock = threading.Lock()

    def of(self, connection: Connection, study: Study, found: Sequence[FrozenTrial]) -> dict[int, Finding]:
        """By trial id. Left out are trials that have not ended or are FAIL (what ended those is told by their reason), those of
        outside objectives and of foreign studies, and all where the data set is gone."""
        classes = _classes(study, self._datasets_dir)
        if classes is None:
            return {}
        # With its end, since SQLite can give a purged trial's id again.
        keys = {t._trial_id: (t._trial_id, t.datetime_complete, classes) for t in found if _ending(t) is not None}
        with self._lock:
            known = {i: self._kept[key] for i, key in keys.items() if key in self._kept}
        unknown = keys.keys() - known.keys()
        new = [trial for trial in found if trial._trial_id in unknown]
        judged = judge(connection, study, new, self._datasets_dir)
        made = {
            trial._trial_id: judged[trial._trial_id].finding if trial._trial_id in judged else None for trial in new
        }
        with self._lock:
            for i, finding in made.items():
                self._kept[keys[i]] = finding
        return {i: finding for i, finding in (known | made).items() if finding is not None}


def judge(
    connection: Connection, study: Study, found: Sequence[FrozenTrial], datasets_dir: Path
) -> dict[int, JudgedTrial]:
    """As `Findings.of`, with the runs, and each made anew."""
    endings = {trial._trial_id: ending for trial in found if (ending := _ending(trial)) is not None}
    classes = _classes(study, datasets_dir)
    if not isinstance(study.spec, StudySpec) or classes is None or not endings:
        return {}
    records = curves.load_many(connection, "trial", list(endings))
    sign = -1.0 if study.minimize else 1.0
    judged = {}
    for trial in found:
        i, point = trial._trial_id, study.spec.search_space.find(trial.params)
        if point is None or i not in endings:
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
