"""A study's estimate, from what has been timed on this installation."""

from dataclasses import replace

from sqlalchemy import Connection

from tuner.data.catalogue import describe
from tuner.data.splits import part_sizes, refit_sizes
from tuner.settings import Settings
from tuner.specs.estimate import Estimate
from tuner.specs.study import StudySpec
from tuner.statistics import study_cost, training_cost
from tuner.statistics.study_cost import Circumstances
from tuner.store import timings

FEWEST_TIMINGS = 12
"""Of fewer the cost of a step cannot be told for nets of all kinds."""


def estimate_study(connection: Connection, spec: StudySpec, settings: Settings) -> Estimate | None:
    """None where too little was timed yet, or no runner has been there of late to say how much it can do at once."""
    runner = timings.newest_runner(connection)
    if runner is None:
        return None
    host, slots = runner
    timed = timings.load(connection, host, settings.datasets_dir)
    if len(timed.timings) < FEWEST_TIMINGS:
        return None
    dataset = describe(spec.dataset, settings.datasets_dir)
    sizes = *part_sizes(dataset.train_count), *refit_sizes(dataset.train_count)
    slots = min(spec.budget.parallel or slots, slots)
    around = Circumstances(dataset.inputs, dataset.classes, *sizes, slots)
    if timed.trial_overhead is not None:
        around = replace(around, trial_overhead=timed.trial_overhead)
    cost = training_cost.learn(timed.timings)
    return study_cost.estimate(spec, around, cost, len(timed.timings), timings.past(connection))
