"""The optimism of the search: how far its best value flatters, by the same training with fresh seeds on fresh images."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.specs.study import OPTIMISM_SEEDS
from tuner.specs.verdict import Optimism
from tuner.stages.job import RunningJob
from tuner.stages.progress import Ahead, Meter
from tuner.stages.retraining import Contender, Plan, retrain, stage_seeds
from tuner.stages.rung import Candidate, rung_slice
from tuner.statistics.comparison import Comparison
from tuner.store import curves
from tuner.store.runs import RunState


def measure_optimism(job: RunningJob, best: Candidate, meter: Meter, later: Ahead) -> Optimism | None:
    """Of the search's `best`; None where the data has no fresh images or no run reached its end."""
    rung = rung_slice(job)
    if rung is None:
        return None
    subset, seeds = job.spec.subset, stage_seeds(job.spec.seed, "optimism", OPTIMISM_SEEDS)
    data = replace(rung, train=(0, subset.train))
    plan = Plan("optimism", data, subset.epochs, decay=True, keep_weights=False, seeds=seeds)
    show = meter.measure("rung", OPTIMISM_SEEDS * subset.epochs, subset.train, later)
    trained = retrain(job, plan, [Contender(best.name, best.hyperparameters)], show)
    ended = [run.id for run in trained if run.contender == best.name and run.state == RunState.COMPLETE]
    records = job.read(lambda connection: curves.load_many(connection, "run", ended))
    # Of the last epoch, as a trial's value is; the best one would flatter, since these images would choose it.
    found = [records[run_id][-1].validation_accuracy for run_id in ended]
    return weigh(best.name, best.value, np.array(found), data.validation_count) if found else None


def weigh(name: str, value: float, found: NDArray[np.float64], images: int) -> Optimism:
    """Of the accuracies `found` (seeds,) on as many images.

    The search's value is a number that is known; what is not is the configuration's expected accuracy. The mean over the seeds
    varies as other images might have been drawn, by no more than a single net's does, and as other seeds might have been.
    """
    seeds, fresh = len(found), float(found.mean())
    interval = None
    if seeds > 1:
        known = Comparison(
            difference=value - fresh,
            image_variance=fresh * (1 - fresh) / images + 1 / images**2,
            seed_variance=float(found.var(ddof=1)) / seeds,
            images=images,
            seeds=seeds,
            seed_freedom=seeds - 1,
        )
        interval = known.interval()
    return Optimism(
        contender=name,
        search_value=value,
        fresh_value=fresh,
        value=value - fresh,
        interval=interval,
        seeds=seeds,
        images=images,
    )
