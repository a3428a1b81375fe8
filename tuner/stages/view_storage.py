"""A study's trials in memory, shown to its sampler and its pruner as each of them is to see them."""

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.store.trials import CONSTRAINT, CONSTRAINT_LIST

RUNG = "completed_rung_"
"""So begin the system attributes in which Optuna's halving pruners note the rungs that a trial has reached."""

Reader = Literal["sampler", "pruner"]


class ViewStorage(InMemoryStorage):
    """Without a reader it shows the trials as they are.

    With `generation_size` the trials 0 to size - 1 are the first generation, and so on: who reads for a trial sees those of
    earlier generations as they ended, and the others of its own as they started, however far they are.

    The sampler sees the trials of `earlier` studies, too, before the study's own.

    Of several objectives the pruner sees the first one alone, for which Optuna's pruners are made. The sampler sees no reports
    then, which Optuna's TPE cannot rank.
    """

    def __init__(self, generation_size: int | None, earlier: Sequence[FrozenTrial] = ()) -> None:
        super().__init__()
        self._earlier = earlier
        self._generation_size = generation_size
        self._reader: Reader | None = None
        self._number = 0

    @contextmanager
    def shown_to(self, reader: Reader, number: int) -> Iterator[None]:
        """Within, the trials are what `reader` is to see who works for trial `number`."""
        self._reader, self._number = reader, number
        try:
            yield
        finally:
            self._reader = None

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        directions = super().get_study_directions(study_id)
        return directions[:1] if self._reader == "pruner" else directions

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self._reader is None:
            return super().get_all_trials(study_id, deepcopy, states)
        several = len(super().get_study_directions(study_id)) > 1
        shown = self._of_generations(super().get_all_trials(study_id, deepcopy=False))
        if self._reader == "sampler":
            shown = [*self._earlier, *shown]
            if several:
                shown = [_without_reports(trial) for trial in shown]
        if states is not None:
            shown = [trial for trial in shown if trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown

    def _of_generations(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        if self._generation_size is None:
            return list(trials)
        first = self._number - self._number % self._generation_size
        return [t if t.number < first or t.number == self._number else as_started(t) for t in trials]


def as_started(trial: FrozenTrial) -> FrozenTrial:
    """The trial as it was when it had just begun; one that waits is left as it is."""
    if trial.state is TrialState.WAITING:
        return trial
    started = copy.copy(trial)
    started.state, started.values, started.intermediate_values = TrialState.RUNNING, None, {}
    started.datetime_complete = None
    started._system_attrs = before_training(trial)
    return started


def before_training(trial: FrozenTrial) -> dict[str, object]:
    """The system attributes that its sampler gave it."""
    told = (RUNG, CONSTRAINT)
    return {k: value for k, value in trial.system_attrs.items() if not k.startswith(told) and k != CONSTRAINT_LIST}


def _without_reports(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.intermediate_values = {}
    return shown
