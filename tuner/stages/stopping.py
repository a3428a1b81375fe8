"""When a search has found enough, or has cost enough."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from tuner.specs.study import BudgetSpec
from tuner.stages.leased_job import JobFailed


def stop_reason(
    budget: BudgetSpec, finished: Sequence[FrozenTrial], *, minimize: bool, elapsed: float, failed_before: int
) -> str | None:
    """Why no further trial is to start, apart from their number; None: go on. `elapsed`: seconds that the search has used.

    Judged by the first objective. Raises JobFailed where too many trials have failed since `failed_before` of them had.
    """
    failed = sum(trial.state is TrialState.FAIL for trial in finished) - failed_before
    if failed > budget.max_failed:
        raise JobFailed("max_failed", f"at most {budget.max_failed} trials may fail, but {failed} have failed")
    if budget.timeout_seconds is not None and elapsed >= budget.timeout_seconds:
        return "timeout"
    scores = {
        trial.number: -trial.values[0] if minimize else trial.values[0]
        for trial in finished
        if trial.state is TrialState.COMPLETE and trial.values
    }
    if not scores:
        return None
    best = max(scores, key=lambda number: (scores[number], -number))
    if budget.target is not None and scores[best] >= (-budget.target if minimize else budget.target):
        return "target"
    if budget.no_improvement_trials is not None:
        since = sum(trial.number > best for trial in finished)
        if since >= budget.no_improvement_trials:
            return "no_improvement"
    return None
