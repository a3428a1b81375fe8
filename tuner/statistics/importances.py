"""Which parameters decided how good a trial became."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

MIN_TRIALS = 10
"""With fewer the order of the importances is noise: `docs/decisions.md` has the figures."""

TARGET = 0.25
"""The share of the trials that counts as good. Optuna's own, a tenth, is two trials of twenty."""


def importances(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> dict[str, float]:
    """By parameter, from the largest down; together 1. `trials` are COMPLETE ones. Empty where no parameter varies.

    PED-ANOVA (Watanabe et al. 2023): how differently the good trials are spread over a parameter than all trials. A conditional
    parameter is judged among the trials that have it.
    """
    # With it come scikit-learn, where that is installed, and a second that every command and every API's start would wait for.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some parameter has two trials only is said by the number of trials
        return get_param_importances(
            in_memory(trials, directions), evaluator=PedAnovaImportanceEvaluator(target_quantile=TARGET)
        )


def in_memory(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> optuna.Study:
    """A study of these trials, numbered anew, for those functions of Optuna that want one."""
    storage = InMemoryStorage()
    study_id = storage.create_new_study(list(directions), "study")
    for trial in trials:
        storage.create_new_trial(study_id, template_trial=trial)
    return optuna.load_study(study_name="study", storage=storage)
