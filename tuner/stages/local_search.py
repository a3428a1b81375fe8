"""The local search: what shifts with the amount of data is set anew for the rung's best, by nets trained beside theirs.

It is told on the rung's images, where such a net takes a tenth of what it takes on all.
"""

import logging
from dataclasses import replace

from tuner.specs.fitting import fit
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import CHANGED, neighbours
from tuner.specs.study import GROWTH, PromotionSpec
from tuner.stages.allowance import affordable, allowance
from tuner.stages.job import RunningJob
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import Contender, Plan, retrain, stage_seeds
from tuner.stages.rung import Candidate, rung_slice
from tuner.store.runs import RunState

logger = logging.getLogger(__name__)


def planned(job: RunningJob, best: list[Candidate]) -> dict[str, tuple[Candidate, Hyperparameters]]:
    """By the names of their runs: whom of the `best` they stand beside, which the rung must have judged, and what they are. One
    change for all, then the next; none is planned twice, and none that is among the best itself."""
    known, found = {candidate.hyperparameters for candidate in best}, {}
    beside = [(c, neighbours(c.hyperparameters, job.spec.search_space)) for c in best if c.climbed]
    for change in CHANGED:
        for candidate, points in beside:
            point = points.get(change)
            if point is not None and point not in known:
                known.add(point)
                found[f"{candidate.name}.{change}"] = candidate, point
    return found


def search_locally(
    job: RunningJob, promotion: PromotionSpec, ranked: list[Candidate], meter: Meter, later: Ahead
) -> list[Candidate]:
    """The `ranked`, of whom the best, who are to race, go on as the best of the nets that were trained beside theirs, or as they
    were where none was better; these are ranked anew among themselves. As many nets are trained as the job can afford, and none
    that the race, where it has begun, did not wait for."""
    best, others = ranked[: promotion.top_k], ranked[promotion.top_k :]
    beside, data = planned(job, best), rung_slice(job)
    expected = [GROWTH * candidate.seconds for candidate, _ in beside.values()]
    most = affordable(job, "local_search", expected, allowance(job, promotion))
    begun = {run.contender for run in job.runs("local_search")}
    raced = bool(job.runs("promotion"))
    wanted = {name: near for name, near in [*beside.items()][:most] if name in begun or not raced}
    if data is None or not wanted:
        return ranked
    space, epochs = job.spec.search_space, job.spec.subset.epochs
    contenders = [Contender(name, fit(point, space, 1 / GROWTH)) for name, (_, point) in wanted.items()]
    # The seed of the rung's own nets, so that they differ by what was changed alone.
    seeds = stage_seeds(job.spec.seed, "rung")
    plan = Plan("local_search", data, epochs, decay=True, keep_weights=False, seeds=seeds)
    show = meter.measure("rung", len(contenders) * epochs, data.train[1], later)
    going_on = {candidate.name: candidate for candidate in best}
    for run in retrain(job, plan, contenders, show):
        if run.state != RunState.COMPLETE or run.contender not in wanted:
            continue
        candidate, point = wanted[run.contender]
        value = run.validation_accuracy or 0.0
        if value > going_on[candidate.name].value:
            seconds = (run.seconds or 0.0) / GROWTH
            going_on[candidate.name] = replace(candidate, hyperparameters=point, value=value, seconds=seconds)
            logger.info("%s of %s goes on as %s", candidate.name, job.name, run.contender)
    return sorted(going_on.values(), key=lambda candidate: -candidate.value) + others
