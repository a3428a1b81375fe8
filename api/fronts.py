"""The numbers in which no trial can be the best in all: two objectives, or the one against the size of the net."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from tuner.errors import Conflict
from tuner.statistics.pareto import on_front
from tuner.store.studies import Study


@dataclass(frozen=True)
class Axis:
    """One number of each trial, to be as large or as small as can be."""

    name: str
    direction: StudyDirection
    values: tuple[float, ...]

    def costs(self) -> NDArray[np.float64]:
        """The lower the better."""
        sign = -1 if self.direction == StudyDirection.MAXIMIZE else 1
        return sign * np.array(self.values, dtype=np.float64)


def objective_names(
    study: Study, directions: Sequence[StudyDirection], metric_names: Sequence[str] | None
) -> list[str]:
    """As the spec says, or as the program that made a foreign study has told Optuna."""
    if study.spec is not None:
        return [objective.metric for objective in study.spec.objectives]
    return list(metric_names or [f"value {k}" if len(directions) > 1 else "value" for k in range(len(directions))])


def axes_of(trials: Sequence[FrozenTrial], names: Sequence[str], directions: Sequence[StudyDirection]) -> list[Axis]:
    """The objectives; of a single one also the number of parameters of the net, if all trials have told it.

    Raises Conflict where there is one axis only.
    """
    axes = [
        Axis(name, direction, tuple(trial.values[k] for trial in trials))
        for k, (name, direction) in enumerate(zip(names, directions, strict=True))
    ]
    sizes = [trial.user_attrs.get("parameters") for trial in trials]
    if len(axes) == 1:
        if not all(isinstance(size, int | float) for size in sizes):
            raise Conflict(
                "a front takes two objectives, or trials with a number of `parameters`, but this study has one"
            )
        axes.append(Axis("parameters", StudyDirection.MINIMIZE, tuple(float(size or 0) for size in sizes)))
    return axes


def on_front_of(axes: Sequence[Axis]) -> NDArray[np.bool_]:
    """Of each trial, whether no other one is as good on every axis and better on one."""
    costs: NDArray[Any] = np.stack([axis.costs() for axis in axes], axis=1)
    return on_front(costs)
