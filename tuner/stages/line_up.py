"""Who may race where the job's time is limited: the rung's best, as far as the job can come to its end in time with them."""

import math
from collections.abc import Sequence

from tuner.specs.study import EXPECTED_SEEDS, PromotionSpec
from tuner.stages.allowance import allowance, ensemble_runs
from tuner.stages.job import RunningJob
from tuner.stages.rung import Candidate


def line_up(
    job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate], begun: set[str]
) -> tuple[list[Candidate], int]:
    """The candidates in the order of their turns, and how many get one: those whose nets have `begun` in any case."""
    if job.spec.budget.timeout_seconds is None:
        return ranked, promotion.top_k
    fitting, count = _fitting(job, promotion, ranked)
    names = {candidate.name for candidate in fitting}
    line = [*fitting, *(candidate for candidate in ranked if candidate.name not in names)]
    line.sort(key=lambda candidate: candidate.name not in begun)
    return line, max(count, min(len(begun), promotion.top_k))


def _fitting(job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate]) -> tuple[list[Candidate], int]:
    """Those with each of whom the job can come to its end in time, and how many of them may race.

    At its end stand the verdict's fresh nets, two of the winner or at least one, and the least of an ensemble. Who takes too long
    gives way to the next that the rung's images hardly tell apart; where there is none, less comes after the race.
    """
    left, subset = allowance(job, promotion), job.spec.subset
    growth = job.train_count * promotion.epochs / (subset.train * subset.epochs)
    best = max((candidate.value for candidate in ranked), default=0.0)
    standard_error = math.sqrt(2 * best * (1 - best) / subset.validation)
    close = [candidate for candidate in ranked if candidate.value >= best - standard_error]
    seconds = {candidate.name: growth * candidate.seconds for candidate in close}
    for fresh, ensemble in ((EXPECTED_SEEDS, True), (1, True), (1, False)):

        def in_time(racing: Sequence[Candidate], fresh: int = fresh, ensemble: bool = ensemble) -> bool:
            """The longest may win."""
            took = [seconds[candidate.name] for candidate in racing]
            bag = ensemble_runs(job, max(took), whole=False) if ensemble else []
            return left.in_time(took, [max(took)] * min(fresh, promotion.max_seeds), *bag)

        fitting = [candidate for candidate in close if in_time([candidate])]
        for count in range(min(promotion.top_k, len(fitting)), 0, -1):
            if in_time(fitting[:count]):
                return fitting, count
    return ranked, 1
